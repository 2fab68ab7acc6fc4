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

/// The tag's entry in a layout's index.
fn entry(layout: &Layout, tag: &str) -> Value {
    let index = fs::read(layout.path().join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let entries = index["manifests"].as_array().unwrap();
    let tagged = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == tag;
    entries.iter().find(tagged).unwrap().clone()
}

/// Every blob has its digest, and each that the image names is there. Returns the blobs' digests.
fn assert_sound(layout: &Layout) -> Vec<String> {
    let mut blobs = Vec::new();
    for file in fs::read_dir(layout.path().join("blobs/sha256")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let actual = digest(&fs::read(&path).unwrap());
        assert_eq!(actual, format!("sha256:{name}"));
        blobs.push(actual);
    }
    let index = fs::read(layout.path().join("index.json")).unwrap();
    let mut named = Vec::new();
    assert_named(layout, &serde_json::from_slice(&index).unwrap(), &mut named);
    for digest in &named {
        assert!(blobs.contains(digest), "{digest} is not there");
    }
    for digest in &blobs {
        assert!(named.contains(digest), "nothing names {digest}");
    }
    blobs
}

fn assert_named(layout: &Layout, document: &Value, named: &mut Vec<String>) {
    for list in ["manifests", "layers"] {
        for descriptor in document[list].as_array().into_iter().flatten() {
            let bytes = layout.read(descriptor);
            assert_eq!(descriptor["size"], bytes.len());
            named.push(digest(&bytes));
            if list == "manifests" {
                assert_named(layout, &serde_json::from_slice(&bytes).unwrap(), named);
            }
        }
    }
    if document["config"].is_object() {
        named.push(digest(&layout.read(&document["config"])));
    }
}

#[test]
fn every_vector_decrypts_and_survives_another_round() {
    let token = Token::vectors();
    let keys = token.keys(&KEYS);
    let place = TempDir::new().unwrap();
    let mut images: Vec<_> = Vector::all().into_iter().map(|it| it.image).collect();
    images.dedup();
    assert_eq!(images.len(), 8);
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
            assert_sound(layout);
        }
        assert_eq!(entry(&plain, "latest"), entry(&back, "latest"));

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
                entry(&encrypted, "latest")["digest"]
            );
            assert_eq!(printed.stderr, "");
            // Not one byte of a plain layer may be in the new layout.
            let blobs = assert_sound(&encrypted);
            for layer in image(name).layers() {
                assert!(!blobs.iter().any(|blob| layer["digest"] == **blob));
            }
            let key = token.key_file("rsa3072");
            let printed = decrypt(&token, &encrypted_name, &back_name, &key).ok();
            assert_eq!(
                printed.text().trim_end(),
                entry(&image(name), "latest")["digest"]
            );
            assert_eq!(assert_sound(&back).len(), assert_sound(&image(name)).len());
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
fn some_layers_are_encrypted_and_the_others_stay() {
    let token = Token::vectors();
    let place = TempDir::new().unwrap();
    let (some, name) = path(&place, "some");
    let recipient = public_key("rsa3072");
    let options = [
        "--recipient",
        &recipient,
        "--encrypt-layer",
        "-1",
        "--encrypt-layer",
        "0",
    ];
    encrypt(&token, &image("plain").reference(), &name, &options).ok();
    let encrypted = |layers: &[Value]| -> Vec<bool> {
        let media_types = layers
            .iter()
            .map(|layer| layer["mediaType"].as_str().unwrap());
        media_types.map(|it| it.ends_with("+encrypted")).collect()
    };
    assert_eq!(encrypted(&some.layers()), [true, false, true]);
    assert_eq!(some.layers()[1], image("plain").layers()[1]);
    assert_sound(&some);

    let (all, all_name) = path(&place, "all");
    let key = token.key_file("rsa3072");
    let options = ["--recipient", &recipient, "--key", key.to_str().unwrap()];
    encrypt(&token, &name, &all_name, &options).ok();
    assert_eq!(encrypted(&all.layers()), [true; 3]);
    assert_eq!(all.layers()[0]["digest"], some.layers()[0]["digest"]);

    let (_, back_name) = path(&place, "back");
    let printed = decrypt(&token, &all_name, &back_name, &key).ok();
    assert_eq!(
        printed.text().trim_end(),
        entry(&image("plain"), "latest")["digest"]
    );
}

#[test]
fn a_layer_that_is_not_there_is_an_error_that_counts_them() {
    let token = Token::vectors();
    let place = TempDir::new().unwrap();
    for number in ["3", "-4"] {
        let (target, name) = path(&place, "none");
        let recipient = public_key("rsa3072");
        let options = ["--recipient", &recipient, "--encrypt-layer", number];
        let output = encrypt(&token, &image("plain").reference(), &name, &options).run();
        assert_fails(&output, &format!("there is no layer {number}"));
        assert_fails(&output, "has 3");
        assert!(!target.path().exists());
    }
}

#[test]
fn one_platform_is_encrypted_and_decrypted_and_the_others_stay() {
    let token = Token::vectors();
    let place = TempDir::new().unwrap();
    let (one, name) = path(&place, "one");
    let recipient = public_key("rsa3072");
    let options = ["--recipient", &recipient, "--platform", "linux/arm64"];
    let source = image("plain-multi-arch");
    encrypt(&token, &source.reference(), &name, &options).ok();
    assert_sound(&one);
    assert_eq!(one.manifest("amd64"), source.manifest("amd64"));
    assert_ne!(one.manifest("arm64"), source.manifest("arm64"));

    let (_, back_name) = path(&place, "back");
    let key = token.key_file("rsa3072");
    let back = decrypt(&token, &name, &back_name, &key)
        .args(["--platform", "linux/arm64"])
        .ok();
    assert_eq!(back.text().trim_end(), entry(&source, "latest")["digest"]);

    let (none, none_name) = path(&place, "none");
    let options = ["--recipient", &recipient, "--platform", "linux/s390x"];
    let output = encrypt(&token, &source.reference(), &none_name, &options).run();
    assert_fails(&output, r#"only for "linux/amd64", "linux/arm64""#);
    assert!(!none.path().exists());
}

#[test]
fn one_layout_holds_both_under_two_tags() {
    let token = Token::vectors();
    let place = TempDir::new().unwrap();
    let layout = image("plain").copy(place.path().join("layout"));
    let name = |tag: &str| format!("oci:{}:{tag}", layout.path().display());
    let before = entry(&layout, "latest");
    let options = ["--recipient", &public_key("rsa3072")];
    encrypt(&token, &name("latest"), &name("secret"), &options).ok();
    assert_eq!(entry(&layout, "latest"), before);
    let first = entry(&layout, "secret")["digest"].clone();

    // Once more: the tag moves to the new image.
    encrypt(&token, &name("latest"), &name("secret"), &options).ok();
    assert_ne!(entry(&layout, "secret")["digest"], first);
    decrypt(
        &token,
        &name("secret"),
        &name("back"),
        &token.key_file("rsa3072"),
    )
    .ok();
    assert_eq!(entry(&layout, "back")["digest"], before["digest"]);

    let names = fs::read_dir(layout.path()).unwrap().count();
    assert_eq!(names, 3, "blobs, index.json and oci-layout");
    let unnamed = encrypt(
        &token,
        layout.path().to_str().unwrap(),
        &name("x"),
        &options,
    )
    .run();
    assert_fails(&unnamed, r#"its tags are "latest", "secret", "back""#);
}

#[test]
fn the_hash_comes_from_the_command_line_or_from_the_environment() {
    let token = Token::vectors();
    let place = TempDir::new().unwrap();
    for (number, (variable, option, expected)) in [
        ("", &[][..], "sha256"),
        ("SHA1", &[], "sha1"),
        ("sha1", &["--oaep-hash", "sha256"], "sha256"),
    ]
    .into_iter()
    .enumerate()
    {
        let (_, name) = path(&place, &number.to_string());
        let recipient = public_key("rsa3072");
        let options = [option, &["--recipient", &recipient]].concat();
        encrypt(&token, &image("plain").reference(), &name, &options)
            .env("OCICRYPT_OAEP_HASHALG", variable)
            .ok();
        let report = token.ocihsm().args(["inspect", &name, "--json"]).ok();
        let report: Value = serde_json::from_slice(&report.stdout).unwrap();
        assert_eq!(
            report["images"][0]["layers"][0]["oaepHashes"],
            json!([expected])
        );
    }
    let (_, name) = path(&place, "md5");
    let output = encrypt(
        &token,
        &image("plain").reference(),
        &name,
        &["--recipient", &public_key("rsa3072")],
    )
    .env("OCICRYPT_OAEP_HASHALG", "md5")
    .run();
    assert_fails(&output, "OCICRYPT_OAEP_HASHALG is not sha256 or sha1");
}

#[test]
fn a_uri_in_a_files_place_is_refused_without_its_pin() {
    // The harness fails a test in which a PIN is printed.
    let token = Token::vectors();
    let place = TempDir::new().unwrap();
    let (target, name) = path(&place, "none");
    let uri = format!(
        "{}?pin-value={}",
        token.uri("rsa3072"),
        integration::token::PIN
    );
    let source = image("plain").reference();
    let output = encrypt(&token, &source, &name, &["--recipient", &uri]).run();
    assert_fails(&output, "takes the path of a file");
    let output = decrypt(
        &token,
        &image("sha256-pubkey").reference(),
        &name,
        Path::new(&uri),
    )
    .run();
    assert_fails(&output, "takes the path of a file");
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
    let index: Value =
        serde_json::from_slice(&encrypted.read(&entry(&encrypted, "latest"))).unwrap();
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
    assert_sound(&encrypted);
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
        entry(&copy, "latest")["digest"],
        entry(&encrypted, "latest")["digest"]
    );
    let (_, back) = path(&place, "back");
    let printed = decrypt(&token, &copy_name, &back, &token.key_file("rsa3072")).ok();
    assert_eq!(
        printed.text().trim_end(),
        entry(&image("plain-multi-arch"), "latest")["digest"]
    );
}
