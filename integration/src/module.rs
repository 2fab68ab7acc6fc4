//! A token behind one of the modules that we support, set up by the script of its name in `integration/modules`.
//!
//! `OCIHSM_TEST_MODULES`, names separated by commas, limits which are tested.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::program::Program;
use crate::repository;
use crate::skip::skipped;
use crate::unwrapping::Unwrapping;

/// The user PIN of these tokens; openCryptoki takes eight characters at most.
pub const PIN: &str = "sesame-8";

/// A PIN that none of them has.
pub const WRONG_PIN: &str = "mustard8";

/// A running module with token `kbs` and the keys `rsa2048` and `other`.
#[derive(Debug)]
pub struct Module {
    directory: TempDir,
    script: PathBuf,
    library: PathBuf,
    env: Vec<(String, String)>,
    prefix: Vec<String>,
}

impl Module {
    /// Sets it up; `None` where it was not asked for.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn up(name: &str) -> Option<Self> {
        let wanted = env::var("OCIHSM_TEST_MODULES").unwrap_or_default();
        if !wanted.is_empty() && !wanted.split(',').any(|one| one == name) {
            skipped(&format!("{name} is not among OCIHSM_TEST_MODULES"));
            return None;
        }
        let directory =
            TempDir::with_prefix("ocihsm-module-").expect("a temporary directory can be made");
        let script = repository().join(format!("integration/modules/{name}.sh"));
        let mut module = Self {
            directory,
            script,
            library: PathBuf::new(),
            env: Vec::new(),
            prefix: Vec::new(),
        };
        let output = Program::new(&module.script)
            .arg("up")
            .arg(module.directory.path())
            .env("PIN", PIN)
            .ok();
        for line in output.text().lines() {
            match line.split_once(' ') {
                Some(("module", path)) => module.library = path.into(),
                Some(("env", variable)) => {
                    let (name, value) = variable.split_once(' ').expect("a name and a value");
                    module.env.push((name.to_owned(), value.to_owned()));
                }
                Some(("run", prefix)) => {
                    module.prefix = prefix.split(' ').map(str::to_owned).collect();
                }
                _ => panic!("the script said {line:?}"),
            }
        }
        Some(module)
    }

    /// The module's file.
    #[must_use]
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// What has to be in the module's environment.
    #[must_use]
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }

    /// A program that runs where the module can be reached.
    #[must_use]
    pub fn program(&self, program: &Path) -> Program {
        match self.prefix.split_first() {
            Some((first, rest)) => Program::new(first).args(rest).arg(program),
            None => Program::new(program),
        }
    }

    /// The URI of a key.
    #[must_use]
    pub fn uri(&self, key: &str, pin: &str) -> String {
        format!(
            "pkcs11:token=kbs;object={key}?pin-value={pin}&module-path={}",
            self.library.display()
        )
    }

    /// An unwrapping with this key.
    #[must_use]
    pub fn unwrapping(&self, key: &str, pin: &str) -> Unwrapping {
        self.unwrapping_in(self.env.clone(), &self.uri(key, pin), &self.library)
    }

    /// An unwrapping with another module, where this one can be reached.
    #[must_use]
    pub fn unwrapping_in(
        &self,
        env: impl IntoIterator<Item = (String, String)>,
        uri: &str,
        library: &Path,
    ) -> Unwrapping {
        Unwrapping::new()
            .prefix(&self.prefix)
            .env(env)
            .key(uri, library)
    }

    /// A directory that goes with the module.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let _ = Program::new(&self.script)
            .arg("down")
            .arg(self.directory.path())
            .run();
    }
}

/// A library by its place in the directory of its architecture, as in `/usr/lib/*/PLACE`.
#[must_use]
pub fn library(place: &str) -> Option<PathBuf> {
    let mut found = fs::read_dir("/usr/lib").ok()?.flatten();
    found.find_map(|entry| Some(entry.path().join(place)).filter(|path| path.exists()))
}

/// Whether a package of Debian's is installed in this version or a later one.
#[must_use]
pub fn is_since(package: &str, version: &str) -> bool {
    let installed = Program::new("dpkg-query").args(["--show", "--showformat", "${Version}"]);
    let installed = installed.arg(package).run();
    let compared = Program::new("dpkg").args(["--compare-versions", installed.text().trim()]);
    installed.status.success() && compared.args(["ge", version]).run().status.success()
}
