//! Pipes that nobody writes to, where a file belongs: each is refused at once, and nothing waits for it.

use std::fs;
use std::path::{Path, PathBuf};

use integration::node::{Node, line};
use integration::ocihsm;
use integration::processor::Processor;
use integration::program::{Output, Program};
use integration::token::{PIN, SOFTHSM, Token};
use integration::vectors::Vector;
use serde_json::Value;

/// Kills what it runs after 20 s: a program that waits must not hold up the suite.
const PATIENCE: [&str; 2] = ["timeout", "20"];

fn pipe(path: PathBuf) -> PathBuf {
    Program::new("mkfifo").arg(&path).ok();
    path
}

fn decode(token: &Token, vector: &Vector, keys: &Path) -> Processor {
    Processor::decode(token, &vector.layout, &vector.layer, keys)
        .through(&PATIENCE)
        .payload(&vector.layer, &Value::Null)
}

fn impatient(arguments: &[&str]) -> Program {
    Program::new(PATIENCE[0])
        .arg(PATIENCE[1])
        .arg(ocihsm())
        .args(arguments)
}

fn assert_refused(output: &Output, name: &str) {
    let expected = format!("{name}: it is a pipe, not a regular file");
    assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
    assert!(output.stderr.contains(&expected), "{}", output.stderr);
}

#[test]
fn a_pin_source_does_not_hang_the_decoder() {
    let (token, vector) = (Token::vectors(), Vector::first("sha256-pubkey"));
    let pin = pipe(token.path().join("pin"));
    let uri = format!(
        "{}?pin-source={}&module-name=softhsm2",
        token.uri("rsa3072"),
        pin.display()
    );
    let outcome = decode(&token, &vector, &token.keys_with(&[uri])).run();
    assert_refused(&outcome.output, "/pin");
}

#[test]
fn a_key_file_does_not_hang_the_decoder() {
    let (token, vector) = (Token::vectors(), Vector::first("sha256-pubkey"));
    let key = pipe(token.path().join("key.yaml"));
    assert_refused(&decode(&token, &vector, &key).run().output, "/key.yaml");
    // Beside others it is passed over.
    let keys = token.keys(&["rsa3072"]);
    pipe(keys.join("a.yaml"));
    let output = decode(&token, &vector, &keys).run().output;
    assert!(output.status.success(), "{}", output.stderr);
}

#[test]
fn a_policy_does_not_hang_the_decoder() {
    let (token, vector) = (Token::vectors(), Vector::first("sha256-pubkey"));
    let policy = pipe(token.path().join("policy"));
    let outcome = decode(&token, &vector, &token.keys(&["rsa3072"]))
        .env("OCICRYPT_CONFIG", &policy)
        .run();
    assert_refused(&outcome.output, "/policy");
}

#[test]
fn configuration_does_not_hang_doctor() {
    let node = Node::new();
    pipe(node.path("conf.d/zz.toml"));
    let output = impatient(&["doctor", "--containerd-config"])
        .env("LD_LIBRARY_PATH", "")
        .arg(node.path("config.toml"))
        .run();
    let text = output.text();
    assert!(
        line(&text, "zz.toml").contains("it is a pipe"),
        "{text}{}",
        output.stderr
    );
}

#[test]
fn a_recipient_may_be_what_a_program_prints() {
    let token = Token::vectors();
    let plain = integration::layout::Layout::open(integration::vector("images/plain"));
    let script = format!(
        "exec \"$0\" encrypt {} {} --recipient pkcs11:<(cat {})",
        plain.reference(),
        token.path().join("out").display(),
        integration::vector("keys/rsa3072.pub.pem").display()
    );
    Program::new("bash")
        .args(["-c", &script, &ocihsm().display().to_string()])
        .ok();
}

#[test]
fn a_pin_file_on_the_command_line_may_be_what_a_program_prints() {
    let token = Token::vectors();
    let good = token.path().join("good");
    fs::write(&good, format!("{PIN}\n")).unwrap();
    let script = format!(
        "exec \"$0\" keys list --module {SOFTHSM} --token ocicrypt-vectors --pin-file <(cat {})",
        good.display()
    );
    let output = Program::new("bash")
        .args(["-c", &script, &ocihsm().display().to_string()])
        .env("OCICRYPT_CONFIG", "internal")
        .env("OCIHSM_RUNTIME_DIR", token.runtime())
        .env("SOFTHSM2_CONF", token.configuration())
        .ok();
    assert!(output.text().contains("private"), "{}", output.text());
}
