//! `ocihsm decode` where something beside the layer is not in order: other tenants' manifests, other tokens, limits.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use integration::content_store::describe;
use integration::layer::{Compression, Layer, digest, noise};
use integration::layout::Layout;
use integration::processor::Processor;
use integration::program::Program;
use integration::token::{Token, WRONG_PIN};
use integration::vectors::Vector;
use ocihsm::envelope::{Envelope, Scheme};
use ocihsm::keys::public::PublicKey;
use ocihsm::operation::OaepHash;
use ocihsm::options::{NONCE, PrivateOptions};
use ocihsm::schemes::pkcs11;
use ocihsm::secret::LayerKey;
use serde_json::{Value, json};

const KEY: &str = "rsa3072";
const PUBLIC: &str = "org.opencontainers.image.enc.pubopts";

/// The layer, with a key of no use that was wrapped so often for this public key.
fn rewrapped(layer: &Value, recipient: &Path, times: usize) -> Value {
    let annotations: BTreeMap<String, String> =
        serde_json::from_value(layer["annotations"].clone()).unwrap();
    let envelope = Envelope::from_annotations(&annotations).unwrap();
    let mut envelope = Envelope::new(envelope.public_options);
    let private = PrivateOptions {
        key: LayerKey::new([7; 32]),
        digest: None,
        cipher_options: BTreeMap::from([(NONCE.to_owned(), vec![7; 16])]),
    };
    let public = PublicKey::read(recipient).unwrap();
    let wrapped: Vec<_> = (0..times)
        .map(|_| public.wrap(OaepHash::Sha256, &private).unwrap())
        .collect();
    envelope.push(Scheme::pkcs11(), &pkcs11::to_json(&wrapped));
    let mut annotations = BTreeMap::new();
    envelope.write_to(&mut annotations);
    let mut layer = layer.clone();
    layer["annotations"] = json!(annotations);
    layer
}

fn vector_key(name: &str) -> std::path::PathBuf {
    integration::vector(format!("keys/{name}.pub.pem"))
}

#[test]
fn a_stale_pin_for_another_description_is_no_reason_to_fail() {
    let token = Token::vectors();
    let other = Token::new("elsewhere");
    let public = other.generate("stale", 7, 2048);
    let vector = Vector::first("sha256-pubkey");
    let stale = format!(
        "{}?pin-value={WRONG_PIN}&module-name=softhsm2",
        other.uri("stale")
    );
    for (before, after) in [(true, false), (false, true)] {
        let store = tempfile::tempdir().unwrap();
        vector.layout.store(store.path());
        let foreign = rewrapped(&vector.layer, &public, 1);
        if before {
            describe(store.path(), std::slice::from_ref(&foreign));
        }
        describe(store.path(), std::slice::from_ref(&vector.layer));
        if after {
            describe(store.path(), &[foreign]);
        }
        for name in ["a-stale.yaml", "z-stale.yaml"] {
            let keys = token.keys(&[KEY]);
            fs::copy(other.key_file_with("stale", &stale), keys.join(name)).unwrap();
            let outcome = Processor::decode(&token, &vector.layout, &vector.layer, &keys)
                .store(store.path())
                .run();
            assert!(
                outcome.output.status.success(),
                "{name}: {:?}",
                outcome.output
            );
            vector.assert_plain(&outcome.output.stdout);
        }
    }
}

#[test]
fn one_tenants_many_descriptions_and_recipients_take_nothing_from_another() {
    let token = Token::vectors();
    let vector = Vector::first("sha256-pubkey");
    let store = tempfile::tempdir().unwrap();
    vector.layout.store(store.path());
    // 300 descriptions, each another one; and 200 wrapped keys for us that are not the layer's.
    let entries: Vec<_> = (0..300)
        .map(|size| {
            let mut layer = vector.layer.clone();
            layer["size"] = size.into();
            layer
        })
        .collect();
    describe(store.path(), &entries);
    describe(
        store.path(),
        &[rewrapped(&vector.layer, &vector_key(KEY), 200)],
    );
    let outcome = Processor::decode(&token, &vector.layout, &vector.layer, &token.keys(&[KEY]))
        .store(store.path())
        .run();
    assert!(outcome.output.status.success(), "{:?}", outcome.output);
    vector.assert_plain(&outcome.output.stdout);
}

#[test]
fn a_wrapped_key_for_us_before_the_right_one_is_passed_over() {
    let token = Token::vectors();
    let vector = Vector::first("sha256-pubkey");
    let decoy = rewrapped(&vector.layer, &vector_key(KEY), 1);
    let keys = "org.opencontainers.image.enc.keys.pkcs11";
    let text = |layer: &Value| layer["annotations"][keys].as_str().unwrap().to_owned();
    let mut layer = vector.layer.clone();
    layer["annotations"][keys] = format!("{},{}", text(&decoy), text(&layer)).into();
    let outcome = Processor::decode(&token, &vector.layout, &vector.layer, &token.keys(&[KEY]))
        .payload(&layer, &Value::Null)
        .run();
    assert!(outcome.output.status.success(), "{:?}", outcome.output);
    vector.assert_plain(&outcome.output.stdout);
}

#[test]
fn a_nonce_in_the_public_options_chooses_no_other_plaintext() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    let token = Token::vectors();
    let vector = Vector::first("sha256-pubkey");
    let text = vector.layer["annotations"][PUBLIC].as_str().unwrap();
    let options: Value = serde_json::from_slice(&STANDARD.decode(text).unwrap()).unwrap();
    for (name, nonce) in [("cipheroptions", "nonce"), ("CipherOptions", "nonce")] {
        let mut changed = options.clone();
        changed.as_object_mut().unwrap().remove("cipheroptions");
        changed[name] = json!({ nonce: STANDARD.encode([0; 16]) });
        let mut layer = vector.layer.clone();
        layer["annotations"][PUBLIC] = STANDARD.encode(changed.to_string()).into();
        let processor =
            || Processor::decode(&token, &vector.layout, &vector.layer, &token.keys(&[KEY]));
        let outcome = processor().payload(&layer, &Value::Null).run();
        assert!(!outcome.output.status.success(), "{:?}", outcome.output);
        assert!(outcome.output.stdout.is_empty());
        assert!(
            outcome.output.stderr.contains("\"nonce\" contradicts"),
            "{:?}",
            outcome.output
        );
        // Beside it, the true description still opens the layer.
        let store = tempfile::tempdir().unwrap();
        vector.layout.store(store.path());
        describe(store.path(), &[layer]);
        let outcome = processor().store(store.path()).run();
        assert!(outcome.output.status.success(), "{:?}", outcome.output);
        vector.assert_plain(&outcome.output.stdout);
    }
}

#[test]
fn a_layer_of_no_bytes_opens() {
    let token = Token::vectors();
    let place = tempfile::tempdir().unwrap();
    let empty = Layer {
        compression: Compression::None,
        blob: Vec::new(),
        diff_id: digest(b""),
    };
    let plain = Layout::create(place.path().join("image"), &[empty], &["/x"]);
    for cipher in ["aes-256-ctr-hmac-sha256", "aes-256-gcm"] {
        let encrypted = token.encrypt(&plain, KEY, &["--cipher", cipher]);
        let layer = &encrypted.layers()[0];
        let store = tempfile::tempdir().unwrap();
        encrypted.store(store.path());
        let descriptor = place.path().join("descriptor");
        fs::write(&descriptor, layer.to_string()).unwrap();
        let processor = || Processor::decode(&token, &encrypted, layer, &token.keys(&[KEY]));
        for processor in [
            processor().store(store.path()),
            processor().payload(layer, &Value::Null),
            processor().arg("--descriptor").arg(&descriptor),
        ] {
            let outcome = processor.run();
            assert!(
                outcome.output.status.success(),
                "{cipher}: {:?}",
                outcome.output
            );
            assert!(outcome.output.stdout.is_empty());
        }
        // Nothing came of a layer that has bytes.
        let vector = Vector::first("sha256-pubkey");
        let outcome = Processor::decode(&token, &vector.layout, &vector.layer, &token.keys(&[KEY]))
            .payload(&vector.layer, &Value::Null)
            .bytes("")
            .run();
        assert!(!outcome.output.status.success());
        fs::remove_dir_all(encrypted.path()).unwrap();
    }
}

#[test]
fn a_log_over_the_limit_of_files_hides_no_failure() {
    let token = Token::vectors();
    let place = tempfile::tempdir().unwrap();
    let layers = [Layer::file("big", &noise(3 << 20), Compression::None)];
    let plain = Layout::create(place.path().join("image"), &layers, &["/x"]);
    let encrypted = token.encrypt(&plain, KEY, &[]);
    let layer = &encrypted.layers()[0];
    let mut bytes = encrypted.read(layer);
    *bytes.last_mut().unwrap() ^= 1;
    let log = place.path().join("log");
    fs::write(&log, vec![b'\n'; 4096]).unwrap();
    let outcome = Processor::decode(&token, &encrypted, layer, &token.keys(&[KEY]))
        .arg("--single-pass")
        .arg("--log")
        .arg(&log)
        .payload(layer, &Value::Null)
        .bytes(bytes)
        .through(&["prlimit", "--fsize=4096"])
        .run();
    let output = &outcome.output;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.contains("verification failed"), "{output:?}");
    // Spoiled, and held open until the status could be seen.
    assert!(!output.stdout.is_empty());
    assert!(outcome.until_end_of_output > outcome.until_exit);
    assert_eq!(fs::metadata(&log).unwrap().len(), 4096);
}

#[test]
fn a_pipe_in_the_place_of_a_descriptor_is_not_waited_for() {
    let token = Token::vectors();
    let vector = Vector::first("sha256-pubkey");
    let pipe = token.path().join("pipe");
    Program::new("mkfifo").arg(&pipe).ok();
    let outcome = Processor::decode(&token, &vector.layout, &vector.layer, &token.keys(&[KEY]))
        .arg("--descriptor")
        .arg(&pipe)
        .through(&["timeout", "30"])
        .run();
    assert_eq!(
        outcome.output.status.code(),
        Some(1),
        "{:?}",
        outcome.output
    );
    assert!(
        outcome.output.stderr.contains("it is a pipe"),
        "{:?}",
        outcome.output
    );
}
