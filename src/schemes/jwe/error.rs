//! What can be wrong with a JWE. No variant quotes a value that the JWE holds but the name of an algorithm.

use thiserror::Error;

/// Why a JWE does not lead to a key, or its content not to private options.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// Not JSON with the members of RFC 7516, section 7.2, nor five parts joined by dots.
    #[error("{what}")]
    Malformed {
        /// What it is that is wrong, as a sentence.
        what: &'static str,
    },
    /// A member stands twice, in one header or in several.
    #[error("`{member}` is there twice")]
    Duplicate {
        /// Its name, shortened.
        member: String,
    },
    /// A member whose meaning we do not know, and that may not be ignored.
    #[error("it needs `{member}`, which we do not know")]
    UnknownMember {
        /// Its name, shortened.
        member: String,
    },
    /// An algorithm that we do not know, or that we refuse.
    #[error("its `{member}` is \"{name}\", which is not one that we take")]
    UnknownAlgorithm {
        /// `alg`, `enc` or `crv`.
        member: &'static str,
        /// What stands there, shortened.
        name: String,
    },
    /// The ephemeral key is no point of its curve.
    #[error("its `epk` is not a point of {curve}")]
    BadPoint {
        /// The curve that it names.
        curve: crate::operation::Curve,
    },
    /// More recipients than we try.
    #[error("it has more than {limit} recipients")]
    TooManyRecipients {
        /// The bound.
        limit: usize,
    },
    /// The content does not agree with its tag under this key: the key is another one, or the JWE was altered.
    /// One verdict for all.
    #[error("this key does not open its content")]
    NotAuthentic,
    /// Writing: the system gave no randomness.
    #[error("the system gives no randomness")]
    NoRandomness,
    /// Writing: the RSA key cannot hold the content key.
    #[error("the RSA key cannot wrap a content key")]
    Wrapping {
        /// The library's reason.
        #[source]
        source: Box<rsa::Error>,
    },
}

pub(super) fn malformed(what: &'static str) -> Error {
    Error::Malformed { what }
}

/// A name from outside, short enough for a message.
pub(super) fn short(name: &str) -> String {
    crate::escape::escaped(&name.chars().take(40).collect::<String>())
}
