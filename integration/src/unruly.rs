//! A module that stands in front of a real one and misbehaves where it is told to, compiled from `unruly.c`.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::program::Program;

/// The compiled module and its log.
#[derive(Debug)]
pub struct Unruly {
    directory: TempDir,
}

impl Unruly {
    /// Compiles it.
    ///
    /// # Panics
    /// Without a C compiler.
    #[must_use]
    pub fn new() -> Self {
        let directory =
            TempDir::with_prefix("ocihsm-unruly-").expect("a temporary directory can be made");
        let unruly = Self { directory };
        Program::new("cc")
            .args(["-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o"])
            .arg(unruly.module())
            .arg("-xc")
            .arg("-")
            .stdin(include_bytes!("unruly.c"))
            .ok();
        unruly
    }

    /// The module.
    #[must_use]
    pub fn module(&self) -> PathBuf {
        self.directory.path().join("unruly.so")
    }

    /// What has to be in the module's environment: the real module, and the log.
    #[must_use]
    pub fn env(&self, real: &Path) -> Vec<(String, String)> {
        vec![
            ("UNRULY_MODULE".to_owned(), real.display().to_string()),
            ("UNRULY_LOG".to_owned(), self.log().display().to_string()),
        ]
    }

    /// The functions that were called since the last time, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let _ = fs::remove_file(self.log());
        text.lines().map(str::to_owned).collect()
    }

    /// How often this function was called since the last time.
    #[must_use]
    pub fn count(&self, function: &str) -> usize {
        self.calls().iter().filter(|call| *call == function).count()
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("calls")
    }
}

impl Default for Unruly {
    fn default() -> Self {
        Self::new()
    }
}
