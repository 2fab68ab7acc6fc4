//! Where programs are run from: this machine, or the root file system of a peer that `integration/peers` made.
//!
//! A program of a peer runs in a mount namespace of its own, on an overlay over that root, and sees the machine's
//! temporary directory and this repository at their usual places. Nothing it writes elsewhere remains.

use std::env;
use std::path::{Path, PathBuf};
use std::thread;

use tempfile::TempDir;

use crate::program::Program;
use crate::repository;
use crate::skip::{self, skipped};

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

    /// Runs a test on every containerd there is, beside one another, and prints their versions.
    ///
    /// # Panics
    /// If it fails on one of them.
    pub fn on_each_containerd(test: impl Fn(&Self) + Sync) {
        if !skip::root() || !skip::programs(&["containerd", "runc", "docker-registry"]) {
            return;
        }
        let roots = Self::all();
        let passed: Vec<_> = thread::scope(|scope| {
            let tests: Vec<_> = roots
                .iter()
                .map(|root| scope.spawn(|| test(root)))
                .collect();
            tests.into_iter().map(|test| test.join().is_ok()).collect()
        });
        assert!(
            passed.into_iter().all(|passed| passed),
            "one of them failed"
        );
        let versions: Vec<_> = roots.iter().map(Self::containerd_version).collect();
        ran_on(&versions);
    }

    /// The version of its containerd, as in `1.7.24`.
    ///
    /// # Panics
    /// If it does not tell.
    #[must_use]
    pub fn containerd_version(&self) -> String {
        let scratch = TempDir::new().expect("a temporary directory can be made");
        // containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1
        let told = self
            .program(&scratch, "containerd")
            .arg("--version")
            .ok()
            .text();
        let version = told
            .split_whitespace()
            .nth(2)
            .expect("containerd tells its version");
        version
            .trim_start_matches('v')
            .split(['~', '+', '-'])
            .next()
            .unwrap_or(version)
            .to_owned()
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
    pub fn program(&self, scratch: &TempDir, program: &str) -> Program {
        if self.path.is_none() {
            return Program::new(program);
        }
        let directory = tempfile::tempdir_in(scratch)
            .expect("the directory is ours")
            .keep();
        self.isolated(&directory, program)
    }
}

/// Prints which versions of containerd a test ran on; `integration/run` shows the line.
pub fn ran_on(versions: &[impl AsRef<str>]) {
    let versions: Vec<_> = versions.iter().map(AsRef::as_ref).collect();
    println!("\nran on containerd {}", versions.join(", "));
}
