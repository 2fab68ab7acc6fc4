//! Where images are encrypted and decrypted: a token, a directory that holds nothing yet, and `ocihsm` between them.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::layout::Layout;
use crate::program::{Output, Program};
use crate::token::Token;
use crate::vector;

/// A token and a directory.
#[derive(Debug)]
pub struct Stage {
    /// The vectors' token.
    pub token: Token,
    /// The directory; it goes with this value.
    pub place: TempDir,
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Stage {
    /// Sets one.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        Self {
            token: Token::vectors(),
            place: TempDir::new().expect("a temporary directory can be made"),
        }
    }

    /// A path in the directory.
    #[must_use]
    pub fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// The same behind a transport, `oci-archive:` for example.
    #[must_use]
    pub fn name(&self, transport: &str, name: &str) -> String {
        format!("{transport}{}", self.at(name).display())
    }

    /// `ocihsm`, with no part in it for the files of the machine's user.
    #[must_use]
    pub fn ocihsm(&self) -> Program {
        let nowhere = self.at("nowhere");
        let mut program = self.token.ocihsm();
        for name in [
            "HOME",
            "XDG_RUNTIME_DIR",
            "XDG_CONFIG_HOME",
            "DOCKER_CONFIG",
        ] {
            program = program.env(name, &nowhere);
        }
        program
    }

    /// `ocihsm encrypt`, for the key `rsa3072`.
    #[must_use]
    pub fn encrypt(&self, source: &str, target: &str) -> Program {
        let program = self.ocihsm().args(["encrypt", source, target]);
        program.args(["--recipient", &recipient("rsa3072")])
    }

    /// `ocihsm decrypt` with that key.
    #[must_use]
    pub fn decrypt(&self, source: &str, target: &str) -> Program {
        self.decrypt_with(source, target, "rsa3072")
    }

    /// `ocihsm decrypt` with another key.
    #[must_use]
    pub fn decrypt_with(&self, source: &str, target: &str, key: &str) -> Program {
        let program = self.ocihsm().args(["decrypt", source, target, "--key"]);
        program.arg(self.token.key_file(key))
    }

    /// `ocihsm inspect`.
    #[must_use]
    pub fn inspect(&self, source: &str) -> Program {
        self.ocihsm().args(["inspect", source, "--json"])
    }
}

/// An image of the vectors.
#[must_use]
pub fn image(name: &str) -> Layout {
    Layout::open(vector("images").join(name))
}

/// A public key of the vectors, as `--recipient` takes it.
#[must_use]
pub fn recipient(name: &str) -> String {
    let key = vector(format!("keys/{name}.pub.pem"));
    format!("pkcs11:{}", key.display())
}

/// The digest of the image in a layout.
///
/// # Panics
/// If it has none.
#[must_use]
pub fn digest_of(layout: &Layout) -> String {
    let digest = layout.entry("latest")["digest"].clone();
    digest.as_str().expect("an entry has a digest").to_owned()
}

/// The names in a directory, sorted.
///
/// # Panics
/// If it cannot be listed.
#[must_use]
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory can be listed");
    let mut names: Vec<_> = entries
        .map(|entry| {
            let name = entry.expect("it can be listed to its end").file_name();
            name.into_string().expect("tests name files in UTF-8")
        })
        .collect();
    names.sort();
    names
}

/// It succeeded, and said all of this.
///
/// # Panics
/// If it did not.
pub fn assert_says(output: &Output, parts: &[&str]) {
    assert!(output.status.success(), "{}", output.stderr);
    for part in parts {
        let error = &output.stderr;
        assert!(error.contains(part), "no {part:?}: {error}");
    }
}

/// It failed with all of these words, and printed nothing else.
///
/// # Panics
/// If it did not.
pub fn assert_fails(output: &Output, parts: &[&str]) {
    assert!(
        !output.status.success(),
        "it succeeded: {} {}",
        output.text(),
        output.stderr
    );
    for part in parts {
        assert!(
            output.stderr.contains(part),
            "no {part:?}: {}",
            output.stderr
        );
    }
    assert_eq!(output.text(), "");
}
