//! Writing a JWE, as skopeo, buildah and `ctr-enc` read it: A256GCM; flattened for one recipient, else general.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::agreement;
use super::content::{self, Encryption};
use super::error::Error;
use super::header::{Header, KeyManagement};
use crate::elliptic::PrivateScalar;
use crate::key_wrap;
use crate::keys::public::{EcPublicKey, RsaPublicKey};
use crate::operation::OaepHash;

/// A public key that the content key is wrapped for.
#[derive(Clone, Copy, Debug)]
pub enum WrapFor<'a> {
    /// RSA-OAEP or RSA-OAEP-256, by the hash. SHA-1 is what the other tools write, and what every reader knows.
    Rsa(&'a RsaPublicKey, OaepHash),
    /// ECDH-ES+A256KW.
    Ec(&'a EcPublicKey),
}

/// Encrypts `plain` for the holders of those keys, of whom there is at least one.
///
/// # Errors
/// [`Error::BadPoint`] for a key that is not on its curve; [`Error::Wrapping`] for an RSA key that is too small;
/// [`Error::NoRandomness`].
pub fn seal(plain: &[u8], recipients: &[WrapFor<'_>]) -> Result<Vec<u8>, Error> {
    let mut key = Zeroizing::new([0; 32]);
    let mut iv = [0; 12];
    getrandom::fill(key.as_mut_slice()).map_err(|_| Error::NoRandomness)?;
    getrandom::fill(&mut iv).map_err(|_| Error::NoRandomness)?;
    let wrapped: Vec<_> = recipients
        .iter()
        .map(|recipient| recipient.wrap(&key))
        .collect::<Result<_, _>>()?;

    let enc = json!({ "enc": Encryption::A256Gcm.as_str() });
    let (protected, mut jwe) = match wrapped.as_slice() {
        [(header, encrypted_key)] => (
            joined(header, &enc),
            json!({ "encrypted_key": encrypted_key }),
        ),
        several => {
            let recipients: Vec<Value> = several
                .iter()
                .map(|(header, key)| json!({ "header": header, "encrypted_key": key }))
                .collect();
            (enc, json!({ "recipients": recipients }))
        }
    };
    let protected = encode(protected.to_string().as_bytes());
    let mut text = plain.to_vec();
    let tag = content::seal_a256gcm(&key, &iv, protected.as_bytes(), &mut text)
        .ok_or(Error::NotAuthentic)?;
    for (name, value) in [
        ("protected", protected),
        ("iv", encode(&iv)),
        ("ciphertext", encode(&text)),
        ("tag", encode(&tag)),
    ] {
        jwe[name] = Value::String(value);
    }
    Ok(jwe.to_string().into_bytes())
}

impl WrapFor<'_> {
    /// This recipient's part of the header, and the wrapped content key in base64url.
    fn wrap(&self, key: &[u8; 32]) -> Result<(Value, String), Error> {
        match *self {
            Self::Rsa(rsa, hash) => {
                let alg = KeyManagement::RsaOaep(hash).as_str();
                let wrapped = match hash {
                    OaepHash::Sha1 => rsa.library().oaep_encrypt::<Sha1>(key),
                    OaepHash::Sha256 => rsa.library().oaep_encrypt::<Sha256>(key),
                }
                .map_err(|source| Error::Wrapping {
                    source: Box::new(source),
                })?;
                Ok((json!({ "alg": alg }), encode(&wrapped)))
            }
            Self::Ec(public) => {
                let curve = public.curve();
                let ephemeral = PrivateScalar::generate(curve).ok_or(Error::NoRandomness)?;
                let secret = ephemeral
                    .agree(public.point())
                    .ok_or(Error::BadPoint { curve })?;
                let header = Header {
                    management: KeyManagement::KeyWrap(32),
                    encryption: Encryption::A256Gcm,
                    ephemeral: None,
                    parties: [Vec::new(), Vec::new()],
                };
                let wrapping = agreement::derive(&header, secret.expose());
                let wrapped = key_wrap::wrap(&wrapping, key).ok_or(Error::NotAuthentic)?;
                let own = ephemeral.public_point();
                let (x, y) = own[1..].split_at(curve.field_len());
                let epk = json!({
                    "kty": "EC", "crv": curve.to_string(), "x": encode(x), "y": encode(y),
                });
                let header = json!({ "alg": header.management.as_str(), "epk": epk });
                Ok((header, encode(&wrapped)))
            }
        }
    }
}

fn joined(header: &Value, more: &Value) -> Value {
    let mut header = header.clone();
    if let (Some(header), Some(more)) = (header.as_object_mut(), more.as_object()) {
        header.extend(more.clone());
    }
    header
}

fn encode(octets: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(octets)
}
