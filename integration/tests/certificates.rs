//! PKCS#7 and certificates: what OpenSSL writes with either padding opens, and certificates that a client sends are taken.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use integration::layout::Layout;
use integration::processor::{Outcome, Processor};
use integration::program::Program;
use integration::token::Token;
use integration::vector;
use integration::vectors::Vector;
use serde_json::{Value, json};
use tempfile::TempDir;

const KEYS: &str = "org.opencontainers.image.enc.keys.";

fn key(name: &str) -> PathBuf {
    vector("keys").join(name)
}

/// A layer that we encrypted, with its private options, which OpenSSL opened.
fn layer_and_options(token: &Token, place: &Path) -> (Layout, Value, Vec<u8>) {
    let plain = Layout::open(vector("images").join("plain"));
    let target = place.join("encrypted");
    let recipient = format!("pkcs11:{}", key("jwe-rsa.pub.pem").display());
    let program = token.ocihsm().args(["encrypt", &plain.reference()]);
    program.arg(&target).args(["--recipient", &recipient]).ok();
    let layout = Layout::open(target);
    let mut layer = layout.layers()[0].clone();
    let annotations = layer["annotations"].as_object_mut().unwrap();
    let packet = annotations.remove(&format!("{KEYS}pkcs11")).unwrap();
    let packet = STANDARD.decode(packet.as_str().unwrap()).unwrap();
    let packet: Value = serde_json::from_slice(&packet).unwrap();
    let blob = packet["recipients"][0]["blob"].as_str().unwrap();
    let padding = ["rsa_padding_mode:oaep", "rsa_oaep_md:sha256"];
    let mut program = Program::new("openssl").args(["pkeyutl", "-decrypt", "-inkey"]);
    program = program.arg(key("jwe-rsa.pem"));
    for option in padding {
        program = program.args(["-pkeyopt", option]);
    }
    let options = program.stdin(STANDARD.decode(blob).unwrap()).ok().stdout;
    assert!(options.starts_with(b"{"));
    (layout, layer, options)
}

fn decode(token: &Token, layout: &Layout, layer: &Value, keys: &Path) -> Outcome {
    let decoder = Processor::decode(token, layout, layer, keys);
    decoder.payload(layer, &Value::Null).run()
}

#[test]
fn messages_of_openssl_open_with_either_padding_by_file_and_by_token() {
    let token = Token::vectors();
    let place = TempDir::new().unwrap();
    let (layout, mut layer, options) = layer_and_options(&token, place.path());
    let plain = Layout::open(vector("images").join("plain"));
    let expected = plain.read(&plain.layers()[0]);
    for (certificate, keys) in [
        ("pkcs7-rsa.cert.pem", key("pkcs7-rsa.pem")),
        ("rsa3072.cert.pem", token.keys(&["rsa3072"])),
    ] {
        for padding in [
            &[][..],
            &["rsa_padding_mode:oaep", "rsa_oaep_md:sha1"],
            &["rsa_padding_mode:oaep", "rsa_oaep_md:sha256"],
        ] {
            for cipher in ["-aes-128-cbc", "-aes-256-cbc"] {
                let mut program = Program::new("openssl").args(["cms", "-encrypt", "-binary"]);
                program = program.args(["-outform", "DER", cipher, "-recip"]);
                program = program.arg(key(certificate));
                for option in padding {
                    program = program.args(["-keyopt", option]);
                }
                let message = program.stdin(options.clone()).ok().stdout;
                layer["annotations"][format!("{KEYS}pkcs7")] = STANDARD.encode(message).into();
                let output = decode(&token, &layout, &layer, &keys).output;
                assert!(output.status.success(), "{padding:?} {cipher} {output:?}");
                assert_eq!(output.stdout, expected, "{padding:?} {cipher}");
            }
        }
    }
}

#[test]
fn certificates_that_a_client_sends_go_with_its_private_keys() {
    let token = Token::empty_for_files();
    let none = TempDir::new().unwrap();
    let text = |name: &str| STANDARD.encode(fs::read(key(name)).unwrap());
    let (secret, own) = (text("pkcs7-rsa.pem"), text("pkcs7-rsa.cert.pem"));
    let other = text("other3072.cert.pem");
    for vector in Vector::wrapped("pkcs7") {
        if vector.image != "pkcs7-rsa" {
            continue;
        }
        let with = |parameters: Value| {
            let decoder = Processor::decode(&token, &vector.layout, &vector.layer, none.path());
            decoder.payload(&vector.layer, &parameters).run().output
        };
        // One that is missing, or somebody else's, keeps nothing shut that the key opens.
        for certificates in [json!([own]), json!([other, own]), json!([other]), json!([])] {
            let output = with(json!({ "privkeys": [secret], "x509s": certificates }));
            assert!(output.status.success(), "{certificates} {output:?}");
            vector.assert_plain(&output.stdout);
        }
        let output = with(json!({ "x509s": [own] }));
        assert!(!output.status.success(), "{output:?}");
        let broken = STANDARD.encode("no certificate");
        let output = with(json!({ "x509s": [broken] }));
        assert!(
            output.stderr.contains("certificate 1 of the payload"),
            "{output:?}"
        );
    }
}
