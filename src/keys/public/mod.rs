//! Public keys, as files and tokens show them, and wrapping private options for their owners.
//!
//! Needs no token: a public key from a file or out of a token's attributes is all that encrypting takes. Of a
//! certificate the key alone counts: nothing here could say whether its issuer is to be trusted, and a key that stands
//! there by itself is not asked either.

mod ec;
pub mod jwk;
pub mod openpgp;
mod rsa;
#[cfg(test)]
mod tests;

use std::path::Path;

use ::rsa::pkcs1::RsaPublicKeyRef;
use ::rsa::pkcs8::der::asn1::AnyRef;
use ::rsa::pkcs8::der::pem::{self as armor, LineEnding};
use ::rsa::pkcs8::der::{Decode as _, Reader as _, SliceReader, Tag, Tagged as _};
use ::rsa::pkcs8::spki::SubjectPublicKeyInfoRef;
use sha2::{Digest as _, Sha256};

pub use self::ec::EcPublicKey;
use self::jwk::Jwk;
pub use self::rsa::RsaPublicKey;
use super::pem;
use crate::file;
use crate::keys::error::{Error, Result};
use crate::operation::{KeyOperation, OaepHash};
use crate::options::PrivateOptions;

/// Most bytes that a file with a public key may have.
const MAX_PUBLIC_KEY_FILE: usize = 64 << 10;

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// RSA, which every scheme takes.
    Rsa(RsaPublicKey),
    /// On an elliptic curve, which a PKCS#11 packet does not take.
    Ec(EcPublicKey),
}

/// The private options under one recipient's public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// OAEP hash and MGF1 hash.
    pub hash: OaepHash,
    /// RSA ciphertext, as long as the recipient's modulus.
    pub blob: Vec<u8>,
}

impl From<Recipient> for KeyOperation {
    fn from(recipient: Recipient) -> Self {
        Self::RsaOaep {
            hash: recipient.hash,
            ciphertext: recipient.blob,
        }
    }
}

impl PublicKey {
    /// Reads a key in PEM or DER (`SubjectPublicKeyInfo`, or PKCS#1's `RSAPublicKey`), a certificate in either, or a JWK;
    /// `name` is what messages call it.
    ///
    /// Of several blocks of PEM the first public key or certificate counts, which is the owner's in a chain. Private keys
    /// beside it are passed over.
    ///
    /// # Errors
    /// [`Error::InvalidPublicKey`] for anything else; [`Error::KeySize`] for a size that we do not take.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        if jwk::is_json(bytes) {
            return Jwk::parse(name, bytes).map(|jwk| jwk.key);
        }
        let mut otherwise = None;
        for block in pem::blocks(bytes) {
            let read = match block.label.as_str() {
                "PUBLIC KEY" => from_spki,
                "RSA PUBLIC KEY" => from_pkcs1,
                "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => from_certificate,
                label => {
                    let what = match label {
                        _ if label.starts_with("PGP ") => {
                            "it is an OpenPGP key, for pgp:FILE alone"
                        }
                        _ if label.ends_with("PRIVATE KEY") => "it is a private key",
                        _ => "it is PEM of another kind",
                    };
                    otherwise.get_or_insert(what);
                    continue;
                }
            };
            let der = block
                .der
                .ok_or_else(|| invalid(name, "its PEM is broken"))?;
            return read(name, der.expose())
                .unwrap_or_else(|| Err(invalid(name, "its content is broken")));
        }
        if let Some(what) = otherwise {
            return Err(invalid(name, what));
        }
        [from_spki, from_pkcs1, from_certificate]
            .into_iter()
            .find_map(|read| read(name, bytes))
            .unwrap_or_else(|| {
                Err(invalid(
                    name,
                    "it is neither PEM, DER nor JWK of a public key",
                ))
            })
    }

    /// Reads such a file from disk.
    ///
    /// # Errors
    /// As [`PublicKey::parse`]; [`Error::InFile`] when it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = file::read_secret(path, MAX_PUBLIC_KEY_FILE)?;
        Self::parse(&path.display().to_string(), bytes.expose())
    }

    /// The RSA key of that modulus and public exponent.
    ///
    /// # Errors
    /// As [`RsaPublicKey::from_components`].
    pub fn from_components(name: &str, modulus: &[u8], exponent: &[u8]) -> Result<Self> {
        RsaPublicKey::from_components(name, modulus, exponent).map(Self::Rsa)
    }

    /// The RSA key, which a PKCS#11 packet needs; `name` is what messages call it.
    ///
    /// # Errors
    /// [`Error::InvalidPublicKey`] for one of another kind.
    pub fn for_pkcs11(&self, name: &str) -> Result<&RsaPublicKey> {
        match self {
            Self::Rsa(key) => Ok(key),
            Self::Ec(_) => Err(invalid(
                name,
                "it is an EC key, and the scheme pkcs11 takes RSA keys alone",
            )),
        }
    }

    /// `SubjectPublicKeyInfo` in DER.
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        match self {
            Self::Rsa(key) => key.to_der(),
            Self::Ec(key) => key.to_der(),
        }
    }

    /// `SubjectPublicKeyInfo` in PEM, ending in a line feed.
    #[must_use]
    pub fn to_pem(&self) -> String {
        armor::encode_string("PUBLIC KEY", LineEnding::LF, &self.to_der())
            .expect("a public key is shorter than PEM can be")
    }

    /// Size of the key in bits: that of the modulus, or of the field.
    #[must_use]
    pub fn bits(&self) -> u32 {
        match self {
            Self::Rsa(key) => key.bits(),
            Self::Ec(key) => key.curve().bits(),
        }
    }

    /// What to call the key in a message: the first 16 hexadecimal digits of the SHA-256 of its
    /// `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        Sha256::digest(self.to_der())
            .iter()
            .take(8)
            .map(|octet| format!("{octet:02x}"))
            .collect()
    }

    /// Wraps private options for the holder of the private key, as one recipient of a PKCS#11 packet.
    ///
    /// # Errors
    /// As [`PublicKey::for_pkcs11`] and [`RsaPublicKey::wrap`].
    pub fn wrap(&self, hash: OaepHash, options: &PrivateOptions) -> Result<Recipient> {
        let name = || format!("public key {}", self.fingerprint());
        self.for_pkcs11(&name())?.wrap(&name(), hash, options)
    }
}

/// `None` for what is no such structure at all.
fn from_spki(name: &str, der: &[u8]) -> Option<Result<PublicKey>> {
    let info = SubjectPublicKeyInfoRef::from_der(der).ok()?;
    Some(match info.algorithm.oid {
        rsa::RSA_ENCRYPTION => from_pkcs1(name, info.subject_public_key.raw_bytes())
            .unwrap_or_else(|| Err(invalid(name, "its content is broken"))),
        ec::EC_PUBLIC_KEY => EcPublicKey::from_spki(name, &info).map(PublicKey::Ec),
        _ => Err(invalid(name, "it is neither an RSA nor an EC key")),
    })
}

fn from_pkcs1(name: &str, der: &[u8]) -> Option<Result<PublicKey>> {
    let key = RsaPublicKeyRef::from_der(der).ok()?;
    let (modulus, exponent) = (key.modulus.as_bytes(), key.public_exponent.as_bytes());
    Some(PublicKey::from_components(name, modulus, exponent))
}

/// Of an X.509 certificate (RFC 5280, section 4.1) the way to the key alone is read: certificates that are in use break
/// the standard in many of the fields beside it. OpenSSL's trusted ones have more behind the certificate itself.
fn from_certificate(name: &str, der: &[u8]) -> Option<Result<PublicKey>> {
    let mut certificate = sequence(&mut SliceReader::new(der).ok()?)?;
    let mut to_be_signed = sequence(&mut certificate)?;
    // The version may be left out. Then serial number, algorithm, issuer, validity, subject.
    let first = AnyRef::decode(&mut to_be_signed).ok()?;
    let skipped = if first.tag() == Tag::Integer { 4 } else { 5 };
    for _ in 0..skipped {
        AnyRef::decode(&mut to_be_signed).ok()?;
    }
    from_spki(name, to_be_signed.tlv_bytes().ok()?)
}

fn sequence<'a>(reader: &mut SliceReader<'a>) -> Option<SliceReader<'a>> {
    let sequence = AnyRef::decode(reader).ok()?;
    let is_one = sequence.tag() == Tag::Sequence;
    SliceReader::new(sequence.value()).ok().filter(|_| is_one)
}

fn invalid(name: &str, what: &'static str) -> Error {
    Error::InvalidPublicKey {
        name: name.to_owned(),
        what,
    }
}
