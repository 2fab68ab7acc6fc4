//! `ocihsm decode` on every vector that a PKCS#11 key opens, however it learns which layer it is fed.

use std::fs;
use std::os::unix::fs::symlink;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use integration::processor::Processor;
use integration::token::{PIN, Token};
use integration::vectors::{KEYS, Vector};
use serde_json::{Value, json};

/// An image for `rsa3072` alone.
fn first() -> (Token, Vector) {
    (Token::vectors(), Vector::first("sha256-pubkey"))
}

fn decode(vector: &Vector, token: &Token) -> Processor {
    Processor::decode(token, &vector.layout, &vector.layer, &token.keys(&KEYS))
}

#[test]
fn there_are_vectors() {
    // Nine images of three layers, one of them for two platforms: an empty list would pass every test below.
    assert_eq!(Vector::all().len(), 30);
}

#[test]
fn every_vector_decodes_with_a_payload() {
    let token = Token::vectors();
    for vector in Vector::all() {
        vector.assert_opened(
            decode(&vector, &token)
                .payload(&vector.layer, &Value::Null)
                .run(),
        );
    }
}

#[test]
fn every_vector_decodes_from_a_content_store() {
    let token = Token::vectors();
    let store = tempfile::tempdir().unwrap();
    for vector in Vector::all() {
        vector.layout.store(store.path());
    }
    for vector in Vector::all() {
        vector.assert_opened(decode(&vector, &token).store(store.path()).run());
    }
}

#[test]
fn each_key_alone_opens_what_is_for_several() {
    let token = Token::vectors();
    for vector in Vector::all()
        .iter()
        .filter(|vector| vector.image == "multi-recipient")
    {
        for key in KEYS {
            let processor =
                Processor::decode(&token, &vector.layout, &vector.layer, &token.keys(&[key]));
            vector.assert_opened(processor.payload(&vector.layer, &Value::Null).run());
        }
    }
}

#[test]
fn the_references_name_takes_the_references_arguments() {
    let (token, vector) = first();
    let link = token.path().join("ctd-decoder");
    symlink(integration::ocihsm(), &link).unwrap();
    let processor = Processor::new(link)
        .arg("--decryption-keys-path")
        .arg(token.keys(&KEYS))
        .env("OCICRYPT_CONFIG", "internal")
        .env("OCIHSM_RUNTIME_DIR", token.runtime())
        .blob(vector.layout.blob(vector.layer["digest"].as_str().unwrap()));
    vector.assert_opened(processor.payload(&vector.layer, &json!({})).run());
}

#[test]
fn the_descriptor_may_come_from_a_file() {
    let (token, vector) = first();
    let file = token.path().join("descriptor.json");
    fs::write(&file, vector.layer.to_string()).unwrap();
    vector.assert_opened(decode(&vector, &token).arg("--descriptor").arg(file).run());
}

#[test]
fn annotations_may_come_from_the_command_line() {
    let (token, vector) = first();
    let mut processor = decode(&vector, &token);
    for (name, value) in vector.layer["annotations"].as_object().unwrap() {
        processor = processor
            .arg("--annotation")
            .arg(format!("{name}={}", value.as_str().unwrap()));
    }
    vector.assert_opened(processor.run());
}

#[test]
fn annotations_may_come_from_the_environment() {
    let (token, vector) = first();
    let annotations = vector.layer["annotations"].to_string();
    vector.assert_opened(
        decode(&vector, &token)
            .env("OCIHSM_LAYER_ANNOTATIONS", annotations)
            .run(),
    );
}

#[test]
fn keys_may_come_with_the_payload() {
    let (token, vector) = first();
    let key = fs::read(token.key_file("rsa3072")).unwrap();
    let policy =
        "module-directories: [/usr/lib/softhsm/]\nallowed-module-paths: [/usr/lib/softhsm/]\n";
    let parameters =
        json!({"pkcs11-yamls": [STANDARD.encode(key)], "pkcs11-config": [STANDARD.encode(policy)]});
    let empty = token.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let processor = Processor::decode(&token, &vector.layout, &vector.layer, &empty)
        .without("OCICRYPT_CONFIG")
        .payload(&vector.layer, &parameters);
    vector.assert_opened(processor.run());
}

#[test]
fn keys_may_be_a_mounted_secret() {
    let (token, vector) = first();
    // As the kubelet lays it out: NAME -> ..data/NAME, ..data -> ..DATE.
    let keys = token.path().join("secret");
    fs::create_dir_all(keys.join("..2026_01_01")).unwrap();
    fs::rename(
        token.key_file("rsa3072"),
        keys.join("..2026_01_01/key.yaml"),
    )
    .unwrap();
    symlink("..2026_01_01", keys.join("..data")).unwrap();
    symlink("..data/key.yaml", keys.join("key.yaml")).unwrap();
    let processor = Processor::decode(&token, &vector.layout, &vector.layer, &keys);
    vector.assert_opened(processor.payload(&vector.layer, &Value::Null).run());
}

#[test]
fn files_that_are_no_keys_are_passed_over() {
    let (token, vector) = first();
    let keys = token.keys(&["rsa3072"]);
    fs::write(keys.join("README"), "what the keys in here are for").unwrap();
    fs::copy(integration::vector("keys/jwe-rsa.pem"), keys.join("a.pem")).unwrap();
    let processor = Processor::decode(&token, &vector.layout, &vector.layer, &keys);
    vector.assert_opened(processor.payload(&vector.layer, &Value::Null).run());
}

#[test]
fn a_pin_may_come_from_a_file_that_ends_in_a_newline() {
    let (token, vector) = first();
    let pin = token.path().join("pin");
    fs::write(&pin, format!("{PIN}\n")).unwrap();
    for source in [
        format!("{}", pin.display()),
        format!("file:{}", pin.display()),
    ] {
        let uri = format!(
            "{}?pin-source={source}&module-name=softhsm2",
            token.uri("rsa3072")
        );
        let processor = Processor::decode(
            &token,
            &vector.layout,
            &vector.layer,
            &token.keys_with(&[uri]),
        );
        vector.assert_opened(processor.payload(&vector.layer, &Value::Null).run());
    }
}
