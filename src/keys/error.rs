//! What can go wrong with keys as files describe them: URIs, key files, PIN files, public keys, the module policy.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use crate::words::{listed, reason};

/// What happened, and where. No field holds a PIN or a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that could not be opened, read or found.
    #[error(transparent)]
    InFile(#[from] crate::file::Error),
    /// An input is larger than its bound.
    #[error("{what} is over the limit of {limit}")]
    TooLarge {
        /// The input.
        what: &'static str,
        /// The bound, in bytes or items.
        limit: u64,
    },
    /// A PKCS#11 URI that cannot be read.
    #[error("broken PKCS#11 URI: {part} {what}")]
    InvalidUri {
        /// The attribute, or what else of it is meant. Never a value.
        part: String,
        /// What is wrong there.
        what: &'static str,
    },
    /// YAML that does not parse, or is not of the shape that it should have.
    #[error("{name}: line {line} is not the YAML that belongs there")]
    InvalidYaml {
        /// The file, or what else the text came from.
        name: String,
        /// Where, from 1.
        line: u64,
    },
    /// A file that is no key file at all.
    #[error("{name} is not a PKCS#11 key file: {what}")]
    NotAKeyFile {
        /// The file, or what else the text came from.
        name: String,
        /// What it is instead.
        what: &'static str,
    },
    /// A private key in a file that cannot be used.
    #[error("{name}: {error}")]
    PrivateKey {
        /// The file, or what else it came from.
        name: String,
        /// Why not.
        error: super::private::Error,
    },
    /// Where the password of a private key comes from, as it makes no sense.
    #[error("{}: {what}", path.display())]
    InvalidPassword {
        /// The private key's file.
        path: PathBuf,
        /// What makes no sense.
        what: &'static str,
    },
    /// A key file with a mistake in it.
    #[error("key file {name}: {what}")]
    InvalidKeyFile {
        /// The key file.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A client's key file that would decide what is loaded on this node.
    #[error(
        "{name}: a client may not set {variable} in `module.env`: this node alone decides what is loaded"
    )]
    ClientVariable {
        /// What messages call the key file.
        name: String,
        /// The variable.
        variable: String,
    },
    /// A key file whose URI cannot be read, or whose module cannot be had.
    #[error("key file {name}: {source}")]
    InKeyFile {
        /// The key file.
        name: String,
        /// What is wrong.
        source: Box<Self>,
    },
    /// A PIN file whose content cannot be a PIN.
    #[error("the PIN file {} {what}", path.display())]
    InvalidPinFile {
        /// The PIN file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Not a public key that serves.
    #[error("{name} is not a public key that can be used: {what}")]
    InvalidPublicKey {
        /// The file, or the key's name.
        name: String,
        /// What it is instead, or what is wrong with it.
        what: &'static str,
    },
    /// An RSA key of a size that we do not take.
    #[error("{name} has {bits} bits, which is not between {min} and {max}")]
    KeySize {
        /// The file, or the key's name.
        name: String,
        /// Its size in bits.
        bits: u32,
        /// Smallest size in bits.
        min: u32,
        /// Largest size in bits.
        max: u32,
    },
    /// Private options that RSA-OAEP cannot carry.
    #[error(
        "the layer's private options are {len} bytes long, RSA-{bits} with OAEP {hash} takes {limit}"
    )]
    MessageTooLong {
        /// Length of the options in bytes.
        len: usize,
        /// Size of the recipient's key in bits.
        bits: u32,
        /// OAEP hash.
        hash: &'static str,
        /// What would fit, in bytes.
        limit: usize,
    },
    /// The RSA encryption itself failed.
    #[error("cannot wrap the layer key: {source}")]
    Wrapping {
        /// Why not; in practice, that the system has no randomness.
        source: rsa::Error,
    },
    /// A directory of keys, or a key file, that cannot be looked into.
    #[error("cannot read the keys in {}: {}", path.display(), reason(source))]
    KeysUnreadable {
        /// The directory or the file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The policy that was named is not there.
    #[error("the module policy {} is not there", path.display())]
    PolicyMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// A policy without anything that it allows.
    #[error("{policy} allows no PKCS#11 module")]
    PolicyEmpty {
        /// Which policy: `the policy /etc/ocicrypt.conf`.
        policy: String,
    },
    /// A policy with a key that is unknown, misplaced or of the wrong kind.
    #[error("{policy}: {key:?} {what}")]
    PolicyKey {
        /// The policy's file, or what else the text came from.
        policy: String,
        /// The key, shortened.
        key: String,
        /// What is wrong with it, and where it belongs.
        what: &'static str,
    },
    /// A policy with an entry that cannot mean what it says.
    #[error("{policy}: {} in {list} {what}", entry.display())]
    PolicyEntry {
        /// The policy's file, or what else the text came from.
        policy: String,
        /// The list.
        list: &'static str,
        /// The entry.
        entry: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A URI with neither `module-name` nor a `module-path` that is a file.
    #[error("the URI names no PKCS#11 module: it has no `module-name`")]
    ModuleNotNamed,
    /// No file of that name in any of the directories.
    #[error("no PKCS#11 module {name:?} in {}", listed(searched))]
    ModuleNotFound {
        /// `module-name`.
        name: String,
        /// Where we looked.
        searched: Vec<PathBuf>,
    },
    /// A module that the policy keeps from being loaded.
    #[error("the PKCS#11 module {} is not allowed by {policy}", module.display())]
    ModuleNotAllowed {
        /// The module.
        module: PathBuf,
        /// Which policy.
        policy: String,
    },
}

/// Result with this room's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// One sentence on what to do about it, where we can know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::InFile(error) => return error.hint(),
            Self::InKeyFile { source, .. } => return source.hint(),
            Self::PrivateKey { error, .. } => return error.hint(),
            Self::KeysUnreadable { source, .. } => match source.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory => {
                    "put a key file there, or correct --key (--decryption-keys-path) or OCIHSM_KEYS_PATH"
                }
                ErrorKind::PermissionDenied => "let the user that this program runs as read it",
                _ => return None,
            },
            Self::PolicyMissing { path } => {
                return Some(format!(
                    "correct OCICRYPT_CONFIG, which names it, or write it: `ocihsm config policy > {}`",
                    path.display()
                ));
            }
            Self::PolicyEmpty { .. } => {
                "write into it what `ocihsm config policy` prints: what is allowed stands in allowed-module-paths, below `pkcs11:`"
            }
            Self::PolicyKey { .. } | Self::PolicyEntry { .. } => {
                "compare it with what `ocihsm config policy` prints"
            }
            Self::ModuleNotAllowed { .. } => {
                "add the module, or its directory with a `/` at the end, to allowed-module-paths in ocicrypt.conf"
            }
            Self::ModuleNotFound { searched, .. } if searched.is_empty() => {
                "name its directory in module-directories of the policy, or its file with module-path in the key file's URI"
            }
            Self::ModuleNotFound { .. } => {
                "install the module, or name its file with module-path in the key file's URI"
            }
            Self::ModuleNotNamed => {
                "add ?module-name=NAME or ?module-path=FILE to the key file's URI"
            }
            Self::InvalidPublicKey { what, .. } if what.contains("private key") => {
                "take the public key out of it: openssl pkey -in FILE -pubout"
            }
            Self::InvalidPublicKey { what, .. } if what.contains("cannot be judged") => {
                "ask its owner for another key, or for a revocation that he made himself"
            }
            Self::InvalidPublicKey { what, .. } if what.starts_with("its OpenPGP key") => {
                "ask its owner for a new export: gpg --export NAME > FILE"
            }
            Self::InvalidPublicKey { what, .. } if what.contains("OpenPGP secret key") => {
                "export the public key where the secret one is: gpg --export NAME > FILE"
            }
            Self::InvalidPinFile { path, .. } => {
                return Some(format!(
                    "let {} hold the PIN alone, on one line",
                    path.display()
                ));
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}
