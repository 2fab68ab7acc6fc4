//! `ocihsm encrypt` and `decrypt` on image layouts: what comes out, what comes back, and what stays as it was.

use std::fs;
use std::path::Path;

use integration::layer::{Compression, Layer, digest};
use integration::layout::Layout;
use integration::program::{Output, Program};
use integration::skip;
use integration::token::Token;
use integration::vector;
use integration::vectors::{KEYS, Vector};
use serde_json::{Value, json};
use tempfile::TempDir;

fn image(name: &str) -> Layout {
    Layout::open(vector("images").join(name))
}

fn public_key(name: &str) -> String {
    let file = vector("keys").join(format!("{name}.pub.pem"));
    format!("pkcs11:{}", file.display())
}

fn encrypt(token: &Token, source: &str, target: &str, options: &[&str]) -> Program {
    let command = token.ocihsm().args(["encrypt", source, target]);
    command.args(options)
}

fn decrypt(token: &Token, source: &str, target: &str, keys: &Path) -> Program {
    let command = token.ocihsm().args(["decrypt", source, target, "--key"]);
    command.arg(keys)
}

fn path(directory: &TempDir, name: &str) -> (Layout, String) {
    let path = directory.path().join(name);
    let reference = path.to_str().expect("a temporary path is text").to_owned();
    (Layout::open(path), reference)
}

#[test]
fn every_vector_decrypts_and_survives_another_round() {
    let token = Token::vectors();
    let keys = token.keys(&KEYS);
    let place = TempDir::new().unwrap();
    let mut images: Vec<_> = Vector::all().into_iter().map(|it| it.image).collect();
    images.dedup();
    assert_eq!(images.len(), 9);
    for name in images {
        let (plain, plain_name) = path(&place, &format!("{name}-plain"));
        let (again, again_name) = path(&place, &format!("{name}-again"));
        let (back, back_name) = path(&place, &format!("{name}-back"));
        let source = image(&name).reference();
        decrypt(&token, &source, &plain_name, &keys).ok();
        encrypt(
            &token,
            &plain_name,
            &again_name,
            &["--recipient", &public_key("rsa2048")],
        )
        .ok();
        decrypt(&token, &again_name, &back_name, &keys).ok();
        for layout in [&plain, &again, &back] {
            layout.assert_sound();
        }
        assert_eq!(plain.entry("latest"), back.entry("latest"));

        let layers = Vector::all().into_iter().filter(|it| it.image == name);
        for (number, vector) in layers.enumerate() {
            let architecture = ["amd64", "arm64"][number / 3];
            let of = |layout: &Layout| layout.manifest(architecture)["layers"][number % 3].clone();
            vector.assert_plain(&plain.read(&of(&plain)));
            assert_ne!(of(&again)["digest"], of(&plain)["digest"]);
            let annotations = of(&plain)["annotations"].clone();
            assert_eq!(annotations, kept(&vector.layer["annotations"]));
        }
    }
}

/// The annotations that are not about encryption.
fn kept(annotations: &Value) -> Value {
    let kept: serde_json::Map<_, _> = annotations
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| !name.starts_with("org.opencontainers.image.enc."))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    match kept.is_empty() {
        true => Value::Null,
        false => kept.into(),
    }
}

#[test]
fn what_was_encrypted_comes_back_to_the_byte() {
    let token = Token::vectors();
    for name in ["plain", "plain-multi-arch"] {
        for options in [
            &[][..],
            &["--cipher", "aes-256-gcm"],
            &["--oaep-hash", "sha1"],
        ] {
            let place = TempDir::new().unwrap();
            let (encrypted, encrypted_name) = path(&place, "encrypted");
            let (back, back_name) = path(&place, "back");
            let recipient = public_key("rsa3072");
            let options = [options, &["--recipient", &recipient]].concat();
            let source = image(name).reference();
            let printed = encrypt(&token, &source, &encrypted_name, &options).ok();
            assert_eq!(
                printed.text().trim_end(),
                encrypted.entry("latest")["digest"]
            );
            assert_eq!(printed.stderr, "");
            // Not one byte of a plain layer may be in the new layout.
            let blobs = encrypted.assert_sound();
            for layer in image(name).layers() {
                assert!(!blobs.iter().any(|blob| layer["digest"] == **blob));
            }
            let key = token.key_file("rsa3072");
            let printed = decrypt(&token, &encrypted_name, &back_name, &key).ok();
            assert_eq!(
                printed.text().trim_end(),
                image(name).entry("latest")["digest"]
            );
            assert_eq!(back.assert_sound().len(), image(name).assert_sound().len());
        }
    }
}

#[test]
fn each_of_several_recipients_opens_and_nobody_else() {
    let token = Token::vectors();
    let place = TempDir::new().unwrap();
    let (_, name) = path(&place, "encrypted");
    let key_file = format!("pkcs11:{}", token.key_file("rsa2048").display());
    let options = [
        "--recipient",
        &public_key("rsa3072"),
        "--recipient",
        &key_file,
    ];
    encrypt(&token, &image("plain").reference(), &name, &options).ok();
    for key in ["rsa3072", "rsa2048"] {
        let (_, target) = path(&place, key);
        decrypt(&token, &name, &target, &token.key_file(key)).ok();
    }
    let (refused, target) = path(&place, "other3072");
    let output = decrypt(&token, &name, &target, &token.key_file("other3072")).run();
    assert_fails(&output, "the wrapped keys are for other keys");
    assert!(!refused.path().exists());
}

fn assert_fails(output: &Output, part: &str) {
    assert!(!output.status.success());
    assert!(output.stderr.contains(part), "{}", output.stderr);
    assert_eq!(output.text(), "");
}

#[test]
fn recipients_are_added_without_touching_a_layer() {
    let token = Token::vectors();
    let place = TempDir::new().unwrap();
    for (source, key) in [
        ("sha256-pubkey", "rsa3072"),
        ("sha1-rsa2048", "rsa2048"),
        ("jwe-and-pkcs11", "rsa3072"),
    ] {
        let (more, name) = path(&place, source);
        let key = token.key_file(key);
        let key = key.to_str().unwrap();
        let options = ["--recipient", &public_key("other3072"), "--key", key];
        encrypt(&token, &image(source).reference(), &name, &options).ok();
        for (before, after) in image(source).layers().iter().zip(more.layers()) {
            assert_eq!(before["digest"], after["digest"]);
            let (before, after) = (&before["annotations"], &after["annotations"]);
            for (name, value) in before.as_object().unwrap() {
                let value = value.as_str().unwrap();
                let after = after[name].as_str().unwrap();
                match name.ends_with(".pkcs11") {
                    true => assert!(after.strip_prefix(value).unwrap().starts_with(',')),
                    false => assert_eq!(after, value),
                }
            }
        }
        let (plain, target) = path(&place, &format!("{source}-plain"));
        decrypt(&token, &name, &target, &token.key_file("other3072")).ok();
        Vector::first(source).assert_plain(&plain.read(&plain.layers()[0]));
    }
}

#[test]
fn an_encrypted_layer_is_not_encrypted_twice() {
    let token = Token::vectors();
    let place = TempDir::new().unwrap();
    let (target, name) = path(&place, "twice");
    let options = ["--recipient", &public_key("other3072")];
    let output = encrypt(&token, &image("sha256-pubkey").reference(), &name, &options).run();
    assert_fails(&output, "is encrypted already");
    assert!(!target.path().exists());
}

#[test]
fn what_is_no_layer_stays_as_it_is() {
    let token = Token::vectors();
    let place = TempDir::new().unwrap();
    let layers = [Layer::file("a", b"content", Compression::Gzip)];
    let layout = Layout::create(place.path().join("source"), &layers, &["/a"]);
    let statement = layout.put("application/vnd.in-toto+json", b"{}");
    let config = layout.put("application/vnd.oci.image.config.v1+json", b"{}");
    let attestation = json!({"schemaVersion": 2, "config": config, "layers": [statement]});
    let mut image = layout.manifest("amd64");
    let foreign = json!({
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "digest": digest(b"not here"), "size": 8, "urls": ["https://example.test/layer"],
    });
    image["layers"]
        .as_array_mut()
        .unwrap()
        .push(foreign.clone());
    let put = |document: &Value, platform: Value| {
        let text = document.to_string();
        let mut entry = layout.put(
            "application/vnd.oci.image.manifest.v1+json",
            text.as_bytes(),
        );
        entry["platform"] = platform;
        entry
    };
    let entries = [
        put(&image, json!({"architecture": "amd64", "os": "linux"})),
        put(
            &attestation,
            json!({"architecture": "unknown", "os": "unknown"}),
        ),
    ];
    let index = json!({"schemaVersion": 2, "manifests": entries}).to_string();
    let mut root = layout.put("application/vnd.oci.image.index.v1+json", index.as_bytes());
    root["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    let index = json!({"schemaVersion": 2, "manifests": [root]});
    fs::write(layout.path().join("index.json"), index.to_string()).unwrap();

    let encrypted = token.encrypt(&layout, "rsa3072", &[]);
    let index: Value = serde_json::from_slice(&encrypted.read(&encrypted.entry("latest"))).unwrap();
    assert_eq!(index["manifests"][1], entries[1]);
    assert_eq!(encrypted.layers()[1], foreign);
    assert_ne!(encrypted.layers()[0], layout.layers()[0]);

    let (_, back) = path(&place, "back");
    let printed = decrypt(
        &token,
        &encrypted.reference(),
        &back,
        &token.key_file("rsa3072"),
    )
    .ok();
    assert_eq!(printed.text().trim_end(), root["digest"]);
}

#[test]
fn one_layer_of_two_platforms_is_encrypted_once() {
    let token = Token::vectors();
    let place = TempDir::new().unwrap();
    let layers = [Layer::file("a", b"shared", Compression::Gzip)];
    let layout = Layout::create(place.path().join("source"), &layers, &["/a"]);
    let manifest = layout.manifest("amd64");
    let entry_of = |architecture: &str| {
        let mut manifest = manifest.clone();
        manifest["annotations"] = json!({"for": architecture});
        let text = manifest.to_string();
        let mut entry = layout.put(
            "application/vnd.oci.image.manifest.v1+json",
            text.as_bytes(),
        );
        entry["platform"] = json!({"architecture": architecture, "os": "linux"});
        entry
    };
    let index = json!({"schemaVersion": 2, "manifests": [entry_of("amd64"), entry_of("arm64")]});
    let text = index.to_string();
    let mut root = layout.put("application/vnd.oci.image.index.v1+json", text.as_bytes());
    root["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    let index = json!({"schemaVersion": 2, "manifests": [root]});
    fs::write(layout.path().join("index.json"), index.to_string()).unwrap();

    let encrypted = token.encrypt(&layout, "rsa3072", &[]);
    assert_eq!(
        encrypted.manifest("amd64")["layers"],
        encrypted.manifest("arm64")["layers"]
    );
    encrypted.assert_sound();
}

#[test]
fn skopeo_copies_what_we_wrote() {
    if !skip::programs(&["skopeo"]) {
        return;
    }
    let token = Token::vectors();
    let place = TempDir::new().unwrap();
    let (encrypted, name) = path(&place, "encrypted");
    let options = ["--recipient", &public_key("rsa3072")];
    encrypt(
        &token,
        &image("plain-multi-arch").reference(),
        &name,
        &options,
    )
    .ok();
    let (copy, copy_name) = path(&place, "copy");
    Program::new("skopeo")
        .args(["copy", "--all", &encrypted.reference()])
        .arg(format!("oci:{copy_name}:latest"))
        .ok();
    assert_eq!(
        copy.entry("latest")["digest"],
        encrypted.entry("latest")["digest"]
    );
    let (_, back) = path(&place, "back");
    let printed = decrypt(&token, &copy_name, &back, &token.key_file("rsa3072")).ok();
    assert_eq!(
        printed.text().trim_end(),
        image("plain-multi-arch").entry("latest")["digest"]
    );
}
