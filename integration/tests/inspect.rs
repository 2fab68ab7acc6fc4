//! `ocihsm inspect`: what it says of the vectors, which keys open what, and what hostile annotations cannot do.

use std::fs;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use integration::layer::{Compression, Layer};
use integration::layout::Layout;
use integration::program::{Output, Program};
use integration::token::{PIN, Token, WRONG_PIN};
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
fn all_recipients_of_one_message_are_counted() {
    let token = Token::vectors();
    let place = TempDir::new().unwrap();
    let target = place.path().join("target");
    let key = |name: &str| vector("keys").join(name).display().to_string();
    token
        .ocihsm()
        .args(["encrypt", &reference("plain"), target.to_str().unwrap()])
        .args(["--recipient", &format!("pkcs7:{}", key("rsa3072.cert.pem"))])
        .args([
            "--recipient",
            &format!("pkcs7:{}", key("other3072.cert.pem")),
        ])
        .args(["--recipient", &format!("jwe:{}", key("rsa2048.pub.pem"))])
        .args(["--recipient", &format!("jwe:{}", key("p256.pub.pem"))])
        .ok();
    let report = token.ocihsm().args(["inspect", "--json"]).arg(&target).ok();
    for layer in json(&report)["images"][0]["layers"].as_array().unwrap() {
        assert_eq!(layer["recipients"], json!({"jwe": 2, "pkcs7": 2}));
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

/// Keys of this token whose module, or whose token, is not there.
fn unusable(token: &Token) -> [String; 3] {
    let uri = token.uri("rsa3072");
    [
        ("gone", format!("{uri}?module-name=nosuchmodule")),
        ("lost", format!("{uri}?module-name=nosuchmodule2")),
        (
            "away",
            "pkcs11:token=away;object=o?module-name=softhsm2".to_owned(),
        ),
    ]
    .map(|(name, uri)| token.key_file_with(name, &uri).display().to_string())
}

#[test]
fn a_key_that_could_not_be_tried_is_told_beside_one_that_opens() {
    let token = Token::vectors();
    let [gone, _, away] = unusable(&token);
    let good = token.key_file("rsa3072");
    let inspect = |options: &[&str]| {
        let program = token
            .ocihsm()
            .args(["inspect", &reference("sha256-pubkey"), "--key"]);
        let program = program.arg(&good).args(["--key", &gone, "--key", &away]);
        program.args(options).ok()
    };
    let table = inspect(&[]).text();
    let untried: Vec<_> = table
        .lines()
        .filter(|line| line.starts_with("untried: "))
        .collect();
    assert_eq!(untried.len(), 2, "{table}");
    assert!(untried[0].contains(&gone) && untried[0].contains("nosuchmodule"));
    assert!(untried[1].contains(&away) && untried[1].contains("no token matches"));
    let json = json(&inspect(&["--json"]));
    assert_eq!(json["untried"].as_array().unwrap().len(), 2);
    assert_eq!(
        json["images"][0]["layers"][0]["openedBy"],
        json!([good.display().to_string()])
    );
}

#[test]
fn keys_that_cannot_be_used_are_told_with_the_reason_and_the_right_argument() {
    let token = Token::vectors();
    let [gone, lost, _] = unusable(&token);
    let none = token.keys(&[]).display().to_string();
    let image = reference("sha256-pubkey");
    let decrypted = token.path().join("plain").display().to_string();
    for arguments in [vec!["inspect", &image], vec!["decrypt", &image, &decrypted]] {
        let run = |keys: &[&str]| {
            let keys = keys.iter().flat_map(|key| ["--key", key]);
            let output = token.ocihsm().args(&arguments).args(keys).run();
            assert!(!output.status.success());
            assert_eq!(output.text().contains("LAYER"), arguments[0] == "inspect");
            output.stderr
        };
        let stderr = run(&[&gone, &lost]);
        for part in [&gone, &lost, "\"nosuchmodule\"", "hint: install the module"] {
            assert!(stderr.contains(part), "{part}: {stderr}");
        }
        let stderr = run(&[&none]);
        assert!(
            stderr.contains("no usable key in") && stderr.contains("with --key"),
            "{stderr}"
        );
    }
}

#[test]
fn a_wrong_pin_costs_one_try_and_not_the_report() {
    let token = Token::vectors();
    let wrong = |name, pin| {
        let uri = format!(
            "{}?pin-value={pin}&module-name=softhsm2",
            token.uri("rsa3072")
        );
        token.key_file_with(name, &uri)
    };
    let (first, second) = (wrong("first", WRONG_PIN), wrong("second", PIN));
    // Of two files for one key the newer one is tried first.
    let file = fs::File::options().write(true).open(&second).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let output = token
        .ocihsm()
        .args(["inspect", &reference("sha256-pubkey")])
        .arg("--key")
        .arg(&first)
        .arg("--key")
        .arg(&second)
        .run();
    assert!(!output.status.success(), "{output:?}");
    let table = output.text();
    assert!(table.contains("tar+gzip+encrypted"), "{table}");
    for (key, why) in [(&first, "the PIN is wrong"), (&second, "a PIN was refused")] {
        let line = table
            .lines()
            .find(|line| line.starts_with("untried: ") && line.contains(why));
        let line = line.unwrap_or_else(|| panic!("{why}: {table}"));
        assert!(line.contains(key.to_str().unwrap()), "{line}");
    }
    assert!(
        output.stderr.contains("first.yaml") && output.stderr.contains("CKR_PIN_INCORRECT"),
        "{}",
        output.stderr
    );
}

#[test]
fn a_cipher_that_decode_refuses_is_a_failure() {
    let token = Token::vectors();
    let place = TempDir::new().unwrap();
    let files: [&[u8]; 2] = [b"a", b"b"];
    let layers = files.map(|file| Layer::file("a", file, Compression::None));
    let layout = Layout::create(place.path().join("layout"), &layers, &["/a"]);
    let encrypted = token.encrypt(&layout, "rsa3072", &[]);
    let mut manifest = encrypted.manifest("amd64");
    let options = "org.opencontainers.image.enc.pubopts";
    for (layer, cipher) in [(0, "none"), (1, "AES_1024, 2 pkcs11")] {
        let json = json!({"cipher": cipher, "hmac": null, "cipheroptions": {}}).to_string();
        manifest["layers"][layer]["annotations"][options] = STANDARD.encode(json).into();
    }
    let entry = encrypted.put(
        "application/vnd.oci.image.manifest.v1+json",
        manifest.to_string().as_bytes(),
    );
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(encrypted.path().join("index.json"), index.to_string()).unwrap();

    let output = token
        .ocihsm()
        .args(["inspect", encrypted.path().to_str().unwrap(), "--key"])
        .arg(token.key_file("rsa3072"))
        .run();
    assert!(!output.status.success(), "{output:?}");
    for part in [
        "  \"none\"  ",
        "  \"AES_1024, 2 pkcs11\"  ",
        "unknown cipher \"none\"",
        "unknown cipher \"AES_1024, 2 pkcs11\"",
    ] {
        assert!(output.text().contains(part), "{part}: {output:?}");
    }
    assert!(!output.text().contains("rsa3072.yaml"), "{output:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_reason_to_complain() {
    let token = Token::vectors();
    // `true` is gone when the report is printed.
    let script = r#"{ sleep 0.3; "$@"; echo $? >&2; } | true"#;
    for arguments in [
        vec!["inspect".to_owned(), reference("multi-arch")],
        vec!["config".to_owned(), "containerd".to_owned()],
    ] {
        let output = Program::new("sh")
            .args(["-c", script, "sh"])
            .arg(integration::ocihsm())
            .args(arguments)
            .env("OCIHSM_RUNTIME_DIR", token.runtime())
            .ok();
        assert_eq!(output.stderr, "1\n");
    }
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
