//! Where an operator types: a token, a PIN file, and a directory to work in.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::ocihsm;
use crate::program::{Output, Program};
use crate::token::{PIN, Token};

/// An operator's shell: a token, a PIN file, and a directory to work in.
#[derive(Debug)]
pub struct Shell {
    /// The token.
    pub token: Token,
}

impl Shell {
    /// A new token of this label.
    ///
    /// # Panics
    /// If it cannot be made; the methods, if files cannot be written or read.
    #[must_use]
    pub fn new(label: &str) -> Self {
        let shell = Self {
            token: Token::new(label),
        };
        shell.write("pin", &format!("{PIN}\n"));
        shell
    }

    /// A file of the directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.token.path().join(name)
    }

    /// Writes one.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).expect("the directory is ours");
        self.path(name)
    }

    /// Reads one.
    #[must_use]
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("the directory is ours")
    }

    /// `ocihsm keys …` with a terminal nowhere near it.
    #[must_use]
    pub fn keys(&self, arguments: &[&str]) -> Program {
        Program::new("setsid")
            .arg("--wait")
            .arg(ocihsm())
            .arg("keys")
            .args(arguments)
            .env("OCICRYPT_CONFIG", "internal")
            .env("OCIHSM_RUNTIME_DIR", self.token.runtime())
            .env("SOFTHSM2_CONF", self.token.configuration())
            .env("HOME", self.token.path())
            .current_dir(self.token.path())
    }

    /// Makes a key `name` with the PIN file.
    #[must_use]
    pub fn generate(&self, label: &str, name: &str, more: &[&str]) -> Program {
        let size: &[&str] = match more.contains(&"--type") {
            true => &[],
            false => &["--bits", "2048"],
        };
        self.keys(&["generate", "--module", "softhsm2", "--token", label])
            .args(["--label", name, "--pin-file", "pin"])
            .args(size)
            .args(more)
    }

    /// The keys of all tokens, private ones too where a token is named.
    #[must_use]
    pub fn listed(&self, more: &[&str]) -> Vec<Value> {
        let output = self
            .keys(&["list", "--json", "--module", "softhsm2"])
            .args(more)
            .ok();
        let listing: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
        let tokens = listing["modules"][0]["tokens"]
            .as_array()
            .expect("a module has tokens");
        tokens
            .iter()
            .flat_map(|token| token["keys"].as_array().expect("a token has keys"))
            .cloned()
            .collect()
    }

    /// Names of the files that are there.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.token.path()).expect("the directory is ours");
        let mut names: Vec<_> = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// A policy that allows these modules, and looks for them where they are.
    #[must_use]
    pub fn policy(&self, modules: &[PathBuf]) -> PathBuf {
        let list = |paths: Vec<&Path>| {
            let lines = paths
                .iter()
                .map(|path| format!("\n    - {}", path.display()));
            lines.collect::<String>()
        };
        let text = format!(
            "pkcs11:\n  module-directories:{}\n  allowed-module-paths:{}\n",
            list(modules.iter().filter_map(|path| path.parent()).collect()),
            list(modules.iter().map(PathBuf::as_path).collect())
        );
        self.write("ocicrypt.conf", &text)
    }
}

/// Fails, with this in its message; the hint, if there is one.
///
/// # Panics
/// If it succeeded, or failed otherwise.
pub fn refused(output: &Output, message: &str) -> String {
    assert!(!output.status.success(), "{output:?}");
    let (error, hint) = output.stderr.split_once('\n').expect("an error has a line");
    assert!(error.contains(message), "{message}: {output:?}");
    hint.trim_start_matches("ocihsm: hint: ").trim().to_owned()
}
