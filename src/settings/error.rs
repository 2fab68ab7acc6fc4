//! Why an argument or a variable cannot be used.

/// What is wrong, and with which one. No value is quoted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A PKCS#11 URI where a file belongs. It may hold a PIN, so it is not quoted.
    #[error("{argument} takes the path of a file, not a PKCS#11 URI")]
    UriAsArgument {
        /// The argument.
        argument: &'static str,
    },
    /// An environment variable whose value cannot be used.
    #[error("the environment variable {name} is not {expected}")]
    InvalidVariable {
        /// Its name.
        name: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

/// Result with this room's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// One sentence on what to do about it, where we can know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UriAsArgument { .. } => Some(
                "write a key file: the two lines `pkcs11:` and `  uri: URI`, and give its path"
                    .to_owned(),
            ),
            Self::InvalidVariable { .. } => None,
        }
    }
}
