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
    /// An OpenPGP key of another version than the fourth.
    #[error("its OpenPGP key is of a version that we do not know")]
    OpenPgpVersion,
    /// An OpenPGP key, locked with something else than AES and a salt, or with a hash that we do not know.
    #[error("its OpenPGP key is locked in a way that we do not know")]
    OpenPgpLock,
    /// OpenPGP keys for signatures alone.
    #[error("none of its OpenPGP keys is one for decryption that we know")]
    CannotDecrypt,
    /// An OpenPGP key without its secret part.
    #[error("the secret part of its OpenPGP key was left out")]
    LeftOut,
    /// What GnuPG keeps of a key that is on a card.
    #[error("the secret part of its OpenPGP key is on a smartcard, and not in the file")]
    OnCard,
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
            Self::OpenPgpLock => Some(
                "import the key into GnuPG 2 and export it from there: it is locked with AES then"
                    .to_owned(),
            ),
            Self::LeftOut => Some("export it where it is: gpg --export-secret-keys".to_owned()),
            Self::OnCard => Some(
                "a key on an OpenPGP card is not used here: encrypt the image for one more key"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}
