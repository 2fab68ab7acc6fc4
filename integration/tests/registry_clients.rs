//! `docker://` as podman and Docker set it up: certificates of our own, passwords in their files and in their helpers; and
//! podman, which reads what we wrote, and we what it wrote.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use integration::authority::Authority;
use integration::layer::{Compression, Layer};
use integration::layout::Layout;
use integration::program::Program;
use integration::registry::{Guard, PASSWORD, Registry, USER};
use integration::skip;
use integration::stage::{Stage, assert_fails, digest_of, image};
use serde_json::{Value, json};

const PLAIN_HTTP: &str = "--tls-verify=false";

fn docker(registry: &Registry, name: &str) -> String {
    format!("docker://{}/{name}", registry.host())
}

fn password(host: &str, user: &str) -> String {
    let mut auths = json!({});
    auths[host] = json!({ "auth": STANDARD.encode(format!("{user}:{PASSWORD}")) });
    json!({ "auths": auths }).to_string()
}

/// A program that sees what `script` has made of the machine, and nobody else does.
fn after(script: &str, program: Program) -> Program {
    let command = program.into_command();
    let script = format!("{script}\nexec \"$@\"");
    let mut within = Program::new("unshare").args(["--mount", "--propagation", "private"]);
    within = within.args(["sh", "-e", "-c", &script, "sh"]);
    within = within.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            within = within.env(name, value);
        }
    }
    within
}

#[test]
fn a_registry_that_wants_our_certificate() {
    if !skip::programs(&["docker-registry", "openssl"]) {
        return;
    }
    let stage = Stage::new();
    let authority = Authority::new(stage.at("authority"));
    let client = authority.issue("client");
    let registry = Registry::guarded(&Guard {
        tls: Some(authority.issue("server")),
        clients: Some(authority.certificate()),
        ..Guard::default()
    });
    let (with, without) = (stage.at("with"), stage.at("without"));
    authority.directory(&with, Some(&client));
    authority.directory(&without, None);
    let app = docker(&registry, "app:v1");
    let source = image("plain").reference();
    let encrypt = |directory: &Path| {
        let program = stage.encrypt(&source, &app).arg("--cert-dir");
        program.arg(directory)
    };
    let output = encrypt(&without).run();
    assert_fails(&output, &["cannot reach registry", "certificate", "*.cert"]);
    encrypt(&with).ok();
    let back = stage.at("back");
    let decrypt = stage.decrypt(&app, back.to_str().unwrap());
    let printed = decrypt.arg("--cert-dir").arg(&with).ok();
    assert_eq!(printed.text().trim_end(), digest_of(&image("plain")));

    fs::remove_file(with.join("client.key")).unwrap();
    assert_fails(&encrypt(&with).run(), &["client.key"]);
    fs::write(with.join("client.key"), "no key").unwrap();
    assert_fails(&encrypt(&with).run(), &["client.key", "no private key"]);

    // Where podman and Docker look without being told.
    if !skip::root() || !skip::programs(&["unshare"]) {
        return;
    }
    authority.directory(&with, Some(&client));
    for place in ["containers", "docker"] {
        let script = format!(
            "mkdir -p /etc/{place} && mount -t tmpfs none /etc/{place}
             mkdir -p /etc/{place}/certs.d && cp -r {} /etc/{place}/certs.d/{}",
            with.display(),
            registry.host()
        );
        let inspect = stage.ocihsm().args(["inspect", &app]);
        after(&script, inspect).ok();
    }
    assert_fails(
        &stage.ocihsm().args(["inspect", &app]).run(),
        &["cannot reach"],
    );
}

#[test]
fn a_password_is_found_where_podman_and_docker_keep_it() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let registry = Registry::with_password();
    let app = docker(&registry, "app:v1");
    let right = password(registry.host(), USER);
    let file = stage.at("auth.json");
    fs::write(&file, &right).unwrap();
    let encrypt = stage.encrypt(&image("plain").reference(), &app);
    encrypt.args([PLAIN_HTTP, "--authfile"]).arg(&file).ok();
    fs::remove_file(&file).unwrap();

    let home = stage.at("home");
    let inspect = |variable: &str, value: &Path| {
        let program = stage.ocihsm().args(["inspect", &app, PLAIN_HTTP]);
        // An empty one is as none.
        let program = program.env("XDG_CONFIG_HOME", "").env("DOCKER_CONFIG", "");
        program.env("HOME", &home).env(variable, value)
    };
    for (variable, value, path) in [
        ("XDG_RUNTIME_DIR", "run", "run/containers/auth.json"),
        ("XDG_CONFIG_HOME", "config", "config/containers/auth.json"),
        ("HOME", "home", "home/.config/containers/auth.json"),
        ("HOME", "home", "home/.docker/config.json"),
        ("DOCKER_CONFIG", "docker", "docker/config.json"),
    ] {
        let (value, path) = (stage.at(value), stage.at(path));
        assert_fails(&inspect(variable, &value).run(), &["without a login"]);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &right).unwrap();
        inspect(variable, &value).ok();
        fs::remove_file(&path).unwrap();
    }
    // The first of them that knows the registry counts.
    let first = stage.at("run/containers/auth.json");
    let last = stage.at("home/.docker/config.json");
    fs::write(&last, &right).unwrap();
    fs::write(&first, password("r.test", "other")).unwrap();
    inspect("XDG_RUNTIME_DIR", &stage.at("run")).ok();
    fs::write(&first, password(registry.host(), "other")).unwrap();
    let output = inspect("XDG_RUNTIME_DIR", &stage.at("run")).run();
    assert_fails(&output, &["user \"other\""]);
    fs::remove_file(&first).unwrap();
    fs::remove_file(&last).unwrap();

    // Without a directory of the session, as podman has it for root.
    if !skip::root() || !skip::programs(&["unshare"]) {
        return;
    }
    fs::write(&file, &right).unwrap();
    let script = format!(
        "mount -t tmpfs none /run && mkdir -p /run/containers/0 && cp {} /run/containers/0/auth.json",
        file.display()
    );
    let runtime = stage.token.runtime();
    let inspect = inspect("XDG_RUNTIME_DIR", Path::new(""));
    after(&script, inspect.env("OCIHSM_RUNTIME_DIR", runtime)).ok();
}

#[test]
fn a_password_is_asked_of_a_helper() {
    if !skip::programs(&["docker-registry"]) {
        return;
    }
    let stage = Stage::new();
    let registry = Registry::with_password();
    let host = registry.host();
    let (home, bin) = (stage.at("home"), stage.at("bin"));
    fs::create_dir_all(home.join(".docker")).unwrap();
    fs::create_dir(&bin).unwrap();
    let helper = |name: &str, script: &str| {
        let path = bin.join(format!("docker-credential-{name}"));
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        Program::new("chmod").arg("755").arg(path).ok();
    };
    let answer = json!({"ServerURL": host, "Username": USER, "Secret": PASSWORD});
    helper(
        "knows",
        &format!("test \"$1\" = get && test \"$(cat)\" = {host} && echo '{answer}'"),
    );
    helper(
        "unaware",
        "cat >/dev/null; echo 'credentials not found in native keychain'; exit 1",
    );
    helper(
        "broken",
        &format!("cat >/dev/null; echo '{PASSWORD}'; exit 1"),
    );
    helper("odd", &format!("cat >/dev/null; echo '{PASSWORD}'"));
    helper("endless", "cat /dev/zero");
    let run = |config: &Value| {
        fs::write(home.join(".docker/config.json"), config.to_string()).unwrap();
        let path = std::env::var("PATH").unwrap();
        let encrypt = stage.encrypt(&image("plain").reference(), &docker(&registry, "app:v1"));
        let encrypt = encrypt.args([PLAIN_HTTP, "--force"]).env("HOME", &home);
        let encrypt = encrypt.env("DOCKER_CONFIG", "");
        encrypt
            .env("PATH", format!("{}:{path}", bin.display()))
            .run()
    };
    let of = |name: &str| {
        let mut helpers = json!({});
        helpers[host] = name.into();
        helpers
    };
    let mut both = serde_json::from_str::<Value>(&password(host, USER)).unwrap();
    both["credsStore"] = "unaware".into();
    for config in [
        json!({"credHelpers": of("knows")}),
        json!({"credsStore": "knows"}),
        json!({"credsStore": "unaware", "credHelpers": of("knows")}),
        both,
    ] {
        let output = run(&config);
        assert!(output.status.success(), "{config}: {}", output.stderr);
    }
    for (config, part) in [
        (json!({"credsStore": "unaware"}), "without a login"),
        (
            json!({"credsStore": "broken"}),
            "docker-credential-broken failed",
        ),
        (
            json!({"credHelpers": of("odd")}),
            "docker-credential-odd answers no JSON",
        ),
        (
            json!({"credHelpers": of("endless")}),
            "docker-credential-endless answers more than 1 MiB",
        ),
        (
            json!({"credHelpers": of("absent")}),
            "docker-credential-absent cannot be started",
        ),
    ] {
        let output = run(&config);
        assert_fails(&output, &[part]);
        assert!(!output.stderr.contains(PASSWORD), "{}", output.stderr);
    }
}

/// podman, with a storage of its own.
struct Podman<'a>(&'a Stage);

impl Podman<'_> {
    fn run(&self, args: &[&str]) -> Program {
        let at = |name: &str| self.0.at(name);
        let policy = at("policy.json");
        fs::write(
            &policy,
            r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
        )
        .unwrap();
        let podman = Program::new("podman").args(["--storage-driver", "vfs", "--root"]);
        let podman = podman
            .arg(at("storage"))
            .arg("--runroot")
            .arg(at("storage-run"));
        let podman = podman
            .args(["--events-backend", "none", "--tmpdir"])
            .arg(at("podman"));
        podman
            .args(args)
            .env("XDG_RUNTIME_DIR", at("run"))
            .env("HOME", at("home"))
            .indiscreet()
    }

    /// Digests of the archives in the layers of an image.
    fn archives(&self, name: &str) -> Vec<String> {
        let format = "{{json .RootFS.Layers}}";
        let output = self
            .run(&["image", "inspect", "--format", format, name])
            .ok();
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[test]
fn podman_reads_what_we_wrote_and_we_what_it_wrote() {
    if !skip::root() || !skip::programs(&["docker-registry", "openssl", "podman"]) {
        return;
    }
    let stage = Stage::new();
    for name in ["run", "home"] {
        fs::create_dir(stage.at(name)).unwrap();
    }
    let authority = Authority::new(stage.at("authority"));
    let registry = Registry::guarded(&Guard {
        tls: Some(authority.issue("server")),
        clients: Some(authority.certificate()),
        password: true,
        ..Guard::default()
    });
    let certificates = stage.at("certs");
    authority.directory(&certificates, Some(&authority.issue("client")));
    let certificates = certificates.to_str().unwrap().to_owned();
    let trust = ["--cert-dir", &certificates];
    let layers = [
        Layer::file("etc/one", b"one\n", Compression::Gzip),
        Layer::file("etc/two", b"two\n", Compression::None),
    ];
    let expected: Vec<_> = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let plain = Layout::create(stage.at("plain"), &layers, &["/etc/one"]);
    let podman = Podman(&stage);

    // Its login is ours.
    let login = [
        "login",
        "--username",
        USER,
        "--password-stdin",
        registry.host(),
    ];
    podman.run(&login).args(trust).stdin(PASSWORD).ok();
    assert!(stage.at("run/containers/auth.json").exists());
    let at = |name: &str| docker(&registry, name);
    let ours = |program: Program| {
        let program = program.args(trust);
        program.env("XDG_RUNTIME_DIR", stage.at("run")).ok()
    };
    ours(stage.encrypt(&plain.reference(), &at("encrypted:v1")));
    ours(stage.decrypt(&at("encrypted:v1"), &at("back:v1")));
    podman
        .run(&["pull", "--quiet"])
        .args(trust)
        .arg(at("back:v1"))
        .ok();
    let name = format!("{}/back:v1", registry.host());
    assert_eq!(podman.archives(&name), expected);

    // What it pushes and saves, encrypted and back.
    podman
        .run(&["push", "--quiet"])
        .args(trust)
        .args([&*name, &at("theirs:v1")])
        .ok();
    let saved = |format: &str| {
        let path = stage.at(format).display().to_string();
        podman
            .run(&[
                "save", "--quiet", "--format", format, "--output", &path, &name,
            ])
            .ok();
        path
    };
    let sources = [
        at("theirs:v1"),
        format!("oci-archive:{}", saved("oci-archive")),
        format!("docker-archive:{}", saved("docker-archive")),
        format!("oci:{}", saved("oci-dir")),
    ];
    for (number, source) in sources.iter().enumerate() {
        let encrypted = stage.name("oci:", &format!("encrypted{number}:x"));
        ours(stage.encrypt(source, &encrypted));
        let back = format!(
            "oci-archive:{}",
            stage.at(&format!("back{number}.tar")).display()
        );
        ours(stage.decrypt(&encrypted, &format!("{back}:localhost/back:{number}")));
        podman.run(&["pull", "--quiet", &back]).ok();
        assert_eq!(
            podman.archives(&format!("localhost/back:{number}")),
            expected,
            "{source}"
        );
    }
}
