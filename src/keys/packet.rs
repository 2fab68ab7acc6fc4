//! The PKCS#11 packet: the private options, wrapped once per recipient.

/// The hash of an OAEP padding, and of its mask generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OaepHash {
    /// SHA-1, also where a packet names none.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// The private options under one recipient's public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// OAEP hash and MGF1 hash.
    pub hash: OaepHash,
    /// RSA ciphertext, as long as the recipient's modulus.
    pub blob: Vec<u8>,
}
