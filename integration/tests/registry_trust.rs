//! `docker://` where the registry, or who answers for it, is not to be trusted: with an image, with a login, with the way.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use integration::authority::Authority;
use integration::proxy::{Fate, Proxy, header};
use integration::registry::{PASSWORD, Registry, USER};
use integration::skip;
use integration::stage::{Stage, assert_fails, digest_of, image, recipient};
use serde_json::json;

const PLAIN_HTTP: &str = "--tls-verify=false";
/// The manifest, or the tag.
const GONE: &str = "a manifest that was sent is not there";
const EMPTY: &str = "content-length: 0";
/// What is said where nobody is to read it.
const QUOTA: &str = "the quota is used up";

fn docker(host: &str, name: &str) -> String {
    format!("docker://{host}/{name}")
}

/// A file with the login for a registry.
fn login(stage: &Stage, host: &str) -> PathBuf {
    let mut auths = json!({});
    auths[host] = json!({ "auth": STANDARD.encode(format!("{USER}:{PASSWORD}")) });
    let file = stage.at("auth.json");
    fs::write(&file, json!({ "auths": auths }).to_string()).unwrap();
    file
}

fn is_put(line: &str) -> bool {
    line.starts_with("PUT") && line.contains("/manifests/")
}

#[test]
fn a_registry_that_keeps_nothing_is_told() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let registry = Registry::start();
    let name = "sha256-pubkey";
    registry.push(&image(name), "app");
    let only = recipient("other3072");
    let key = stage.token.key_file("rsa3072");
    let rekey = |app: &str| {
        let program = stage
            .ocihsm()
            .args(["rekey", app, "--only", &only, "--key"]);
        program.arg(&key).arg(PLAIN_HTTP)
    };
    let login = format!("302 Found\r\nlocation: /login\r\n{EMPTY}");
    let other = format!("docker-content-digest: sha256:{}", "0".repeat(64));
    for (answer, part) in [
        (login, "answers 302 where we write"),
        (format!("200 OK\r\n{EMPTY}"), GONE),
        (format!("202 Accepted\r\n{EMPTY}"), GONE),
        (format!("201 Created\r\n{EMPTY}"), GONE),
        ("204 None".to_owned(), "answers 204"),
        (
            format!("202 Accepted\r\n{other}\r\n{EMPTY}"),
            "another digest there",
        ),
    ] {
        let proxy = Proxy::start(registry.host(), move |line, _| match line {
            line if is_put(line) => Fate::Answer(answer.clone()),
            line if line.contains(" /login ") => Fate::Say(200, |_| "<html>".to_owned()),
            _ => Fate::Pass,
        });
        let app = docker(proxy.host(), "app:latest");
        let output = rekey(&app).run();
        assert_fails(&output, &["a manifest", part]);
        let (from, to) = (image("plain").reference(), docker(proxy.host(), "new:v1"));
        let output = stage.encrypt(&from, &to).arg(PLAIN_HTTP).run();
        assert_fails(&output, &["a manifest", part]);
        assert!(!registry.has_tag("new", "v1"));
    }
    // All but the tag, which still names the old one.
    let proxy = Proxy::start(registry.host(), |line, _| {
        match is_put(line) && line.contains("/latest") {
            true => Fate::Answer(format!("201 Created\r\n{EMPTY}")),
            false => Fate::Pass,
        }
    });
    let app = docker(proxy.host(), "app:latest");
    let output = rekey(&app).run();
    assert_fails(&output, &["another digest there"]);
    let back = registry.pull("app", "latest", &stage.at("back"));
    assert_eq!(digest_of(&back), digest_of(&image(name)));
}

/// A blob that is not kept is found out, and so is one that is, whatever is said of it.
#[test]
fn a_registry_that_says_less_than_it_does() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let registry = Registry::start();
    for (number, status) in ["200 OK", "201 Created", "202 Accepted"].iter().enumerate() {
        let answer = format!("{status}\r\n{EMPTY}");
        let proxy = Proxy::start(registry.host(), move |line, _| {
            match line.starts_with("PUT") {
                true => Fate::PassAndAnswer(answer.clone()),
                false => Fate::Pass,
            }
        });
        let name = format!("app{number}");
        let app = docker(proxy.host(), &format!("{name}:v1"));
        let source = image("plain-multi-arch").reference();
        let printed = stage.encrypt(&source, &app).arg(PLAIN_HTTP).ok();
        let pulled = registry.pull(&name, "v1", &stage.at(&name));
        assert_eq!(digest_of(&pulled), printed.text().trim_end());
        pulled.assert_sound();
    }
    let proxy = Proxy::start(registry.host(), |line, _| match line {
        line if line.starts_with("PUT") && line.contains("/blobs/") => {
            Fate::Answer(format!("302 Found\r\nlocation: /login\r\n{EMPTY}"))
        }
        line if line.contains(" /login ") => Fate::Say(200, |_| "<html>".to_owned()),
        _ => Fate::Pass,
    });
    let (from, to) = (image("plain").reference(), docker(proxy.host(), "none:v1"));
    let output = stage.encrypt(&from, &to).arg(PLAIN_HTTP).run();
    assert_fails(&output, &["answers 302 where we write a blob to its end"]);
}

#[test]
fn what_a_registry_says_of_our_login_is_not_printed() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let registry = Registry::start();
    type Say = fn(&str) -> String;
    let base64 = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let says: [(Say, bool); 6] = [
        (|_| QUOTA.to_owned(), true),
        (|head| head.to_owned(), false),
        (
            |head| format!("{QUOTA}: {:?}", header(head, "authorization")),
            false,
        ),
        // What is shown ends in the middle of it.
        (
            |head| format!("{}{:?}", " ".repeat(180), header(head, "authorization")),
            false,
        ),
        (|_| format!("{QUOTA} for {USER}:{PASSWORD}"), false),
        (
            |_| format!("{QUOTA}&password={}", PASSWORD.replace(' ', "%20")),
            false,
        ),
    ];
    for (say, is_shown) in says {
        let proxy = Proxy::start(registry.host(), move |line, count| match line {
            _ if count == 1 => Fate::Answer(format!(
                "401 No\r\nwww-authenticate: Basic realm=x\r\n{EMPTY}"
            )),
            line if is_put(line) => Fate::Say(400, say),
            _ => Fate::Pass,
        });
        let (from, to) = (image("plain").reference(), docker(proxy.host(), "app:v1"));
        let file = login(&stage, proxy.host());
        let output = stage.encrypt(&from, &to).arg(PLAIN_HTTP);
        let output = output.env("REGISTRY_AUTH_FILE", file).run();
        assert!(proxy.logins() > 1);
        assert_fails(&output, &["answers 400 where we write a manifest"]);
        let said = &output.stderr;
        assert_eq!(said.contains(QUOTA), is_shown, "{said}");
        for secret in [PASSWORD, "sesame", &base64, &base64[..8]] {
            assert!(!said.contains(secret), "{said}");
        }
    }
}

/// An address may have it as well.
#[test]
fn where_a_registry_sends_us_with_our_login_is_not_printed() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let registry = Registry::start();
    registry.push(&image("plain"), "plain");
    let base64 = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let answer = format!("307 There\r\nlocation: /\u{e9}{base64}\r\n{EMPTY}");
    let proxy = Proxy::start(registry.host(), move |line, count| match line {
        _ if count == 1 => Fate::Answer(format!(
            "401 No\r\nwww-authenticate: Basic realm=x\r\n{EMPTY}"
        )),
        line if line.contains("/blobs/") => Fate::Answer(answer.clone()),
        _ => Fate::Pass,
    });
    let from = docker(proxy.host(), "plain:latest");
    let output = stage
        .encrypt(&from, &stage.name("oci:", "new"))
        .arg(PLAIN_HTTP);
    let file = login(&stage, proxy.host());
    let output = output.env("REGISTRY_AUTH_FILE", file).run();
    assert!(!output.status.success());
    assert!(!output.stderr.contains(&base64[..8]), "{}", output.stderr);
}

#[test]
fn a_registry_with_tls_sends_us_nowhere_without() {
    if !skip::programs(&["docker-registry", "openssl"]) {
        return;
    }
    let stage = Stage::new();
    let authority = Authority::new(stage.at("authority"));
    let certs = stage.at("certs");
    authority.directory(&certs, None);
    let server = authority.issue("server");
    let registry = Registry::start();
    registry.push(&image("plain"), "plain");
    let encrypt = |proxy: &Proxy| {
        let target = stage.name("oci:", "new");
        let program = stage.encrypt(&docker(proxy.host(), "plain:latest"), &target);
        let program = program.arg("--cert-dir").arg(&certs);
        let file = login(&stage, proxy.host());
        program.env("REGISTRY_AUTH_FILE", file)
    };
    for parts in ["/manifests/latest", "/blobs/"] {
        let clear = Proxy::start(registry.host(), |_, _| Fate::Pass);
        let place = clear.host().to_owned();
        let proxy = Proxy::start_tls(registry.host(), &server, move |line, _| {
            let path = line.split(' ').nth(1).unwrap_or_default();
            match line.contains(parts) {
                true => Fate::Answer(format!(
                    "307 There\r\nlocation: http://{place}{path}\r\n{EMPTY}"
                )),
                false => Fate::Pass,
            }
        });
        let output = encrypt(&proxy).run();
        assert_eq!(clear.requests(), [""; 0], "{parts}");
        assert_fails(&output, &["where there is no TLS"]);
    }
    // Who gives out tokens, in two steps.
    let clear = Proxy::start(registry.host(), |_, _| {
        Fate::Say(200, |_| r#"{"token":"a"}"#.into())
    });
    let place = clear.host().to_owned();
    let proxy = Proxy::start_tls(registry.host(), &server, move |line, _| {
        match line.contains(" /token") {
            true => Fate::Answer(format!(
                "302 There\r\nlocation: http://{place}/t\r\n{EMPTY}"
            )),
            false => Fate::Say(401, |_| String::new()),
        }
    });
    let host = proxy.host().to_owned();
    let asks = Proxy::start_tls(registry.host(), &server, move |_, _| {
        Fate::Answer(format!(
            "401 No\r\nwww-authenticate: Bearer realm=\"https://{host}/token\"\r\n{EMPTY}"
        ))
    });
    let output = encrypt(&asks).run();
    assert_eq!(clear.requests(), [""; 0]);
    assert_fails(&output, &["where there is no TLS"]);
    assert_eq!(proxy.logins(), 1);

    // To another one that has TLS, without our login.
    let other = Proxy::start_tls(registry.host(), &server, |_, _| Fate::Pass);
    let place = other.host().to_owned();
    let proxy = Proxy::start_tls(registry.host(), &server, move |line, count| {
        let path = line.split(' ').nth(1).unwrap_or_default();
        match line {
            _ if count == 1 => Fate::Answer(format!(
                "401 No\r\nwww-authenticate: Basic realm=x\r\n{EMPTY}"
            )),
            line if line.contains("/blobs/") => Fate::Answer(format!(
                "307 There\r\nlocation: https://{place}{path}\r\n{EMPTY}"
            )),
            _ => Fate::Pass,
        }
    });
    encrypt(&proxy).ok();
    assert!(proxy.logins() > 1 && !other.requests().is_empty());
    assert_eq!(other.logins(), 0);
}
