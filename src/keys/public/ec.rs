//! EC public keys: a curve and a point that lies on it.

use std::fmt;

use p256::elliptic_curve::sec1::ToSec1Point as _;
use rsa::pkcs8::ObjectIdentifier;
use rsa::pkcs8::der::Encode as _;
use rsa::pkcs8::der::asn1::{AnyRef, BitStringRef};
use rsa::pkcs8::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use super::invalid;
use crate::keys::error::Result;
use crate::operation::Curve;

/// `id-ecPublicKey` (RFC 5480, section 2.1.1).
pub(super) const EC_PUBLIC_KEY: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// An EC public key on one of NIST's curves.
#[derive(Clone, PartialEq, Eq)]
pub struct EcPublicKey {
    curve: Curve,
    point: Vec<u8>,
}

impl EcPublicKey {
    /// The key of that point, compressed or not (SEC 1, section 2.3.3).
    ///
    /// # Errors
    /// [`crate::keys::Error::InvalidPublicKey`] for one that is not on the curve.
    pub fn from_point(name: &str, curve: Curve, point: &[u8]) -> Result<Self> {
        let checked = match curve {
            Curve::P256 => p256::PublicKey::from_sec1_bytes(point)
                .map(|key| key.to_sec1_point(false).as_bytes().to_vec()),
            Curve::P384 => p384::PublicKey::from_sec1_bytes(point)
                .map(|key| key.to_sec1_point(false).as_bytes().to_vec()),
            Curve::P521 => p521::PublicKey::from_sec1_bytes(point)
                .map(|key| key.to_sec1_point(false).as_bytes().to_vec()),
        };
        match checked {
            Ok(point) => Ok(Self { curve, point }),
            Err(_) => Err(invalid(name, "its point is not on its curve")),
        }
    }

    pub(super) fn from_spki(name: &str, info: &SubjectPublicKeyInfoRef<'_>) -> Result<Self> {
        let curve = info
            .algorithm
            .parameters_oid()
            .ok()
            .and_then(|oid| CURVES.into_iter().find(|curve| curve_oid(*curve) == oid))
            .ok_or_else(|| invalid(name, "its curve is none of P-256, P-384 and P-521"))?;
        Self::from_point(name, curve, info.subject_public_key.raw_bytes())
    }

    /// Its curve.
    #[must_use]
    pub fn curve(&self) -> Curve {
        self.curve
    }

    /// Its point, uncompressed: 04, x, y.
    #[must_use]
    pub fn point(&self) -> &[u8] {
        &self.point
    }

    pub(super) fn to_der(&self) -> Vec<u8> {
        let curve = curve_oid(self.curve);
        let info = SubjectPublicKeyInfoRef {
            algorithm: AlgorithmIdentifierRef {
                oid: EC_PUBLIC_KEY,
                parameters: Some(AnyRef::from(&curve)),
            },
            subject_public_key: BitStringRef::from_bytes(&self.point)
                .expect("a point is shorter than DER can be"),
        };
        info.to_der().expect("a curve and a point are always DER")
    }
}

impl fmt::Debug for EcPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EcPublicKey({})", self.curve)
    }
}

const CURVES: [Curve; 3] = [Curve::P256, Curve::P384, Curve::P521];

/// RFC 5480, section 2.1.1.1.
fn curve_oid(curve: Curve) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(match curve {
        Curve::P256 => "1.2.840.10045.3.1.7",
        Curve::P384 => "1.3.132.0.34",
        Curve::P521 => "1.3.132.0.35",
    })
}
