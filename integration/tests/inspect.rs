//! `ocihsm inspect`: what it says of the vectors, which keys open what, and what hostile annotations cannot do.

use std::fs;

use integration::layer::{Compression, Layer};
use integration::layout::Layout;
use integration::program::Output;
use integration::token::Token;
use integration::vector;
use serde_json::{Value, json};
use tempfile::TempDir;

fn reference(name: &str) -> String {
    vector("images").join(name).display().to_string()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

#[test]
fn schemes_recipients_and_hashes_are_counted() {
    let token = Token::vectors();
    for (image, recipients, hashes) in [
        ("multi-recipient", json!({"pkcs11": 3}), json!(["sha1"])),
        (
            "jwe-and-pkcs11",
            json!({"jwe": 1, "pkcs11": 1}),
            json!(["sha1"]),
        ),
        ("sha256-pubkey", json!({"pkcs11": 1}), json!(["sha256"])),
        ("jwe-p256", json!({"jwe": 1}), json!([])),
    ] {
        // A policy that does not exist: without a key, none is read and no module loaded.
        let output = token
            .ocihsm()
            .args(["inspect", &reference(image), "--json"])
            .env("OCICRYPT_CONFIG", "/nowhere")
            .ok();
        let layers = json(&output)["images"][0]["layers"].clone();
        assert_eq!(layers.as_array().unwrap().len(), 3);
        for layer in layers.as_array().unwrap() {
            assert_eq!(layer["recipients"], recipients, "{image}");
            assert_eq!(layer["oaepHashes"], hashes, "{image}");
            assert_eq!(layer["cipher"], "AES_256_CTR_HMAC_SHA256", "{image}");
            assert!(layer.get("openedBy").is_none(), "{image}");
        }
    }
}

#[test]
fn each_key_is_told_with_the_layers_that_it_opens() {
    let token = Token::vectors();
    let keys = ["rsa3072", "rsa2048", "other3072"].map(|key| token.key_file(key));
    let output = token
        .ocihsm()
        .args(["inspect", &reference("multi-recipient"), "--json"])
        .args(keys.iter().flat_map(|key| ["--key", key.to_str().unwrap()]))
        .ok();
    for layer in json(&output)["images"][0]["layers"].as_array().unwrap() {
        assert_eq!(layer["openedBy"], json!(keys));
    }
}

#[test]
fn a_layer_that_stays_shut_is_a_failure_after_the_report() {
    let token = Token::vectors();
    let output = token
        .ocihsm()
        .args(["inspect", &reference("sha256-pubkey"), "--key"])
        .arg(token.key_file("other3072"))
        .run();
    assert!(!output.status.success());
    assert_eq!(
        output.text().matches(" none").count(),
        3,
        "{}",
        output.text()
    );
    assert!(output.stderr.contains("no key") || output.stderr.contains("cannot open layer"));
}

#[test]
fn platforms_stand_one_below_the_other_or_alone() {
    let token = Token::vectors();
    let inspect = |options: &[&str]| {
        let program = token.ocihsm().args(["inspect", &reference("multi-arch")]);
        program.args(options).ok().text()
    };
    let all = inspect(&[]);
    assert!(all.contains("linux/amd64") && all.contains("linux/arm64"));
    let one = inspect(&["--platform", "linux/arm64"]);
    assert!(!one.contains("linux/amd64") && one.contains("linux/arm64"));
}

#[test]
fn hostile_text_does_not_reach_the_terminal() {
    let token = Token::vectors();
    let place = TempDir::new().unwrap();
    let layers = [Layer::file("a", b"a", Compression::None)];
    let layout = Layout::create(place.path().join("layout"), &layers, &["/a"]);
    let encrypted = token.encrypt(&layout, "rsa3072", &[]);
    let mut manifest = encrypted.manifest("amd64");
    let hostile = "\u{1b}]0;owned\u{7}\u{202e}\u{9b}31m\r";
    let annotations = &mut manifest["layers"][0]["annotations"];
    annotations[format!("org.opencontainers.image.enc.keys.{hostile}")] = "YQ==".into();
    let digest = manifest["layers"][0]["digest"].clone();
    manifest["layers"]
        .as_array_mut()
        .unwrap()
        .push(json!({"mediaType": format!("{hostile}+encrypted"), "digest": digest, "size": 1}));
    let text = manifest.to_string();
    let mut entry = encrypted.put(
        "application/vnd.oci.image.manifest.v1+json",
        text.as_bytes(),
    );
    entry["platform"] = json!({"os": hostile, "architecture": hostile});
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": hostile});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(encrypted.path().join("index.json"), index.to_string()).unwrap();

    let path = encrypted.path().to_str().unwrap();
    for options in [&[path][..], &[path, "--json"], &[&format!("{path}:other")]] {
        let output = token.ocihsm().arg("inspect").args(options).run();
        // The second layer has no annotations at all, and the tag is not there.
        assert!(!output.status.success());
        let shown = output.text() + &output.stderr;
        let harmless = |char: char| char.is_ascii_graphic() || "\n …".contains(char);
        assert!(shown.chars().all(harmless), "{shown:?}");
        assert!(shown.contains("owned"), "{shown}");
    }
}
