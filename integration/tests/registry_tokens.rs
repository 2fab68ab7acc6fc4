//! `docker://` where the registry wants a token that somebody else gives out, for a password.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use integration::layer::{Compression, Layer, noise};
use integration::layout::Layout;
use integration::program::{Output, Program};
use integration::proxy::{Fate, Proxy};
use integration::registry::{PASSWORD, Registry, USER};
use integration::skip;
use integration::token::Token;
use integration::token_server::{IDENTITY, Terms, TokenServer};
use integration::vector;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

struct Stage {
    token: Token,
    place: TempDir,
    server: TokenServer,
    registry: Registry,
}

impl Stage {
    /// `None` where it cannot be.
    fn new(terms: Terms) -> Option<Self> {
        if !skip::programs(&["docker-registry", "openssl"]) {
            return None;
        }
        let place = TempDir::new().unwrap();
        let server = TokenServer::start(place.path(), terms);
        Some(Self {
            token: Token::vectors(),
            registry: Registry::guarded(&server.guard()),
            place,
            server,
        })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// As somebody whose credentials for a registry are these.
    fn ocihsm(&self, host: &str, credentials: &Value, args: &[&str]) -> Program {
        let mut auths = json!({});
        auths[host] = credentials.clone();
        let file = self.at("auth.json");
        fs::write(&file, json!({ "auths": auths }).to_string()).unwrap();
        let program = self.token.ocihsm().args(args);
        program
            .env("REGISTRY_AUTH_FILE", file)
            .arg("--tls-verify=false")
    }

    fn encrypt(&self, host: &str, credentials: &Value, source: &str, target: &str) -> Program {
        let recipient = format!("pkcs11:{}", vector("keys/rsa3072.pub.pem").display());
        let args = ["encrypt", source, target, "--recipient", &recipient];
        self.ocihsm(host, credentials, &args)
    }

    fn decrypt(&self, host: &str, credentials: &Value, source: &str, target: &str) -> Program {
        let key = self.token.key_file("rsa3072").display().to_string();
        self.ocihsm(
            host,
            credentials,
            &["decrypt", source, target, "--key", &key],
        )
    }

    fn names_of_tokens(&self) -> Vec<String> {
        let given = self.server.given();
        let access = given.iter().map(|claims| &claims["access"]);
        access
            .map(|access| {
                let entries = access.as_array().unwrap().iter();
                let texts: Vec<_> = entries
                    .map(|entry| format!("{} {}", entry["name"], entry["actions"]))
                    .collect();
                texts.join(", ")
            })
            .collect()
    }
}

fn everything(seconds: i64) -> Terms {
    Terms {
        seconds,
        actions: &["pull", "push"],
    }
}

fn password(password: &str) -> Value {
    json!({ "auth": STANDARD.encode(format!("{USER}:{password}")) })
}

fn plain() -> Layout {
    Layout::open(vector("images/plain-multi-arch"))
}

fn digest_of(layout: &Layout) -> String {
    let entry = layout.entry("latest");
    entry["digest"].as_str().unwrap().to_owned()
}

fn assert_denied(output: &Output, action: &str) {
    assert!(!output.status.success(), "{output:?}");
    let said = &output.stderr;
    for part in ["does not let", action, "log in"] {
        assert!(said.contains(part), "no {part:?}: {said}");
    }
    for secret in ["wrong", PASSWORD, IDENTITY] {
        assert!(!said.contains(secret), "{said}");
    }
    assert_eq!(output.text(), "");
}

#[test]
fn a_password_or_an_identity_is_changed_for_tokens_that_say_no_more_than_is_needed() {
    let Some(stage) = Stage::new(everything(300)) else {
        return;
    };
    let host = stage.registry.host();
    let app = format!("docker://{host}/app:v1");
    let source = plain().reference();
    let me = password(PASSWORD);
    stage.encrypt(host, &me, &source, &app).ok();
    assert_eq!(
        stage.names_of_tokens(),
        [r#""app" ["pull","push"]"#],
        "one token for all of it"
    );
    stage.ocihsm(host, &me, &["inspect", &app]).ok();
    assert_eq!(stage.names_of_tokens()[1..], [r#""app" ["pull"]"#]);

    // From one repository into another: blobs that stay are mounted, which needs a token for both.
    let identity = json!({ "identitytoken": IDENTITY });
    let back = format!("docker://{host}/back:v1");
    let output = stage.decrypt(host, &identity, &app, &back).ok();
    assert_eq!(output.text().trim_end(), digest_of(&plain()));
    assert_eq!(
        stage.names_of_tokens()[2..],
        [
            r#""app" ["pull"]"#,
            r#""back" ["pull","push"], "app" ["pull"]"#
        ]
    );
}

#[test]
fn without_the_right_password_there_is_no_token() {
    let Some(stage) = Stage::new(everything(300)) else {
        return;
    };
    let host = stage.registry.host();
    let app = format!("docker://{host}/app:v1");
    let source = plain().reference();
    let wrong_identity = json!({ "identitytoken": "wrong" });
    for credentials in [json!({}), password("wrong"), wrong_identity] {
        let output = stage.encrypt(host, &credentials, &source, &app).run();
        assert_denied(&output, "get a token");
    }
    assert!(stage.server.given().is_empty());
}

#[test]
fn who_may_only_read_is_told_so_before_anything_is_written() {
    let Some(stage) = Stage::new(Terms {
        seconds: 300,
        actions: &["pull"],
    }) else {
        return;
    };
    let host = stage.registry.host();
    let app = format!("docker://{host}/app:v1");
    let me = password(PASSWORD);
    let output = stage.encrypt(host, &me, &plain().reference(), &app).run();
    assert_denied(&output, "begin to write a blob");
    assert!(
        output.stderr.contains(&format!("user {USER:?}")),
        "{output:?}"
    );
    // To look at what is not there is allowed.
    let output = stage.ocihsm(host, &me, &["inspect", &app]).run();
    assert!(output.stderr.contains("has no image"), "{output:?}");
}

/// The registry checks a token when a request comes in. Those that come late come with a token that has expired.
#[test]
fn a_token_that_expires_midway_is_replaced() {
    let Some(stage) = Stage::new(everything(2)) else {
        return;
    };
    let layers = [
        Layer::file("a", b"first", Compression::Gzip),
        Layer::file("b", &noise(20 << 20), Compression::None),
        Layer::file("c", b"last", Compression::None),
    ];
    let large = Layout::create(stage.at("large"), &layers, &["/a"]);
    let (patches, blobs) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let late = Duration::from_secs(3);
    let proxy = Proxy::start(stage.registry.host(), move |line, _| {
        let counted = match line {
            line if line.starts_with("PATCH ") => &patches,
            line if line.starts_with("GET ") && line.contains("/blobs/sha256:") => &blobs,
            _ => return Fate::Pass,
        };
        if [1, 4].contains(&counted.fetch_add(1, Ordering::SeqCst)) {
            thread::sleep(late);
        }
        Fate::Pass
    });
    let host = proxy.host();
    let app = format!("docker://{host}/app:v1");
    let me = password(PASSWORD);
    stage.encrypt(host, &me, &large.reference(), &app).ok();
    let tokens = stage.server.given().len();
    assert!(tokens >= 3, "{:?}", proxy.requests());
    let back = Layout::open(stage.at("back"));
    let output = stage.decrypt(host, &me, &app, &back.reference()).ok();
    assert_eq!(output.text().trim_end(), digest_of(&large));
    back.assert_sound();
    assert!(
        stage.server.given().len() >= tokens + 2,
        "{:?}",
        proxy.requests()
    );
}

/// To give up an upload takes another token: one that may delete.
#[test]
fn a_signal_leaves_no_upload_where_tokens_are_wanted() {
    let terms = Terms {
        seconds: 60,
        actions: &["pull", "push", "delete"],
    };
    let Some(stage) = Stage::new(terms) else {
        return;
    };
    let layer = Layer::file("a", b"a", Compression::None);
    let source = Layout::create(stage.at("source"), &[layer], &["/a"]);
    let mut manifest = source.manifest("amd64");
    let blob = source.blob(manifest["layers"][0]["digest"].as_str().unwrap());
    // 4 GiB of zeros, which take no space; that its digest is wrong is seen at its end.
    let blob = fs::File::create(blob).unwrap();
    blob.set_len(4 << 30).unwrap();
    manifest["layers"][0]["size"] = (4_u64 << 30).into();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let mut entry = source.put(media_type, manifest.to_string().as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(source.path().join("index.json"), index.to_string()).unwrap();

    let host = stage.registry.host();
    let target = format!("docker://{host}/app:v1");
    let program = stage.encrypt(host, &password(PASSWORD), &source.reference(), &target);
    let mut child = program.into_command().spawn().unwrap();
    while stage.registry.uploads("app") == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended too soon");
        thread::sleep(Duration::from_millis(5));
    }
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(!child.wait().unwrap().success());
    assert_eq!(stage.registry.uploads("app"), 0);
}
