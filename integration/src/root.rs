//! Where programs are run from: this machine, or the root file system of a peer that `integration/peers` made.
//!
//! A program of a peer runs in a mount namespace of its own, on an overlay over that root, and sees the machine's
//! temporary directory and this repository at their usual places. Nothing it writes elsewhere remains.

use std::env;
use std::path::{Path, PathBuf};

use crate::program::Program;
use crate::repository;
use crate::skip::skipped;

/// A place that programs come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    name: &'static str,
    path: Option<PathBuf>,
}

impl Root {
    /// This machine.
    #[must_use]
    pub fn host() -> Self {
        Self {
            name: "host",
            path: None,
        }
    }

    /// Debian 13's programs, with imgcrypt's; if they were made.
    #[must_use]
    pub fn trixie() -> Option<Self> {
        Self::peer("trixie")
    }

    /// The programs of Debian's development branch; if they were made.
    #[must_use]
    pub fn sid() -> Option<Self> {
        Self::peer("sid")
    }

    /// This machine and every peer that was made; says which are missing.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let peers = [("trixie", Self::trixie()), ("sid", Self::sid())]
            .into_iter()
            .filter_map(|(name, root)| {
                if root.is_none() {
                    skipped(&format!(
                        "the {name} peers were not made (integration/peers)"
                    ));
                }
                root
            });
        [Self::host()].into_iter().chain(peers).collect()
    }

    fn peer(name: &'static str) -> Option<Self> {
        let cache = env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?;
        let path = cache.join("ocihsm-peers").join(name);
        path.is_dir().then_some(Self {
            name,
            path: Some(path),
        })
    }

    /// What to call it in a report.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// A file of a peer, as this machine sees it.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.path.as_ref()?.join(name)).filter(|path| path.exists())
    }

    /// A program from here, in new mount and process namespaces that end with it, and with us. `scratch` is an empty
    /// directory that this program alone may use.
    #[must_use]
    pub fn isolated(&self, scratch: &Path, program: &str) -> Program {
        let root = self.path.clone().unwrap_or_default();
        let ocihsm = crate::ocihsm();
        Program::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
            ])
            .args(["--propagation", "private", "sh"])
            .arg(repository().join("integration/src/enter.sh"))
            .arg(root)
            .arg(scratch)
            .arg(env::temp_dir())
            .arg(repository())
            .arg(ocihsm.parent().expect("a file is in a directory"))
            .arg(program)
    }

    /// Runs a program of this root to its end.
    #[must_use]
    pub fn program(&self, scratch: &tempfile::TempDir, program: &str) -> Program {
        if self.path.is_none() {
            return Program::new(program);
        }
        let directory = tempfile::tempdir_in(scratch)
            .expect("the directory is ours")
            .keep();
        self.isolated(&directory, program)
    }
}
