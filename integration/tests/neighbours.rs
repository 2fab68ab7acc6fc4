//! A token that hangs in its login, and what others have of it: nothing. And an answer that nobody waited for.
//!
//! On SoftHSM, behind a module that hangs where it is told to (`unruly.c`).

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use integration::content_store;
use integration::processor::{Outcome, Processor};
use integration::program::Program;
use integration::token::{PIN, SOFTHSM, Token, WRONG_PIN, copy_directory};
use integration::unruly::Unruly;
use integration::vectors::Vector;
use serde_json::{Value, json};

/// The token of the vectors and one called `stale`, both shown by one module; and a layer for the first.
struct Stage {
    token: Token,
    _stale: Token,
    unruly: Unruly,
    vector: Vector,
}

impl Stage {
    fn new() -> Self {
        let (token, stale) = (Token::vectors(), Token::new("stale"));
        let _ = stale.generate("key", 1, 3072);
        copy_directory(&stale.path().join("tokens"), &token.path().join("tokens"));
        let stage = Self {
            token,
            _stale: stale,
            unruly: Unruly::new(),
            vector: Vector::first("sha256-pubkey"),
        };
        let module = stage.unruly.module();
        let policy = format!("pkcs11:\n  allowed-module-paths: [{}]\n", module.display());
        fs::write(stage.path("policy"), policy).unwrap();
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.token.path().join(name)
    }

    /// A directory with these key files: name, URI, PIN.
    fn keys(&self, directory: &str, files: &[(&str, &str, &str)], env: &[(&str, &str)]) -> PathBuf {
        let keys = self.path(directory);
        fs::create_dir_all(&keys).unwrap();
        for (name, uri, pin) in files {
            let module = self.unruly.module();
            let uri = format!("{uri}?pin-value={pin}&module-path={}", module.display());
            let mut text = format!(
                "pkcs11:\n  uri: {}\nmodule:\n  env:\n    SOFTHSM2_CONF: {}\n",
                json!(uri),
                self.token.configuration().display()
            );
            for (name, value) in self.unruly.env(Path::new(SOFTHSM)) {
                text.push_str(&format!("    {name}: {value}\n"));
            }
            for (name, value) in env {
                text.push_str(&format!("    {name}: {value}\n"));
            }
            fs::write(keys.join(name), text).unwrap();
        }
        keys
    }

    fn processor(&self, keys: &Path, timeout: u32) -> Processor {
        Processor::decode(&self.token, &self.vector.layout, &self.vector.layer, keys)
            .arg("--hsm-timeout")
            .arg(timeout.to_string())
            .env("OCICRYPT_CONFIG", self.path("policy"))
    }

    fn decode(&self, keys: &Path, timeout: u32) -> Outcome {
        let described = self.processor(keys, timeout);
        described.payload(&self.vector.layer, &Value::Null).run()
    }

    fn refusal(&self, keys: &Path, timeout: u32) -> String {
        let output = self.decode(keys, timeout).output;
        assert!(!output.status.success());
        output.stderr
    }

    fn assert_opens(&self, keys: &Path, timeout: u32) {
        let output = self.decode(keys, timeout).output;
        assert!(output.status.success(), "{}", output.stderr);
        self.vector.assert_plain(&output.stdout);
    }

    fn good(&self) -> String {
        self.token.uri("rsa3072")
    }
}

const STALE: &str = "pkcs11:token=stale;object=key";
/// What makes the login to that token hang.
const HANGS: [(&str, &str); 2] = [("UNRULY_FAULTS", "C_Login=hang"), ("UNRULY_TOKEN", "stale")];

#[test]
fn a_pin_to_which_no_answer_comes_is_sent_once() {
    let stage = Stage::new();
    let keys = stage.keys(
        "keys",
        &[("a.yaml", &stage.good(), WRONG_PIN)],
        &[("UNRULY_FAULTS", "C_Login=hang")],
    );
    assert!(
        stage
            .refusal(&keys, 2)
            .contains("did not answer within 2 s, in C_Login")
    );
    for _ in 0..2 {
        let error = stage.refusal(&keys, 2);
        assert!(
            error.contains("a.yaml was tried before without an answer")
                && error.contains("forget-rejected-pins"),
            "{error}"
        );
    }
    // Not from another file either.
    let copy = stage.keys(
        "copy",
        &[("b.yaml", &stage.good(), WRONG_PIN)],
        &[("UNRULY_FAULTS", "C_Login=hang")],
    );
    assert!(stage.refusal(&copy, 2).contains("without an answer"));
    assert_eq!(stage.unruly.count("C_Login"), 1);
    // The right one is another.
    let right = stage.keys("right", &[("a.yaml", &stage.good(), PIN)], &[]);
    stage.assert_opens(&right, 10);
    Program::new(integration::ocihsm())
        .args(["keys", "forget-rejected-pins"])
        .env("OCIHSM_RUNTIME_DIR", stage.token.runtime())
        .ok();
    let _ = stage.unruly.calls();
    assert!(stage.refusal(&keys, 2).contains("did not answer"));
    assert_eq!(stage.unruly.count("C_Login"), 1);
}

#[test]
fn what_a_login_comes_to_is_known_after_a_decoder_that_was_killed_in_it() {
    for (pin, opens) in [(WRONG_PIN, false), (PIN, true)] {
        let stage = Stage::new();
        let keys = |faults| {
            stage.keys(
                "keys",
                &[("a.yaml", &stage.good(), pin)],
                &[("UNRULY_FAULTS", faults)],
            )
        };
        let killed = (stage.processor(&keys("C_Login=late"), 20))
            .payload(&stage.vector.layer, &Value::Null)
            .through(&["timeout", "--foreground", "--signal=KILL", "1"])
            .run();
        assert!(!killed.output.status.success());
        let begin = Instant::now();
        let output = stage.decode(&keys("C_Login=late"), 20).output;
        assert_eq!(output.status.success(), opens, "{}", output.stderr);
        if !opens {
            assert!(
                output.stderr.contains("was rejected before"),
                "{}",
                output.stderr
            );
        }
        // It waited for the other's answer, and not for the other's time to be over.
        assert!(begin.elapsed() < Duration::from_secs(15));
        assert_eq!(stage.unruly.count("C_Login"), 1 + usize::from(opens));
    }
}

#[test]
fn a_token_that_hangs_takes_no_other_token_of_its_module_away() {
    for names in [["a.yaml", "b.yaml"], ["b.yaml", "a.yaml"]] {
        let stage = Stage::new();
        let good = stage.good();
        let files = [(names[0], STALE, PIN), (names[1], good.as_str(), PIN)];
        let keys = stage.keys("keys", &files, &HANGS);
        stage.assert_opens(&keys, 3);
        // A key that may be on the token which hangs is not tried with it.
        let both = [("a.yaml", STALE, PIN), ("b.yaml", "pkcs11:object=key", PIN)];
        let keys = stage.keys("both", &both, &HANGS);
        let _ = stage.unruly.calls();
        let begin = Instant::now();
        let _ = stage.refusal(&keys, 3);
        assert!(stage.unruly.count("C_Login") <= 1);
        assert!(begin.elapsed() < Duration::from_secs(12));
    }
}

#[test]
fn decoders_that_hang_on_one_token_keep_nobody_from_another() {
    let stage = Stage::new();
    let hanging = stage.keys("hanging", &[("a.yaml", STALE, PIN)], &HANGS);
    let good = stage.good();
    let keys = stage.keys("keys", &[("b.yaml", good.as_str(), PIN)], &HANGS);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| stage.refusal(&hanging, 15));
        }
        thread::sleep(Duration::from_secs(1));
        for _ in 0..3 {
            let begin = Instant::now();
            stage.assert_opens(&keys, 12);
            assert!(
                begin.elapsed() < Duration::from_secs(10),
                "{:?}",
                begin.elapsed()
            );
        }
    });
}

/// Adds manifests that list the layer, each with one wrapped key that nobody here opens.
fn crowd(store: &Path, layer: &Value, count: u32) {
    for number in 0..count {
        let mut blob = vec![0; 384];
        blob[4..8].copy_from_slice(&number.to_be_bytes());
        blob[383] = 1;
        let packet = json!({"version": 0, "recipients": [{"version": 0, "blob": STANDARD.encode(&blob), "hash": "sha256"}]});
        let mut layer = layer.clone();
        layer["annotations"]["org.opencontainers.image.enc.keys.pkcs11"] =
            STANDARD.encode(packet.to_string()).into();
        content_store::describe(store, &[layer]);
    }
}

#[test]
fn a_crowd_of_foreign_manifests_costs_time_and_no_more() {
    let stage = Stage {
        // Another layer than in the other tests: this process holds theirs open, and is the parent of this decoder too.
        vector: Vector::first("sha1-pubkey"),
        ..Stage::new()
    };
    let store = tempfile::tempdir().unwrap();
    stage.vector.layout.store_earlier(store.path());
    crowd(store.path(), &stage.vector.layer, 20);
    let good = stage.good();
    let files = [("a.yaml", good.as_str(), PIN)];
    let keys = stage.keys("keys", &files, &[("UNRULY_FAULTS", "C_Decrypt=slow")]);
    // Longer than one answer may take, all together.
    let digest = stage.vector.layer["digest"].as_str().unwrap();
    let run = |timeout| {
        let processor = stage
            .processor(&keys, timeout)
            .blob(content_store::file(store.path(), digest));
        processor.store(store.path()).run()
    };
    let outcome = run(2);
    assert!(outcome.output.status.success(), "{}", outcome.output.stderr);
    assert!(
        outcome.until_exit > Duration::from_secs(4),
        "{:?}",
        outcome.until_exit
    );
    stage.vector.assert_plain(&outcome.output.stdout);
    // Longer than anybody waits: it is told as what it is.
    crowd(store.path(), &stage.vector.layer, 60);
    let output = run(1).output;
    assert!(!output.status.success());
    assert!(
        output.stderr.contains("gave up after 5 s and ") && output.stderr.contains("--hsm-timeout"),
        "{}",
        output.stderr
    );
}
