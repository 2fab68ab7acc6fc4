//! containerd's configuration as containerd itself reads it: the file, what it imports, and what is built in.
//!
//! Reads; says nothing of whether it is any good.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::PROVIDERS;
use super::document::Document;
use super::error::{Error, Result};
use super::section::{BUILT_IN_ARGS, DECODER, Section};
use super::stanza::PROCESSORS;
use crate::file;

/// Most files that are read, imports included.
const MAX_FILES: usize = 256;

/// Where distributions keep the configuration, each with the root directory that goes without saying there: plain,
/// k3s, RKE2, microk8s.
pub const LOCATIONS: [(&str, &str); 4] = [
    ("/etc/containerd/config.toml", "/var/lib/containerd"),
    (
        "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
        "/var/lib/rancher/k3s/agent/containerd",
    ),
    (
        "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
        "/var/lib/rancher/rke2/agent/containerd",
    ),
    (
        "/var/snap/microk8s/current/args/containerd.toml",
        "/var/snap/microk8s/common/var/lib/containerd",
    ),
];

/// What one containerd is told.
#[derive(Debug, Default)]
pub struct ContainerdConfig {
    /// The files, in the order in which they were read; a later one wins.
    pub files: Vec<ConfigFile>,
    /// What the files import, in the same order.
    pub imports: Vec<Import>,
    /// Root directory, below which the content store lies, if a file names it.
    pub root: Option<PathBuf>,
    /// Stream processors by their ids, those included that are built into containerd.
    pub processors: BTreeMap<String, Section>,
}

/// One file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its `version`; 1 where it has none.
    pub version: i64,
    /// Plugins that it names as only version 1 does.
    pub short_plugins: Vec<String>,
}

/// What a file of the configuration imports.
#[derive(Debug)]
pub struct Import {
    /// The file.
    pub importing: PathBuf,
    /// What stands there.
    pub text: String,
    /// The files that it means.
    pub files: Vec<PathBuf>,
    /// What could not be listed to find them.
    pub unlisted: Vec<file::Error>,
}

impl ContainerdConfig {
    /// What a containerd without any file does.
    #[must_use]
    pub fn built_in() -> Self {
        let processors = PROCESSORS.iter().take(2).map(|processor| {
            let section = Section {
                file: None,
                accepts: vec![processor.accepts()],
                returns: processor.returns.to_owned(),
                path: DECODER.to_owned(),
                args: BUILT_IN_ARGS.map(str::to_owned).into(),
                env: vec![format!("OCICRYPT_KEYPROVIDER_CONFIG={PROVIDERS}")],
            };
            (processor.id.to_owned(), section)
        });
        Self {
            processors: processors.collect(),
            ..Self::default()
        }
    }

    /// Reads a file with everything that it imports. A section that stands in several files is the last one's whole.
    ///
    /// # Errors
    /// [`Error::InFile`] for a file that cannot be read, on which containerd does not start either;
    /// [`Error::InvalidToml`], [`Error::RepeatedTomlKey`]; [`Error::TooLarge`] over a bound.
    pub fn read(path: &Path) -> Result<Self> {
        let mut config = Self::built_in();
        let mut seen = HashSet::new();
        let mut pending = VecDeque::from([path.to_owned()]);
        while let Some(path) = pending.pop_front() {
            if !seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
                continue;
            }
            if seen.len() > MAX_FILES {
                return Err(Error::TooLarge {
                    what: "number of files of containerd's configuration",
                    limit: MAX_FILES as u64,
                });
            }
            let document = Document::read(&path)?;
            let short_plugins = document.short_plugins();
            for text in document.imports {
                let import = Import::resolve(&path, text);
                pending.extend(import.files.iter().cloned());
                config.imports.push(import);
            }
            for (id, section) in document.stream_processors {
                let file = Some(path.clone());
                config.processors.insert(id, Section { file, ..section });
            }
            config.root = document.root.or(config.root);
            config.files.push(ConfigFile {
                path,
                version: document.version,
                short_plugins,
            });
        }
        Ok(config)
    }

    /// Whether a file sets a stream processor up, so that there is more than what is built in.
    #[must_use]
    pub fn has_sections(&self) -> bool {
        self.processors
            .values()
            .any(|section| !section.is_as_built_in())
    }

    /// Files that look as if they were meant to be imported into this one, and are not: those of `conf.d` beside it
    /// that hold stream processors.
    #[must_use]
    pub fn unimported(&self, main: &Path) -> Vec<PathBuf> {
        let directory = main.parent().unwrap_or(Path::new("/")).join("conf.d");
        let imported: Vec<_> = (self.files.iter())
            .filter_map(|file| file.path.canonicalize().ok())
            .collect();
        let mut found: Vec<PathBuf> = fs::read_dir(directory)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
            .filter(|path| {
                path.canonicalize()
                    .is_ok_and(|path| !imported.contains(&path))
            })
            .filter(|path| {
                Document::read(path).is_ok_and(|document| !document.stream_processors.is_empty())
            })
            .collect();
        found.sort();
        found
    }
}

impl Import {
    /// containerd finds the files that a star stands for; what has none is one file.
    #[must_use]
    pub fn is_pattern(&self) -> bool {
        self.text.contains('*')
    }

    /// A file that is not there. A pattern may mean none.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        !self.is_pattern() && self.files.is_empty()
    }

    fn resolve(importing: &Path, text: String) -> Self {
        let path = importing.parent().unwrap_or(Path::new("/")).join(&text);
        let mut import = Self {
            importing: importing.to_owned(),
            text,
            files: Vec::new(),
            unlisted: Vec::new(),
        };
        if !import.is_pattern() {
            let is_there = !matches!(path.symlink_metadata(), Err(error) if is_absent(&error));
            import.files.extend(is_there.then_some(path));
            return import;
        }
        // containerd passes over what it cannot list, as it does over a pattern that is none.
        for found in glob::glob(&path.to_string_lossy()).into_iter().flatten() {
            match found {
                Ok(path) => import.files.push(path),
                Err(error) => import.unlisted.push(file::Error::Failed {
                    action: "list",
                    path: error.path().to_owned(),
                    source: error.error().kind().into(),
                }),
            }
        }
        import
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn section(id: &str, path: &str) -> String {
        format!(
            "[stream_processors.\"{id}\"]\naccepts = [\"a\"]\nreturns = \"b\"\npath = \"{path}\"\n"
        )
    }

    fn read(files: &[(&str, String)]) -> Result<ContainerdConfig> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        ContainerdConfig::read(&dir.path().join(files[0].0))
    }

    #[test]
    fn built_in_sections_stay_unless_their_id_is_used() {
        let gzip = PROCESSORS[1].id;
        let config = read(&[("config.toml", section(gzip, "/x"))]).unwrap();
        assert_eq!(config.processors[gzip].path, "/x");
        assert_eq!(config.processors[gzip].args, [""; 0]);
        let built_in = &config.processors[PROCESSORS[0].id];
        assert_eq!(
            (built_in.path.as_str(), &built_in.file),
            ("ctd-decoder", &None)
        );
    }

    #[test]
    fn imports_are_followed_once_and_the_last_one_wins() {
        let config = read(&[
            (
                "config.toml",
                format!(
                    "version = 2\nroot = \"/one\"\nimports = [\"conf.d/*.toml\", \"more\"]\n{}",
                    section("x", "/main")
                ),
            ),
            (
                "conf.d/a.toml",
                format!("version = 2\n{}", section("x", "/a")),
            ),
            (
                "conf.d/b.toml",
                format!("imports = [\"../config.toml\"]\n{}", section("x", "/b")),
            ),
            ("conf.d/c.txt", "not TOML".to_owned()),
            ("more", "root = \"/two\"\n".to_owned()),
        ])
        .unwrap();
        assert_eq!(config.processors["x"].path, "/b");
        assert_eq!(config.root.as_deref(), Some(Path::new("/two")));
        let versions: Vec<_> = config.files.iter().map(|file| file.version).collect();
        assert_eq!(versions[..3], [2, 2, 1]);
    }

    #[test]
    fn a_missing_import_is_told_and_an_empty_pattern_is_none() {
        for (import, is_missing) in [
            ("none/*.toml", false),
            ("none.toml", true),
            ("?.toml", true),
        ] {
            let text = format!("imports = [\"{import}\"]\n");
            let config = read(&[("config.toml", text)]).unwrap();
            assert_eq!(config.imports[0].is_missing(), is_missing, "{import}");
        }
    }

    #[test]
    fn what_lies_beside_and_is_not_imported_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("config.toml");
        let drop_ins = dir.path().join("conf.d");
        fs::create_dir(&drop_ins).unwrap();
        for name in ["a.toml", "b.toml", "c.off"] {
            fs::write(drop_ins.join(name), section(name, "/x")).unwrap();
        }
        fs::write(drop_ins.join("d.toml"), "version = 2\n").unwrap();
        fs::write(&main, "imports = [\"conf.d/a*.toml\"]\n").unwrap();
        let config = ContainerdConfig::read(&main).unwrap();
        assert!(config.has_sections());
        assert_eq!(config.unimported(&main), [drop_ins.join("b.toml")]);
        fs::write(&main, "").unwrap();
        let config = ContainerdConfig::read(&main).unwrap();
        assert!(!config.has_sections());
        assert_eq!(config.unimported(&main).len(), 2);
    }
}
