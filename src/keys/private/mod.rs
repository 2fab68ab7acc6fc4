//! Private keys in files: PKCS#8, PKCS#1 and SEC 1, in PEM or DER; encrypted ones with their password; JWK; OpenPGP.
//!
//! A key is read, checked and held here; what is done with it is `software`'s. Whatever was read is wiped.

mod encrypted;
mod error;
mod jwk;
mod openpgp;

use std::fmt;
use std::sync::Arc;

use pkcs8::der::asn1::ObjectIdentifier;
use pkcs8::der::{Decode as _, Reader as _, SliceReader};
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use sec1::{EcParameters, EcPrivateKey};

pub use self::error::Error;
pub(crate) use self::openpgp::{OpenPgpKeys, OpenPgpSecret};
use super::pem;
use crate::elliptic::PrivateScalar;
use crate::openpgp::{SECRET_KEY_LABEL, packets};
use crate::operation::{Curve, KeyKind};
use crate::secret::SecretBytes;

/// A private key that a file held.
#[derive(Clone)]
pub struct PrivateKey {
    name: String,
    secret: Secret,
}

/// The key itself. Each kind wipes itself.
#[derive(Clone)]
pub(crate) enum Secret {
    /// RSA.
    Rsa(Box<rsa::PrivateKey>),
    /// On a curve.
    Elliptic(PrivateScalar),
    /// Those of one file for OpenPGP, whatever they are.
    OpenPgp(Arc<OpenPgpKeys>),
}

/// `rsaEncryption` (RFC 8017, appendix A.1).
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
/// `id-ecPublicKey` (RFC 5480, section 2.1.1).
const ELLIPTIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// The curves by their names (RFC 5480, section 2.1.1.1).
const CURVES: [(ObjectIdentifier, Curve); 3] = [
    (
        ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"),
        Curve::P256,
    ),
    (ObjectIdentifier::new_unwrap("1.3.132.0.34"), Curve::P384),
    (ObjectIdentifier::new_unwrap("1.3.132.0.35"), Curve::P521),
];

impl PrivateKey {
    /// Reads the first private key in `bytes`; `name` is what messages call it.
    ///
    /// # Errors
    /// [`Error::NotAPrivateKey`] when there is none; [`Error::NeedsPassword`] and [`Error::WrongPassword`] for one that
    /// is encrypted; otherwise what is wrong with it.
    pub fn parse(name: &str, bytes: &[u8], password: Option<&SecretBytes>) -> Result<Self, Error> {
        Ok(Self {
            name: name.to_owned(),
            secret: read(bytes, password)?,
        })
    }

    /// What messages call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which operations it can do.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        match &self.secret {
            Secret::Rsa(key) => KeyKind::Rsa {
                modulus_len: Some(rsa::traits::PublicKeyParts::size(key.as_ref())),
            },
            Secret::Elliptic(key) => KeyKind::Ec(key.curve()),
            Secret::OpenPgp(_) => KeyKind::OpenPgp,
        }
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }
}

/// Whether the bytes look like a private key, encrypted or not: what to call a file that cannot be used.
#[must_use]
pub fn is_private_key(bytes: &[u8]) -> bool {
    !matches!(read(bytes, None), Err(Error::NotAPrivateKey))
}

fn read(bytes: &[u8], password: Option<&SecretBytes>) -> Result<Secret, Error> {
    let mut is_pem = false;
    let mut broken = false;
    if packets::begin_with_key(bytes, packets::SECRET_KEY) {
        return self::openpgp(bytes, password);
    }
    for block in pem::blocks(bytes) {
        is_pem = true;
        if block.label == SECRET_KEY_LABEL {
            return self::openpgp(bytes, password);
        }
        let is_known = block.label.ends_with("PRIVATE KEY");
        let Some(der) = block.der.as_ref().filter(|_| is_known) else {
            broken |= is_known;
            continue;
        };
        match block.label.as_str() {
            "PRIVATE KEY" => return pkcs8(der.expose()),
            "ENCRYPTED PRIVATE KEY" => return encrypted::pkcs8(der.expose(), password),
            "RSA PRIVATE KEY" | "EC PRIVATE KEY" => {
                let opened = encrypted::traditional(&block, password)?;
                let plain = opened.as_ref().map_or(der.expose(), |der| der.as_slice());
                let key = match block.label.starts_with("RSA") {
                    true => pkcs1(plain),
                    false => sec1(plain, None),
                };
                // The padding of a wrong password fits once in 256 times.
                return key.map_err(|error| match opened {
                    Some(_) => Error::WrongPassword,
                    None => error,
                });
            }
            _ => return Err(Error::UnknownAlgorithm),
        }
    }
    if is_pem {
        return Err(match broken {
            true => Error::BrokenPem,
            false => Error::NotAPrivateKey,
        });
    }
    if bytes.trim_ascii_start().first() == Some(&b'{') {
        return jwk::read(bytes);
    }
    if PrivateKeyInfoRef::from_der(bytes).is_ok() {
        return pkcs8(bytes);
    }
    if EncryptedPrivateKeyInfoRef::from_der(bytes).is_ok() {
        return encrypted::pkcs8(bytes, password);
    }
    if rsa::pkcs1::RsaPrivateKeyRef::from_der(bytes).is_ok() {
        return pkcs1(bytes);
    }
    if EcPrivateKey::from_der(bytes).is_ok() {
        return sec1(bytes, None);
    }
    Err(Error::NotAPrivateKey)
}

fn openpgp(bytes: &[u8], password: Option<&SecretBytes>) -> Result<Secret, Error> {
    let keys = openpgp::read(bytes, password)?;
    Ok(Secret::OpenPgp(Arc::new(keys)))
}

/// RFC 5958.
fn pkcs8(der: &[u8]) -> Result<Secret, Error> {
    let info = PrivateKeyInfoRef::from_der(der).map_err(|_| Error::Broken)?;
    match info.algorithm.oid {
        RSA => pkcs1(info.private_key.as_bytes()),
        ELLIPTIC => {
            let curve = info
                .algorithm
                .parameters_oid()
                .map_err(|_| Error::UnknownCurve)?;
            sec1(info.private_key.as_bytes(), Some(named(curve)?))
        }
        _ => Err(Error::UnknownAlgorithm),
    }
}

/// RFC 8017, appendix A.1.2.
fn pkcs1(der: &[u8]) -> Result<Secret, Error> {
    let key = rsa::PrivateKey::from_pkcs1_der(der).map_err(|_| Error::Broken)?;
    Ok(Secret::Rsa(Box::new(key)))
}

/// RFC 5915. The curve may stand outside, where it does not stand inside.
fn sec1(der: &[u8], outside: Option<Curve>) -> Result<Secret, Error> {
    // Not all writers end the sequence where we would; what follows the key is none of ours.
    let mut reader = SliceReader::new(der).map_err(|_| Error::Broken)?;
    let key: EcPrivateKey<'_> = reader.decode().map_err(|_| Error::Broken)?;
    let inside = match key.parameters {
        Some(EcParameters::NamedCurve(name)) => Some(named(name)?),
        None => None,
    };
    let curve = match (outside, inside) {
        (Some(outside), Some(inside)) if outside != inside => return Err(Error::Broken),
        (Some(curve), _) | (None, Some(curve)) => curve,
        (None, None) => return Err(Error::UnknownCurve),
    };
    let scalar = PrivateScalar::from_bytes(curve, key.private_key).ok_or(Error::Broken)?;
    if key
        .public_key
        .is_some_and(|point| point.first() == Some(&4) && point != scalar.public_point())
    {
        return Err(Error::Broken);
    }
    Ok(Secret::Elliptic(scalar))
}

fn named(name: ObjectIdentifier) -> Result<Curve, Error> {
    let known = CURVES.iter().find(|(oid, _)| *oid == name);
    known.map(|(_, curve)| *curve).ok_or(Error::UnknownCurve)
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({}, redacted)", self.name)
    }
}

#[cfg(test)]
mod tests;
