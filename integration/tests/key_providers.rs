//! Key providers that are gRPC services: what one wrapped it opens, over TCP, sockets and TLS, and one that goes wrong is
//! told in time; and each provider is told what is for it, and no more.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use integration::grpc_provider::{GrpcProvider, Manner, Over};
use integration::key_provider::KeyProvider;
use integration::layout::Layout;
use integration::processor::Processor;
use integration::program::Output;
use integration::token::Token;
use integration::{skip, vector};
use ocihsm::schemes::provider::{Error, Providers};
use ocihsm::secret::SecretBytes;
use serde_json::json;
use tempfile::TempDir;

const PROVIDERS: &str = "OCICRYPT_KEYPROVIDER_CONFIG";

/// Long enough for any machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn encrypt(token: &Token, target: &Path, recipients: &[&str], file: &Path) -> Output {
    let plain = Layout::open(vector("images").join("plain"));
    let mut program = token
        .ocihsm()
        .env(PROVIDERS, file)
        .args(["encrypt", &plain.reference()])
        .arg(target);
    for recipient in recipients {
        program = program.args(["--recipient", recipient]);
    }
    program.run()
}

fn decrypt(token: &Token, source: &Path, target: &Path, key: &str, file: &Path) -> Output {
    token
        .ocihsm()
        .env(PROVIDERS, file)
        .arg("decrypt")
        .arg(source)
        .arg(target)
        .args(["--key", key])
        .run()
}

/// What the service says to a request of ours.
fn unwrap(provider: &GrpcProvider, patience: Duration) -> Result<SecretBytes, Error> {
    let providers = Providers::read(&provider.file()).unwrap();
    providers.unwrap("grpc", b"wrapped", &[], patience)
}

#[test]
fn a_service_opens_what_it_wrapped_over_everything_that_it_is_reached_by() {
    if !skip::programs(&["openssl"]) {
        return;
    }
    let token = Token::empty_for_files();
    let plain = Layout::open(vector("images").join("plain"));
    for over in [Over::Tcp, Over::Unix, Over::Tls, Over::MutualTls] {
        let place = TempDir::new().unwrap();
        let provider = GrpcProvider::start(Manner::Honest, over);
        let file = provider.file();
        let target = place.path().join("encrypted");
        let output = encrypt(&token, &target, &["provider:grpc:a key"], &file);
        assert!(output.status.success(), "{over:?} {output:?}");
        let back = place.path().join("back");
        let output = decrypt(&token, &target, &back, "provider:grpc", &file);
        assert!(output.status.success(), "{over:?} {output:?}");
        let back = Layout::open(back);
        back.assert_sound();
        assert_eq!(back.entry("latest"), plain.entry("latest"));
        let requests = provider.requests();
        assert_eq!(
            requests[0]["keywrapparams"]["ec"]["Parameters"],
            json!({ "grpc": ["YSBrZXk="] })
        );
    }
}

#[test]
fn a_service_that_goes_wrong_is_told_in_time() {
    for (manner, part) in [
        (Manner::Nonsense, "gave no answer that can be read"),
        (Manner::Huge, "wrote more than 4194304 bytes"),
        (Manner::Refusing, "failed: not; \\u{1b}[31mtoday"),
    ] {
        let provider = GrpcProvider::start(manner, Over::Tcp);
        let error = unwrap(&provider, PATIENCE).unwrap_err().to_string();
        assert_eq!(error, format!("key provider \"grpc\" {}", part));
    }
    // Not what it wrapped itself.
    let provider = GrpcProvider::start(Manner::Honest, Over::Tcp);
    let error = unwrap(&provider, PATIENCE).unwrap_err().to_string();
    assert_eq!(error, "key provider \"grpc\" failed: no nonce");

    let begin = Instant::now();
    let silent = GrpcProvider::start(Manner::Silent, Over::Tcp);
    let error = unwrap(&silent, Duration::from_millis(300)).unwrap_err();
    assert!(matches!(error, Error::Silent { .. }), "{error}");
    // One that accepts and never speaks, with TLS and without.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = mute.local_addr().unwrap().to_string();
    for tls in [json!({}), json!({ "insecure-skip-verify": true })] {
        silent.configure(&json!({ "grpc": address, "grpc-tls": tls }));
        let error = unwrap(&silent, Duration::from_millis(300)).unwrap_err();
        assert!(matches!(error, Error::Silent { .. }), "{error}");
    }
    assert!(begin.elapsed() < PATIENCE);
}

#[test]
fn a_service_that_is_not_there_is_told_with_its_address() {
    let token = Token::empty_for_files();
    let place = TempDir::new().unwrap();
    let mut provider = GrpcProvider::start(Manner::Honest, Over::Tcp);
    let target = place.path().join("encrypted");
    let output = encrypt(&token, &target, &["provider:grpc"], &provider.file());
    assert!(output.status.success(), "{output:?}");
    provider.stop();
    let never = place.path().join("never");
    let output = decrypt(&token, &target, &never, "provider:grpc", &provider.file());
    assert!(!output.status.success());
    let told = format!(
        "cannot connect to {}: connection refused",
        provider.address()
    );
    assert!(output.stderr.contains(&told), "{output:?}");
    assert!(!never.exists());

    provider.configure(&json!({ "grpc": "unix:///nonexistent/socket" }));
    let error = unwrap(&provider, PATIENCE).unwrap_err().to_string();
    assert!(
        error.contains("/nonexistent/socket: no such file"),
        "{error}"
    );
    // A host that no name server knows.
    provider.configure(&json!({ "grpc": "nobody.invalid:1" }));
    let error = unwrap(&provider, PATIENCE).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    // Something that speaks, but not this.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let speaker = std::thread::spawn(move || {
        use std::io::Write as _;
        let (mut stream, _) = other.accept().unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    provider.configure(&json!({ "grpc": address }));
    let error = unwrap(&provider, PATIENCE).unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error}");
    speaker.join().unwrap();
}

#[test]
fn a_certificate_has_to_be_the_services() {
    if !skip::programs(&["openssl"]) {
        return;
    }
    let provider = GrpcProvider::start(Manner::Refusing, Over::Tls);
    let authority = provider.place("ca.crt");
    let refused = |tls: serde_json::Value| {
        provider.configure(&json!({ "grpc-tls": tls }));
        unwrap(&provider, PATIENCE).unwrap_err().to_string()
    };
    let trusted = "failed: not;";
    for (tls, part) in [
        (
            json!({ "root-ca-file": provider.place("other.crt"), "server-name": "provider.test" }),
            "no TLS with",
        ),
        // This machine's authorities did not sign it.
        (json!({ "server-name": "provider.test" }), "UnknownIssuer"),
        (json!({ "root-ca-file": authority }), "no TLS with"),
        (
            json!({ "root-ca-file": authority, "server-name": "other.test" }),
            "provider.test",
        ),
        (
            json!({ "root-ca-file": authority, "server-name": "provider.test" }),
            trusted,
        ),
        (json!({ "insecure-skip-verify": true }), trusted),
        (
            json!({ "root-ca-file": provider.place("ca.key") }),
            "does not hold a certificate in PEM",
        ),
        (
            json!({ "root-ca-file": "/nonexistent/ca" }),
            "/nonexistent/ca",
        ),
    ] {
        let error = refused(tls.clone());
        assert!(error.contains(part), "{tls}: {error}");
    }
    // TLS where there is none, and none where there is.
    let plain = GrpcProvider::start(Manner::Honest, Over::Tcp);
    plain.configure(&json!({ "grpc-tls": { "insecure-skip-verify": true } }));
    let error = unwrap(&plain, PATIENCE).unwrap_err().to_string();
    assert!(error.contains("no TLS with"), "{error}");
    provider.configure(&json!({}));
    assert!(unwrap(&provider, PATIENCE).is_err());
    // A service that wants to know who comes.
    let mutual = GrpcProvider::start(Manner::Refusing, Over::MutualTls);
    mutual.configure(&json!({ "grpc-tls": {
        "root-ca-file": mutual.place("ca.crt"), "server-name": "provider.test",
    } }));
    let error = unwrap(&mutual, PATIENCE).unwrap_err().to_string();
    assert!(!error.contains("not;"), "{error}");
}

#[test]
fn a_provider_is_told_the_texts_that_are_for_it_alone() {
    let token = Token::empty_for_files();
    let place = TempDir::new().unwrap();
    let provider = GrpcProvider::start(Manner::Honest, Over::Tcp);
    let file = provider.file();
    let target = place.path().join("encrypted");
    let last = |params: &str, config: &str| {
        provider.requests().last().unwrap()[params][config]["Parameters"].clone()
    };

    // Two texts for one provider are one question, and one wrapped key.
    let recipients = ["provider:grpc:one", "provider:grpc:two:2"];
    let output = encrypt(&token, &target, &recipients, &file);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        last("keywrapparams", "ec"),
        json!({ "grpc": [STANDARD.encode("one"), STANDARD.encode("two:2")] })
    );
    let layout = Layout::open(&target);
    for layer in layout.layers() {
        let wrapped =
            layer["annotations"]["org.opencontainers.image.enc.keys.provider.grpc"].clone();
        assert!(!wrapped.as_str().unwrap().contains(','), "{layer}");
    }

    // From the command line; without a text as the reference writes it.
    for (key, text) in [
        ("provider:grpc", "Enabled"),
        ("provider:grpc:a:b", "a:b"),
        ("provider:grpc:", ""),
    ] {
        let back = place.path().join(format!("back-{text}"));
        let output = decrypt(&token, &target, &back, key, &file);
        assert!(output.status.success(), "{key} {output:?}");
        assert_eq!(
            last("keyunwrapparams", "dc"),
            json!({ "grpc": [STANDARD.encode(text)] })
        );
        let inspected = token
            .ocihsm()
            .env(PROVIDERS, &file)
            .arg("inspect")
            .arg(&target)
            .args(["--key", key])
            .ok();
        assert!(inspected.text().contains("provider grpc"), "{inspected:?}");
    }

    // From a payload: what is for others stays here.
    let layer = &layout.layers()[0];
    let none = TempDir::new().unwrap();
    let parameters = json!({
        "grpc": [STANDARD.encode("from the payload")],
        "hidden": [STANDARD.encode("for another one")],
        "privkeys": [], "x509s": null, "gpg-privatekeys-passwords": [],
    });
    let decoder = Processor::decode(&token, &layout, layer, none.path()).env(PROVIDERS, &file);
    let outcome = decoder.payload(layer, &parameters).run();
    assert!(outcome.output.status.success(), "{:?}", outcome.output);
    assert_eq!(
        last("keyunwrapparams", "dc"),
        json!({ "grpc": [STANDARD.encode("from the payload")] })
    );

    // A payload that names a provider which this node does not have.
    let decoder = Processor::new(integration::ocihsm())
        .arg("decode")
        .blob(layout.blob(layer["digest"].as_str().unwrap()));
    let outcome = decoder.payload(layer, &parameters).run();
    assert!(!outcome.output.status.success());
    let told = "no key provider \"grpc\" is set up";
    assert!(outcome.output.stderr.contains(told), "{:?}", outcome.output);
}

#[test]
fn our_own_provider_passes_over_what_is_for_others() {
    let token = Token::vectors();
    let key = |name: &str| vector("keys").join(name).display().to_string();
    let options = json!({ "symkey": STANDARD.encode([7; 32]), "digest": format!("sha256:{}", "ab".repeat(32)),
        "cipheroptions": { "nonce": STANDARD.encode([9; 16]) } });
    let ask = |args: &[&str], parameters: serde_json::Value| {
        let request = json!({ "op": "keywrap", "keywrapparams": {
            "ec": { "Parameters": parameters }, "optsdata": STANDARD.encode(options.to_string()),
        }, "keyunwrapparams": {} });
        let program = token.ocihsm().arg("keyprovider").args(args);
        program.stdin(request.to_string()).run()
    };
    let ours = STANDARD.encode(format!("jwe:{}", key("jwe-p256.pub.pem")));
    let others =
        json!({ "ocihsm": [ours], "pubkeys": [STANDARD.encode("-----BEGIN")], "x509s": null });
    let output = ask(&[], others.clone());
    assert!(output.status.success(), "{output:?}");
    let mut others = others;
    others["attestation"] = json!([STANDARD.encode("keyid-1")]);
    let output = ask(&["--name", "ocihsm"], others);
    assert!(output.status.success(), "{output:?}");
    // Nobody behind the name, as skopeo writes that.
    let output = ask(&[], json!({ "ocihsm": [STANDARD.encode("Enabled")] }));
    assert!(
        output.stderr.contains("provider:ocihsm:pkcs11:FILE"),
        "{output:?}"
    );
    // The name is the one that the file gives us.
    let config = token
        .ocihsm()
        .args(["config", "keyprovider", "--name", "mine"])
        .ok();
    let config: serde_json::Value = serde_json::from_slice(&config.stdout).unwrap();
    let args = &config["key-providers"]["mine"]["cmd"]["args"];
    assert_eq!(args[1], "--name");
    assert_eq!(args[2], "mine");
}

#[test]
fn a_program_and_a_service_open_one_layer_each_for_itself() {
    let token = Token::empty_for_files();
    let place = TempDir::new().unwrap();
    let service = GrpcProvider::start(Manner::Honest, Over::Tcp);
    let program = KeyProvider::new();
    let read = |path: &Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let mut both = read(&program.file());
    both["key-providers"]["grpc"] = read(&service.file())["key-providers"]["grpc"].clone();
    let file = place.path().join("both.json");
    std::fs::write(&file, both.to_string()).unwrap();
    let target = place.path().join("encrypted");
    let output = encrypt(
        &token,
        &target,
        &["provider:grpc", "provider:hidden:x"],
        &file,
    );
    assert!(output.status.success(), "{output:?}");
    for (file, key) in [
        (service.file(), "provider:grpc"),
        (program.file(), "provider:hidden"),
        (file, "provider:grpc"),
    ] {
        let back = TempDir::new().unwrap();
        let output = decrypt(&token, &target, &back.path().join("back"), key, &file);
        assert!(output.status.success(), "{key} {output:?}");
    }
}
