//! `ocihsm decode` without a payload, when several manifests of the store describe the layer differently.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use integration::content_store;
use integration::layout::Layout;
use integration::processor::{Outcome, Processor};
use integration::token::Token;
use integration::vectors::Vector;
use ocihsm::envelope::{Envelope, Scheme};
use ocihsm::keys::public::PublicKey;
use ocihsm::operation::OaepHash;
use ocihsm::options::{NONCE, PrivateOptions};
use ocihsm::schemes::pkcs11;
use ocihsm::secret::LayerKey;
use serde_json::{Value, json};

const KEY: &str = "rsa3072";

/// The layer with its key wrapped for somebody whose public key this is: any key, and any MAC.
fn rewrapped(layer: &Value, recipient: &str, key: [u8; 32], hmac: Option<[u8; 32]>) -> Value {
    let annotations: BTreeMap<String, String> =
        serde_json::from_value(layer["annotations"].clone()).unwrap();
    let mut public = Envelope::from_annotations(&annotations)
        .unwrap()
        .public_options;
    if let Some(hmac) = hmac {
        public.hmac = Some(hmac.to_vec());
    }
    let private = PrivateOptions {
        key: LayerKey::new(key),
        digest: None,
        cipher_options: BTreeMap::from([(NONCE.to_owned(), vec![7; 16])]),
    };
    let path = integration::vector(format!("keys/{recipient}.pub.pem"));
    let wrapped = PublicKey::read(&path)
        .unwrap()
        .wrap(OaepHash::Sha256, &private)
        .unwrap();
    let mut envelope = Envelope::new(public);
    envelope.push(Scheme::pkcs11(), &pkcs11::to_json(&[wrapped]));
    let mut annotations = BTreeMap::new();
    envelope.write_to(&mut annotations);
    let mut layer = layer.clone();
    layer["annotations"] = json!(annotations);
    layer
}

fn decode(token: &Token, vector: &Vector, store: &Path) -> Outcome {
    Processor::decode(token, &vector.layout, &vector.layer, &token.keys(&[KEY]))
        .store(store)
        .run()
}

#[test]
fn keys_that_others_wrapped_for_us_do_not_get_in_the_way() {
    let token = Token::vectors();
    for vector in Vector::all()
        .iter()
        .filter(|vector| vector.image == "sha256-pubkey")
    {
        let store = tempfile::tempdir().unwrap();
        vector.layout.store(store.path());
        for seed in 1..=4 {
            content_store::describe(
                store.path(),
                &[rewrapped(&vector.layer, KEY, [seed; 32], Some([seed; 32]))],
            );
        }
        let outcome = decode(&token, vector, store.path());
        assert!(outcome.output.status.success(), "{:?}", outcome.output);
        vector.assert_plain(&outcome.output.stdout);
    }
}

#[test]
fn a_description_with_a_wrong_size_is_passed_over() {
    let token = Token::vectors();
    let vector = Vector::first("sha256-pubkey");
    let store = tempfile::tempdir().unwrap();
    vector.layout.store(store.path());
    // Several, since which one is looked at first is for their digests to say.
    for size in 1..=8 {
        let mut layer = vector.layer.clone();
        layer["size"] = size.into();
        content_store::describe(store.path(), std::slice::from_ref(&layer));
    }
    let outcome = decode(&token, &vector, store.path());
    assert!(outcome.output.status.success(), "{:?}", outcome.output);
    vector.assert_plain(&outcome.output.stdout);
}

#[test]
fn a_description_for_others_is_passed_over() {
    let token = Token::vectors();
    let vector = Vector::first("sha256-pubkey");
    let store = tempfile::tempdir().unwrap();
    vector.layout.store(store.path());
    content_store::describe(
        store.path(),
        &[rewrapped(&vector.layer, "other3072", [1; 32], None)],
    );
    let outcome = decode(&token, &vector, store.path());
    assert!(outcome.output.status.success(), "{:?}", outcome.output);
    vector.assert_plain(&outcome.output.stdout);
}

/// The layer with other content beside what its key unwraps.
fn altered(layer: &Value) -> Value {
    let mut layer = layer.clone();
    let annotations = layer["annotations"].as_object_mut().unwrap();
    let scheme = "org.opencontainers.image.enc.keys.";
    let (name, value) = (annotations.iter_mut())
        .find(|(name, _)| name.starts_with(scheme))
        .unwrap();
    let mut bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
    if name.ends_with("jwe") {
        let mut message: Value = serde_json::from_slice(&bytes).unwrap();
        let text = message["ciphertext"].as_str().unwrap();
        let first = if text.starts_with('A') { "B" } else { "A" };
        message["ciphertext"] = format!("{first}{}", &text[1..]).into();
        bytes = message.to_string().into_bytes();
    } else {
        *bytes.last_mut().unwrap() ^= 1;
    }
    *value = STANDARD.encode(bytes).into();
    layer
}

#[test]
fn other_content_beside_the_same_wrapped_key_takes_nothing_from_the_layer() {
    let token = Token::vectors();
    for image in ["jwe-p256", "jwe-rsa", "pkcs7-rsa"] {
        let layout = Layout::open(integration::vector("images").join(image));
        let layer = layout.layers()[0].clone();
        let store = tempfile::tempdir().unwrap();
        layout.store_earlier(store.path());
        content_store::describe(store.path(), &[altered(&layer)]);
        let digest = layer["digest"].as_str().unwrap();
        let key = integration::vector(format!("keys/{image}.pem"));
        let outcome = Processor::decode(&token, &layout, &layer, &key)
            .blob(content_store::file(store.path(), digest))
            .store(store.path())
            .run();
        assert!(
            outcome.output.status.success(),
            "{image}: {:?}",
            outcome.output
        );
        assert!(!outcome.output.stdout.is_empty());
    }
}

#[test]
fn wrong_keys_alone_yield_nothing() {
    let token = Token::vectors();
    // Another layer than in the other tests: this process holds its blob open, and is the parent of their decoders too.
    let vector = Vector::first("sha1-pubkey");
    let store = tempfile::tempdir().unwrap();
    // The blob alone, without the manifest that tells the truth.
    let digest = vector.layer["digest"].as_str().unwrap();
    let blob = content_store::put(store.path(), &fs::read(vector.layout.blob(digest)).unwrap());
    for seed in 1..=3 {
        content_store::describe(
            store.path(),
            &[rewrapped(&vector.layer, KEY, [seed; 32], Some([seed; 32]))],
        );
    }
    let outcome = Processor::decode(&token, &vector.layout, &vector.layer, &token.keys(&[KEY]))
        .blob(blob)
        .store(store.path())
        .run();
    assert!(!outcome.output.status.success());
    assert!(outcome.output.stdout.is_empty());
    assert!(
        outcome.output.stderr.contains("verification failed"),
        "{}",
        outcome.output.stderr
    );
}
