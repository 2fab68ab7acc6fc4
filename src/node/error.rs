//! Why a configuration of containerd could not be read.

use std::path::PathBuf;

/// What happened, and where. Nothing of a file is quoted but names.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that could not be read.
    #[error(transparent)]
    InFile(#[from] crate::file::Error),
    /// There is more of something than its bound.
    #[error("{what} is over the limit of {limit}")]
    TooLarge {
        /// What is too many.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// A file of containerd's configuration that does not parse, or is not of the shape that it should have.
    #[error("{}: line {line} is not the TOML that belongs there", path.display())]
    InvalidToml {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: u64,
    },
    /// A file of containerd's configuration that says something twice, with which containerd does not start.
    #[error("{}: line {line} defines `{key}` a second time", path.display())]
    RepeatedTomlKey {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: u64,
        /// What is there twice.
        key: String,
    },
}

/// Result with this room's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// One sentence on what to do about it, where we can know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::InFile(error) => error.hint(),
            _ => None,
        }
    }
}
