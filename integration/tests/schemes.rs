//! Every scheme: what other tools wrapped opens with every key that is listed for it, what we wrap opens as well, and
//! what is altered opens nothing and says so.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use integration::key_provider::KeyProvider;
use integration::layout::Layout;
use integration::processor::{Processor, refused};
use integration::program::{Output, Program};
use integration::token::Token;
use integration::vector;
use integration::vectors::Vector;
use serde_json::{Value, json};
use tempfile::TempDir;

const PROVIDERS: &str = "OCICRYPT_KEYPROVIDER_CONFIG";
const RECIPIENTS: &str = "org.opencontainers.image.enc.keys.";

fn key(name: &str) -> PathBuf {
    vector("keys").join(name)
}

/// The layers of one image.
fn layers(scheme: &str, image: &str) -> Vec<Vector> {
    let all = Vector::wrapped(scheme);
    let layers: Vec<_> = all.into_iter().filter(|it| it.image == image).collect();
    assert_eq!(layers.len(), 3, "{image}");
    layers
}

fn decode(vector: &Vector, token: &Token, keys: &Path) -> Processor {
    Processor::decode(token, &vector.layout, &vector.layer, keys)
}

#[test]
fn every_vector_opens_with_the_key_file_that_is_listed_for_it() {
    let token = Token::empty_for_files();
    for (scheme, image, name) in [
        ("jwe", "jwe-rsa", "jwe-rsa.pem"),
        ("jwe", "jwe-p256", "jwe-p256.pem"),
        ("jwe", "jwe-and-pkcs11", "jwe-rsa.pem"),
        ("jwe", "jwe-several", "jwe-rsa.pem"),
        ("pkcs7", "pkcs7-rsa", "pkcs7-rsa.pem"),
    ] {
        for vector in layers(scheme, image) {
            let decoder = decode(&vector, &token, &key(name));
            vector.assert_opened(decoder.payload(&vector.layer, &Value::Null).run());
        }
    }
}

#[test]
fn every_vector_opens_with_every_token_key_that_is_listed_for_it() {
    let token = Token::vectors();
    for (scheme, image, names) in [
        ("jwe", "jwe-hsmkey", &["rsa3072"][..]),
        ("jwe", "jwe-hsm-p256", &["p256"]),
        ("jwe", "jwe-several", &["other3072", "p384"]),
        ("pkcs7", "pkcs7-hsmkey", &["rsa3072"]),
        ("jwe", "mixed-hsm", &["rsa3072", "p256", "other3072"]),
    ] {
        for vector in layers(scheme, image) {
            for name in names {
                let decoder = decode(&vector, &token, &token.keys(&[name]));
                vector.assert_opened(decoder.payload(&vector.layer, &Value::Null).run());
            }
        }
    }
}

#[test]
fn a_directory_is_sorted_by_what_its_files_hold() {
    let token = Token::empty_for_files();
    let keys = TempDir::new().unwrap();
    for name in [
        "jwe-p256.pem",
        "pkcs7-rsa.pem",
        "pkcs7-rsa.cert.pem",
        "rsa3072.pub.pem",
        "jwe-rsa.pem",
    ] {
        fs::copy(key(name), keys.path().join(name)).unwrap();
    }
    fs::write(keys.path().join("notes.txt"), "not a key").unwrap();
    for (scheme, image) in [
        ("jwe", "jwe-rsa"),
        ("jwe", "jwe-p256"),
        ("pkcs7", "pkcs7-rsa"),
    ] {
        for vector in layers(scheme, image) {
            let decoder = decode(&vector, &token, keys.path());
            vector.assert_opened(decoder.payload(&vector.layer, &Value::Null).run());
        }
    }
}

#[test]
fn keys_and_passwords_come_in_the_payload() {
    let token = Token::empty_for_files();
    let none = TempDir::new().unwrap();
    let encrypted = encrypted_key(none.path(), "jwe-p256.pem");
    let text = |path: &Path| STANDARD.encode(fs::read(path).unwrap());
    let vector = &layers("jwe", "jwe-p256")[0];
    let with = |parameters: Value| {
        let empty = TempDir::new().unwrap();
        decode(vector, &token, empty.path())
            .payload(&vector.layer, &parameters)
            .run()
    };
    let plain = text(&key("jwe-p256.pem"));
    vector.assert_opened(with(json!({ "privkeys": [plain] })));
    vector.assert_opened(with(
        json!({ "privkeys": [plain], "privkeys-passwords": [""] }),
    ));
    let hidden = text(&encrypted);
    let password = STANDARD.encode("secret");
    vector.assert_opened(with(
        json!({ "privkeys": [plain, hidden], "privkeys-passwords": ["", password] }),
    ));
    let message = refused(with(json!({ "privkeys": [hidden] })));
    assert!(
        message.contains("private key 1 of the payload"),
        "{message}"
    );
    assert!(message.contains("no password is given"), "{message}");
    let wrong = STANDARD.encode("wrong-word");
    let message = refused(with(
        json!({ "privkeys": [hidden], "privkeys-passwords": [wrong] }),
    ));
    assert!(message.contains("the password does not open"), "{message}");
    assert!(!message.contains("wrong-word"), "{message}");
}

/// A key of the vectors under the password `secret`.
fn encrypted_key(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(format!("encrypted-{name}"));
    Program::new("openssl")
        .args(["pkcs8", "-topk8", "-passout", "pass:secret", "-in"])
        .arg(key(name))
        .arg("-out")
        .arg(&path)
        .ok();
    path
}

#[test]
fn passwords_on_the_command_line_in_every_form() {
    let token = Token::empty_for_files();
    let place = TempDir::new().unwrap();
    let encrypted = encrypted_key(place.path(), "jwe-rsa.pem");
    let encrypted = encrypted.display();
    let word = place.path().join("word");
    fs::write(&word, "secret\n").unwrap();
    let decrypt = |number: usize, key: &str| {
        let target = place.path().join(format!("out-{number}"));
        let source = Layout::open(vector("images").join("jwe-rsa"));
        let program = token.ocihsm().args(["decrypt", &source.reference()]);
        program.arg(&target).args(["--key", key]).run()
    };
    let good = [
        format!("{encrypted}:pass=secret"),
        format!("{encrypted}:file={}", word.display()),
        format!("{encrypted}:secret"),
    ];
    for (number, key) in good.iter().enumerate() {
        let output = decrypt(number, key);
        assert!(output.status.success(), "{key} {output:?}");
    }
    let output = decrypt(10, &format!("{encrypted}:pass=not-this-word"));
    assert!(!output.status.success());
    assert!(
        output.stderr.contains("the password does not open"),
        "{output:?}"
    );
    assert!(!output.stderr.contains("not-this-word"), "{output:?}");
    let output = decrypt(11, &encrypted.to_string());
    assert!(output.stderr.contains("no password is given"), "{output:?}");
    let output = decrypt(12, "/absent.pem:pass=not-this-word");
    assert!(!output.stderr.contains("not-this-word"), "{output:?}");
}

#[test]
fn a_key_provider_opens_what_it_wrapped() {
    let token = Token::empty_for_files();
    let provider = KeyProvider::new();
    let none = TempDir::new().unwrap();
    for vector in layers("provider.hidden", "provider") {
        let decoder = decode(&vector, &token, none.path()).env(PROVIDERS, provider.file());
        vector.assert_opened(decoder.payload(&vector.layer, &Value::Null).run());
    }
    let vector = &layers("provider.hidden", "provider")[0];
    let with = |provider: &KeyProvider| {
        let decoder = decode(vector, &token, none.path()).env(PROVIDERS, provider.file());
        refused(decoder.payload(&vector.layer, &Value::Null).run())
    };
    let message = with(&KeyProvider::script("echo out of order >&2; exit 1"));
    assert!(
        message.contains("key provider \"hidden\" failed: out of order"),
        "{message}"
    );
    let message = with(&KeyProvider::script("echo nonsense"));
    assert!(message.contains("no answer that can be read"), "{message}");
    let decoder = decode(vector, &token, none.path());
    let message = refused(decoder.payload(&vector.layer, &Value::Null).run());
    assert!(
        message.contains("no key provider \"hidden\" is set up"),
        "{message}"
    );
}

/// Encrypts the plain image to these recipients.
fn encrypt(token: &Token, target: &Path, recipients: &[String], provider: &KeyProvider) -> Output {
    let plain = Layout::open(vector("images").join("plain"));
    let mut program = token
        .ocihsm()
        .env(PROVIDERS, provider.file())
        .args(["encrypt", &plain.reference()])
        .arg(target);
    for recipient in recipients {
        program = program.args(["--recipient", recipient]);
    }
    program.run()
}

#[test]
fn what_we_encrypt_opens_with_every_key_that_it_is_for() {
    let token = Token::empty_for_files();
    let provider = KeyProvider::new();
    let place = TempDir::new().unwrap();
    let plain = Layout::open(vector("images").join("plain"));
    let file = |name: &str| key(name).display().to_string();
    let cases = [
        (
            format!("jwe:{}", file("jwe-rsa.pub.pem")),
            Some("jwe-rsa.pem"),
        ),
        (
            format!("jwe:{}", file("jwe-p256.pub.pem")),
            Some("jwe-p256.pem"),
        ),
        (
            format!("pkcs7:{}", file("pkcs7-rsa.cert.pem")),
            Some("pkcs7-rsa.pem"),
        ),
        (
            format!("jwe:{}", file("pkcs7-rsa.cert.pem")),
            Some("pkcs7-rsa.pem"),
        ),
        (file("jwe-p256.pub.pem"), Some("jwe-p256.pem")),
        (file("jwe-rsa.pub.pem"), Some("jwe-rsa.pem")),
        ("provider:hidden:text".to_owned(), None),
    ];
    let all: Vec<_> = cases
        .iter()
        .map(|(recipient, _)| recipient.clone())
        .collect();
    let mut number = 0;
    for (recipients, opened_by) in cases
        .iter()
        .map(|(recipient, key)| (std::slice::from_ref(recipient), key))
        .chain(cases.iter().map(|(_, key)| (&all[..], key)))
    {
        number += 1;
        let target = place.path().join(format!("encrypted-{number}"));
        let output = encrypt(&token, &target, recipients, &provider);
        assert!(output.status.success(), "{recipients:?} {output:?}");
        let back = place.path().join(format!("back-{number}"));
        let mut program = token.ocihsm().arg("decrypt").arg(&target).arg(&back);
        program = match opened_by {
            Some(name) => program.arg("--key").arg(key(name)),
            None => program
                .args(["--key", "provider:hidden"])
                .env(PROVIDERS, provider.file()),
        };
        program.ok();
        let back = Layout::open(back);
        back.assert_sound();
        assert_eq!(
            back.entry("latest"),
            plain.entry("latest"),
            "{recipients:?}"
        );
    }
}

#[test]
fn a_recipient_that_does_not_fit_is_told_and_nothing_is_written() {
    let token = Token::empty_for_files();
    let provider = KeyProvider::new();
    let place = TempDir::new().unwrap();
    let target = place.path().join("never");
    let file = |name: &str| key(name).display().to_string();
    for (recipient, part) in [
        (format!("pkcs11:{}", file("jwe-p256.pub.pem")), "EC key"),
        (
            format!("pkcs7:{}", file("jwe-rsa.pub.pem")),
            "not a certificate",
        ),
        (format!("jwe:{}", file("jwe-rsa.pem")), "private key"),
        ("provider:other".to_owned(), "no key provider \"other\""),
        ("pgp:/absent".to_owned(), "/absent"),
        ("jwe:".to_owned(), "is not a recipient"),
    ] {
        let output = encrypt(&token, &target, std::slice::from_ref(&recipient), &provider);
        assert!(!output.status.success(), "{recipient}");
        assert!(output.stderr.contains(part), "{recipient}: {output:?}");
        assert!(!target.exists());
    }
}

/// The layer with another wrapped key.
fn with_wrapped(vector: &Vector, scheme: &str, wrapped: &[u8]) -> Value {
    let mut layer = vector.layer.clone();
    layer["annotations"][format!("{RECIPIENTS}{scheme}")] = STANDARD.encode(wrapped).into();
    layer
}

fn wrapped(vector: &Vector, scheme: &str) -> Vec<u8> {
    let text = vector.layer["annotations"][format!("{RECIPIENTS}{scheme}")]
        .as_str()
        .unwrap();
    STANDARD.decode(text).unwrap()
}

#[test]
fn altered_wrapped_keys_are_a_clear_error_and_nothing_is_written() {
    let token = Token::empty_for_files();
    let jwe = &layers("jwe", "jwe-rsa")[0];
    let pkcs7 = &layers("pkcs7", "pkcs7-rsa")[0];
    let text = String::from_utf8(wrapped(jwe, "jwe")).unwrap();
    let parsed: Value = serde_json::from_str(&text).unwrap();
    let altered = |name: &str, value: Value| {
        let mut jwe = parsed.clone();
        jwe[name] = value;
        jwe.to_string()
    };
    let header = |header: &str| {
        altered(
            "protected",
            base64::engine::general_purpose::URL_SAFE_NO_PAD
                .encode(header)
                .into(),
        )
    };
    let recipients = vec![json!({ "header": { "alg": "RSA-OAEP" }, "encrypted_key": "AAAA" }); 300];
    let many = json!({ "protected": "eyJlbmMiOiJBMjU2R0NNIn0", "recipients": recipients,
        "iv": parsed["iv"], "ciphertext": parsed["ciphertext"], "tag": parsed["tag"] });
    for (wrapped, part) in [
        (header(r#"{"alg":"RSA1_5","enc":"A256GCM"}"#), "RSA1_5"),
        (
            header(r#"{"alg":"PBES2-HS256+A128KW","enc":"A256GCM","p2c":2000000000,"p2s":"AAAA"}"#),
            "p2s",
        ),
        (
            header(r#"{"alg":"RSA-OAEP","enc":"A256GCM","zip":"DEF"}"#),
            "zip",
        ),
        (header(r#"{"alg":"RSA-OAEP","enc":"none"}"#), "none"),
        (
            header(r#"{"alg":"RSA-OAEP","alg":"RSA-OAEP","enc":"A256GCM"}"#),
            "twice",
        ),
        (
            altered("tag", "AAAAAAAAAAAAAAAAAAAAAA".into()),
            "does not open",
        ),
        (altered("iv", "AAAAAAAAAAAAAAAA".into()), "does not open"),
        (altered("iv", "AAAA".into()), "iv"),
        (many.to_string(), "256 recipients"),
        (text[..300].to_owned(), "JWE"),
    ] {
        let layer = with_wrapped(jwe, "jwe", wrapped.as_bytes());
        let decoder = decode(jwe, &token, &key("jwe-rsa.pem"));
        let outcome = decoder.payload(&layer, &Value::Null).run();
        assert!(!jwe_is_plain(jwe, &outcome.output.stdout));
        let message = refused(outcome);
        assert!(message.contains(part), "{part}: {message}");
    }
    let message = wrapped(pkcs7, "pkcs7");
    let mut indefinite = message.clone();
    indefinite[1] = 0x80;
    let mut wrong_key = message.clone();
    wrong_key[200] ^= 1;
    let mut wrong_tag = message.clone();
    *wrong_tag.last_mut().unwrap() ^= 1;
    for (message, part) in [
        (indefinite, "PKCS#7"),
        (message[..200].to_vec(), "PKCS#7"),
        (vec![0x31; 100_000], "PKCS#7"),
        (wrong_key, "does not open the wrapped key"),
        (wrong_tag, "does not open the wrapped key"),
    ] {
        let layer = with_wrapped(pkcs7, "pkcs7", &message);
        let decoder = decode(pkcs7, &token, &key("pkcs7-rsa.pem"));
        let message = refused(decoder.payload(&layer, &Value::Null).run());
        assert!(message.contains(part), "{part}: {message}");
    }
}

fn jwe_is_plain(vector: &Vector, bytes: &[u8]) -> bool {
    vector.plain.as_deref() == Some(&integration::layer::digest(bytes))
}

#[test]
fn a_key_of_another_kind_says_what_does_not_fit() {
    let token = Token::empty_for_files();
    for (scheme, image, name, part) in [
        (
            "jwe",
            "jwe-rsa",
            "jwe-p256.pem",
            "no wrapped key is for a key on P-256",
        ),
        ("jwe", "jwe-p256", "jwe-rsa.pem", "RSA-2048"),
        (
            "jwe",
            "jwe-rsa",
            "pkcs7-rsa.pem",
            "does not open the wrapped key",
        ),
        (
            "pkcs7",
            "pkcs7-rsa",
            "jwe-rsa.pem",
            "does not open the wrapped key",
        ),
    ] {
        let vector = &layers(scheme, image)[0];
        let decoder = decode(vector, &token, &key(name));
        let message = refused(decoder.payload(&vector.layer, &Value::Null).run());
        assert!(
            message.contains(part) && message.contains(name),
            "{image}: {message}"
        );
    }
}

#[test]
fn key_files_of_a_token_are_recipients_and_its_elliptic_keys_are_exported() {
    let token = Token::vectors();
    let provider = KeyProvider::new();
    let place = TempDir::new().unwrap();
    let plain = Layout::open(vector("images").join("plain"));
    for (scheme, name, expected) in [
        ("jwe:", "p256", "jwe"),
        ("jwe:", "p384", "jwe"),
        ("", "p521", "jwe"),
        ("jwe:", "rsa3072", "jwe"),
        ("", "rsa3072", "pkcs11"),
    ] {
        let recipient = format!("{scheme}{}", token.key_file(name).display());
        let target = place.path().join(format!("{name}-{expected}"));
        let output = encrypt(&token, &target, std::slice::from_ref(&recipient), &provider);
        assert!(output.status.success(), "{recipient} {output:?}");
        let annotations = &Layout::open(&target).manifest("amd64")["layers"][0]["annotations"];
        assert!(
            annotations[format!("{RECIPIENTS}{expected}")].is_string(),
            "{recipient}"
        );
        let back = place.path().join(format!("{name}-{expected}-back"));
        let program = token.ocihsm().arg("decrypt").arg(&target).arg(&back);
        program.arg("--key").arg(token.keys(&[name])).ok();
        assert_eq!(
            Layout::open(back).entry("latest"),
            plain.entry("latest"),
            "{recipient}"
        );
    }
    for name in ["p256", "p384", "p521"] {
        let program = token
            .ocihsm()
            .args(["keys", "export"])
            .arg(token.key_file(name));
        let exported = String::from_utf8(program.ok().stdout).unwrap();
        assert_eq!(
            exported,
            fs::read_to_string(key(&format!("{name}.pub.pem"))).unwrap()
        );
    }
    let recipient = format!("pkcs11:{}", token.key_file("p256").display());
    let output = encrypt(&token, &place.path().join("never"), &[recipient], &provider);
    assert!(output.stderr.contains("EC key"), "{output:?}");
}

/// Has `ocihsm keyprovider` answer one request.
fn ask(token: &Token, keys: &Path, request: &Value) -> Output {
    let program = token
        .ocihsm()
        .args(["keyprovider", "--decryption-keys-path"]);
    program.arg(keys).stdin(request.to_string()).run()
}

#[test]
fn other_tools_use_a_token_through_us() {
    let token = Token::vectors();
    let options = json!({ "symkey": STANDARD.encode([7; 32]), "digest": format!("sha256:{}", "ab".repeat(32)),
        "cipheroptions": { "nonce": STANDARD.encode([9; 16]) } });
    let wrap = |texts: &[String]| {
        let texts: Vec<_> = texts.iter().map(|text| STANDARD.encode(text)).collect();
        json!({ "op": "keywrap", "keywrapparams": {
            "ec": { "Parameters": { "ocihsm": texts }, "DecryptConfig": { "Parameters": null } },
            "optsdata": STANDARD.encode(options.to_string()),
        }, "keyunwrapparams": { "dc": null, "annotation": null } })
    };
    let file = |name: &str| token.key_file(name).display().to_string();
    let none = TempDir::new().unwrap();
    for (texts, keys) in [
        (
            vec![format!("pkcs11:{}", file("rsa3072"))],
            &["rsa3072"][..],
        ),
        (vec![format!("jwe:{}", file("p384"))], &["p384"]),
        (vec![file("rsa2048")], &["rsa2048"]),
        (
            vec![file("p521"), format!("pkcs11:{}", file("other3072"))],
            &["p521", "other3072"],
        ),
    ] {
        let output = ask(&token, none.path(), &wrap(&texts));
        assert!(output.status.success(), "{texts:?} {output:?}");
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let annotation = &answer["keywrapresults"]["annotation"];
        let unwrap = json!({ "op": "keyunwrap", "keywrapparams": { "ec": null, "optsdata": null },
            "keyunwrapparams": { "dc": { "Parameters": { "ocihsm": [""] } }, "annotation": annotation } });
        for name in keys {
            let output = ask(&token, &token.keys(&[name]), &unwrap);
            assert!(output.status.success(), "{name} {output:?}");
            let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
            let opened = answer["keyunwrapresults"]["optsdata"].as_str().unwrap();
            let opened: Value = serde_json::from_slice(&STANDARD.decode(opened).unwrap()).unwrap();
            assert_eq!(opened["symkey"], options["symkey"], "{name}");
        }
        let output = ask(&token, &key("pkcs7-rsa.pem"), &unwrap);
        assert!(
            !output.status.success() && output.stdout.is_empty(),
            "{output:?}"
        );
    }
    for (request, part) in [
        (wrap(&[]), "names no recipient"),
        (wrap(&["provider:other".to_owned()]), "provider"),
        (wrap(&["tpm:x".to_owned()]), "is not a recipient"),
        (json!({ "op": "sing" }), "no request"),
        (json!([]), "no request"),
        (
            json!({ "op": "keyunwrap", "keyunwrapparams": { "annotation": STANDARD.encode("x") } }),
            "JWE",
        ),
    ] {
        let output = ask(&token, &key("jwe-rsa.pem"), &request);
        assert!(
            !output.status.success() && output.stdout.is_empty(),
            "{request} {output:?}"
        );
        assert!(output.stderr.contains(part), "{part}: {output:?}");
    }
}

#[test]
fn the_references_name_takes_flags_as_go_does() {
    let token = Token::empty_for_files();
    let link = token.path().join("ctd-decoder");
    std::os::unix::fs::symlink(integration::ocihsm(), &link).unwrap();
    let vector = &layers("jwe", "jwe-rsa")[0];
    let digest = vector.layer["digest"].as_str().unwrap();
    for words in [
        &["-decryption-keys-path", "KEY"][..],
        &["--decryption-keys-path", "KEY", "stray", "-x"],
    ] {
        let mut processor = Processor::new(&link).blob(vector.layout.blob(digest));
        for word in words {
            processor = match *word {
                "KEY" => processor.arg(key("jwe-rsa.pem")),
                word => processor.arg(word),
            };
        }
        vector.assert_opened(processor.payload(&vector.layer, &Value::Null).run());
    }
    let help = Program::new(&link).arg("help").run();
    assert!(help.status.success(), "{help:?}");
    assert!(String::from_utf8_lossy(&help.stdout).contains("--decryption-keys-path"));
}

#[test]
fn an_elliptic_pair_made_in_a_token_opens_what_is_encrypted_to_it() {
    let token = Token::new("made here");
    let provider = KeyProvider::new();
    let place = TempDir::new().unwrap();
    let plain = Layout::open(vector("images").join("plain"));
    let pin = place.path().join("pin");
    fs::write(&pin, integration::token::PIN).unwrap();
    for kind in ["p256", "p384", "p521"] {
        let label = format!("made-{kind}");
        let output = token
            .ocihsm()
            .args([
                "keys",
                "generate",
                "--token",
                "made here",
                "--label",
                &label,
            ])
            .args(["--type", kind, "--module", "softhsm2", "--pin-file"])
            .arg(&pin)
            .arg("--out")
            .arg(place.path())
            .env("SOFTHSM2_CONF", token.configuration())
            .ok();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("made a pair on P-"), "{said}");
        let public = place.path().join(format!("{label}.pub.pem"));
        let target = place.path().join(kind);
        let output = encrypt(&token, &target, &[public.display().to_string()], &provider);
        assert!(output.status.success(), "{output:?}");
        let back = place.path().join(format!("{kind}-back"));
        let program = token
            .ocihsm()
            .arg("decrypt")
            .arg(&target)
            .arg(&back)
            .arg("--key");
        program.arg(place.path().join(format!("{label}.yaml"))).ok();
        assert_eq!(
            Layout::open(back).entry("latest"),
            plain.entry("latest"),
            "{kind}"
        );
    }
}
