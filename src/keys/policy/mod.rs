//! The module policy (`ocicrypt.conf`): where modules are looked for and which may be loaded.
//!
//! Finds the policy's file; `lists` reads it, `module` applies it. A module is code that runs with our rights, so a policy
//! that cannot be understood in full is an error, and never read as allowing more or less than it says.

mod lists;
mod module;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use self::lists::Lists;
use crate::file;
use crate::keys::error::{Error, Result};

const MAX_POLICY: usize = 64 << 10;

/// Which modules may be loaded on this node, and where they are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Where it comes from.
    pub origin: Origin,
    /// Searched in this order for a `module-name`.
    pub module_directories: Vec<PathBuf>,
    /// What may be loaded; nothing else.
    pub allowed: Vec<Allowed>,
}

/// Where a policy comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No file: the module directories of distributions.
    BuiltIn,
    /// This file.
    File(PathBuf),
}

/// One entry of `allowed-module-paths`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Written with a `/` at its end: every file directly in that directory.
    Directory(PathBuf),
    /// That file alone.
    File(PathBuf),
}

/// What a client sent along with its keys: hints where to look, and no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientPolicy {
    /// Its `module-directories`.
    pub module_directories: Vec<PathBuf>,
}

/// What decides which policy file is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySearch {
    /// `OCICRYPT_CONFIG`: `internal`, or a file.
    pub ocicrypt_config: Option<OsString>,
    /// `XDG_CONFIG_HOME`.
    pub xdg_config_home: Option<OsString>,
    /// `HOME`.
    pub home: Option<OsString>,
    /// The system's file, the last one tried.
    pub system_file: PathBuf,
}

impl PolicySearch {
    /// Files to try, in order. A variable that is empty counts as unset, and one that is not absolute names
    /// nothing (XDG base directory specification).
    fn candidates(&self) -> Vec<PathBuf> {
        let under = |home: &Option<OsString>, rest: &str| {
            let home = Path::new(home.as_ref()?);
            home.is_absolute().then(|| home.join(rest))
        };
        [
            under(&self.xdg_config_home, "ocicrypt.conf"),
            under(&self.home, ".config/ocicrypt.conf"),
            Some(self.system_file.clone()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl Policy {
    /// The module directories of the usual distributions, where root alone can put a file.
    #[must_use]
    pub fn built_in() -> Self {
        let architecture = Path::new("/usr/lib").join(multiarch_name());
        let directories: Vec<PathBuf> = [
            "/usr/lib64/pkcs11",
            "/usr/lib/pkcs11",
            "/usr/local/lib/pkcs11",
            "/usr/lib/softhsm",
        ]
        .map(PathBuf::from)
        .into_iter()
        .chain([architecture.join("pkcs11"), architecture])
        .collect();
        Self {
            origin: Origin::BuiltIn,
            allowed: directories
                .iter()
                .cloned()
                .map(Allowed::Directory)
                .collect(),
            module_directories: directories,
        }
    }

    /// The node's policy: the first file that exists of `OCICRYPT_CONFIG`,
    /// `$XDG_CONFIG_HOME/ocicrypt.conf`, `$HOME/.config/ocicrypt.conf`, `/etc/ocicrypt.conf`.
    ///
    /// Without any file it is the built-in policy, also named by `OCICRYPT_CONFIG=internal`. The reference loads
    /// nothing then. But what the built-in policy allows, only root could have installed, so refusing it would
    /// protect nobody, and every new node would begin with a failure. A file that is there is taken at its word,
    /// also when it allows nothing.
    ///
    /// # Errors
    /// [`Error::PolicyMissing`] when `OCICRYPT_CONFIG` names a file that is not there; [`Error::InFile`] when it cannot be
    /// read; [`Error::InvalidYaml`], [`Error::PolicyKey`] or [`Error::PolicyEntry`] for a mistake in it.
    pub fn discover(search: &PolicySearch) -> Result<Self> {
        match &search.ocicrypt_config {
            Some(config) if config == "internal" => return Ok(Self::built_in()),
            Some(config) if !config.is_empty() => {
                return Self::read(Path::new(config)).map_err(|error| match error {
                    Error::InFile(error) if error.is_absent() => Error::PolicyMissing {
                        path: error.path().to_owned(),
                    },
                    error => error,
                });
            }
            _ => {}
        }
        for candidate in search.candidates() {
            match Self::read(&candidate) {
                Err(Error::InFile(error)) if error.is_absent() => {}
                result => return result,
            }
        }
        Ok(Self::built_in())
    }

    /// Reads a policy file, and compares its entries with what is on disk.
    ///
    /// # Errors
    /// As [`Policy::discover`].
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = file::read(path, MAX_POLICY)?;
        let lists = Lists::of_node(&path.display().to_string(), &bytes)?;
        Ok(Self {
            origin: Origin::File(path.to_owned()),
            module_directories: lists.module_directories,
            allowed: lists.allowed,
        })
    }

    /// This policy for keys that a client sent, with the client's directories searched after the node's own.
    ///
    /// The node alone decides what may be loaded: the client's `allowed-module-paths` counts for nothing, since
    /// to honour it would let whoever can ask for a pull run code of their own as root here. A module in one of
    /// the client's directories is loaded only if this node's policy allows it.
    #[must_use]
    pub fn for_client(&self, client: &ClientPolicy) -> Self {
        let mut policy = self.clone();
        let known: HashSet<_> = self.module_directories.iter().collect();
        policy.module_directories.extend(
            client
                .module_directories
                .iter()
                .filter(|directory| !known.contains(directory))
                .cloned(),
        );
        policy
    }
}

impl ClientPolicy {
    /// Reads the policy that a client sent: the two lists, without `pkcs11:` above them. `name` is what messages
    /// call it.
    ///
    /// # Errors
    /// [`Error::InvalidYaml`], [`Error::PolicyKey`] or [`Error::PolicyEntry`] for a mistake in it.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MAX_POLICY {
            return Err(Error::TooLarge {
                what: "a client's module policy",
                limit: MAX_POLICY as u64,
            });
        }
        let lists = Lists::of_client(name, bytes)?;
        Ok(Self {
            module_directories: lists.module_directories,
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("the built-in policy"),
            Self::File(path) => write!(f, "the policy {}", path.display()),
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}/", path.display()),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The directory below `/usr/lib` on Debian and its kin for the architecture that we were built for.
fn multiarch_name() -> String {
    match std::env::consts::ARCH {
        "x86" => "i386-linux-gnu".to_owned(),
        "arm" => "arm-linux-gnueabihf".to_owned(),
        "powerpc64" if cfg!(target_endian = "little") => "powerpc64le-linux-gnu".to_owned(),
        other => format!("{other}-linux-gnu"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn written(content: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ocicrypt.conf");
        fs::write(&path, content).unwrap();
        (dir, path)
    }

    fn read(content: &str) -> Result<Policy> {
        let (_dir, path) = written(content);
        Policy::read(&path)
    }

    fn nowhere() -> PolicySearch {
        PolicySearch {
            ocicrypt_config: None,
            xdg_config_home: None,
            home: None,
            system_file: PathBuf::from("/nowhere/ocicrypt.conf"),
        }
    }

    #[test]
    fn reads_what_the_specification_shows() {
        let policy = read(
            "pkcs11:\n  module-directories:\n    - /nowhere/a/\n    - /nowhere/b\n  \
             allowed-module-paths:\n    - /nowhere/a/\n    - /nowhere/b/lib.so\nkey-providers:\n  x: {}\n",
        )
        .unwrap();
        let directories = ["/nowhere/a", "/nowhere/b"].map(PathBuf::from);
        assert_eq!(policy.module_directories, directories);
        assert_eq!(
            policy.allowed,
            [
                Allowed::Directory("/nowhere/a".into()),
                Allowed::File("/nowhere/b/lib.so".into())
            ]
        );
        assert_eq!(policy.allowed[0].to_string(), "/nowhere/a/");
    }

    #[test]
    fn a_file_that_says_nothing_allows_nothing() {
        for text in [
            "",
            "# all commented\n",
            "pkcs11:\n",
            "pkcs11:\n  module-directories:\n",
        ] {
            let policy = read(text).unwrap();
            assert!(policy.allowed.is_empty() && policy.module_directories.is_empty());
            assert!(matches!(policy.origin, Origin::File(_)));
        }
    }

    #[test]
    fn the_first_file_that_exists_is_the_policy() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "pkcs11:\n").unwrap();
            path
        };
        let mut search = nowhere();
        search.home = Some(dir.path().join("home").into());
        search.xdg_config_home = Some(dir.path().join("xdg").into());
        search.system_file = dir.path().join("etc");
        let origin = |search: &PolicySearch| Policy::discover(search).unwrap().origin;

        assert_eq!(origin(&search), Origin::BuiltIn);
        for name in [
            "etc",
            "home/.config/ocicrypt.conf",
            "xdg/ocicrypt.conf",
            "named",
        ] {
            let path = file(name);
            if name == "named" {
                search.ocicrypt_config = Some(path.clone().into());
            }
            assert_eq!(origin(&search), Origin::File(path), "{name}");
        }
        search.ocicrypt_config = Some("internal".into());
        assert_eq!(origin(&search), Origin::BuiltIn);
        search.ocicrypt_config = Some("".into());
        assert_eq!(
            origin(&search),
            Origin::File(dir.path().join("xdg/ocicrypt.conf"))
        );
    }

    #[test]
    fn a_policy_that_cannot_be_read_is_not_passed_over() {
        let mut search = nowhere();
        search.ocicrypt_config = Some("/nowhere/policy".into());
        assert!(matches!(
            Policy::discover(&search),
            Err(Error::PolicyMissing { .. })
        ));
        let dir = tempfile::tempdir().unwrap();
        let mut search = nowhere();
        search.system_file = dir.path().to_owned();
        assert!(matches!(
            Policy::discover(&search),
            Err(Error::InFile(file::Error::NotRegular { .. }))
        ));
        fs::write(dir.path().join("ocicrypt.conf"), "pkcs12:").unwrap();
        search.xdg_config_home = Some(dir.path().into());
        assert!(matches!(
            Policy::discover(&search),
            Err(Error::PolicyKey { .. })
        ));
    }

    #[test]
    fn the_built_in_policy_allows_what_it_searches() {
        let policy = Policy::built_in();
        assert_eq!(policy.module_directories.len(), policy.allowed.len());
        for (directory, allowed) in policy.module_directories.iter().zip(&policy.allowed) {
            assert_eq!(allowed, &Allowed::Directory(directory.clone()));
        }
    }

    #[test]
    fn a_client_adds_directories_and_allows_nothing() {
        let node = Policy {
            origin: Origin::BuiltIn,
            module_directories: vec!["/a".into()],
            allowed: vec![Allowed::File("/a/lib.so".into())],
        };
        let client = b"module-directories: [/a/, /b/]\nallowed-module-paths: [/b/, /a/]\n";
        let client = ClientPolicy::parse("the payload", client).unwrap();
        let policy = node.for_client(&client);
        assert_eq!(
            policy.module_directories,
            [Path::new("/a"), Path::new("/b")]
        );
        assert_eq!(policy.allowed, node.allowed);
    }

    #[test]
    fn a_policy_has_a_bound() {
        let text = "#".repeat(MAX_POLICY + 1);
        assert!(matches!(
            read(&text),
            Err(Error::InFile(file::Error::TooLarge { .. }))
        ));
        assert!(matches!(
            ClientPolicy::parse("the payload", text.as_bytes()),
            Err(Error::TooLarge { .. })
        ));
    }
}
