//! Runs `ocihsm::hsm` in a process of its own (`bin/unwrap.rs`): a key, wrapped keys, and what comes of them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use ocihsm::keys::public::PublicKey;
use ocihsm::keys::public::Recipient;
use ocihsm::operation::KeyOperation;
use ocihsm::operation::OaepHash;
use ocihsm::options::PrivateOptions;
use ocihsm::secret::LayerKey;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::{Output, Program};

/// An unwrapping about to run, with a runtime directory of its own.
#[derive(Debug)]
pub struct Unwrapping {
    directory: TempDir,
    /// What the program is run by, where it needs another namespace.
    prefix: Vec<String>,
    keys: Vec<Value>,
    env: Vec<(String, String)>,
    init: Option<String>,
    envelopes: Vec<Vec<Value>>,
    timeout: u64,
    allow_final_try: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Answer {
    /// Status and output.
    pub output: Output,
    json: Value,
}

impl Unwrapping {
    /// Nothing to unwrap yet.
    ///
    /// # Panics
    /// If the disk is full; so also below.
    #[must_use]
    pub fn new() -> Self {
        Self {
            directory: TempDir::with_prefix("ocihsm-unwrap-")
                .expect("a temporary directory can be made"),
            prefix: Vec::new(),
            keys: Vec::new(),
            env: Vec::new(),
            init: None,
            envelopes: Vec::new(),
            timeout: 60_000,
            allow_final_try: false,
        }
    }

    /// Runs the program by another.
    #[must_use]
    pub fn prefix(mut self, prefix: &[String]) -> Self {
        self.prefix = prefix.to_vec();
        self
    }

    /// Sets the `module.env` of the keys that follow.
    #[must_use]
    pub fn env(mut self, env: impl IntoIterator<Item = (String, String)>) -> Self {
        self.env = env.into_iter().collect();
        self
    }

    /// Sets the `module.init` of the keys that follow.
    #[must_use]
    pub fn init(mut self, init: &str) -> Self {
        self.init = Some(init.to_owned());
        self
    }

    /// Adds a key by its URI.
    #[must_use]
    pub fn key(mut self, uri: &str, module: &Path) -> Self {
        self.add_key(uri, module);
        self
    }

    /// Adds a key by its URI; returns its file.
    pub fn add_key(&mut self, uri: &str, module: &Path) -> PathBuf {
        let file = self
            .directory
            .path()
            .join(format!("key{}.yaml", self.keys.len()));
        self.write_key(&file, uri);
        self.keys.push(json!({ "file": file, "module": module }));
        file
    }

    /// Writes a key file anew.
    pub fn write_key(&self, file: &Path, uri: &str) {
        let mut text = format!("pkcs11:\n  uri: {}\n", json!(uri));
        if self.init.is_some() || !self.env.is_empty() {
            text.push_str("module:\n");
        }
        if let Some(init) = &self.init {
            text.push_str(&format!("  init: {}\n", json!(init)));
        }
        if !self.env.is_empty() {
            text.push_str("  env:\n");
        }
        for (name, value) in &self.env {
            text.push_str(&format!("    {name}: {}\n", json!(value)));
        }
        fs::write(file, text).expect("the directory is ours");
    }

    /// Adds the recipients of one layer.
    #[must_use]
    pub fn envelope(mut self, recipients: &[Recipient]) -> Self {
        let recipients = recipients
            .iter()
            .map(|recipient| json!({ "hash": recipient.hash.as_str(), "blob": recipient.blob }));
        self.envelopes.push(recipients.collect());
        self
    }

    /// Sets the time that a module has.
    #[must_use]
    pub fn timeout(mut self, milliseconds: u64) -> Self {
        self.timeout = milliseconds;
        self
    }

    /// Allows a login that may be the last.
    #[must_use]
    pub fn allow_final_try(mut self) -> Self {
        self.allow_final_try = true;
        self
    }

    /// Runs it. The same unwrapping may run several times, with what the earlier ones left in the runtime directory.
    #[must_use]
    pub fn run(&self) -> Answer {
        self.run_within(self.timeout)
    }

    /// Runs it, with another time for a module.
    #[must_use]
    pub fn run_within(&self, milliseconds: u64) -> Answer {
        self.ask(&json!({
            "timeout": milliseconds,
            "allow_final_try": self.allow_final_try,
            "keys": self.keys,
            "envelopes": self.envelopes,
        }))
    }

    /// Has keys, by their numbers, do these operations instead.
    #[must_use]
    pub fn operate(&self, operations: &[(usize, KeyOperation)]) -> Answer {
        let operations: Vec<_> = operations
            .iter()
            .map(|(key, operation)| json!({ "key": key, "operation": operation }))
            .collect();
        self.ask(&json!({
            "timeout": self.timeout,
            "allow_final_try": self.allow_final_try,
            "keys": self.keys,
            "operations": operations,
        }))
    }

    /// Reads the public half of the first key instead.
    #[must_use]
    pub fn public_key(&self) -> Answer {
        self.ask(&json!({ "timeout": self.timeout, "public_key": self.keys[0] }))
    }

    /// Makes a pair on the token of the first key instead.
    #[must_use]
    pub fn generate(&self, label: &str) -> Answer {
        let generate = json!({ "key": self.keys[0], "label": label });
        self.ask(&json!({ "timeout": self.timeout, "generate": generate }))
    }

    /// The file of the first key.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.directory.path().join("key0.yaml")
    }

    /// Where locks and rejected PINs are kept.
    #[must_use]
    pub fn runtime_directory(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    fn ask(&self, request: &Value) -> Answer {
        let mut argv = self.prefix.clone();
        argv.push(program().display().to_string());
        let output = Program::new(&argv[0])
            .args(&argv[1..])
            .env("OCIHSM_RUNTIME_DIR", self.runtime_directory())
            .stdin(request.to_string())
            .run();
        let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        Answer { output, json }
    }
}

impl Default for Unwrapping {
    fn default() -> Self {
        Self::new()
    }
}

impl Answer {
    /// Who took the padding off each envelope: `Native`, `RawRsa`, or nobody.
    #[must_use]
    pub fn opened(&self) -> Vec<Option<&str>> {
        self.outcomes()
            .map(|outcome| outcome["how"].as_str())
            .collect()
    }

    /// Number of the key and of the recipient of the first envelope.
    #[must_use]
    pub fn by(&self) -> (Option<u64>, Option<u64>) {
        let outcome = &self.json["outcomes"][0];
        (outcome["key"].as_u64(), outcome["recipient"].as_u64())
    }

    /// What the operations came to: `opened`, `refused` or `error` in each.
    #[must_use]
    pub fn answers(&self) -> &[Value] {
        self.json["answers"]
            .as_array()
            .unwrap_or_else(|| panic!("no answers: {self:?}"))
    }

    /// Why the first envelope was refused, key by key.
    #[must_use]
    pub fn refusals(&self) -> Vec<&str> {
        let refused = self.json["outcomes"][0]["refused"].as_array();
        refused
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }

    /// The error, which there must be.
    ///
    /// # Panics
    /// If there is none, or anything was printed beside it.
    #[must_use]
    pub fn error(&self) -> &str {
        assert_eq!(self.output.status.code(), Some(1), "{:?}", self.output);
        assert!(self.output.stdout.is_empty(), "{:?}", self.output);
        let mut lines = self.output.stderr.lines();
        let error = lines.next().unwrap_or_default();
        let hint = lines.next();
        assert!(error.starts_with("ocihsm: error: "), "{:?}", self.output);
        assert!(
            hint.is_none_or(|hint| hint.starts_with("ocihsm: hint: ")) && lines.next().is_none(),
            "{:?}",
            self.output
        );
        error
    }

    /// The public key that was read or made, PEM.
    #[must_use]
    pub fn pem(&self) -> Option<&str> {
        self.json["pem"].as_str()
    }

    /// What there was to say about the runtime directory.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.json["warning"].as_str()
    }

    fn outcomes(&self) -> impl Iterator<Item = &Value> {
        self.json["outcomes"].as_array().into_iter().flatten()
    }
}

/// Private options, wrapped for a public key.
///
/// # Panics
/// If the file holds no public key, or one that is too small.
#[must_use]
pub fn wrap(public: &Path, hash: OaepHash) -> Recipient {
    let options = PrivateOptions {
        key: LayerKey::new([7; 32]),
        digest: None,
        cipher_options: [("nonce".to_owned(), vec![9; 16])].into(),
    };
    PublicKey::read(public)
        .and_then(|key| key.wrap(hash, &options))
        .unwrap_or_else(|error| panic!("cannot wrap: {error}"))
}

/// The program, which is built with the tests.
fn program() -> PathBuf {
    env::current_exe()
        .ok()
        .and_then(|test| Some(test.parent()?.parent()?.join("unwrap")))
        .expect("a test runs in target/PROFILE/deps")
}
