//! Why a layer could not be encrypted or decrypted.

use std::io;

use crate::words::reason;

/// What happened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Options that cannot be used, or that are not to be trusted.
    #[error(transparent)]
    Options(#[from] crate::options::Error),
    /// One of the layer's two ends failed, or the thread between them.
    #[error("cannot {action}: {}", reason(source))]
    Stream {
        /// What we tried: `read the layer`, `write the layer`.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// An input is larger than its bound.
    #[error("{what} is over the limit of {limit}")]
    TooLarge {
        /// The input.
        what: &'static str,
        /// The bound, in bytes or items.
        limit: u64,
    },
    /// The MAC or a tag does not agree: changed, truncated, extended, or opened with another layer's key.
    #[error("verification failed: the content is not what was encrypted")]
    Verification,
    /// Standard input is not as long as the descriptor says.
    #[error("{actual} bytes came, the descriptor says {expected}")]
    WrongLength {
        /// Bytes that came (at least).
        actual: u64,
        /// Bytes that the descriptor states.
        expected: u64,
    },
    /// The system gave no random bytes.
    #[error("cannot get random bytes for a key")]
    Random {
        /// Why not.
        source: getrandom::Error,
    },
}

/// Result with this room's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// One sentence on what to do about it, where we can know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Options(error) => return error.hint(),
            Self::Verification => {
                "the layer was damaged or changed: remove the image from this node and pull it anew; if that fails as well, push it again"
            }
            Self::WrongLength { .. } => {
                "the layer did not come whole, or the descriptor is that of another one: remove the image from this node and pull it anew"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}
