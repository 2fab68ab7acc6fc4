//! OpenPGP (RFC 9580, and RFC 6637 before it) as far as the key of a layer needs it: packets, keys of version 4, their
//! signatures, and session keys wrapped for them.
//!
//! The arithmetic is that of libraries; here stands what is hashed, in which order, and what is taken at all. Nothing here
//! knows where a key or a message comes from, and no private key is used but for agreement on a curve.

pub mod agreement;
pub mod algorithm;
pub mod fields;
pub mod key;
pub mod packets;
pub mod session;
pub mod signature;

/// What the armor of a public key is called (RFC 9580, section 6.2).
pub const PUBLIC_KEY_LABEL: &str = "PGP PUBLIC KEY BLOCK";
/// What that of a secret key is called.
pub const SECRET_KEY_LABEL: &str = "PGP PRIVATE KEY BLOCK";
/// What that of a signature is called, which may be a revocation.
pub const SIGNATURE_LABEL: &str = "PGP SIGNATURE";

/// SHA-1 of the key packet, which names a key of version 4 (RFC 9580, section 5.5.4).
pub type Fingerprint = [u8; 20];
/// The end of a fingerprint, which names the key in a message; all zeros name none.
pub type KeyId = [u8; 8];
