use std::collections::BTreeMap;
use std::path::Path;

use base64::engine::general_purpose::STANDARD;
use rsa::PrivateKey;
use rsa::pkcs8::DecodePrivateKey as _;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sha1::Sha1;

use super::*;
use crate::elliptic::PrivateScalar;
use crate::keys::public::{EcPublicKey, PublicKey};
use crate::operation::{Curve, OaepHash};
use crate::options::PrivateOptions;

mod altered;
mod headers;
mod opening;

const RSA: &str = include_str!("../../../../integration/vectors/keys/jwe-rsa.pem");

/// The wrapped keys of an image's layers.
fn blobs_of(image: &str, scheme: &str) -> Vec<Vec<u8>> {
    #[derive(Deserialize)]
    struct Manifest {
        layers: Vec<Layer>,
    }
    #[derive(Deserialize)]
    struct Layer {
        annotations: BTreeMap<String, String>,
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("integration/vectors/images")
        .join(image)
        .join("blobs/sha256");
    let mut blobs = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else {
            continue;
        };
        for layer in manifest.layers {
            let name = format!("org.opencontainers.image.enc.keys.{scheme}");
            blobs.extend(
                layer.annotations[&name]
                    .split(',')
                    .map(|blob| STANDARD.decode(blob).unwrap()),
            );
        }
    }
    blobs
}

fn rsa_answer(operation: &KeyOperation) -> SecretBytes {
    let KeyOperation::RsaOaep { hash, ciphertext } = operation else {
        panic!("{operation:?}");
    };
    let key = PrivateKey::from_pkcs8_pem(RSA).unwrap();
    SecretBytes::new(
        match hash {
            OaepHash::Sha1 => key.oaep_decrypt::<Sha1>(ciphertext),
            OaepHash::Sha256 => key.oaep_decrypt::<sha2::Sha256>(ciphertext),
        }
        .unwrap(),
    )
}

fn ecdh_answer(operation: &KeyOperation, key: &PrivateScalar) -> SecretBytes {
    let KeyOperation::Ecdh { point, .. } = operation else {
        panic!("{operation:?}");
    };
    key.agree(point).unwrap()
}

fn only(jwe: &[u8]) -> Result<Recipient, Error> {
    let mut recipients = parse(jwe)?;
    assert_eq!(recipients.len(), 1);
    recipients.remove(0)
}

/// A JWE of ours for one new key, as JSON, with that key.
fn sample(curve: Curve) -> (Json, PrivateScalar) {
    let key = PrivateScalar::generate(curve).unwrap();
    let point = key.public_point();
    let public = EcPublicKey::from_point("k", curve, &point).unwrap();
    let jwe = seal(b"plain", &[WrapFor::Ec(&public)]).unwrap();
    (serde_json::from_slice(&jwe).unwrap(), key)
}

fn protected(jwe: &Json) -> Json {
    serde_json::from_slice(&base64url(jwe["protected"].as_str().unwrap()).unwrap()).unwrap()
}

/// The same JWE with other members in its protected header.
fn with_header(jwe: &Json, change: impl Fn(&mut Json)) -> Vec<u8> {
    let mut header = protected(jwe);
    change(&mut header);
    let mut jwe = jwe.clone();
    jwe["protected"] = URL_SAFE_NO_PAD.encode(header.to_string()).into();
    jwe.to_string().into_bytes()
}
