//! What can go wrong with a key provider.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::file;
use crate::words::reason;

/// Why a provider wrapped or unwrapped nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file that names the providers cannot be read.
    #[error(transparent)]
    File(#[from] file::Error),
    /// It is not the JSON that it should be.
    #[error("{}: {what}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// No provider of that name is set up here.
    #[error("no key provider \"{name}\" is set up on this node")]
    Unknown {
        /// Its name, escaped.
        name: String,
    },
    /// Its program cannot be started.
    #[error("key provider \"{name}\": cannot start {}: {}", path.display(), reason(source))]
    Start {
        /// The provider.
        name: String,
        /// Its program.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Its program does not end, or its service does not answer.
    #[error("key provider \"{name}\" gave no answer within {} s", patience.as_secs())]
    Silent {
        /// The provider.
        name: String,
        /// The time that it had.
        patience: Duration,
    },
    /// Its program ended with a failure, or its service answered with one.
    #[error("key provider \"{name}\" failed{}{}", if words.is_empty() { "" } else { ": " }, words)]
    Failed {
        /// The provider.
        name: String,
        /// What it wrote to standard error, or what its service said: the end of it, escaped.
        words: String,
    },
    /// Its answer is longer than one may be.
    #[error("key provider \"{name}\" wrote more than {limit} bytes")]
    TooLong {
        /// The provider.
        name: String,
        /// The bound.
        limit: usize,
    },
    /// It ended well, but wrote no answer to what was asked.
    #[error("key provider \"{name}\" gave no answer that can be read")]
    NoAnswer {
        /// The provider.
        name: String,
    },
    /// Its entry in the file is of no use.
    #[error("key provider \"{name}\" cannot be asked: {what}")]
    Unusable {
        /// The provider.
        name: String,
        /// What is wrong with its entry.
        what: &'static str,
    },
    /// Nobody answers where its service should be.
    #[error(
        "key provider \"{name}\": cannot connect to {address}: {}",
        reason(source)
    )]
    Unreachable {
        /// The provider.
        name: String,
        /// Its address.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// No TLS with its service.
    #[error("key provider \"{name}\": no TLS with {address}: {what}")]
    Tls {
        /// The provider.
        name: String,
        /// Its address.
        address: String,
        /// Why not, escaped.
        what: String,
    },
    /// A file for TLS does not hold what it should.
    #[error("{} does not hold {what} in PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
}

impl Error {
    /// One sentence on what to do about it, where we can know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { .. } => {
                Some("name it in the file that OCICRYPT_KEYPROVIDER_CONFIG points to".to_owned())
            }
            Self::Unusable { .. } => Some(
                "correct it in the file that OCICRYPT_KEYPROVIDER_CONFIG points to".to_owned(),
            ),
            Self::Unreachable { .. } => Some("see that its service runs there".to_owned()),
            Self::Tls { .. } => Some(
                "name in grpc-tls who signed its certificate (root-ca-file), and the name in it (server-name)".to_owned(),
            ),
            Self::Pem { .. } => {
                Some("correct grpc-tls in the file that OCICRYPT_KEYPROVIDER_CONFIG points to".to_owned())
            }
            Self::File(error) => error.hint(),
            _ => None,
        }
    }
}
