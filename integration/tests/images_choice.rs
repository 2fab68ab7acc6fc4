//! What the arguments of `ocihsm encrypt` and `decrypt` choose: layers, platforms, tags, the hash; and what they may not.

use std::fs;
use std::path::Path;

use integration::layout::Layout;
use integration::program::{Output, Program};
use integration::token::Token;
use integration::vector;
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

fn assert_fails(output: &Output, part: &str) {
    assert!(!output.status.success());
    assert!(output.stderr.contains(part), "{}", output.stderr);
    assert_eq!(output.text(), "");
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
    some.assert_sound();

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
        image("plain").entry("latest")["digest"]
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
    one.assert_sound();
    assert_eq!(one.manifest("amd64"), source.manifest("amd64"));
    assert_ne!(one.manifest("arm64"), source.manifest("arm64"));

    let (_, back_name) = path(&place, "back");
    let key = token.key_file("rsa3072");
    let back = decrypt(&token, &name, &back_name, &key)
        .args(["--platform", "linux/arm64"])
        .ok();
    assert_eq!(back.text().trim_end(), source.entry("latest")["digest"]);

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
    let before = layout.entry("latest");
    let options = ["--recipient", &public_key("rsa3072")];
    encrypt(&token, &name("latest"), &name("secret"), &options).ok();
    assert_eq!(layout.entry("latest"), before);
    let first = layout.entry("secret")["digest"].clone();

    // Once more: the tag moves to the new image, if that is asked for.
    let unasked = encrypt(&token, &name("latest"), &name("secret"), &options).run();
    assert_fails(&unasked, r#"an image tagged "secret" already"#);
    assert_eq!(layout.entry("secret")["digest"], first);
    encrypt(&token, &name("latest"), &name("secret"), &options)
        .arg("--force")
        .ok();
    assert_ne!(layout.entry("secret")["digest"], first);
    decrypt(
        &token,
        &name("secret"),
        &name("back"),
        &token.key_file("rsa3072"),
    )
    .ok();
    assert_eq!(layout.entry("back")["digest"], before["digest"]);

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
