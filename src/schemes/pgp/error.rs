//! What can be wrong with an OpenPGP message.

/// Why an OpenPGP message leads to no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No packets, or not those of an encrypted message.
    #[error("it is not one encrypted message")]
    Malformed,
    /// Content that anybody could have altered.
    #[error("its content has no protection against changes, which we refuse")]
    Unprotected,
    /// Content in a form that GnuPG keeps for itself.
    #[error("its content is in the form OCB of GnuPG (packet 20), which we do not open")]
    GnupgAead,
    /// Content as RFC 9580 has it.
    #[error(
        "its content is of version {version} (AEAD of RFC 9580 is version 2), and we open version 1"
    )]
    ContentVersion {
        /// The version of the packet.
        version: u8,
    },
    /// Content longer than private options ever are.
    #[error("its content is over the limit of {limit} bytes")]
    TooLong {
        /// The bound in bytes.
        limit: usize,
    },
    /// Compressed content that is more when it is unpacked.
    #[error("its content is over the limit of {limit} bytes when it is unpacked")]
    Bomb {
        /// The bound in bytes.
        limit: usize,
    },
    /// What was decrypted, and is as it was written, is no text.
    #[error("its content is not one text")]
    NoText,
    /// Compressed again and again.
    #[error("its content is compressed too many times")]
    TooDeep,
    /// Compressed with BZip2.
    #[error("its content is compressed with BZip2, and we unpack ZIP and ZLIB")]
    BZip2,
    /// Compressed in a way whose number we do not know.
    #[error("its content is compressed in a way that we do not know")]
    Compression,
    /// For nobody who has a key.
    #[error("it has no recipients")]
    NoRecipients,
    /// More recipients than we try.
    #[error("it has more than {limit} recipients")]
    TooManyRecipients {
        /// The bound.
        limit: usize,
    },
    /// More recipients than we try with each key.
    #[error("it has more than {limit} recipients without a name")]
    TooManyHidden {
        /// The bound.
        limit: usize,
    },
    /// A recipient whose packet is of another version.
    #[error("a recipient's packet is of version {version}, and we open version 3")]
    RecipientVersion {
        /// The version of the packet.
        version: u8,
    },
    /// A recipient whose packet is broken.
    #[error("a recipient's packet is broken")]
    RecipientBroken,
    /// A recipient whose key is neither for RSA nor for agreement.
    #[error("a recipient's key is for {name}, and we open RSA and ECDH")]
    RecipientAlgorithm {
        /// What the algorithm is called.
        name: &'static str,
    },
    /// Content under another cipher than AES.
    #[error("its content is encrypted with {name}, and we open AES")]
    Cipher {
        /// What the cipher is called.
        name: &'static str,
    },
    /// It does not open with what the key answered, for whatever reason.
    #[error("its content is not authentic")]
    NotAuthentic,
    /// Writing: the system gave no randomness.
    #[error("the system gives no randomness")]
    NoRandomness,
}
