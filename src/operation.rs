//! One operation with one private key: what a scheme asks, and a key holder answers.
//!
//! Whatever the scheme (PKCS#11 packet, JWE, PKCS#7, OpenPGP), opening a layer's key comes down to one of these. A scheme turns
//! wrapped bytes into an operation; a token, or a key in a file, answers it. Neither knows the other. The input is
//! public; the answer is a secret.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One operation with one private key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyOperation {
    /// RSA-OAEP decryption: MGF1 with the same hash, an empty label (RFC 8017, section 7.1.2). Answers the message.
    RsaOaep {
        /// OAEP hash and MGF1 hash.
        hash: OaepHash,
        /// As long as the modulus.
        ciphertext: Vec<u8>,
    },
    /// PKCS#1 v1.5 decryption (RFC 8017, section 7.2.2) of a message whose length is known. Answers so many bytes,
    /// random ones where the padding is wrong: whether it was must not show (RFC 3218).
    RsaPkcs1 {
        /// Length of the message in bytes.
        length: usize,
        /// As long as the modulus.
        ciphertext: Vec<u8>,
    },
    /// ECDH (SEC 1, section 3.3.1). Answers the x-coordinate, as long as the field.
    Ecdh {
        /// Curve of the key and of the point.
        curve: Curve,
        /// The other side's point, uncompressed: 04, x, y (SEC 1, section 2.3.3). It was checked to be on the curve.
        point: Vec<u8>,
    },
    /// Decryption of an OpenPGP session key, by RSA or by agreement as the key is (RFC 9580, section 5.1), whose hash is over
    /// the key's name. Answers candidates (`openpgp::session`), random ones where a padding is wrong.
    OpenPgp {
        /// The body of a packet that wraps the session key for one key.
        packet: Vec<u8>,
    },
}

/// What a private key is, as far as its holder tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyKind {
    /// RSA.
    Rsa {
        /// Length of the modulus in bytes; `None` where the token does not show it.
        modulus_len: Option<usize>,
    },
    /// On an elliptic curve.
    Ec(Curve),
    /// Keys for OpenPGP, which messages name.
    OpenPgp,
}

/// A curve of NIST SP 800-186.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Curve {
    /// P-256, secp256r1.
    P256,
    /// P-384, secp384r1.
    P384,
    /// P-521, secp521r1.
    P521,
}

impl KeyOperation {
    /// Whether a key of that kind can answer it at all.
    #[must_use]
    pub fn suits(&self, kind: KeyKind) -> bool {
        match (self, kind) {
            (
                Self::RsaOaep { ciphertext, .. } | Self::RsaPkcs1 { ciphertext, .. },
                KeyKind::Rsa { modulus_len },
            ) => modulus_len.is_none_or(|length| length == ciphertext.len()),
            (Self::Ecdh { curve, .. }, KeyKind::Ec(own)) => *curve == own,
            (Self::OpenPgp { .. }, KeyKind::OpenPgp) => true,
            _ => false,
        }
    }
}

impl Curve {
    /// Size of the field in bits.
    #[must_use]
    pub fn bits(self) -> u32 {
        match self {
            Self::P256 => 256,
            Self::P384 => 384,
            Self::P521 => 521,
        }
    }

    /// Length of a coordinate in bytes.
    #[must_use]
    pub fn field_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

/// The name that NIST gave it.
impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        })
    }
}

/// The hash of an OAEP padding, and of its mask generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OaepHash {
    /// SHA-1, also where a packet names none.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl OaepHash {
    /// The hash of that name, in any case: `sha1` or `sha256`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Sha1, Self::Sha256]
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(name))
    }

    /// The name as it stands in a packet.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    /// Length of a hash value in bytes.
    #[must_use]
    pub fn output_len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// The longest message for a modulus of that many bytes (RFC 8017, section 7.1.1, step 1b); `None` when the
    /// modulus is too short for the padding itself.
    #[must_use]
    pub fn max_message_len(self, modulus_len: usize) -> Option<usize> {
        modulus_len.checked_sub(2 * self.output_len() + 2)
    }
}

impl fmt::Display for OaepHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_suits_keys_of_its_kind_and_size_alone() {
        let oaep = KeyOperation::RsaOaep {
            hash: OaepHash::Sha256,
            ciphertext: vec![0; 256],
        };
        let ecdh = KeyOperation::Ecdh {
            curve: Curve::P384,
            point: vec![4; 97],
        };
        let rsa = |modulus_len| KeyKind::Rsa { modulus_len };
        assert!(oaep.suits(rsa(Some(256))) && oaep.suits(rsa(None)));
        assert!(!oaep.suits(rsa(Some(384))) && !oaep.suits(KeyKind::Ec(Curve::P384)));
        assert!(ecdh.suits(KeyKind::Ec(Curve::P384)));
        assert!(!ecdh.suits(KeyKind::Ec(Curve::P256)) && !ecdh.suits(rsa(None)));
    }
}
