//! What can be wrong with wrapped keys.

use super::{jwe, pgp, pkcs7};
use crate::options;

/// Why a wrapped key cannot be read, or what it held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A wrapped key that is not base64.
    #[error("broken annotation: a wrapped key is not base64")]
    NotBase64,
    /// A PKCS#11 packet that cannot be read.
    #[error("broken PKCS#11 packet: {what}")]
    InvalidPacket {
        /// What is wrong with it.
        what: &'static str,
    },
    /// More recipients than the bound.
    #[error("number of recipients of a PKCS#11 packet is over the limit of {limit}")]
    TooManyRecipients {
        /// The bound.
        limit: usize,
    },
    /// More wrapped keys of one scheme than the bound.
    #[error("number of recipients of one scheme is over the limit of {limit}")]
    TooManyKeys {
        /// The bound.
        limit: usize,
    },
    /// A JWE that cannot be read.
    #[error("broken JWE: {0}")]
    Jwe(#[source] jwe::Error),
    /// A PKCS#7 message that cannot be read.
    #[error("broken PKCS#7 message: {0}")]
    Pkcs7(#[from] pkcs7::Error),
    /// An OpenPGP message that cannot be read.
    #[error("broken OpenPGP message: {0}")]
    Pgp(#[source] pgp::Error),
    /// What the key answered does not open the content: the key is another one, or the wrapped key was altered. Which
    /// of them, and where it showed, is told to nobody.
    #[error("it does not open the wrapped key")]
    NotOpened,
    /// The same of an OpenPGP message. Its cipher stands in the wrapped key, so that it is not named here.
    #[error(
        "it does not open the wrapped key, the message was altered, or its cipher is another than AES"
    )]
    NotAuthentic,
    /// What the wrapped key held are no private options.
    #[error(transparent)]
    Options(#[from] options::Error),
}

impl Error {
    /// One sentence on what to do about it, where we can know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Options(error) => error.hint(),
            Self::Pgp(_) => Some(
                "encrypt the image anew: `ocihsm encrypt --recipient pgp:FILE`, with a public key of this node"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

impl From<pgp::Error> for Error {
    fn from(error: pgp::Error) -> Self {
        match error {
            pgp::Error::NotAuthentic => Self::NotAuthentic,
            error => Self::Pgp(error),
        }
    }
}

impl From<jwe::Error> for Error {
    fn from(error: jwe::Error) -> Self {
        match error {
            jwe::Error::NotAuthentic => Self::NotOpened,
            error => Self::Jwe(error),
        }
    }
}
