//! A directory of key files: which files are keys, which are not and why.
//!
//! Made for directories that hold other things as well, and for mounted Kubernetes Secrets, which consist of
//! symbolic links. Says nothing of who may read the files.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::backup;
use super::certificate::Certificate;
use super::error::{Error, Result};
use super::key_file::{KeyFile, MAX_KEY_FILE};
use super::password;
use super::private::{self, PrivateKey};
use crate::file;
use crate::secret::SecretBytes;

/// Most entries that a directory may hold, over all depths.
const MAX_ENTRIES: usize = 4096;
/// Most directories below one another.
const MAX_DEPTH: usize = 16;

/// What a file is that is passed over for its name alone.
pub(super) const COPY: &str = "by its name it is hidden, or a copy of another file";

/// What a directory of keys holds, each in the order of its path.
#[derive(Debug, Default)]
pub struct KeyDir {
    /// The keys, each once however many links lead to it.
    pub keys: Vec<KeyFile>,
    /// Private keys that are in the files themselves.
    pub private_keys: Vec<PrivateKey>,
    /// Certificates, which are no keys, and no mistake.
    pub certificates: Vec<Certificate>,
    /// Everything else.
    pub skipped: Vec<Skipped>,
}

/// A file that gave no key.
#[derive(Debug)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// Why it gave none; the message names the file.
    pub why: Error,
}

impl KeyDir {
    /// Reads every key in a directory, at any depth. A path that is a file is that one key, and may have a password behind
    /// it (`FILE:file=PATH`).
    ///
    /// Symbolic links are followed where they end within the directory. Names that begin with `..` are passed over:
    /// a mounted Secret keeps its versions there, and beside them a link to each file of the current one. So are, with a
    /// word, those that are hidden, and those of copies that editors and package managers leave.
    ///
    /// # Errors
    /// [`Error::KeysUnreadable`] when a directory cannot be listed; [`Error::TooLarge`] over 4096 entries or 16 levels. Of a
    /// path that is a file, whatever [`KeyFile::read`] found wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let (path, password) = password::split(path)?;
        let path = path.as_path();
        let unreadable = |source| unreadable(path, source);
        if !fs::metadata(path).map_err(unreadable)?.is_dir() {
            let mut one = Self::default();
            one.file(path, password.as_ref())?;
            return Ok(one);
        }
        let root = path.canonicalize().map_err(unreadable)?;
        let mut walk = Walk {
            found: Self::default(),
            seen: HashSet::from([root.clone()]),
            entries: 0,
            root,
        };
        walk.directory(path, 1)?;
        Ok(walk.found)
    }

    /// Takes a file for what it holds.
    fn file(&mut self, path: &Path, password: Option<&SecretBytes>) -> Result<()> {
        let name = path.display().to_string();
        let bytes = file::read_secret(path, MAX_KEY_FILE)?;
        let bytes = bytes.expose();
        match PrivateKey::parse(&name, bytes, password) {
            Ok(key) => {
                self.private_keys.push(key);
                // Often a key and its certificate are in one file.
                self.certificates.extend(Certificate::all(bytes));
            }
            Err(private::Error::NotAPrivateKey) => match KeyFile::parse(name, bytes) {
                Ok(key) => self.keys.push(key),
                Err(error @ Error::NotAKeyFile { .. }) => match Certificate::all(bytes) {
                    none if none.is_empty() => return Err(error),
                    certificates => self.certificates.extend(certificates),
                },
                Err(error) => return Err(error),
            },
            Err(error) => return Err(Error::PrivateKey { name, error }),
        }
        Ok(())
    }
}

impl Skipped {
    /// Whether it is for the name alone: something hidden, or the copy of a key file.
    #[must_use]
    pub fn is_copy(&self) -> bool {
        matches!(self.why, Error::NotAKeyFile { what, .. } if what == COPY)
    }
}

/// The reason, which names the file.
impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

struct Walk {
    found: KeyDir,
    /// The directory without any link.
    root: PathBuf,
    /// Files and directories already visited, without any link. What ends a loop of links.
    seen: HashSet<PathBuf>,
    entries: usize,
}

impl Walk {
    fn directory(&mut self, directory: &Path, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::TooLarge {
                what: "depth of a keys directory",
                limit: MAX_DEPTH as u64,
            });
        }
        for name in self.names(directory)? {
            let path = directory.join(&name);
            if backup::is_one(&name) || (backup::holds_copies(&name) && path.is_dir()) {
                let why = no_key(&path, COPY);
                self.found.skipped.push(Skipped { path, why });
                continue;
            }
            match self.place(&path) {
                Ok(real) if !self.seen.insert(real.clone()) => {}
                Ok(real) if real.is_dir() => self.directory(&path, depth + 1)?,
                Ok(_) => {
                    if let Err(why) = self.found.file(&path, None) {
                        self.found.skipped.push(Skipped { path, why });
                    }
                }
                Err(why) => self.found.skipped.push(Skipped { path, why }),
            }
        }
        Ok(())
    }

    fn names(&mut self, directory: &Path) -> Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory).map_err(|source| unreadable(directory, source))? {
            let name = entry
                .map_err(|source| unreadable(directory, source))?
                .file_name();
            if name.as_bytes().starts_with(b"..") {
                continue;
            }
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(Error::TooLarge {
                    what: "number of files in a keys directory",
                    limit: MAX_ENTRIES as u64,
                });
            }
            names.push(name);
        }
        names.sort();
        Ok(names)
    }

    /// Where a path ends, if that is a file or directory within the root. Nothing is opened for it: opening a pipe
    /// would wait for its other end.
    fn place(&self, path: &Path) -> Result<PathBuf> {
        let real = path
            .canonicalize()
            .map_err(file::Error::failed("follow", path))?;
        if !real.starts_with(&self.root) {
            return Err(no_key(path, "it is a link that leads out of the directory"));
        }
        if !real.is_file() && !real.is_dir() {
            return Err(no_key(path, "it is no regular file"));
        }
        Ok(real)
    }
}

fn no_key(path: &Path, what: &'static str) -> Error {
    Error::NotAKeyFile {
        name: path.display().to_string(),
        what,
    }
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::KeysUnreadable {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    const KEY: &str = "pkcs11:\n  uri: pkcs11:token=t;object=o?pin-value=1234\n";

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn file(&self, name: &str, content: &str) {
            let path = self.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        fn link(&self, target: &str, name: &str) {
            symlink(target, self.path(name)).unwrap();
        }

        fn read(&self) -> KeyDir {
            KeyDir::read(self.0.path()).unwrap()
        }

        /// Paths below the directory.
        fn keys(&self, found: &KeyDir) -> Vec<String> {
            let root = format!("{}/", self.0.path().display());
            let names = found.keys.iter().map(|key| &key.name);
            names.map(|name| name.replace(&root, "")).collect()
        }
    }

    #[test]
    fn keys_at_any_depth_in_the_order_of_their_paths() {
        let tree = Tree::new();
        for name in ["b.yaml", "a/z.yaml", "a/b/c/d.yaml", "c"] {
            tree.file(name, KEY);
        }
        let found = tree.read();
        assert!(found.skipped.is_empty());
        let expected = ["a/b/c/d.yaml", "a/z.yaml", "b.yaml", "c"];
        assert_eq!(tree.keys(&found), expected);
    }

    #[test]
    fn copies_of_a_key_file_are_passed_over_and_told() {
        let tree = Tree::new();
        let copies = [
            "#k.yaml#",
            ".git/k.yaml",
            ".k.yaml.old",
            ".k.yaml.swp",
            "backup/k.yaml",
            "k.yaml.bak",
            "k.yaml.dpkg-old",
            "k.yaml.orig",
            "k.yaml~",
            "old/k.yaml",
        ];
        for name in copies {
            tree.file(name, KEY);
        }
        tree.file("k.yaml", KEY);
        // A file is what it is, whatever it is called, if it is the one that was named.
        let named = KeyDir::read(&tree.path(".k.yaml.old")).unwrap();
        assert_eq!(tree.keys(&named), [".k.yaml.old"]);
        let found = tree.read();
        assert_eq!(tree.keys(&found), ["k.yaml"]);
        assert_eq!(found.skipped.len(), copies.len());
        for skipped in found.skipped {
            assert!(skipped.to_string().contains("a copy of another file"));
        }
    }

    #[test]
    fn a_mounted_secret_gives_each_key_once() {
        let tree = Tree::new();
        tree.file("..2026_01_02_03_04_05.123/prod.yaml", KEY);
        tree.file("..2026_01_02_03_04_05.123/test.yaml", KEY);
        tree.link("..2026_01_02_03_04_05.123", "..data");
        tree.link("..data/prod.yaml", "prod.yaml");
        tree.link("..data/test.yaml", "test.yaml");
        let found = tree.read();
        assert_eq!(tree.keys(&found), ["prod.yaml", "test.yaml"]);
        assert!(found.skipped.is_empty());

        // The same one level further down, and reached through a link.
        let above = Tree::new();
        above.link(tree.0.path().to_str().unwrap(), "keys");
        let found = KeyDir::read(&above.path("keys")).unwrap();
        assert_eq!(above.keys(&found), ["keys/prod.yaml", "keys/test.yaml"]);
    }

    #[test]
    fn links_are_followed_within_the_directory_alone() {
        let outside = Tree::new();
        outside.file("key.yaml", KEY);
        let tree = Tree::new();
        tree.file("real/key.yaml", KEY);
        tree.link("real", "another");
        tree.link("real/key.yaml", "zlink.yaml");
        tree.link(outside.path("key.yaml").to_str().unwrap(), "out.yaml");
        tree.link(outside.0.path().to_str().unwrap(), "outdir");
        tree.link("nothing", "dangling");
        let found = tree.read();
        assert_eq!(tree.keys(&found), ["another/key.yaml"]);
        let skipped: Vec<_> = found.skipped.iter().map(ToString::to_string).collect();
        assert_eq!(skipped.len(), 3, "{skipped:?}");
        assert!(skipped[0].contains("dangling: no such file"), "{skipped:?}");
        assert!(
            skipped[1].contains("out.yaml is not a PKCS#11 key file: it is a link that leads out")
        );
        assert!(skipped[2].contains("outdir"));
    }

    #[test]
    fn loops_of_links_end() {
        let tree = Tree::new();
        tree.file("a/key.yaml", KEY);
        tree.link("..", "a/up");
        tree.link(".", "self");
        tree.link("loop", "loop");
        let found = tree.read();
        assert_eq!(tree.keys(&found), ["a/key.yaml"]);
        assert_eq!(found.skipped.len(), 1);
    }

    #[test]
    fn what_is_no_key_is_skipped_with_its_reason() {
        let tree = Tree::new();
        tree.file("a.pem", "-----BEGIN PUBLIC KEY-----\n");
        tree.file("b.yaml", &KEY.replace("object=o", "object"));
        tree.file("c.big", &KEY.repeat(2000));
        tree.file("good.yaml", KEY);
        mkfifo(&tree.path("pipe"), Mode::S_IRWXU).unwrap();
        let found = tree.read();
        assert_eq!(tree.keys(&found), ["good.yaml"]);
        let parts = [
            "it is PEM",
            "the path has a part",
            "over the limit",
            "no regular file",
        ];
        assert_eq!(found.skipped.len(), parts.len());
        for (skipped, part) in found.skipped.iter().zip(parts) {
            let shown = skipped.to_string();
            assert!(shown.contains(part), "{shown}");
            assert!(shown.contains(skipped.path.to_str().unwrap()), "{shown}");
            assert!(!format!("{shown} {skipped:?}").contains("1234"));
        }
    }

    #[test]
    fn a_file_is_that_one_key() {
        let tree = Tree::new();
        tree.file("key.yaml", KEY);
        tree.file("other", "");
        assert_eq!(KeyDir::read(&tree.path("key.yaml")).unwrap().keys.len(), 1);
        assert!(matches!(
            KeyDir::read(&tree.path("other")),
            Err(Error::NotAKeyFile { .. })
        ));
        assert!(matches!(
            KeyDir::read(&tree.path("none")),
            Err(Error::KeysUnreadable { .. })
        ));
    }

    #[test]
    fn endless_directories_are_an_error() {
        let tree = Tree::new();
        for number in 0..=MAX_ENTRIES {
            fs::write(tree.path(&number.to_string()), "").unwrap();
        }
        let error = KeyDir::read(tree.0.path()).unwrap_err().to_string();
        assert!(error.contains("4096"), "{error}");
        let tree = Tree::new();
        tree.file(&format!("{}key.yaml", "d/".repeat(MAX_DEPTH)), KEY);
        let error = KeyDir::read(tree.0.path()).unwrap_err().to_string();
        assert!(error.contains("limit of 16"), "{error}");
        let tree = Tree::new();
        tree.file(&format!("{}key.yaml", "d/".repeat(MAX_DEPTH - 1)), KEY);
        assert_eq!(tree.read().keys.len(), 1);
    }
}
