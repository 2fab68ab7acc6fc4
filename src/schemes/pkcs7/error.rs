//! What can be wrong with a PKCS#7 message. That a key does not open it is no error of these.

/// Why a message leads to no operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not DER of EnvelopedData: BER with indefinite lengths is not read either.
    #[error("it is not DER of an EnvelopedData")]
    Malformed,
    /// Another CMS content than EnvelopedData.
    #[error("it holds something else than an EnvelopedData")]
    OtherContent,
    /// Nobody can open it.
    #[error("it has no recipients")]
    NoRecipients,
    /// More recipients than we try.
    #[error("it has more than {limit} recipients")]
    TooManyRecipients {
        /// The bound.
        limit: usize,
    },
    /// A recipient that is not one of key transport: key agreement, a password.
    #[error("a recipient is not for an RSA key")]
    OtherRecipient,
    /// An algorithm that we do not know, or refuse.
    #[error("{what} algorithm {oid} is not one that we take")]
    UnknownAlgorithm {
        /// `the key's` or `the content's`.
        what: &'static str,
        /// Its object identifier.
        oid: String,
    },
    /// OAEP with two hashes, one that we do not know, or a label.
    #[error("a recipient's OAEP parameters are not ones that we take")]
    Oaep,
    /// The content's algorithm is DES or 3DES.
    #[error("its content is encrypted with DES, which is refused")]
    Des,
    /// The parameters of the content's algorithm.
    #[error("the nonce or the tag of its content does not have the length that we take")]
    Parameters,
    /// A wrapped key that is no RSA ciphertext.
    #[error("a wrapped key is {length} bytes long, which is no RSA ciphertext")]
    KeyLength {
        /// Its length.
        length: usize,
    },
    /// Writing: the certificate holds no RSA key.
    #[error("a certificate does not hold an RSA key that we take")]
    NotRsa,
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
