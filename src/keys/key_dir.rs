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
    /// The files that hold certificates and nothing else.
    pub certificate_files: Vec<PathBuf>,
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
    /// [`Error::KeysUnreadable`] when a directory cannot be listed; [`Error::TooLarge`] over 4096 entries or 16 levels;
    /// [`Error::InvalidPassword`] for a directory with one. Of a path that is a file, whatever [`KeyFile::read`] found wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let (path, password) = password::split(path)?;
        let path = path.as_path();
        let unreadable = |source| unreadable(path, source);
        if !fs::metadata(path).map_err(unreadable)?.is_dir() {
            let mut one = Self::default();
            one.file(path, password.as_ref())?;
            return Ok(one);
        }
        if password.is_some() {
            return Err(Error::InvalidPassword {
                path: path.to_owned(),
                what: "a password belongs to one key; name the file of that key, not its directory",
            });
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
                    certificates => {
                        self.certificates.extend(certificates);
                        self.certificate_files.push(path.to_owned());
                    }
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
mod tests;
