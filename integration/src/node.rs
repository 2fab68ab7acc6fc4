//! A node's files, for tests of what an operator sets it up with.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::ocihsm;
use crate::program::{Output, Program};
use crate::token::{SOFTHSM, Token};
use crate::vectors::Vector;

/// A node's files, as an operator would have put them there.
#[derive(Debug)]
pub struct Node {
    /// The token with its keys.
    pub token: Token,
    /// The directory of key files.
    pub keys: PathBuf,
    directory: TempDir,
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    /// One key, the sample stanza as a drop-in, a policy that allows SoftHSM, and a store with an image.
    ///
    /// # Panics
    /// If a file cannot be written.
    #[must_use]
    pub fn new() -> Self {
        let token = Token::vectors();
        let keys = token.keys(&["rsa3072"]);
        set_mode(&keys, 0o700);
        let node = Self {
            directory: TempDir::with_prefix("ocihsm-node-").expect("the directory is ours"),
            token,
            keys,
        };
        Vector::first("sha256-pubkey")
            .layout
            .store(&node.path("root"));
        node.write(
            "policy",
            &format!("pkcs11:\n  module-directories:\n    - /usr/lib/softhsm/\n  allowed-module-paths:\n    - {SOFTHSM}\n"),
        );
        fs::create_dir(node.path("conf.d")).expect("the directory is ours");
        node.write(
            "config.toml",
            &format!(
                "version = 2\nroot = {:?}\nstate = {:?}\nimports = [{:?}]\n",
                node.path("root"),
                node.path("state"),
                node.path("conf.d/*.toml")
            ),
        );
        let stanza = node.stanza(&[]);
        node.write("conf.d/ocihsm.toml", &stanza);
        node
    }

    /// A file of the node.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file of the node.
    ///
    /// # Panics
    /// If that fails.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("the directory is ours");
    }

    /// Replaces what has to stand in a file.
    ///
    /// # Panics
    /// If it does not stand there.
    pub fn change(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(name)).expect("the directory is ours");
        assert!(text.contains(from), "{from} is not in {text}");
        self.write(name, &text.replace(from, to));
    }

    /// The one key file.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        let mut entries = fs::read_dir(&self.keys).expect("the directory is ours");
        let entry = entries.next().expect("there is a key file");
        entry.expect("the directory is ours").path()
    }

    /// What `config containerd` prints for this node, with a directory of the token's own for rejected PINs.
    #[must_use]
    pub fn stanza(&self, more: &[&str]) -> String {
        Program::new(ocihsm())
            .args(["config", "containerd", "--keys"])
            .arg(&self.keys)
            .arg("--path")
            .arg(ocihsm())
            .arg("--policy")
            .arg(self.path("policy"))
            .args(more)
            .ok()
            .text()
            .replace(
                "env = [",
                &format!(
                    "env = [\"OCIHSM_RUNTIME_DIR={}\", ",
                    self.token.runtime().display()
                ),
            )
    }

    /// What doctor finds.
    #[must_use]
    pub fn doctor(&self, more: &[&str]) -> Output {
        self.doctor_program().args(more).run()
    }

    /// The program that looks at this node.
    #[must_use]
    pub fn doctor_program(&self) -> Program {
        // cargo sets the variable for tests.
        Program::new(ocihsm())
            .env("LD_LIBRARY_PATH", "")
            .args(["doctor", "--containerd-config"])
            .arg(self.path("config.toml"))
    }

    /// What doctor finds, and that it fails.
    ///
    /// # Panics
    /// If it finds nothing wrong.
    #[must_use]
    pub fn complaint(&self) -> String {
        let output = self.doctor(&[]);
        assert!(!output.status.success(), "{}", output.text());
        assert!(output.stderr.contains("checks failed"), "{}", output.stderr);
        output.text()
    }
}

/// Changes the mode of a file.
///
/// # Panics
/// If that fails.
pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the directory is ours");
}

/// Whether doctor found everything as it should be, but that no containerd was started with the node's file.
#[must_use]
pub fn is_sound(text: &str) -> bool {
    text.contains("no containerd that runs was started with ")
        && (text.lines().last()).is_some_and(|line| line.ends_with(" ok, 1 warning, 0 failed"))
}

/// The line that holds this.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn line<'a>(text: &'a str, part: &str) -> &'a str {
    text.lines()
        .find(|line| line.contains(part))
        .unwrap_or_else(|| panic!("nothing on {part:?} in\n{text}"))
}
