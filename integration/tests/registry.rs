//! `docker://`: images encrypted, decrypted and inspected where they are, in a real registry; and what a registry or the
//! way to it may do wrong.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use integration::authority::Authority;
use integration::layer::{Compression, Layer, noise};
use integration::layout::Layout;
use integration::program::Program;
use integration::proxy::{Fate, Proxy};
use integration::registry::{Guard, PASSWORD, Registry, USER};
use integration::skip;
use integration::stage::{Stage, assert_fails, digest_of, image, recipient};
use serde_json::{Value, json};

const PLAIN_HTTP: &str = "--tls-verify=false";

/// A layout with a layer of 20 MiB, which is sent in three chunks, between two small ones.
fn large(stage: &Stage) -> Layout {
    let layers = [
        Layer::file("a", b"first", Compression::Gzip),
        Layer::file("b", &noise(20 << 20), Compression::None),
        Layer::file("c", b"last", Compression::None),
    ];
    Layout::create(stage.at("large"), &layers, &["/a"])
}

fn docker(host: &str, name: &str) -> String {
    format!("docker://{host}/{name}")
}

#[test]
fn an_image_is_encrypted_and_decrypted_from_registry_to_registry() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let registry = Registry::start();
    for name in ["plain", "plain-multi-arch"] {
        registry.push(&image(name), name);
        let at = |suffix: &str| docker(registry.host(), &format!("{name}{suffix}:latest"));
        let printed = stage
            .encrypt(&at(""), &at("-encrypted"))
            .arg(PLAIN_HTTP)
            .ok();
        let report = stage
            .ocihsm()
            .args(["inspect", &at("-encrypted"), "--json", PLAIN_HTTP])
            .ok();
        let report: Value = serde_json::from_slice(&report.stdout).unwrap();
        assert_eq!(report["digest"], printed.text().trim_end());
        for layer in report["images"][0]["layers"].as_array().unwrap() {
            assert!(layer["mediaType"].as_str().unwrap().ends_with("+encrypted"));
        }
        let back = stage
            .decrypt(&at("-encrypted"), &at("-back"))
            .arg(PLAIN_HTTP)
            .ok();
        assert_eq!(back.text().trim_end(), digest_of(&image(name)));
        // And between a registry and files, by digest as well.
        let by_digest = docker(
            registry.host(),
            &format!("{name}-encrypted@{}", printed.text().trim_end()),
        );
        let file = format!("oci-archive:{}", stage.at(&format!("{name}.tar")).display());
        let back = stage.decrypt(&by_digest, &file).arg(PLAIN_HTTP).ok();
        assert_eq!(back.text().trim_end(), digest_of(&image(name)));
        assert!(
            fs::read_dir(stage.place.path()).unwrap().count() <= 2,
            "something is left"
        );
    }
}

#[test]
fn skopeo_reads_what_we_pushed_and_we_what_it_pushed() {
    if !skip::programs(&["docker-registry", "skopeo"]) {
        return;
    }
    let stage = Stage::new();
    let registry = Registry::start();
    let at = |name: &str| docker(registry.host(), name);
    let source = image("plain-multi-arch");
    Program::new("skopeo")
        .args([
            "copy",
            "-q",
            "--all",
            "--dest-tls-verify=false",
            &source.reference(),
            &at("theirs:v1"),
        ])
        .ok();
    // It writes manifests in a style of its own.
    let theirs = at("theirs:v1");
    let report = stage
        .ocihsm()
        .args(["inspect", &theirs, "--json", PLAIN_HTTP]);
    let report: Value = serde_json::from_slice(&report.ok().stdout).unwrap();
    let before = report["digest"].clone();
    let printed = stage
        .encrypt(&at("theirs:v1"), &at("ours:v1"))
        .arg(PLAIN_HTTP)
        .ok();
    let copy = format!("oci:{}:latest", stage.at("copy").display());
    Program::new("skopeo")
        .args([
            "copy",
            "-q",
            "--all",
            "--src-tls-verify=false",
            &at("ours:v1"),
            &copy,
        ])
        .ok();
    let copied = Layout::open(stage.at("copy"));
    assert_eq!(digest_of(&copied), printed.text().trim_end());
    let back = format!("oci:{}", stage.at("back").display());
    let back = stage.decrypt(&copy, &back).ok();
    assert_eq!(back.text().trim_end(), before);
}

#[test]
fn a_tag_in_a_registry_is_not_replaced_unasked() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let registry = Registry::start();
    registry.push(&image("plain"), "app");
    let app = docker(registry.host(), "app:latest");
    let output = stage.encrypt(&app, &app).arg(PLAIN_HTTP).run();
    assert_fails(&output, &[r#"an image tagged "latest" already"#, "--force"]);
    let printed = stage.encrypt(&app, &app).args([PLAIN_HTTP, "--force"]).ok();
    assert_ne!(printed.text().trim_end(), digest_of(&image("plain")));
    let by_digest = docker(
        registry.host(),
        &format!("app@{}", digest_of(&image("plain"))),
    );
    let output = stage.decrypt(&app, &by_digest).arg(PLAIN_HTTP).run();
    assert_fails(&output, &["written under a tag"]);
    for name in ["app:none", "none:latest"] {
        let output = stage
            .ocihsm()
            .args(["inspect", PLAIN_HTTP, &docker(registry.host(), name)])
            .run();
        assert_fails(&output, &["has no image", name]);
    }
}

#[test]
fn what_the_registry_has_is_not_sent_again() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let registry = Registry::start();
    let large = large(&stage);
    let proxy = Proxy::start(registry.host(), |_, _| Fate::Pass);
    let at = |name: &str| docker(proxy.host(), name);
    // Only the last layer is encrypted: the one of 20 MiB is the same in all images.
    let last = ["--encrypt-layer", "2", PLAIN_HTTP];
    stage
        .encrypt(&large.reference(), &at("one:v1"))
        .args(last)
        .ok();
    let first = proxy.bytes_sent();
    assert!(first > 20 << 20, "{first}");
    // It is there; and in another repository of the same registry it is mounted.
    stage
        .encrypt(&large.reference(), &at("one:v2"))
        .args(last)
        .ok();
    let key = stage.token.key_file("rsa3072");
    let key = ["--key", key.to_str().unwrap()];
    let recipient = recipient("other3072");
    let mounted = stage
        .ocihsm()
        .args(["encrypt", &at("one:v1"), &at("two:v1")]);
    let mounted = mounted
        .args(["--recipient", &recipient, PLAIN_HTTP])
        .args(key);
    mounted.args(["--encrypt-layer", "2"]).ok();
    let second = proxy.bytes_sent() - first;
    assert!(second < 1 << 20, "{second} bytes were sent");
    let requests = proxy.requests();
    assert!(
        requests.iter().any(|line| line.contains("mount=")),
        "{requests:#?}"
    );
}

#[test]
fn a_registry_that_fails_for_a_while_loses_nothing() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let registry = Registry::start();
    let large = large(&stage);
    registry.push(&large, "large");
    for (number, fate) in [
        Fate::Status(429),
        Fate::Status(503),
        Fate::CutAnswer(3 << 20),
    ]
    .into_iter()
    .enumerate()
    {
        // Every third request that such a fate can meet.
        let chosen = fate.clone();
        let proxy = Proxy::start(registry.host(), move |line, count| {
            let meets = match chosen {
                Fate::CutAnswer(_) => line.starts_with("GET") && line.contains("/blobs/sha256"),
                _ => true,
            };
            let often = if matches!(chosen, Fate::Status(_)) {
                3
            } else {
                2
            };
            match meets && count % often == 0 {
                true => chosen.clone(),
                false => Fate::Pass,
            }
        });
        let at = |name: String| docker(proxy.host(), &name);
        let encrypted = at(format!("encrypted{number}:v1"));
        stage
            .encrypt(&at("large:latest".to_owned()), &encrypted)
            .arg(PLAIN_HTTP)
            .ok();
        let back = stage
            .decrypt(&encrypted, &at(format!("back{number}:v1")))
            .arg(PLAIN_HTTP)
            .ok();
        assert_eq!(back.text().trim_end(), digest_of(&large), "{fate:?}");
    }
}

#[test]
fn a_registry_that_fails_for_good_is_told_and_has_no_tag() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let registry = Registry::start();
    registry.push(&image("plain"), "plain");
    type Decide = fn(&str, usize) -> Fate;
    let cases: [(Decide, &str); 6] = [
        (
            |line, _| {
                if line.starts_with("PATCH") {
                    Fate::Status(500)
                } else {
                    Fate::Pass
                }
            },
            "500",
        ),
        (
            |line, _| {
                if line.starts_with("PATCH") {
                    Fate::CutRequest(10)
                } else {
                    Fate::Pass
                }
            },
            "cannot reach registry",
        ),
        (
            |line, _| {
                if line.starts_with("GET") && line.contains("/blobs/") {
                    Fate::Damage
                } else {
                    Fate::Pass
                }
            },
            "damaged",
        ),
        (
            |line, _| {
                if line.starts_with("PUT") && line.contains("/manifests/") {
                    Fate::Status(400)
                } else {
                    Fate::Pass
                }
            },
            "400",
        ),
        (
            |line, _| {
                if line.starts_with("HEAD") && line.contains("/new/blobs/") {
                    Fate::Answer("200 OK\r\ncontent-length: 1".to_owned())
                } else {
                    Fate::Pass
                }
            },
            "not as long",
        ),
        (
            |line, _| {
                if line.starts_with("PUT") && line.contains("/manifests/") {
                    let digest = "0".repeat(64);
                    Fate::Answer(format!(
                        "201 Created\r\ndocker-content-digest: sha256:{digest}\r\ncontent-length: 0"
                    ))
                } else {
                    Fate::Pass
                }
            },
            "another digest there",
        ),
    ];
    for (decide, part) in cases {
        let proxy = Proxy::start(registry.host(), decide);
        let (source, target) = (
            docker(proxy.host(), "plain:latest"),
            docker(proxy.host(), "new:v1"),
        );
        let output = stage.encrypt(&source, &target).arg(PLAIN_HTTP).run();
        assert_fails(&output, &[part]);
        assert!(!registry.has_tag("new", "v1"));
        let file = stage.at("file");
        if part == "damaged" {
            let output = stage
                .encrypt(&source, file.to_str().unwrap())
                .arg(PLAIN_HTTP)
                .run();
            assert_fails(&output, &[part]);
        }
        assert!(!file.exists());
    }
    let output = stage
        .ocihsm()
        .args(["inspect", "docker://127.0.0.1:1/a", PLAIN_HTTP])
        .run();
    assert_fails(&output, &["cannot reach registry 127.0.0.1:1"]);
}

/// A blob may be kept elsewhere. Who keeps it gets no password, whatever it asks for.
#[test]
fn a_password_goes_to_nobody_that_the_registry_redirects_to() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let registry = Registry::start();
    registry.push(&image("plain"), "plain");
    for scheme in ["Basic", "Bearer"] {
        let giver = Proxy::start(registry.host(), |_, _| Fate::Status(404));
        let realm = format!("http://{}/token", giver.host());
        let other = Proxy::start(registry.host(), move |_, _| {
            Fate::Answer(format!(
                "401 No\r\nwww-authenticate: {scheme} realm=\"{realm}\"\r\ncontent-length: 0"
            ))
        });
        let place = other.host().to_owned();
        let proxy = Proxy::start(registry.host(), move |line, _| {
            match line.starts_with("GET") && line.contains("/blobs/") {
                true => Fate::Answer(format!(
                    "307 There\r\nlocation: http://{place}/elsewhere\r\ncontent-length: 0"
                )),
                false => Fate::Pass,
            }
        });
        let mut auths = json!({});
        auths[proxy.host()] = json!({ "auth": STANDARD.encode(format!("{USER}:{PASSWORD}")) });
        let file = stage.at("auth.json");
        fs::write(&file, json!({ "auths": auths }).to_string()).unwrap();
        let target = stage.at("target");
        let output = stage
            .encrypt(
                &docker(proxy.host(), "plain:latest"),
                target.to_str().unwrap(),
            )
            .arg(PLAIN_HTTP)
            .env("REGISTRY_AUTH_FILE", &file)
            .run();
        assert_fails(&output, &["does not let"]);
        assert_eq!(
            other.requests().len(),
            1,
            "it is asked once, without a login"
        );
        assert!(giver.requests().is_empty(), "{:?}", giver.requests());
    }
}

#[test]
fn a_registry_with_tls_and_a_password() {
    if !skip::programs(&["docker-registry", "openssl"]) {
        return;
    }
    let stage = Stage::new();
    let authority = Authority::new(stage.at("authority"));
    let trusted = stage.at("certs");
    authority.directory(&trusted, None);
    let registry = Registry::guarded(&Guard {
        tls: Some(authority.issue("server")),
        password: true,
        ..Guard::default()
    });
    let app = docker(registry.host(), "app:v1");
    let source = image("plain").reference();
    let output = stage.encrypt(&source, &app).run();
    assert_fails(
        &output,
        &["cannot reach registry", "--cert-dir", "--tls-verify=false"],
    );
    let trust = ["--cert-dir", trusted.to_str().unwrap()];
    let output = stage.encrypt(&source, &app).args(trust).run();
    assert_fails(
        &output,
        &["does not let somebody without a login", "skopeo login"],
    );

    let file = |password: &str| {
        let pair = STANDARD.encode(format!("{USER}:{password}"));
        let mut auths = json!({});
        auths[registry.host()] = json!({"auth": pair});
        let path = stage.at("auth.json");
        fs::write(&path, json!({"auths": auths}).to_string()).unwrap();
        path
    };
    let wrong = file("wrong");
    let output = stage
        .encrypt(&source, &app)
        .args(trust)
        .arg("--authfile")
        .arg(wrong)
        .run();
    assert_fails(&output, &["does not let user \"me\""]);
    assert!(!output.stderr.contains("wrong"), "{}", output.stderr);
    let right = file(PASSWORD);
    stage
        .encrypt(&source, &app)
        .args(trust)
        .env("REGISTRY_AUTH_FILE", &right)
        .ok();
    let output = stage
        .ocihsm()
        .args(["inspect", &app, PLAIN_HTTP, "--authfile"]);
    output.arg(&right).ok();

    // The same from Docker's own place, by a helper.
    let home = stage.at("home");
    fs::create_dir_all(home.join(".docker")).unwrap();
    fs::create_dir_all(home.join("bin")).unwrap();
    let mut helpers = json!({});
    helpers[registry.host()] = "ocihsm-test".into();
    fs::write(
        home.join(".docker/config.json"),
        json!({"credHelpers": helpers}).to_string(),
    )
    .unwrap();
    let helper = home.join("bin/docker-credential-ocihsm-test");
    let answer = json!({"ServerURL": registry.host(), "Username": USER, "Secret": PASSWORD});
    fs::write(
        &helper,
        format!(
            "#!/bin/sh\ntest \"$(cat)\" = {} && echo '{answer}'\n",
            registry.host()
        ),
    )
    .unwrap();
    Program::new("chmod").arg("755").arg(&helper).ok();
    let path = format!(
        "{}:{}",
        home.join("bin").display(),
        std::env::var("PATH").unwrap()
    );
    let back = stage.at("back");
    let decrypt = stage.decrypt(&app, back.to_str().unwrap()).args(trust);
    let decrypt = decrypt
        .env("HOME", &home)
        .env("DOCKER_CONFIG", "")
        .env("PATH", path);
    let printed = decrypt.ok();
    assert_eq!(printed.text().trim_end(), digest_of(&image("plain")));
}
