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
    /// Its program does not end.
    #[error("key provider \"{name}\" gave no answer within {} s", patience.as_secs())]
    Silent {
        /// The provider.
        name: String,
        /// The time that it had.
        patience: Duration,
    },
    /// Its program ended with a failure.
    #[error("key provider \"{name}\" failed{}{}", if words.is_empty() { "" } else { ": " }, words)]
    Failed {
        /// The provider.
        name: String,
        /// What it wrote to standard error: the end of it, escaped.
        words: String,
    },
    /// It wrote more than an answer may have.
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
    /// A provider that is reached by gRPC.
    #[error("key provider \"{name}\" is reached by gRPC, which this program does not speak")]
    Grpc {
        /// The provider.
        name: String,
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
            Self::Grpc { .. } => {
                Some("give the provider as a program: \"cmd\": {\"path\": …}".to_owned())
            }
            Self::File(error) => error.hint(),
            _ => None,
        }
    }
}
