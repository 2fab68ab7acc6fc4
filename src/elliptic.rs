//! The three curves of NIST: whether a point may be used, and agreement on a secret (SEC 1, section 3.3.1).
//!
//! The arithmetic is RustCrypto's; here stands which curve, and that every point is checked before it is used. Nothing
//! here knows where a key comes from.

use std::fmt;

use p256::elliptic_curve::Generate as _;
use p256::elliptic_curve::sec1::ToSec1Point as _;

use crate::operation::Curve;
use crate::secret::SecretBytes;

/// Whether `point` is one that a private key may be used with: uncompressed (04, x, y), of this curve, on it.
///
/// Neither the point at infinity nor a compressed form passes. A module may take such a point, or one of another
/// curve, and show its private key by what it answers.
#[must_use]
pub fn is_on_curve(curve: Curve, point: &[u8]) -> bool {
    // The length rules out the compressed forms and infinity, the first byte the hybrid ones.
    if point.len() != 1 + 2 * curve.field_len() || point[0] != 4 {
        return false;
    }
    match curve {
        Curve::P256 => p256::PublicKey::from_sec1_bytes(point).is_ok(),
        Curve::P384 => p384::PublicKey::from_sec1_bytes(point).is_ok(),
        Curve::P521 => p521::PublicKey::from_sec1_bytes(point).is_ok(),
    }
}

/// A private key on one of the curves. Wiped when dropped.
#[derive(Clone)]
pub enum PrivateScalar {
    /// On P-256.
    P256(p256::SecretKey),
    /// On P-384.
    P384(p384::SecretKey),
    /// On P-521.
    P521(p521::SecretKey),
}

impl PrivateScalar {
    /// The key of that number, big-endian and as long as the field; `None` when it is not between 1 and the order.
    #[must_use]
    pub fn from_bytes(curve: Curve, number: &[u8]) -> Option<Self> {
        if number.len() != curve.field_len() {
            return None;
        }
        match curve {
            Curve::P256 => p256::SecretKey::from_slice(number).map(Self::P256).ok(),
            Curve::P384 => p384::SecretKey::from_slice(number).map(Self::P384).ok(),
            Curve::P521 => p521::SecretKey::from_slice(number).map(Self::P521).ok(),
        }
    }

    /// A new key for one use; `None` when the system has no randomness.
    #[must_use]
    pub fn generate(curve: Curve) -> Option<Self> {
        match curve {
            Curve::P256 => p256::SecretKey::try_generate().map(Self::P256).ok(),
            Curve::P384 => p384::SecretKey::try_generate().map(Self::P384).ok(),
            Curve::P521 => p521::SecretKey::try_generate().map(Self::P521).ok(),
        }
    }

    /// Its curve.
    #[must_use]
    pub fn curve(&self) -> Curve {
        match self {
            Self::P256(_) => Curve::P256,
            Self::P384(_) => Curve::P384,
            Self::P521(_) => Curve::P521,
        }
    }

    /// The public half, uncompressed.
    #[must_use]
    pub fn public_point(&self) -> Vec<u8> {
        match self {
            Self::P256(key) => key.public_key().to_sec1_point(false).as_bytes().to_vec(),
            Self::P384(key) => key.public_key().to_sec1_point(false).as_bytes().to_vec(),
            Self::P521(key) => key.public_key().to_sec1_point(false).as_bytes().to_vec(),
        }
    }

    /// The x-coordinate of the product with `point`, as long as the field; `None` unless [`is_on_curve`].
    #[must_use]
    pub fn agree(&self, point: &[u8]) -> Option<SecretBytes> {
        if !is_on_curve(self.curve(), point) {
            return None;
        }
        macro_rules! agree {
            ($curve:ident, $key:expr) => {{
                let public = $curve::PublicKey::from_sec1_bytes(point).ok()?;
                $key.diffie_hellman(&public).raw_secret_bytes().to_vec()
            }};
        }
        Some(SecretBytes::new(match self {
            Self::P256(key) => agree!(p256, key),
            Self::P384(key) => agree!(p384, key),
            Self::P521(key) => agree!(p521, key),
        }))
    }
}

impl fmt::Debug for PrivateScalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateScalar({}, redacted)", self.curve())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURVES: [Curve; 3] = [Curve::P256, Curve::P384, Curve::P521];

    #[test]
    fn both_sides_agree_and_the_secret_is_as_long_as_the_field() {
        for curve in CURVES {
            let ours = PrivateScalar::generate(curve).unwrap();
            let theirs = PrivateScalar::generate(curve).unwrap();
            let secret = ours.agree(&theirs.public_point()).unwrap();
            assert_eq!(secret.expose().len(), curve.field_len());
            assert_eq!(theirs.agree(&ours.public_point()), Some(secret));
        }
    }

    #[test]
    fn a_point_that_is_not_of_the_curve_is_refused() {
        for curve in CURVES {
            let key = PrivateScalar::generate(curve).unwrap();
            let good = key.public_point();
            assert!(is_on_curve(curve, &good));
            let mut off = good.clone();
            *off.last_mut().unwrap() ^= 1;
            let mut hybrid = good.clone();
            hybrid[0] = 6 | (good.last().unwrap() & 1);
            let mut compressed = good[..=curve.field_len()].to_vec();
            compressed[0] = 2 | (good.last().unwrap() & 1);
            let zero = [vec![4], vec![0; 2 * curve.field_len()]].concat();
            let large = [vec![4], vec![0xff; 2 * curve.field_len()]].concat();
            let long = [good.clone(), vec![0]].concat();
            for bad in [
                &off,
                &hybrid,
                &compressed,
                &zero,
                &large,
                &long,
                &vec![0],
                &good[1..].to_vec(),
                &Vec::new(),
            ] {
                assert!(!is_on_curve(curve, bad), "{curve} {bad:02x?}");
                assert!(key.agree(bad).is_none());
            }
            for other in CURVES.into_iter().filter(|&other| other != curve) {
                assert!(!is_on_curve(other, &good), "{curve} point on {other}");
            }
        }
    }

    #[test]
    fn a_number_that_is_no_private_key_is_refused() {
        for curve in CURVES {
            let len = curve.field_len();
            for bad in [
                vec![0; len],
                vec![0xff; len],
                vec![1; len - 1],
                vec![1; len + 1],
            ] {
                assert!(PrivateScalar::from_bytes(curve, &bad).is_none());
            }
            assert!(
                PrivateScalar::from_bytes(curve, &[vec![0; len - 1], vec![1]].concat()).is_some()
            );
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let key = PrivateScalar::generate(Curve::P384).unwrap();
        assert_eq!(format!("{key:?}"), "PrivateScalar(P-384, redacted)");
    }
}
