//! OpenPGP: what skopeo and GnuPG wrapped opens with the keys that it is for, and what we wrap opens there.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use integration::layout::Layout;
use integration::module;
use integration::processor::{Outcome, Processor, refused};
use integration::program::{Output, Program};
use integration::skip;
use integration::token::Token;
use integration::vector;
use integration::vectors::Vector;
use serde_json::{Value, json};
use tempfile::TempDir;

const RECIPIENTS: &str = "org.opencontainers.image.enc.keys.pgp";

fn key(name: &str) -> PathBuf {
    vector("keys").join(name)
}

/// The layers that skopeo encrypted for `pgp-rsa` and `pgp-locked`.
fn layers() -> Vec<Vector> {
    let all = Vector::wrapped("pgp");
    assert_eq!(all.len(), 3);
    all
}

fn decode(vector: &Vector, token: &Token, keys: &Path, parameters: &Value) -> Outcome {
    let decoder = Processor::decode(token, &vector.layout, &vector.layer, keys);
    decoder.payload(&vector.layer, parameters).run()
}

/// GnuPG with these secret keys, in a place of its own.
struct Gpg(TempDir);

impl Gpg {
    fn with(names: &[&str]) -> Self {
        let gpg = Self(TempDir::new().unwrap());
        for name in names {
            gpg.run(&["--import"], fs::read(key(name)).unwrap());
        }
        gpg
    }

    fn run(&self, args: &[&str], input: Vec<u8>) -> Vec<u8> {
        let password = ["--pinentry-mode", "loopback", "--passphrase", "secret"];
        let program = self.program("gpg").args(["--batch", "--quiet"]);
        let program = program.args(["--trust-model", "always"]).args(password);
        program.args(args).stdin(input).ok().stdout
    }

    fn program(&self, name: &str) -> Program {
        Program::new(name).env("GNUPGHOME", self.0.path())
    }
}

impl Drop for Gpg {
    /// Ends the agent that GnuPG started.
    fn drop(&mut self) {
        let _ = self.program("gpgconf").args(["--kill", "all"]).run();
    }
}

#[test]
fn layers_of_skopeo_open_with_the_keys_that_they_are_for() {
    let token = Token::empty_for_files();
    let none = TempDir::new().unwrap();
    let keys = TempDir::new().unwrap();
    for name in [
        "pgp-x25519.asc",
        "pgp-rsa.asc",
        "pgp-rsa.pub.asc",
        "jwe-p256.pem",
    ] {
        fs::copy(key(name), keys.path().join(name)).unwrap();
    }
    let text = |name: &str| STANDARD.encode(fs::read(key(name)).unwrap());
    let (rsa, locked) = (text("pgp-rsa.asc"), text("pgp-locked.asc"));
    let password = STANDARD.encode("secret");
    for vector in layers() {
        vector.assert_opened(decode(&vector, &token, &key("pgp-rsa.asc"), &Value::Null));
        vector.assert_opened(decode(&vector, &token, keys.path(), &Value::Null));
        for sent in [
            json!({ "gpg-privatekeys": [rsa] }),
            json!({ "gpg-privatekeys": [rsa], "gpg-privatekeys-passwords": [""] }),
            json!({ "gpg-privatekeys": [locked], "gpg-privatekeys-passwords": [password] }),
        ] {
            vector.assert_opened(decode(&vector, &token, none.path(), &sent));
        }
    }
    let vector = &layers()[0];
    let message = refused(decode(vector, &token, &key("pgp-x25519.asc"), &Value::Null));
    assert!(message.contains("wrapped with pgp"), "{message}");
    assert!(
        message.contains("does not open the wrapped key"),
        "{message}"
    );
    let message = refused(decode(vector, &token, &key("jwe-p256.pem"), &Value::Null));
    assert!(
        message.contains("no wrapped key is for a key on P-256"),
        "{message}"
    );
    let sent = json!({ "gpg-privatekeys": [locked] });
    let message = refused(decode(vector, &token, none.path(), &sent));
    assert!(
        message.contains("OpenPGP key 1 of the payload"),
        "{message}"
    );
    assert!(message.contains("no password is given"), "{message}");
    let wrong = STANDARD.encode("wrong-word");
    let sent = json!({ "gpg-privatekeys": [locked], "gpg-privatekeys-passwords": [wrong] });
    let message = refused(decode(vector, &token, none.path(), &sent));
    assert!(message.contains("the password does not open"), "{message}");
    assert!(!message.contains("wrong-word"), "{message}");
}

/// Encrypts the plain image.
fn encrypt(token: &Token, target: &Path, recipients: &[String]) -> Output {
    let plain = Layout::open(vector("images").join("plain"));
    let mut program = token
        .ocihsm()
        .args(["encrypt", &plain.reference()])
        .arg(target);
    for recipient in recipients {
        program = program.args(["--recipient", recipient]);
    }
    program.run()
}

#[test]
fn what_we_encrypt_opens_with_each_key_here_in_skopeo_and_in_gnupg() {
    if !skip::programs(&["gpg", "skopeo"]) {
        return;
    }
    let token = Token::empty_for_files();
    let place = TempDir::new().unwrap();
    let plain = Layout::open(vector("images").join("plain"));
    let names = [
        "pgp-rsa",
        "pgp-locked",
        "pgp-x25519",
        "pgp-p256",
        "pgp-p384",
        "pgp-p521",
    ];
    let public = |name: &str| format!("pgp:{}", key(&format!("{name}.pub.asc")).display());
    let mut recipients: Vec<_> = names[..5].iter().map(|name| public(name)).collect();
    // Its content says what it is.
    recipients[0] = recipients[0].trim_start_matches("pgp:").to_owned();
    let first = place.path().join("first");
    let output = encrypt(&token, &first, &recipients);
    assert!(output.status.success(), "{output:?}");
    let first = Layout::open(first);
    // One more, by a message beside the first.
    let target = Layout::open(place.path().join("encrypted"));
    let program = token.ocihsm().args(["rekey", &first.reference()]);
    let program = program.arg(target.reference()).arg("--key");
    let program = program.arg(key("pgp-x25519.asc"));
    program.args(["--add", &public("pgp-p521")]).ok();
    for name in names {
        let back = place.path().join(name);
        let password = if name == "pgp-locked" {
            ":pass=secret"
        } else {
            ""
        };
        let secret = format!("{}{password}", key(&format!("{name}.asc")).display());
        let program = token.ocihsm().arg("decrypt").arg(target.reference());
        program.arg(&back).args(["--key", &secret]).ok();
        let back = Layout::open(back);
        back.assert_sound();
        assert_eq!(back.entry("latest"), plain.entry("latest"), "{name}");
    }
    let program = token.ocihsm().args(["inspect", "--json", "--key"]);
    let report = program.arg(key("pgp-p384.asc")).arg(target.reference());
    let report: Value = serde_json::from_slice(&report.ok().stdout).unwrap();
    assert_eq!(
        report.to_string().matches("\"pgp\":6").count(),
        3,
        "{report}"
    );

    let messages = target.layers()[0]["annotations"][RECIPIENTS].clone();
    let messages: Vec<_> = (messages.as_str().unwrap().split(','))
        .map(|message| STANDARD.decode(message).unwrap())
        .collect();
    assert_eq!(messages.len(), 2);
    for name in names {
        let gpg = Gpg::with(&[&format!("{name}.asc")]);
        let message = messages[usize::from(name == "pgp-p521")].clone();
        let options = gpg.run(&["--decrypt"], message);
        let options: Value = serde_json::from_slice(&options).unwrap();
        assert!(options["symkey"].is_string(), "{name}");
    }

    // skopeo takes keys that are not armored, and of these RSA.
    let back = Layout::open(place.path().join("skopeo"));
    let skopeo = Program::new("skopeo").args(["--insecure-policy", "copy", "--quiet"]);
    let skopeo = skopeo.arg("--decryption-key").arg(key("pgp-rsa.gpg"));
    skopeo.args([first.reference(), back.reference()]).ok();
    assert_eq!(back.archives("amd64"), plain.archives("amd64"));
    // As GnuPG locks a key when it exports it, not armored.
    let gpg = Gpg::with(&["pgp-locked.asc"]);
    let binary = place.path().join("locked.gpg");
    let exported = gpg.run(&["--export-secret-keys"], Vec::new());
    fs::write(&binary, exported).unwrap();
    let again = place.path().join("locked");
    let program = token.ocihsm().arg("decrypt").arg(first.reference());
    let secret = format!("{}:pass=secret", binary.display());
    program.arg(again).args(["--key", &secret]).ok();
}

#[test]
fn what_skopeo_encrypts_to_a_name_in_a_keyring_opens() {
    if !skip::programs(&["gpg", "skopeo"]) {
        return;
    }
    let token = Token::empty_for_files();
    let place = TempDir::new().unwrap();
    let plain = Layout::open(vector("images").join("plain"));
    let gpg = Gpg::with(&["pgp-rsa.pub.asc"]);
    // The library looks for GnuPG 2 by that name alone.
    let gpg2 = gpg.0.path().join("gpg2");
    std::os::unix::fs::symlink("/usr/bin/gpg", gpg2).unwrap();
    let path = format!(
        "{}:{}",
        gpg.0.path().display(),
        std::env::var("PATH").unwrap()
    );
    let written = Layout::open(place.path().join("written"));
    let skopeo = gpg.program("skopeo").env("PATH", path);
    let skopeo = skopeo.args(["--insecure-policy", "copy", "--quiet", "--encryption-key"]);
    let skopeo = skopeo.args(["pgp:pgp-rsa@example.org", &plain.reference()]);
    skopeo.arg(written.reference()).ok();
    let back = Layout::open(place.path().join("back"));
    let program = token.ocihsm().arg("decrypt").arg(written.reference());
    let program = program.arg(back.reference()).arg("--key");
    program.arg(key("pgp-rsa.asc")).ok();
    assert_eq!(back.archives("amd64"), plain.archives("amd64"));
}

#[test]
fn messages_of_gnupg_open_compressed_signed_and_for_a_hidden_recipient() {
    if !skip::programs(&["gpg"]) {
        return;
    }
    let token = Token::empty_for_files();
    let vector = &layers()[0];
    let message = vector.layer["annotations"][RECIPIENTS].as_str().unwrap();
    let names = ["pgp-rsa", "pgp-x25519", "pgp-p256"];
    let gpg = Gpg::with(
        &names
            .map(|name| format!("{name}.asc"))
            .each_ref()
            .map(String::as_str),
    );
    let options = gpg.run(&["--decrypt"], STANDARD.decode(message).unwrap());
    let outcome = |name: &str, how: &[&str]| {
        let message = gpg.run(&[how, &["--encrypt"]].concat(), options.clone());
        let mut altered = vector.clone();
        altered.layer["annotations"][RECIPIENTS] = STANDARD.encode(message).into();
        let outcome = decode(&altered, &token, &key(&format!("{name}.asc")), &Value::Null);
        (altered, outcome)
    };
    for name in names {
        let whom = format!("{name}@example.org");
        for how in [
            &["--recipient", &whom][..],
            &["--hidden-recipient", &whom, "--compress-algo", "zip"],
            &["--recipient", &whom, "--compress-algo", "zlib", "--sign"],
            &[
                "--recipient",
                &whom,
                "--compress-algo",
                "none",
                "--cipher-algo",
                "AES",
            ],
            &["--recipient", &whom, "--cipher-algo", "AES192"],
        ] {
            let (altered, outcome) = outcome(name, how);
            altered.assert_opened(outcome);
        }
        for (cipher, shown) in [("CAST5", "CAST5"), ("3DES", "3DES"), ("TWOFISH", "Twofish")] {
            let mut how = vec!["--recipient", &whom, "--cipher-algo", cipher];
            // Without it GnuPG 2.4 writes no blocks of 64 bits.
            how.extend(module::is_since("gpg", "2.4").then_some("--allow-old-cipher-algos"));
            let message = refused(outcome(name, &how).1);
            // What RSA gives is no different from what a wrong padding gives.
            let shown = match name {
                "pgp-rsa" => "another than AES",
                _ => shown,
            };
            assert!(message.contains(shown), "{name}: {message}");
        }
        let how = ["--recipient", &whom, "--compress-algo", "bzip2"];
        let message = refused(outcome(name, &how).1);
        assert!(message.contains("compressed with BZip2"), "{message}");
    }
}

/// Three times as much as the decoder may have, in a message that is short enough to be looked at.
#[test]
fn a_message_that_unfolds_without_end_costs_no_memory() {
    if !skip::programs(&["gpg"]) {
        return;
    }
    let token = Token::empty_for_files();
    let mut vector = layers()[0].clone();
    let gpg = Gpg::with(&["pgp-rsa.asc"]);
    let how = ["--recipient", "pgp-rsa@example.org", "--compress-algo"];
    let message = gpg.run(
        &[&how[..], &["zlib", "-z", "9", "--encrypt"]].concat(),
        vec![0; 48 << 20],
    );
    vector.layer["annotations"][RECIPIENTS] = STANDARD.encode(message).into();
    let keys = key("pgp-rsa.asc");
    let decoder = Processor::decode(&token, &vector.layout, &vector.layer, &keys);
    let decoder = decoder.payload(&vector.layer, &Value::Null);
    let message = refused(decoder.through(&["prlimit", "--data=16777216"]).run());
    assert!(message.contains("is over the limit of"), "{message}");
}

#[test]
fn recipients_that_do_not_serve_are_told() {
    let token = Token::empty_for_files();
    let place = TempDir::new().unwrap();
    let target = place.path().join("never");
    for (name, part) in [
        ("pgp-rsa.asc", "an OpenPGP secret key"),
        ("pgp-rsa.gpg", "an OpenPGP secret key"),
        ("pgp-sign.pub.asc", "no OpenPGP key for encryption"),
        ("jwe-rsa.pub.pem", "not an OpenPGP key"),
    ] {
        let recipient = format!("pgp:{}", key(name).display());
        let output = encrypt(&token, &target, &[recipient]);
        assert!(!output.status.success(), "{name}");
        assert!(output.stderr.contains(part), "{output:?}");
        assert!(!target.exists());
    }
}
