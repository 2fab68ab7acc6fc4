//! A private key as JWK (RFC 7517, RFC 7518, sections 6.2 and 6.3).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rsa::BoxedUint;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Error, Secret};
use crate::elliptic::PrivateScalar;
use crate::operation::Curve;

/// The members that we need. Those that stand twice are refused by the parser.
#[derive(Deserialize)]
struct Jwk {
    kty: Option<String>,
    crv: Option<String>,
    d: Option<Zeroizing<String>>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    p: Option<Zeroizing<String>>,
    q: Option<Zeroizing<String>>,
}

/// Reads one key.
pub(super) fn read(json: &[u8]) -> Result<Secret, Error> {
    let jwk: Jwk = serde_json::from_slice(json).map_err(|_| Error::NotAPrivateKey)?;
    let Some(number) = &jwk.d else {
        return Err(Error::NotAPrivateKey);
    };
    match jwk.kty.as_deref() {
        Some("EC") => {
            let curve = [Curve::P256, Curve::P384, Curve::P521]
                .into_iter()
                .find(|curve| jwk.crv.as_deref() == Some(&curve.to_string()))
                .ok_or(Error::UnknownCurve)?;
            let scalar = PrivateScalar::from_bytes(curve, &octets(number)?).ok_or(Error::Broken)?;
            let mut point = vec![4];
            for coordinate in [&jwk.x, &jwk.y] {
                point.extend_from_slice(&octets(coordinate.as_deref().ok_or(Error::Broken)?)?);
            }
            if point != scalar.public_point() {
                return Err(Error::Broken);
            }
            Ok(Secret::Elliptic(scalar))
        }
        Some("RSA") => {
            let number = |text: &Option<String>| uint(text.as_deref().ok_or(Error::Broken)?);
            let secret = |text: &Option<Zeroizing<String>>| match text {
                Some(text) => uint(text),
                None => Err(Error::Broken),
            };
            let primes = vec![secret(&jwk.p)?, secret(&jwk.q)?];
            let key = rsa::PrivateKey::from_components(
                number(&jwk.n)?,
                number(&jwk.e)?,
                secret(&jwk.d)?,
                primes,
            );
            key.map(|key| Secret::Rsa(Box::new(key)))
                .map_err(|_| Error::Broken)
        }
        _ => Err(Error::UnknownAlgorithm),
    }
}

fn octets(text: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let octets = URL_SAFE_NO_PAD.decode(text).map_err(|_| Error::Broken)?;
    Ok(Zeroizing::new(octets))
}

fn uint(text: &str) -> Result<BoxedUint, Error> {
    Ok(BoxedUint::from_be_slice_vartime(&octets(text)?))
}
