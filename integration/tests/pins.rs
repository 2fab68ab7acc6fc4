//! What keeps a wrong PIN from costing tries: copies of key files, slips in PIN files, and the directory that remembers.
//!
//! On SoftHSM, behind a module that counts calls (`unruly.c`).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use integration::node::{Node, line, set_mode};
use integration::processor::{Outcome, Processor};
use integration::token::{PIN, SOFTHSM, Token, WRONG_PIN};
use integration::unruly::Unruly;
use integration::vectors::Vector;
use serde_json::{Value, json};

/// A token behind the counting module, a layer, and a directory for key files.
struct Stage {
    token: Token,
    unruly: Unruly,
    vector: Vector,
    keys: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let token = Token::vectors();
        let keys = token.path().join("keys");
        fs::create_dir(&keys).unwrap();
        let stage = Self {
            token,
            unruly: Unruly::new(),
            vector: Vector::first("sha256-pubkey"),
            keys,
        };
        let module = stage.unruly.module();
        let policy = format!("pkcs11:\n  allowed-module-paths: [{}]\n", module.display());
        fs::write(stage.policy(), policy).unwrap();
        stage
    }

    fn policy(&self) -> PathBuf {
        self.token.path().join("policy")
    }

    fn write(&self, name: &str, query: &str) {
        let mut text = format!(
            "pkcs11:\n  uri: {}\nmodule:\n  env:\n    SOFTHSM2_CONF: {}\n",
            json!(format!(
                "{}?{query}&module-path={}",
                self.token.uri("rsa3072"),
                self.unruly.module().display()
            )),
            self.token.configuration().display()
        );
        for (name, value) in self.unruly.env(Path::new(SOFTHSM)) {
            text.push_str(&format!("    {name}: {value}\n"));
        }
        let path = self.keys.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn decode(&self) -> Outcome {
        Processor::decode(
            &self.token,
            &self.vector.layout,
            &self.vector.layer,
            &self.keys,
        )
        .env("OCICRYPT_CONFIG", self.policy())
        .payload(&self.vector.layer, &Value::Null)
        .run()
    }

    fn assert_opens(&self) {
        let output = self.decode().output;
        assert!(output.status.success(), "{}", output.stderr);
        self.vector.assert_plain(&output.stdout);
    }

    fn refusal(&self) -> String {
        let output = self.decode().output;
        assert!(!output.status.success());
        output.stderr
    }

    /// What ten decoders at once, and two after them, cost.
    fn tries_of_twelve(&self) -> usize {
        let _ = self.unruly.calls();
        thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| self.refusal());
            }
        });
        for _ in 0..2 {
            let _ = self.refusal();
        }
        self.unruly.count("C_Login")
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.token.runtime()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

#[test]
fn an_old_pin_in_a_copy_costs_nothing() {
    let stage = Stage::new();
    for copy in [
        ".imagekey.yaml.old",
        "#imagekey.yaml#",
        ".imagekey.yaml.swp",
        "backup/imagekey.yaml",
        "imagekey.yaml.bak",
        "imagekey.yaml.dpkg-old",
        "imagekey.yaml.orig",
        "imagekey.yaml~",
    ] {
        stage.write(copy, &format!("pin-value={WRONG_PIN}"));
    }
    stage.write("imagekey.yaml", &format!("pin-value={PIN}"));
    stage.assert_opens();
    assert_eq!(stage.unruly.count("C_Login"), 1);
}

#[test]
fn a_slip_in_a_pin_file_is_refused_before_it_is_sent() {
    let stage = Stage::new();
    let pin = stage.token.path().join("pin");
    stage.write("imagekey.yaml", &format!("pin-source={}", pin.display()));
    for (content, part) in [
        (format!("\"{PIN}\"\n"), "quotes around"),
        (format!(" {PIN}\n"), "begins or ends with a blank"),
        (format!("{PIN}\t\n"), "begins or ends with a blank"),
        (format!("{PIN}\n\n"), "more than one line"),
        (format!("{PIN}\r\r\n"), "more than one line"),
    ] {
        fs::write(&pin, &content).unwrap();
        let error = stage.refusal();
        assert!(error.contains(part), "{error}");
        assert!(error.contains("imagekey.yaml"), "{error}");
    }
    assert_eq!(stage.unruly.count("C_Login"), 0);
    // What an editor of Windows adds is no part of it.
    fs::write(&pin, format!("\u{feff}{PIN}\r\n")).unwrap();
    stage.assert_opens();
}

#[test]
fn a_runtime_directory_with_another_mode_guards_as_well() {
    for mode in [0o755, 0o777] {
        let stage = Stage::new();
        set_mode(&stage.token.runtime(), mode);
        stage.write("imagekey.yaml", &format!("pin-value={WRONG_PIN}"));
        assert_eq!(stage.tries_of_twelve(), 1, "{mode:o}");
        let metadata = fs::metadata(stage.token.runtime()).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o700);
        assert!(stage.files().iter().all(|name| !name.ends_with("new")));
    }
}

#[test]
fn where_nothing_can_be_remembered_the_token_itself_says_so() {
    let stage = Stage::new();
    stage.write("imagekey.yaml", &format!("pin-value={WRONG_PIN}"));
    // Others use the directory, so it is left as it is.
    fs::write(stage.token.runtime().join("other"), "").unwrap();
    set_mode(&stage.token.runtime(), 0o755);
    assert!(stage.refusal().contains("the PIN is wrong"));
    for _ in 0..3 {
        let error = stage.refusal();
        assert!(error.contains("a wrong PIN was tried there"), "{error}");
    }
    assert_eq!(stage.unruly.count("C_Login"), 1);
    assert_eq!(stage.files(), ["other"]);
}

#[test]
fn a_key_file_that_works_again_is_not_held_up_by_its_old_pin() {
    let stage = Stage::new();
    stage.write("imagekey.yaml", &format!("pin-value={WRONG_PIN}"));
    let _ = stage.refusal();
    stage.write("imagekey.yaml", &format!("pin-value={PIN}"));
    // A file that was written just now might be another by the time of the login.
    thread::sleep(Duration::from_millis(3_100));
    stage.assert_opens();
    let record = || {
        let name = stage
            .files()
            .into_iter()
            .find(|name| name.ends_with("rejected"));
        fs::read_to_string(stage.token.runtime().join(name.unwrap())).unwrap()
    };
    assert!(record().contains("imagekey.yaml"), "{}", record());
    let before = record();
    stage.assert_opens();
    assert_eq!(record(), before);
    // Written anew with the old PIN, it is refused, though it worked.
    stage.write("imagekey.yaml", &format!("pin-value={WRONG_PIN}"));
    let _ = stage.unruly.calls();
    assert!(stage.refusal().contains("was rejected before"));
    assert_eq!(stage.unruly.count("C_Login"), 0);
}

#[test]
fn a_broken_record_is_no_panic() {
    let stage = Stage::new();
    stage.write("imagekey.yaml", &format!("pin-value={WRONG_PIN}"));
    let _ = stage.refusal();
    let name = stage
        .files()
        .into_iter()
        .find(|name| name.ends_with("rejected"));
    let path = stage.token.runtime().join(name.unwrap());
    let text = fs::read_to_string(&path).unwrap();
    let salt = text.split("\"salt\":\"").nth(1).unwrap()[..32].to_owned();
    fs::write(&path, text.replace(&salt, "00")).unwrap();
    assert!(stage.refusal().contains("the PIN is wrong"));
    assert!(stage.refusal().contains("was rejected before"));
}

#[test]
fn doctor_tells_which_files_are_copies() {
    let node = Node::new();
    fs::copy(node.key_file(), node.keys.join("key0.yaml.bak")).unwrap();
    let output = node.doctor(&[]);
    assert!(output.status.success(), "{}", output.text());
    let told = line(&output.text(), "key0.yaml.bak").to_owned();
    assert!(
        told.contains("passed over") && told.contains("a copy of another file"),
        "{told}"
    );
}
