//! Public keys as JSON Web Keys (RFC 7517, RFC 7518, section 6).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{EcPublicKey, PublicKey, RsaPublicKey, invalid};
use crate::keys::error::Result;
use crate::operation::Curve;

/// A public key, and what its JWK asks of whoever uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwk {
    /// The key.
    pub key: PublicKey,
    /// `alg`: the algorithm that it is meant for, such as `RSA-OAEP-256`.
    pub algorithm: Option<String>,
    /// `kid`: what its owner calls it.
    pub id: Option<String>,
}

#[derive(Deserialize)]
struct Fields {
    kty: Option<String>,
    alg: Option<String>,
    kid: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    /// There in private keys alone.
    d: Option<IgnoredAny>,
    /// A set of keys.
    keys: Option<Vec<IgnoredAny>>,
}

/// Whether a file's content may be a JWK at all.
pub(super) fn is_json(bytes: &[u8]) -> bool {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    text.trim_ascii_start().starts_with(b"{")
}

impl Jwk {
    /// Reads one; `name` is what messages call it.
    ///
    /// # Errors
    /// [`crate::keys::Error::InvalidPublicKey`] for a private key, a set of keys, and what is no JWK of an RSA or EC key;
    /// [`crate::keys::Error::KeySize`] for a size that we do not take.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        let invalid = |what| invalid(name, what);
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let fields: Fields = serde_json::from_slice(text)
            .map_err(|_| invalid("it is JSON, but not that of a JSON Web Key"))?;
        if fields.d.is_some() {
            return Err(invalid("it is a private key"));
        }
        if fields.keys.is_some() {
            return Err(invalid(
                "it is a set of JSON Web Keys, of which one is needed",
            ));
        }
        let number = |value: &Option<String>| {
            let value = value.as_deref().map(|value| value.trim_end_matches('='));
            value.and_then(|value| URL_SAFE_NO_PAD.decode(value).ok())
        };
        let broken = || invalid("its content is broken");
        let key = match fields.kty.as_deref() {
            Some("RSA") => {
                let modulus = number(&fields.n).ok_or_else(broken)?;
                let exponent = number(&fields.e).ok_or_else(broken)?;
                PublicKey::Rsa(RsaPublicKey::from_components(name, &modulus, &exponent)?)
            }
            Some("EC") => {
                let curve = match fields.crv.as_deref() {
                    Some("P-256") => Curve::P256,
                    Some("P-384") => Curve::P384,
                    Some("P-521") => Curve::P521,
                    _ => return Err(invalid("its curve is none of P-256, P-384 and P-521")),
                };
                let x = number(&fields.x).ok_or_else(broken)?;
                let y = number(&fields.y).ok_or_else(broken)?;
                if x.len() != curve.field_len() || y.len() != curve.field_len() {
                    return Err(broken());
                }
                let point = [&[4][..], &x, &y].concat();
                PublicKey::Ec(EcPublicKey::from_point(name, curve, &point)?)
            }
            Some(_) => return Err(invalid("it is neither an RSA nor an EC key")),
            None => return Err(invalid("it is JSON, but not that of a JSON Web Key")),
        };
        Ok(Self {
            key,
            algorithm: fields.alg,
            id: fields.kid,
        })
    }
}
