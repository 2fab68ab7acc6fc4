//! Image layouts that are broken, keys that do not fit, and a user who changes their mind: `ocihsm encrypt` and
//! `decrypt` fail with a reason, and leave everything as it was.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use integration::layer::{Compression, Layer};
use integration::layout::Layout;
use integration::program::Output;
use integration::token::{Token, WRONG_PIN};
use integration::{ocihsm, vector};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// A directory with a copy of a vector image, which a test then breaks.
struct Stage {
    token: Token,
    place: TempDir,
    source: Layout,
}

impl Stage {
    fn new(image: &str) -> Self {
        let place = TempDir::new().unwrap();
        let original = Layout::open(vector("images").join(image));
        Self {
            token: Token::vectors(),
            source: original.copy(place.path().join("source")),
            place,
        }
    }

    fn run(&self, command: &str, options: &[&str]) -> Output {
        let target = self.place.path().join("target");
        let program = self
            .token
            .ocihsm()
            .args([command, &self.source.reference()]);
        program.arg(target).args(options).run()
    }

    fn encrypt(&self) -> Output {
        let key = vector("keys/rsa3072.pub.pem");
        self.run(
            "encrypt",
            &["--recipient", &format!("pkcs11:{}", key.display())],
        )
    }

    fn decrypt(&self) -> Output {
        let key = self.token.key_file("rsa3072");
        self.run("decrypt", &["--key", key.to_str().unwrap()])
    }

    fn first_layer(&self) -> PathBuf {
        let digest = self.source.layers()[0]["digest"].clone();
        self.source.blob(digest.as_str().unwrap())
    }

    /// It failed with that reason, and nothing is there that was not before.
    fn assert_fails(&self, output: &Output, part: &str) {
        assert!(!output.status.success());
        assert!(output.stderr.contains(part), "{}", output.stderr);
        assert_eq!(output.text(), "");
        assert_eq!(names(self.place.path()), ["source"]);
    }
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Changes text in the manifest, and lets digest and size in the index follow.
fn rewrite_manifest(layout: &Layout, change: impl Fn(&mut Value)) {
    let mut manifest = layout.manifest("amd64");
    change(&mut manifest);
    let text = manifest.to_string();
    let path = layout.path().join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let entry = layout.put(
        "application/vnd.oci.image.manifest.v1+json",
        text.as_bytes(),
    );
    for field in ["digest", "size"] {
        index["manifests"][0][field] = entry[field].clone();
    }
    fs::remove_file(&path).unwrap();
    fs::write(&path, index.to_string()).unwrap();
}

#[test]
fn a_missing_layer() {
    for (image, encrypt) in [("plain", true), ("sha256-pubkey", false)] {
        let stage = Stage::new(image);
        fs::remove_file(stage.first_layer()).unwrap();
        let output = if encrypt {
            stage.encrypt()
        } else {
            stage.decrypt()
        };
        stage.assert_fails(&output, "no such file");
    }
}

#[test]
fn a_damaged_plain_layer_is_not_encrypted() {
    let stage = Stage::new("plain");
    flip(&stage.first_layer());
    stage.assert_fails(
        &stage.encrypt(),
        "is damaged: its content has another digest",
    );
}

#[test]
fn a_damaged_encrypted_layer_is_not_decrypted() {
    let stage = Stage::new("sha256-pubkey");
    flip(&stage.first_layer());
    stage.assert_fails(&stage.decrypt(), "verification failed");
}

#[test]
fn a_damaged_blob_is_not_copied() {
    for (image, encrypt) in [("plain", true), ("sha256-pubkey", false)] {
        let stage = Stage::new(image);
        rewrite_manifest(&stage.source, |manifest| {
            // A config that nobody reads.
            manifest["config"]["mediaType"] = "application/vnd.wasm.config.v1+json".into();
        });
        let config = stage.source.manifest("amd64")["config"]["digest"].clone();
        flip(&stage.source.blob(config.as_str().unwrap()));
        let output = if encrypt {
            stage.encrypt()
        } else {
            stage.decrypt()
        };
        stage.assert_fails(&output, "is damaged: its content has another digest");
    }
}

#[test]
fn a_truncated_or_extended_layer() {
    for (image, encrypt) in [("plain", true), ("sha256-pubkey", false)] {
        for longer in [false, true] {
            let stage = Stage::new(image);
            let mut bytes = fs::read(stage.first_layer()).unwrap();
            bytes.resize(
                if longer {
                    bytes.len() + 1
                } else {
                    bytes.len() - 1
                },
                0,
            );
            fs::remove_file(stage.first_layer()).unwrap();
            fs::write(stage.first_layer(), bytes).unwrap();
            let output = if encrypt {
                stage.encrypt()
            } else {
                stage.decrypt()
            };
            stage.assert_fails(&output, "its descriptor says");
        }
    }
}

#[test]
fn a_damaged_manifest() {
    let stage = Stage::new("plain");
    let index = fs::read(stage.source.path().join("index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    flip(&stage.source.blob(digest));
    stage.assert_fails(
        &stage.encrypt(),
        "is damaged: its content has another digest",
    );
}

#[test]
fn a_manifest_over_the_limit_is_not_read() {
    let stage = Stage::new("plain");
    rewrite_manifest(&stage.source, |manifest| {
        manifest["filler"] = "x".repeat(5 << 20).into();
    });
    stage.assert_fails(&stage.encrypt(), "is over the limit of 4194304");
}

#[test]
fn a_digest_that_is_a_path_leads_nowhere() {
    for (image, encrypt) in [("plain", true), ("sha256-pubkey", false)] {
        let secret = "sha256:../../../../../../../../../../etc/hostname";
        let stage = Stage::new(image);
        rewrite_manifest(&stage.source, |manifest| {
            manifest["layers"][0]["digest"] = secret.into();
        });
        let output = if encrypt {
            stage.encrypt()
        } else {
            stage.decrypt()
        };
        stage.assert_fails(&output, "is not a sha256 digest");
    }
}

#[test]
fn an_unknown_cipher_is_told_before_any_token_is_asked() {
    use base64::Engine as _;
    let stage = Stage::new("sha256-pubkey");
    let options = r#"{"cipher":"ROT_13","hmac":null,"cipheroptions":{}}"#;
    rewrite_manifest(&stage.source, |manifest| {
        manifest["layers"][0]["annotations"]["org.opencontainers.image.enc.pubopts"] =
            base64::engine::general_purpose::STANDARD
                .encode(options)
                .into();
    });
    let wrong = format!(
        "{}?pin-value={WRONG_PIN}&module-name=softhsm2",
        stage.token.uri("rsa3072")
    );
    let key = stage.token.key_file_with("wrong", &wrong);
    let output = stage.run("decrypt", &["--key", key.to_str().unwrap()]);
    stage.assert_fails(&output, "unknown cipher \"ROT_13\"");
}

#[test]
fn a_layer_for_another_scheme_is_told_with_its_scheme() {
    let stage = Stage::new("jwe-rsa");
    stage.assert_fails(&stage.decrypt(), "wrapped with jwe: ");
}

#[test]
fn a_wrong_pin() {
    let stage = Stage::new("sha256-pubkey");
    let uri = stage.token.uri("rsa3072");
    let uri = format!("{uri}?pin-value={WRONG_PIN}&module-name=softhsm2");
    let key = stage.token.key_file_with("wrong", &uri);
    let output = stage.run("decrypt", &["--key", key.to_str().unwrap()]);
    stage.assert_fails(&output, "PIN");
}

#[test]
fn a_plain_image_is_not_decrypted_and_a_file_is_no_recipient() {
    let stage = Stage::new("plain");
    stage.assert_fails(&stage.decrypt(), "the image has no encrypted layer");
    let options = ["--recipient", "tpm:key.pem"];
    stage.assert_fails(&stage.run("encrypt", &options), "pkcs11:FILE");
    let options = ["--recipient", "pkcs11:/etc/hostname"];
    stage.assert_fails(&stage.run("encrypt", &options), "/etc/hostname");
}

#[test]
fn a_target_that_is_something_else_stays_what_it_is() {
    let stage = Stage::new("plain");
    let target = stage.place.path().join("target");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("notes"), "mine").unwrap();
    let output = stage.encrypt();
    assert!(!output.status.success());
    assert!(
        output.stderr.contains("is not an OCI image layout"),
        "{}",
        output.stderr
    );
    assert_eq!(names(&target), ["notes"]);
}

#[test]
fn a_failure_within_a_layout_leaves_it_as_it_was() {
    let stage = Stage::new("sha256-pubkey");
    let last = stage.source.layers()[2]["digest"].clone();
    flip(&stage.source.blob(last.as_str().unwrap()));
    let blobs = stage.source.path().join("blobs/sha256");
    let before = (names(stage.source.path()), names(&blobs));
    let index = fs::read(stage.source.path().join("index.json")).unwrap();
    let key = stage.token.key_file("rsa3072");
    let target = format!("{}:plain", stage.source.path().display());
    let output = stage
        .token
        .ocihsm()
        .args(["decrypt", &stage.source.reference(), &target, "--key"])
        .arg(key)
        .run();
    stage.assert_fails(&output, "verification failed");
    assert_eq!((names(stage.source.path()), names(&blobs)), before);
    assert_eq!(
        fs::read(stage.source.path().join("index.json")).unwrap(),
        index
    );
}

/// Begins to encrypt a layer of 16 GiB (of zeros, which take no space on disk), and sends these signals, one right
/// after the other, once some of it is written; before that another one, which is ignored, if there is one.
fn stopped_by(signals: &[Signal], ignored: Option<Signal>) -> (TempDir, std::process::Output) {
    let place = TempDir::new().unwrap();
    let layers = [Layer::file("a", b"a", Compression::None)];
    let source = Layout::create(place.path().join("source"), &layers, &["/a"]);
    rewrite_manifest(&source, |manifest| {
        manifest["layers"][0]["size"] = (16_u64 << 30).into();
    });
    let blob = source.layers()[0]["digest"].clone();
    File::create(source.blob(blob.as_str().unwrap()))
        .and_then(|file| file.set_len(16 << 30))
        .unwrap();
    let mut child = Command::new("sh")
        .args([
            "-c",
            r#"[ -z "$1" ] || trap '' "$1"; shift; exec "$@""#,
            "sh",
        ])
        .arg(ignored.map_or("", |signal| &signal.as_str()["SIG".len()..]))
        .arg(ocihsm())
        .args(["encrypt", &source.reference()])
        .arg(place.path().join("target"))
        .arg("--recipient")
        .arg(format!(
            "pkcs11:{}",
            vector("keys/rsa3072.pub.pem").display()
        ))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !has_bytes(place.path()) {
        assert!(Instant::now() < deadline, "nothing is being written");
        thread::sleep(Duration::from_millis(5));
    }
    let process = Pid::from_raw(child.id().try_into().unwrap());
    if let Some(ignored) = ignored {
        kill(process, ignored).unwrap();
        thread::sleep(Duration::from_millis(300));
        assert!(child.try_wait().unwrap().is_none(), "{ignored} ended it");
    }
    for signal in signals {
        kill(process, *signal).unwrap();
        thread::sleep(Duration::from_millis(1));
    }
    let output = child.wait_with_output().unwrap();
    (place, output)
}

/// Whether anything was written beside the source.
fn has_bytes(place: &Path) -> bool {
    names(place)
        .iter()
        .filter(|name| *name != "source")
        .filter_map(|name| fs::read_dir(place.join(name)).ok())
        .flatten()
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .any(|metadata| metadata.len() > 0)
}

#[test]
fn a_signal_leaves_nothing_behind() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let (place, output) = stopped_by(&[signal], None);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{signal}");
        assert!(stderr.contains("stopped by a signal"), "{signal}: {stderr}");
        assert!(output.stdout.is_empty());
        assert_eq!(names(place.path()), ["source"], "{signal}");
    }
}

#[test]
fn a_signal_that_comes_twice_leaves_nothing_behind() {
    // As timeout(1) sends it: to the process, and to the group that it is in.
    let (place, output) = stopped_by(&[Signal::SIGTERM, Signal::SIGTERM], None);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("stopped by a signal"), "{stderr}");
    assert_eq!(names(place.path()), ["source"]);
}

#[test]
fn a_signal_that_nohup_ignores_stops_nothing() {
    let (place, output) = stopped_by(&[Signal::SIGTERM], Some(Signal::SIGHUP));
    assert!(!output.status.success());
    assert_eq!(names(place.path()), ["source"]);
}
