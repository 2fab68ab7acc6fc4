//! Public keys of version 4 as they stand in a packet (RFC 9580, section 5.5.2.2): numbers and points, checked, and the
//! fingerprint. In the packet of a secret key the same stands before the secret part.

use super::agreement::Agreement;
use super::algorithm::Hash;
use super::fields::Fields;
use super::{Fingerprint, KeyId};
use crate::elliptic;
use crate::operation::Curve;

const RSA: u8 = 1;
const RSA_ENCRYPT_ONLY: u8 = 2;
const RSA_SIGN_ONLY: u8 = 3;
/// Agreement on a curve.
pub const ECDH: u8 = 18;
const ECDSA: u8 = 19;
/// EdDSA as RFC 4880bis had it, which is what programs write.
const EDDSA: u8 = 22;
const ED25519: u8 = 27;

/// Names of curves (section 9.2).
const CURVES: [(&[u8], Curve); 3] = [
    (
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
        Curve::P256,
    ),
    (&[0x2b, 0x81, 0x04, 0x00, 0x22], Curve::P384),
    (&[0x2b, 0x81, 0x04, 0x00, 0x23], Curve::P521),
];
const ED25519_NAME: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01];

/// Most bytes of a modulus: 16384 bits.
const MAX_MODULUS: usize = 2048;

/// Why a packet holds no key that we can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It ends too early, or a number or point in it is none of its kind.
    Broken,
    /// Not version 4.
    Version,
    /// An algorithm or a curve that we do not know.
    Algorithm,
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// When it was made, in seconds since 1970.
    pub created: u32,
    /// What it can do.
    pub material: Material,
    /// Its name.
    pub fingerprint: Fingerprint,
    /// The packet up to here, of which it is the hash.
    pub body: Vec<u8>,
}

/// The key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Material {
    /// RSA, for whatever purpose.
    Rsa {
        /// The modulus, big-endian.
        n: Vec<u8>,
        /// The public exponent.
        e: Vec<u8>,
        /// Whether it may be encrypted to at all.
        encrypts: bool,
        /// Whether it may sign at all.
        signs: bool,
    },
    /// For agreement.
    Agreement(Agreement),
    /// For signatures on one of NIST's curves.
    Ecdsa {
        /// The curve.
        curve: Curve,
        /// The point, which is on it.
        point: Vec<u8>,
    },
    /// For signatures with Ed25519.
    Ed25519([u8; 32]),
}

impl PublicKey {
    /// Reads one, and leaves the fields where it ends.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(fields: &mut Fields<'_>) -> Result<Self, Error> {
        let before = fields.clone();
        let mut number = |octets| fields.number(octets).ok_or(Error::Broken);
        if number(1)? != 4 {
            return Err(Error::Version);
        }
        let created = number(4)?;
        let algorithm = fields.octet().ok_or(Error::Broken)?;
        let material = Material::read(algorithm, fields)?;
        let length = before.len() - fields.len();
        let body = before.clone().take(length).ok_or(Error::Broken)?.to_vec();
        let hash = Hash::Sha1.of(hashed(&body).iter().map(AsRef::as_ref));
        Ok(Self {
            created,
            material,
            fingerprint: hash.as_slice().try_into().map_err(|_| Error::Broken)?,
            body,
        })
    }

    /// What messages name it by.
    #[must_use]
    pub fn id(&self) -> KeyId {
        std::array::from_fn(|at| self.fingerprint[12 + at])
    }

    /// Whether a session key can be wrapped for it.
    #[must_use]
    pub fn encrypts(&self) -> bool {
        match &self.material {
            Material::Rsa { encrypts, .. } => *encrypts,
            Material::Agreement(_) => true,
            _ => false,
        }
    }
}

/// What of a key goes into a hash: into the fingerprint and into signatures (sections 5.2.4 and 5.5.4.2).
#[must_use]
pub fn hashed(body: &[u8]) -> [Vec<u8>; 2] {
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
    [vec![0x99, length[0], length[1]], body.to_vec()]
}

impl Material {
    fn read(algorithm: u8, fields: &mut Fields<'_>) -> Result<Self, Error> {
        match algorithm {
            RSA | RSA_ENCRYPT_ONLY | RSA_SIGN_ONLY => {
                let n = fields.integer().ok_or(Error::Broken)?;
                let e = fields.integer().ok_or(Error::Broken)?;
                if n.is_empty() || n.len() > MAX_MODULUS || e.is_empty() || e.len() > 8 {
                    return Err(Error::Broken);
                }
                Ok(Self::Rsa {
                    n: n.to_vec(),
                    e: e.to_vec(),
                    encrypts: algorithm != RSA_SIGN_ONLY,
                    signs: algorithm != RSA_ENCRYPT_ONLY,
                })
            }
            ECDH => Agreement::read(fields).map(Self::Agreement),
            ECDSA => {
                let curve = named_curve(fields.prefixed(1).ok_or(Error::Broken)?);
                let curve = curve.ok_or(Error::Algorithm)?;
                let point = fields.integer().ok_or(Error::Broken)?.to_vec();
                match elliptic::is_on_curve(curve, &point) {
                    true => Ok(Self::Ecdsa { curve, point }),
                    false => Err(Error::Broken),
                }
            }
            EDDSA => match fields.prefixed(1).ok_or(Error::Broken)? {
                ED25519_NAME => match fields.integer() {
                    Some([0x40, point @ ..]) => point.try_into().map(Self::Ed25519).ok(),
                    _ => None,
                }
                .ok_or(Error::Broken),
                _ => Err(Error::Algorithm),
            },
            ED25519 => fields.array().map(Self::Ed25519).ok_or(Error::Broken),
            _ => Err(Error::Algorithm),
        }
    }
}

/// The curve of NIST with that name.
pub(super) fn named_curve(name: &[u8]) -> Option<Curve> {
    CURVES
        .iter()
        .find(|known| known.0 == name)
        .map(|known| known.1)
}

/// Its name.
pub(super) fn name_of(curve: Curve) -> &'static [u8] {
    let known = CURVES.iter().find(|known| known.1 == curve);
    known.map_or(&[], |known| known.0)
}
