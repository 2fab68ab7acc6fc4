//! Keys, PINs, modules and policies that do not serve: what `ocihsm decode` says, and what it leaves untried.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use integration::layout::Layout;
use integration::module::library;
use integration::processor::{Outcome, Processor};
use integration::skip;
use integration::token::{PIN, Token, WRONG_PIN};
use integration::vectors::Vector;
use serde_json::Value;

fn stage() -> (Token, Vector) {
    (Token::vectors(), Vector::first("sha256-pubkey"))
}

fn decode(token: &Token, vector: &Vector, keys: &Path) -> Processor {
    Processor::decode(token, &vector.layout, &vector.layer, keys)
        .payload(&vector.layer, &Value::Null)
}

/// It failed before the first byte, with one line that holds all of this.
fn assert_refused(outcome: &Outcome, parts: &[&str]) {
    let output = &outcome.output;
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(output.stdout.len(), 0, "{output:?}");
    assert!(output.stderr.starts_with("ocihsm: error: "), "{output:?}");
    assert!(
        !output.stderr.contains('\n'),
        "an event is one line: {output:?}"
    );
    assert!(
        output.stderr.len() <= 600,
        "an event holds 1024 bytes, with what containerd says: {output:?}"
    );
    for part in parts {
        assert!(
            output.stderr.contains(part),
            "{part:?} is not in {output:?}"
        );
    }
}

#[test]
fn a_key_that_does_not_fit_is_named() {
    let (token, vector) = stage();
    let outcome = decode(&token, &vector, &token.keys(&["other3072"])).run();
    assert_refused(
        &outcome,
        &[
            "key0.yaml",
            vector.layer["digest"].as_str().unwrap().get(..19).unwrap(),
        ],
    );
}

#[test]
fn a_wrong_pin_costs_one_try_whatever_there_is_to_open() {
    let token = Token::vectors();
    let vector = Vector::first("multi-recipient");
    let log = token.path().join("spy.log");
    let spy = library("pkcs11/pkcs11-spy.so").expect("the package opensc");
    let query = format!("pin-value={WRONG_PIN}&module-path={}", spy.display());
    let keys = token.keys_with(
        &["rsa3072", "rsa2048", "other3072"].map(|key| format!("{}?{query}", token.uri(key))),
    );
    for entry in fs::read_dir(&keys).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let spy = format!(
            "    PKCS11SPY: {}\n    PKCS11SPY_OUTPUT: {}\n",
            integration::token::SOFTHSM,
            log.display()
        );
        fs::write(&path, text + &spy).unwrap();
    }
    let outcome = decode(&token, &vector, &keys).run();
    assert_refused(
        &outcome,
        &[
            "/key0.yaml: token \"ocicrypt-vectors\": login failed: the PIN is wrong",
            "CKR_PIN_INCORRECT",
            "; hint: correct the PIN in the key file",
        ],
    );
    let calls = fs::read_to_string(&log).unwrap();
    assert_eq!(
        calls
            .lines()
            .filter(|line| line.contains("C_Login"))
            .count(),
        1,
        "calls of the module"
    );
}

#[test]
fn an_unknown_token_is_named() {
    let (token, vector) = stage();
    let keys = token.keys_with(&[format!(
        "pkcs11:token=elsewhere;object=rsa3072?pin-value={PIN}&module-name=softhsm2"
    )]);
    assert_refused(&decode(&token, &vector, &keys).run(), &["elsewhere"]);
}

#[test]
fn an_unknown_key_is_named() {
    let (token, vector) = stage();
    let keys = token.keys_with(&[format!(
        "{}?pin-value={PIN}&module-name=softhsm2",
        token.uri("lost")
    )]);
    assert_refused(
        &decode(&token, &vector, &keys).run(),
        &["key0.yaml", "ocicrypt-vectors"],
    );
}

#[test]
fn a_missing_module_is_named() {
    let (token, vector) = stage();
    let uri = token.uri("rsa3072");
    for (module, name) in [
        ("module-name=nosuchmodule", "nosuchmodule"),
        (
            "module-path=/usr/lib/softhsm/nosuchmodule.so",
            "/usr/lib/softhsm/nosuchmodule.so",
        ),
    ] {
        let keys = token.keys_with(&[format!("{uri}?pin-value={PIN}&{module}")]);
        assert_refused(&decode(&token, &vector, &keys).run(), &[name]);
    }
}

#[test]
fn a_file_that_is_no_module_is_named() {
    let (token, vector) = stage();
    let module = token.path().join("module.so");
    fs::write(&module, "not a library").unwrap();
    let policy = policy(
        &token,
        &format!("pkcs11:\n  allowed-module-paths: [{}]\n", module.display()),
    );
    let uri = format!(
        "{}?pin-value={PIN}&module-path={}",
        token.uri("rsa3072"),
        module.display()
    );
    let outcome = decode(&token, &vector, &token.keys_with(&[uri]))
        .env("OCICRYPT_CONFIG", policy)
        .run();
    assert_refused(&outcome, &[module.to_str().unwrap()]);
}

#[test]
fn a_module_that_the_policy_does_not_allow_is_not_loaded() {
    let (token, vector) = stage();
    let text = "pkcs11:\n  module-directories: [/usr/lib/softhsm/]\n  allowed-module-paths: [/usr/lib/other/]\n";
    let outcome = decode(&token, &vector, &token.keys(&["rsa3072"]))
        .env("OCICRYPT_CONFIG", policy(&token, text))
        .run();
    assert_refused(&outcome, &["libsofthsm2.so", "allowed"]);
}

#[test]
fn a_policy_without_its_section_says_where_the_lists_belong() {
    let (token, vector) = stage();
    let text =
        "module-directories: [/usr/lib/softhsm/]\nallowed-module-paths: [/usr/lib/softhsm/]\n";
    let policy = policy(&token, text);
    let outcome = decode(&token, &vector, &token.keys(&["rsa3072"]))
        .env("OCICRYPT_CONFIG", &policy)
        .run();
    assert_refused(&outcome, &[policy.to_str().unwrap(), "pkcs11"]);
}

#[test]
fn a_policy_that_is_not_there_is_named() {
    let (token, vector) = stage();
    let policy = token.path().join("nowhere.conf");
    let outcome = decode(&token, &vector, &token.keys(&["rsa3072"]))
        .env("OCICRYPT_CONFIG", &policy)
        .run();
    let policy = policy.display();
    assert_refused(
        &outcome,
        &[&format!(
            "the module policy {policy} is not there; hint: correct OCICRYPT_CONFIG, which names it, or write it: `ocihsm config policy > {policy}`"
        )],
    );
}

#[test]
fn keys_that_cannot_be_listed_are_an_error() {
    let (token, vector) = stage();
    assert_refused(
        &decode(&token, &vector, &token.path().join("nowhere")).run(),
        &["nowhere", "; hint: put a key file there, or correct"],
    );
}

#[test]
fn the_hint_fits_what_is_wrong_with_the_keys() {
    const ANOTHER_KEY: &str = "; hint: give this node a key that the image was encrypted for";
    const NO_KEY: &str = "; hint: put a PKCS#11 key file there";
    const TOKEN: &str = "; hint: compare the URI with what `ocihsm keys list` shows";
    const MODULE: &str = "; hint: install the module";
    const DOCTOR: &str = "; hint: run `ocihsm doctor` on the node";
    let (token, vector) = stage();
    let uri = token.uri("rsa3072");
    let other = format!(
        "{}?pin-value={PIN}&module-name=softhsm2",
        token.uri("other3072")
    );
    let absent = format!("pkcs11:token=away;object=o?pin-value={PIN}&module-name=softhsm2");
    let missing = format!("{uri}?pin-value={PIN}&module-name=nosuchmodule");
    let broken = "pkcs11:object=o".to_owned();
    for (uris, expected) in [
        (vec![], NO_KEY),
        (vec![&other], ANOTHER_KEY),
        (vec![&other, &other], ANOTHER_KEY),
        (vec![&absent], TOKEN),
        (vec![&absent, &other], TOKEN),
        (vec![&absent, &absent], TOKEN),
        (vec![&missing], MODULE),
        (vec![&missing, &missing], MODULE),
        (vec![&missing, &other], MODULE),
        (vec![&missing, &absent], DOCTOR),
        (vec![&broken], DOCTOR),
        (vec![&broken, &other], DOCTOR),
    ] {
        let outcome = decode(&token, &vector, &token.keys_with(&uris)).run();
        assert_refused(&outcome, &[expected]);
    }
}

#[test]
fn a_long_path_does_not_cost_the_reason() {
    let (token, vector) = stage();
    let keys = token.keys(&[]).join("deeper-and-deeper/".repeat(12));
    fs::create_dir_all(&keys).unwrap();
    for (name, uri) in [
        ("a", "pkcs11:token=away;object=o?module-name=softhsm2"),
        ("b", "pkcs11:token=t;object=o?module-name=nosuchmodule"),
        ("c", "pkcs11:object=o"),
    ] {
        let name = format!("{name}{}.yaml", "-long".repeat(45));
        fs::write(keys.join(name), format!("pkcs11:\n  uri: {uri}\n")).unwrap();
    }
    assert_refused(
        &decode(&token, &vector, &keys).run(),
        &[
            "no token matches pkcs11:token=away;object=o",
            "no PKCS#11 module \"nosuchmodule",
            "needs a `token` or a `slot-id`",
            "; hint: run `ocihsm doctor`",
        ],
    );
}

#[test]
fn what_a_key_files_name_holds_does_not_break_the_line() {
    let (token, vector) = stage();
    let keys = token.keys(&[]);
    let text = fs::read_to_string(token.key_file("other3072")).unwrap();
    fs::write(keys.join("a\nb\u{1b}[2J.yaml"), text).unwrap();
    assert_refused(
        &decode(&token, &vector, &keys).run(),
        &["a\\u{a}b\\u{1b}[2J.yaml: the wrapped keys are for other keys"],
    );
}

#[test]
fn keys_that_we_may_not_read_are_an_error() {
    if !skip::root() {
        return;
    }
    let (token, vector) = stage();
    // Another user must reach the binary, wherever the repository is.
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = place.path().join("ocihsm");
    fs::copy(integration::ocihsm(), &binary).unwrap();
    let keys = place.path().join("keys");
    fs::create_dir(&keys).unwrap();
    fs::copy(token.key_file("rsa3072"), keys.join("key.yaml")).unwrap();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o700)).unwrap();
    let outcome = Processor::new(&binary)
        .through(&[
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ])
        .arg("decode")
        .arg("--decryption-keys-path")
        .arg(&keys)
        .env("OCICRYPT_CONFIG", "internal")
        .env(
            "STREAM_PROCESSOR_MEDIATYPE",
            vector.layer["mediaType"].as_str().unwrap(),
        )
        .blob(vector.layout.blob(vector.layer["digest"].as_str().unwrap()))
        .payload(&vector.layer, &Value::Null)
        .run();
    assert_refused(&outcome, &[keys.to_str().unwrap(), "ermission denied"]);
}

#[test]
fn files_that_are_no_keys_are_named_when_nothing_opened_the_layer() {
    let (token, vector) = stage();
    let keys = token.keys(&[]);
    fs::write(keys.join("notes.txt"), "no key at all").unwrap();
    assert_refused(&decode(&token, &vector, &keys).run(), &["notes.txt"]);
}

#[test]
fn a_key_file_over_its_bound_is_refused_with_it() {
    let (token, vector) = stage();
    let keys = token.keys(&[]);
    let padding = "# padding\n".repeat(7000);
    fs::write(
        keys.join("key.yaml"),
        fs::read_to_string(token.key_file("rsa3072")).unwrap() + &padding,
    )
    .unwrap();
    assert_refused(
        &decode(&token, &vector, &keys).run(),
        &["key.yaml", "65536"],
    );
}

#[test]
fn a_uri_where_a_path_belongs_is_not_quoted() {
    let (token, vector) = stage();
    let uri = format!("pkcs11:token=t;object=o?pin-value={PIN}");
    let as_keys = decode(&token, &vector, Path::new(&uri)).run();
    assert_refused(&as_keys, &["--decryption-keys-path", "not a PKCS#11 URI"]);
    let unexpected = decode(&token, &vector, &token.keys(&[])).arg(&uri).run();
    assert_refused(&unexpected, &["not a PKCS#11 URI"]);
    for arguments in [
        vec!["doctor", "--decryption-keys-path", &uri],
        vec!["inspect", &uri],
        vec!["encrypt", &uri, &uri, "--recipient", &uri],
        vec!["decrypt", &uri, &uri, "--key", &uri],
        vec![&uri],
    ] {
        // That no PIN was printed is looked after by whatever runs a program.
        let output = token.ocihsm().args(arguments).run();
        assert!(!output.status.success(), "{output:?}");
    }
}

#[test]
fn schemes_that_we_cannot_open_are_named() {
    let token = Token::vectors();
    let layout = Layout::open(integration::vector("images/jwe-rsa"));
    let mut layer = layout.layers()[0].clone();
    let names = "org.opencontainers.image.enc.keys.";
    let annotations = layer["annotations"].as_object_mut().unwrap();
    let wrapped = annotations.remove(&format!("{names}jwe")).unwrap();
    annotations.insert(format!("{names}tpm"), wrapped);
    let processor = Processor::decode(&token, &layout, &layer, &token.keys(&["rsa3072"]));
    assert_refused(
        &processor.payload(&layer, &Value::Null).run(),
        &["tpm alone", "; hint: ", "pkcs11:FILE"],
    );
}

fn policy(token: &Token, text: &str) -> PathBuf {
    let path = token.path().join("ocicrypt.conf");
    fs::write(&path, text).unwrap();
    path
}
