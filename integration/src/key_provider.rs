//! A key provider that is a program, compiled from `key_provider.c`, and the file that names it.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use tempfile::TempDir;

use crate::program::Program;

/// The compiled provider, by the name `hidden`, as the vectors have it.
#[derive(Debug)]
pub struct KeyProvider {
    directory: TempDir,
}

impl KeyProvider {
    /// Compiles it.
    ///
    /// # Panics
    /// Without a C compiler.
    #[must_use]
    pub fn new() -> Self {
        let directory =
            TempDir::with_prefix("ocihsm-provider-").expect("a temporary directory can be made");
        let program = directory.path().join("provider");
        Program::new("cc")
            .args(["-Wall", "-Werror", "-O1", "-o"])
            .arg(&program)
            .args(["-xc", "-"])
            .stdin(include_bytes!("key_provider.c"))
            .ok();
        let provider = Self { directory };
        provider.write(&program.display().to_string(), &[]);
        provider
    }

    /// A provider that is this shell script.
    #[must_use]
    pub fn script(text: &str) -> Self {
        let directory =
            TempDir::with_prefix("ocihsm-provider-").expect("a temporary directory can be made");
        let provider = Self { directory };
        provider.write("/bin/sh", &["-c", text]);
        provider
    }

    fn write(&self, path: &str, args: &[&str]) {
        let file =
            json!({ "key-providers": { "hidden": { "cmd": { "path": path, "args": args } } } });
        fs::write(self.file(), file.to_string()).expect("the directory is ours");
    }

    /// What `OCICRYPT_KEYPROVIDER_CONFIG` has to name.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("providers.json")
    }
}

impl Default for KeyProvider {
    fn default() -> Self {
        Self::new()
    }
}
