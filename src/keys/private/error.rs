//! Why a file gives no private key. No variant holds a word of the file.

/// Why bytes are no private key that we can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something else, or nothing.
    #[error("it holds no private key")]
    NotAPrivateKey,
    /// A block of PEM that has no end, or is not base64.
    #[error("its PEM is broken")]
    BrokenPem,
    /// A private key with a mistake in it.
    #[error("its private key is broken")]
    Broken,
    /// Neither RSA nor elliptic.
    #[error("its private key is neither RSA nor on a curve that we know")]
    UnknownAlgorithm,
    /// A curve other than P-256, P-384 and P-521.
    #[error("its private key is on a curve that we do not know")]
    UnknownCurve,
    /// Encrypted in a way that we do not know, or that is not to be used any more.
    #[error("its private key is encrypted in a way that we do not know")]
    UnknownEncryption,
    /// Making the key from the password would take more time or memory than we give.
    #[error("its private key is encrypted at a higher cost than we take")]
    TooCostly,
    /// Encrypted, and no password came with it.
    #[error("its private key is encrypted, and no password is given")]
    NeedsPassword,
    /// The password opens nothing.
    #[error("the password does not open its private key")]
    WrongPassword,
}

impl Error {
    /// One sentence on what to do about it, where we can know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NeedsPassword => {
                Some("give the password: FILE:file=PATH or FILE:fd=N".to_owned())
            }
            Self::UnknownEncryption => Some(
                "encrypt the key anew: openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD -out NEW"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}
