//! `ocihsm rekey` and `encrypt --anew`: who opens an image afterwards, and what of it moves.

use std::path::Path;
use std::time::Instant;

use integration::layer::{Compression, Layer, noise};
use integration::layout::Layout;
use integration::program::{Output, Program};
use integration::proxy::{Fate, Proxy};
use integration::registry::Registry;
use integration::skip;
use integration::stage::{Stage, image, recipient};
use integration::token::Token;
use serde_json::{Value, json};

fn rekey(stage: &Stage, source: &str, key: &str, options: &[&str]) -> Program {
    let program = stage.token.ocihsm().args(["rekey", source]).args(options);
    program.arg("--key").arg(stage.token.key_file(key))
}

fn decrypt(stage: &Stage, source: &str, target: &Path, key: &str) -> Output {
    stage
        .decrypt_with(source, target.to_str().unwrap(), key)
        .run()
}

fn recipients(layout: &Layout, token: &Token) -> Value {
    let report = token
        .ocihsm()
        .args(["inspect", "--json"])
        .arg(layout.path())
        .ok();
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    report["images"][0]["layers"][0]["recipients"].clone()
}

#[test]
fn recipients_are_added_or_replaced_and_no_layer_changes() {
    let stage = Stage::new();
    for (name, option, expected) in [
        ("jwe-and-pkcs11", "--add", json!({"jwe": 1, "pkcs11": 2})),
        ("jwe-and-pkcs11", "--only", json!({"pkcs11": 1})),
        ("multi-recipient", "--only", json!({"pkcs11": 1})),
    ] {
        let target = Layout::open(stage.at(&format!("{name}{option}")));
        let path = target.path().display().to_string();
        let options = [path.as_str(), option, &recipient("other3072")];
        let printed = rekey(&stage, &image(name).reference(), "rsa3072", &options).ok();
        assert_eq!(printed.text().trim_end(), target.entry("latest")["digest"]);
        assert_eq!(
            recipients(&target, &stage.token),
            expected,
            "{name} {option}"
        );
        for (before, after) in image(name).layers().iter().zip(target.layers()) {
            assert_eq!(before["digest"], after["digest"]);
        }
        let open = |key: &str| {
            decrypt(
                &stage,
                &path,
                &stage.at(&format!("{name}{option}{key}")),
                key,
            )
        };
        assert!(open("other3072").status.success());
        assert_eq!(open("rsa3072").status.success(), option == "--add");
    }
}

#[test]
fn without_a_target_the_tag_moves() {
    let stage = Stage::new();
    let layout = image("sha256-pubkey").copy(stage.at("layout"));
    let before = layout.entry("latest")["digest"].clone();
    let only = recipient("other3072");
    let printed = rekey(&stage, &layout.reference(), "rsa3072", &["--only", &only]).ok();
    let after = layout.entry("latest")["digest"].clone();
    assert_ne!(before, after);
    assert_eq!(printed.text().trim_end(), after);
    assert!(
        !decrypt(&stage, &layout.reference(), &stage.at("back"), "rsa3072")
            .status
            .success()
    );
}

#[test]
fn what_cannot_be_done_is_told_and_nothing_is_written() {
    let stage = Stage::new();
    let (target, other) = (stage.at("target"), recipient("other3072"));
    let target_name = target.to_str().unwrap();
    let encrypted = image("sha256-pubkey").reference();
    for (source, key, options, part) in [
        (
            &encrypted,
            "other3072",
            &["--add", &other][..],
            "other keys",
        ),
        (&encrypted, "rsa3072", &[], "required"),
        (
            &encrypted,
            "rsa3072",
            &["--add", &other, "--only", &other],
            "cannot be used with",
        ),
        (
            &image("plain").reference(),
            "rsa3072",
            &["--add", &other],
            "no encrypted layer",
        ),
    ] {
        let output = rekey(&stage, source, key, &[&[target_name], options].concat()).run();
        assert!(!output.status.success());
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
        assert!(!target.exists());
    }
}

#[test]
fn in_a_registry_manifests_alone_move() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let registry = Registry::start();
    let layers = [
        Layer::file("a", &noise(20 << 20), Compression::None),
        Layer::file("b", b"small", Compression::Gzip),
    ];
    let layout = Layout::create(stage.at("source"), &layers, &["/a"]);
    let encrypted = stage.token.encrypt(&layout, "rsa3072", &[]);
    registry.push(&encrypted, "app");
    let proxy = Proxy::start(registry.host(), |_, _| Fate::Pass);
    let app = format!("docker://{}/app:latest", proxy.host());
    let options = ["--only", &recipient("other3072"), "--tls-verify=false"];
    rekey(&stage, &app, "rsa3072", &options).ok();
    assert!(
        proxy.bytes_sent() < 64 << 10,
        "{} bytes were sent",
        proxy.bytes_sent()
    );
    let requests = proxy.requests();
    let read = |line: &&String| line.starts_with("GET") && line.contains("/blobs/");
    assert_eq!(
        requests.iter().filter(read).count(),
        1,
        "the config alone is read: {requests:#?}"
    );
    let program = stage
        .token
        .ocihsm()
        .args(["decrypt", &app, "--tls-verify=false"]);
    let program = program
        .arg(stage.at("back"))
        .arg("--key")
        .arg(stage.token.key_file("other3072"));
    assert_eq!(
        program.ok().text().trim_end(),
        layout.entry("latest")["digest"]
    );
}

#[test]
fn an_image_of_eighty_mebibytes_is_rekeyed_with_a_few_kilobytes() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let registry = Registry::start();
    let layers: Vec<_> = (0..10)
        .map(|number| Layer::file("a", &vec![number; 8 << 20], Compression::None))
        .collect();
    let layout = Layout::create(stage.at("source"), &layers, &["/a"]);
    let encrypted = stage.token.encrypt(&layout, "rsa3072", &[]);
    let manifest = encrypted.manifest("amd64");
    registry.push(&encrypted, "app");
    let proxy = Proxy::start(registry.host(), |_, _| Fate::Pass);
    let app = format!("docker://{}/app:latest", proxy.host());
    let start = Instant::now();
    let options = ["--add", &recipient("other3072"), "--tls-verify=false"];
    rekey(&stage, &app, "rsa3072", &options).ok();
    let took = start.elapsed();
    let (sent, received) = (proxy.bytes_sent(), proxy.bytes_received());
    println!("{sent} bytes sent, {received} received, {took:.2?} with the token's time");
    assert!(
        sent + received < 1 << 20,
        "{sent} sent, {received} received"
    );
    let config = manifest["config"]["digest"].as_str().unwrap();
    for line in proxy.requests() {
        let of_layers = line.contains("/blobs/") && !line.contains(config);
        assert!(!of_layers || line.starts_with("HEAD"), "{line}");
    }
}

#[test]
fn layers_that_are_encrypted_anew_have_other_keys_and_the_same_content() {
    let stage = Stage::new();
    for name in ["sha256-pubkey", "multi-arch", "jwe-and-pkcs11"] {
        let plain = stage.at(&format!("{name}-plain"));
        assert!(
            decrypt(&stage, &image(name).reference(), &plain, "rsa3072")
                .status
                .success()
        );
        let anew = Layout::open(stage.at(&format!("{name}-anew")));
        let key = stage.token.key_file("rsa3072");
        let program = stage
            .token
            .ocihsm()
            .args(["encrypt", &image(name).reference()]);
        let program =
            program
                .arg(anew.path())
                .args(["--anew", "--recipient", &recipient("other3072")]);
        program.arg("--key").arg(key).ok();
        anew.assert_sound();
        assert_eq!(recipients(&anew, &stage.token), json!({"pkcs11": 1}));
        for (before, after) in image(name).layers().iter().zip(anew.layers()) {
            assert_ne!(before["digest"], after["digest"]);
        }
        let path = anew.path().display().to_string();
        assert!(
            !decrypt(&stage, &path, &stage.at("none"), "rsa3072")
                .status
                .success()
        );
        let back = decrypt(
            &stage,
            &path,
            &stage.at(&format!("{name}-back")),
            "other3072",
        );
        assert!(back.status.success(), "{}", back.stderr);
        assert_eq!(
            back.text().trim_end(),
            Layout::open(plain).entry("latest")["digest"]
        );
    }
}

#[test]
fn a_layer_that_does_not_verify_is_not_encrypted_anew() {
    let stage = Stage::new();
    let layout = image("sha256-pubkey").copy(stage.at("layout"));
    let blob = layout.blob(layout.layers()[1]["digest"].as_str().unwrap());
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[100] ^= 1;
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, bytes).unwrap();
    let key = stage.token.key_file("rsa3072");
    let program = stage.token.ocihsm().args(["encrypt", &layout.reference()]);
    let program =
        program
            .arg(stage.at("anew"))
            .args(["--anew", "--recipient", &recipient("other3072")]);
    let output = program.arg("--key").arg(key).run();
    assert!(!output.status.success());
    assert!(
        output.stderr.contains("verification failed"),
        "{}",
        output.stderr
    );
    assert!(!stage.at("anew").exists());
}
