//! A SoftHSM token in a directory of its own, and key files for what is in it.
//!
//! SoftHSM rewrites a token at every login, so tests never share one. The PINs are strings that occur nowhere else,
//! for any output can then be searched for them.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::layout::Layout;
use crate::program::Program;
use crate::vector;

/// The user PIN of every token here.
pub const PIN: &str = "sesame-nobody-prints-me";

/// A PIN that no token has.
pub const WRONG_PIN: &str = "mustard-nobody-prints-me";

/// Where Debian puts SoftHSM.
pub const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

const SECURITY_OFFICER_PIN: &str = "security-officer";

/// A token; its directory goes with it.
#[derive(Debug)]
pub struct Token {
    directory: TempDir,
    label: String,
}

impl Token {
    /// A copy of the vectors' token, with the keys `rsa3072`, `rsa2048` and `other3072`.
    #[must_use]
    pub fn vectors() -> Self {
        let token = Self::empty("ocicrypt-vectors");
        copy_directory(&vector("token"), &token.directory.path().join("tokens"));
        token
            .tool()
            .args(["--login", "--pin", "1234", "--change-pin", "--new-pin", PIN])
            .ok();
        token
    }

    /// A new token without keys.
    #[must_use]
    pub fn new(label: &str) -> Self {
        let token = Self::empty(label);
        Program::new("softhsm2-util")
            .env("SOFTHSM2_CONF", token.configuration())
            .args(["--init-token", "--free", "--label", label])
            .args(["--so-pin", SECURITY_OFFICER_PIN, "--pin", PIN])
            .ok();
        token
    }

    /// A place without a token, for keys in files.
    #[must_use]
    pub fn empty_for_files() -> Self {
        Self::empty("none")
    }

    fn empty(label: &str) -> Self {
        let directory =
            TempDir::with_prefix("ocihsm-token-").expect("a temporary directory can be made");
        let tokens = directory.path().join("tokens");
        fs::create_dir(&tokens).expect("the directory is new");
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n",
            tokens.display()
        );
        fs::write(directory.path().join("softhsm2.conf"), text).expect("the directory is ours");
        let token = Self {
            directory,
            label: label.to_owned(),
        };
        let private = fs::DirBuilder::new().mode(0o700).create(token.runtime());
        private.expect("the directory is ours");
        token
    }

    /// The directory of the token, where a test may keep its key files too.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// What `SOFTHSM2_CONF` has to name.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.path().join("softhsm2.conf")
    }

    /// `ocihsm` with the built-in policy, as a user of this token alone.
    #[must_use]
    pub fn ocihsm(&self) -> Program {
        Program::new(crate::ocihsm())
            .env("OCICRYPT_CONFIG", "internal")
            .env("OCIHSM_RUNTIME_DIR", self.runtime())
    }

    /// Encrypts an image to one of the keys, with `ocihsm encrypt` and these options, into a layout beside it.
    #[must_use]
    pub fn encrypt(&self, plain: &Layout, key: &str, options: &[&str]) -> Layout {
        let encrypted = Layout::open(plain.path().with_extension("encrypted"));
        self.ocihsm()
            .args([
                "encrypt",
                &plain.reference(),
                &encrypted.reference(),
                "--recipient",
            ])
            .arg(format!("pkcs11:{}", self.key_file(key).display()))
            .args(options)
            .ok();
        encrypted
    }

    /// What `OCIHSM_RUNTIME_DIR` names: rejected PINs are remembered for this token alone, though its serial may be
    /// that of others.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        self.path().join("run")
    }

    /// Makes an RSA pair in the token and returns its public key file, PEM.
    #[must_use]
    pub fn generate(&self, name: &str, id: u8, bits: u32) -> PathBuf {
        let id = format!("{id:02x}");
        self.generate_with(
            name,
            &format!("rsa:{bits}"),
            &["--usage-decrypt", "--id", &id],
        )
    }

    /// Makes a pair of this kind, with these options of `pkcs11-tool`, and returns its public key file, PEM.
    #[must_use]
    pub fn generate_with(&self, name: &str, kind: &str, options: &[&str]) -> PathBuf {
        self.tool()
            .args(["--login", "--pin", PIN, "--keypairgen", "--key-type", kind])
            .args(["--label", name])
            .args(options)
            .ok();
        let (der, pem) = (
            self.path().join("public.der"),
            self.path().join(format!("{name}.pub.pem")),
        );
        self.tool()
            .args([
                "--read-object",
                "--type",
                "pubkey",
                "--label",
                name,
                "--output-file",
            ])
            .arg(&der)
            .ok();
        Program::new("openssl")
            .args(["pkey", "-pubin", "-inform", "DER", "-in"])
            .arg(&der)
            .arg("-out")
            .arg(&pem)
            .ok();
        pem
    }

    /// The URI of a key, without a query.
    #[must_use]
    pub fn uri(&self, key: &str) -> String {
        format!("pkcs11:token={};object={key};type=private", self.label)
    }

    /// A key file that works for a key of this token.
    #[must_use]
    pub fn key_file(&self, key: &str) -> PathBuf {
        self.key_file_with(
            key,
            &format!("{}?pin-value={PIN}&module-name=softhsm2", self.uri(key)),
        )
    }

    /// A key file `NAME.yaml` with this URI, in the token's directory.
    #[must_use]
    pub fn key_file_with(&self, name: &str, uri: &str) -> PathBuf {
        let path = self.path().join(format!("{name}.yaml"));
        fs::write(&path, self.key_text(uri)).expect("the directory is ours");
        path
    }

    /// A new directory with one working key file for each of these keys.
    #[must_use]
    pub fn keys(&self, keys: &[&str]) -> PathBuf {
        let uris: Vec<_> = keys
            .iter()
            .map(|key| format!("{}?pin-value={PIN}&module-name=softhsm2", self.uri(key)))
            .collect();
        self.keys_with(&uris)
    }

    /// A new directory with one key file for each of these URIs.
    ///
    /// # Panics
    /// If the disk is full.
    #[must_use]
    pub fn keys_with(&self, uris: &[impl AsRef<str>]) -> PathBuf {
        let directory = tempfile::Builder::new()
            .prefix("keys-")
            .tempdir_in(self.path())
            .expect("the directory is ours")
            .keep();
        for (number, uri) in uris.iter().enumerate() {
            fs::write(
                directory.join(format!("key{number}.yaml")),
                self.key_text(uri.as_ref()),
            )
            .expect("the directory is ours");
        }
        directory
    }

    fn key_text(&self, uri: &str) -> String {
        format!(
            "pkcs11:\n  uri: {uri}\nmodule:\n  env:\n    SOFTHSM2_CONF: {}\n",
            self.configuration().display()
        )
    }

    fn tool(&self) -> Program {
        Program::new("pkcs11-tool")
            .env("SOFTHSM2_CONF", self.configuration())
            .args(["--module", SOFTHSM])
    }
}

/// Copies a directory with everything below it; links are followed.
///
/// # Panics
/// If it cannot be read, or written.
pub fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap_or_else(|error| panic!("cannot make {}: {error}", to.display()));
    for entry in
        fs::read_dir(from).unwrap_or_else(|error| panic!("cannot list {}: {error}", from.display()))
    {
        let source = entry.expect("a listed directory has entries").path();
        let target = to.join(source.file_name().expect("an entry has a name"));
        if source.is_dir() {
            copy_directory(&source, &target);
        } else {
            fs::copy(&source, &target)
                .unwrap_or_else(|error| panic!("cannot copy {}: {error}", source.display()));
        }
    }
}
