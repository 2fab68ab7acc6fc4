//! containerd's configuration as containerd itself reads it: the file, what it imports, and what is built in.
//!
//! Reads; says nothing of whether it is any good.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::stanza::PROCESSORS;
use crate::error::{Error, Result};

/// Most bytes that a file may have.
const MAX_FILE: u64 = 4 << 20;
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

/// containerd's directory for add-ons, and the search path of a service under systemd.
const SEARCH_PATH: [&str; 7] = [
    "/opt/containerd/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// What one containerd is told.
#[derive(Clone, Debug, Default)]
pub struct ContainerdConfig {
    /// The files, in the order in which they were read; a later one wins.
    pub files: Vec<ConfigFile>,
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
}

/// A section `[stream_processors.ID]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Section {
    /// The file that it stands in; none if it is built into containerd.
    #[serde(skip)]
    pub file: Option<PathBuf>,
    /// Media types of the layers that it is for.
    pub accepts: Vec<String>,
    /// Media type of what comes out.
    pub returns: String,
    /// The program: a path, or a name that is searched for.
    pub path: String,
    /// Arguments of the program.
    pub args: Vec<String>,
    /// What is added to its environment, each as `NAME=value`.
    pub env: Vec<String>,
}

#[derive(Deserialize)]
#[serde(default)]
struct Document {
    version: i64,
    root: Option<PathBuf>,
    imports: Vec<String>,
    stream_processors: BTreeMap<String, Section>,
}

impl Default for Document {
    fn default() -> Self {
        Self {
            version: 1,
            root: None,
            imports: Vec::new(),
            stream_processors: BTreeMap::new(),
        }
    }
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
                path: "ctd-decoder".to_owned(),
                args: vec!["--decryption-keys-path".to_owned(), super::KEYS.to_owned()],
                env: vec![
                    "OCICRYPT_KEYPROVIDER_CONFIG=/etc/containerd/ocicrypt/ocicrypt_keyprovider.conf"
                        .to_owned(),
                ],
            };
            (processor.id.to_owned(), section)
        });
        Self {
            files: Vec::new(),
            root: None,
            processors: processors.collect(),
        }
    }

    /// Reads a file with everything that it imports. A section that stands in several files is the last one's whole.
    ///
    /// # Errors
    /// [`Error::File`] for a file that is not there or cannot be read, on which containerd does not start either;
    /// [`Error::InvalidToml`]; [`Error::TooLarge`] and [`Error::FileTooLarge`] over a bound.
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
            for import in &document.imports {
                pending.extend(resolve(&path, import));
            }
            for (id, section) in document.stream_processors {
                let file = Some(path.clone());
                config.processors.insert(id, Section { file, ..section });
            }
            config.root = document.root.or(config.root);
            config.files.push(ConfigFile {
                path,
                version: document.version,
            });
        }
        Ok(config)
    }
}

impl Section {
    /// The program's file, looked up as containerd under systemd does; `None` if there is none.
    #[must_use]
    pub fn program(&self) -> Option<PathBuf> {
        if self.path.contains('/') {
            // containerd's current directory is the root.
            return Some(Path::new("/").join(&self.path)).filter(|path| path.is_file());
        }
        SEARCH_PATH
            .iter()
            .map(|directory| Path::new(directory).join(&self.path))
            .find(|path| path.is_file())
    }

    /// The value of a variable that the section sets; of several, the last one counts.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.env
            .iter()
            .rev()
            .find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
    }
}

impl Document {
    fn read(path: &Path) -> Result<Self> {
        let unreadable = |source| Error::File {
            action: "read",
            path: path.to_owned(),
            source,
        };
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text))
            .map_err(unreadable)?;
        if text.len() as u64 > MAX_FILE {
            return Err(Error::FileTooLarge {
                path: path.to_owned(),
                limit: MAX_FILE,
            });
        }
        toml::from_str(&text).map_err(|error| Error::InvalidToml {
            path: path.to_owned(),
            // The parser's own words may quote the file, which may hold passwords of registries.
            line: error.span().map_or(1, |span| {
                1 + text[..span.start.min(text.len())].matches('\n').count() as u64
            }),
        })
    }
}

/// The files that one import means. A pattern may mean none; a name without a star has to be there.
fn resolve(importing: &Path, import: &str) -> Vec<PathBuf> {
    let path = importing.parent().unwrap_or(Path::new("/")).join(import);
    if !import.contains('*') {
        return vec![path];
    }
    glob::glob(&path.to_string_lossy())
        .map_or_else(|_| Vec::new(), |paths| paths.flatten().collect())
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
    fn a_missing_import_is_an_error_and_an_empty_pattern_is_none() {
        let text = "imports = [\"none/*.toml\"]\n".to_owned();
        assert!(read(&[("config.toml", text)]).is_ok());
        let text = "imports = [\"none.toml\"]\n".to_owned();
        assert!(matches!(
            read(&[("config.toml", text)]),
            Err(Error::File { .. })
        ));
    }

    #[test]
    fn broken_toml_is_placed_and_not_quoted() {
        let text = "version = 2\n[plugins]\npassword = \"secret\n".to_owned();
        let error = read(&[("config.toml", text)]).unwrap_err().to_string();
        assert!(
            error.contains("config.toml: line 3 ") && !error.contains("secret"),
            "{error}"
        );
    }

    #[test]
    fn the_last_value_of_a_variable_counts() {
        let section = Section {
            env: ["A=1", "AB=2", "A=3=4"].map(str::to_owned).into(),
            ..Section::default()
        };
        assert_eq!(section.variable("A"), Some("3=4"));
        assert_eq!(section.variable("B"), None);
    }
}
