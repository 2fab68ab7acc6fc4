//! Layers that are not what their MAC says: what `ocihsm decode` must not write, and how it ends.

use std::fs;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use integration::content_store;
use integration::layer::{Compression, Layer, noise};
use integration::layout::Layout;
use integration::processor::{Outcome, Processor, TYPE_URL, Third, any};
use integration::token::Token;
use integration::vectors::Vector;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How much of the plain layer is held back until the MAC has agreed.
const HELD_BACK: usize = 10 << 10;
const PUBLIC_OPTIONS: &str = "org.opencontainers.image.enc.pubopts";
const PAYLOAD_TYPE: &str = "io.containerd.ocicrypt.v1.Payload";

struct Stage {
    token: Token,
    layout: Layout,
    layer: Value,
    blob: Vec<u8>,
    plain: Vec<u8>,
    _place: TempDir,
}

impl Stage {
    /// A layer that another tool made, small enough to be verified before the first byte is written.
    fn small() -> Self {
        let vectors = Vector::all()
            .into_iter()
            .filter(|vector| vector.image == "sha256-pubkey");
        let vector = vectors
            .max_by_key(|vector| vector.layer["size"].as_u64())
            .unwrap();
        let stage = Self::new(
            Token::vectors(),
            vector.layout.clone(),
            TempDir::new().unwrap(),
        );
        vector.assert_plain(&stage.plain);
        stage
    }

    /// A layer that is written while it is verified.
    fn large() -> Self {
        let token = Token::vectors();
        let place = TempDir::new().unwrap();
        let layer = Layer::file("large", &noise(8 << 20), Compression::None);
        let plain = Layout::create(
            place.path().join("image"),
            std::slice::from_ref(&layer),
            &["/bin/true"],
        );
        let encrypted = token.encrypt(&plain, "rsa3072", &[]);
        let stage = Self::new(token, encrypted, place);
        assert_eq!(stage.plain, layer.blob);
        stage
    }

    /// The largest layer of an image for `rsa3072`.
    fn new(token: Token, layout: Layout, place: TempDir) -> Self {
        let layer = layout
            .layers()
            .into_iter()
            .max_by_key(|layer| layer["size"].as_u64())
            .unwrap();
        let processor = Processor::decode(&token, &layout, &layer, &token.keys(&["rsa3072"]));
        let plain = processor.payload(&layer, &Value::Null).run().output.stdout;
        let blob = layout.read(&layer);
        Self {
            token,
            layout,
            layer,
            blob,
            plain,
            _place: place,
        }
    }

    /// The layer's file in a content store that is made here.
    fn stored_in(&self, root: &Path) -> PathBuf {
        self.layout.store(root);
        let digest = self.layer["digest"].as_str().unwrap();
        content_store::file(root, digest)
    }

    fn decode(&self) -> Processor {
        Processor::decode(
            &self.token,
            &self.layout,
            &self.layer,
            &self.token.keys(&["rsa3072"]),
        )
    }

    /// Feeds other bytes under the layer's own descriptor.
    fn feed(&self, bytes: impl Into<Vec<u8>>) -> Outcome {
        self.decode()
            .payload(&self.layer, &Value::Null)
            .bytes(bytes)
            .run()
    }

    /// The layer's descriptor with other public options.
    fn with_options(&self, change: impl FnOnce(&mut Value)) -> Value {
        let mut layer = self.layer.clone();
        let options = STANDARD
            .decode(layer["annotations"][PUBLIC_OPTIONS].as_str().unwrap())
            .unwrap();
        let mut options: Value = serde_json::from_slice(&options).unwrap();
        change(&mut options);
        layer["annotations"][PUBLIC_OPTIONS] = STANDARD.encode(options.to_string()).into();
        layer
    }
}

/// It failed, said one thing, and no consumer can take what it wrote for the layer.
fn assert_failed(outcome: &Outcome) {
    let Outcome {
        output,
        until_exit,
        until_end_of_output,
    } = outcome;
    assert!(!output.status.success(), "{output:?}");
    assert!(output.stderr.starts_with("ocihsm: error: "), "{output:?}");
    assert!(
        !output.stderr.contains('\n'),
        "an event is one line: {output:?}"
    );
    assert!(
        output.stderr.len() <= 1024,
        "an event holds 1024 bytes: {output:?}"
    );
    let held = until_end_of_output.saturating_sub(*until_exit);
    assert!(
        held > Duration::from_millis(100),
        "the end of the output came {held:?} after our own"
    );
}

fn assert_failed_silently(outcome: &Outcome) {
    assert_failed(outcome);
    assert_eq!(outcome.output.stdout.len(), 0, "{:?}", outcome.output);
}

fn holds(output: &[u8], part: &[u8]) -> bool {
    output.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_truncated_layer_does_not_yield_its_tail() {
    let stage = Stage::large();
    for length in [
        1,
        511,
        HELD_BACK,
        stage.blob.len() / 2,
        stage.blob.len() - 1,
    ] {
        let outcome = stage.feed(&stage.blob[..length]);
        assert_failed(&outcome);
        let held_back = &stage.plain[length.saturating_sub(HELD_BACK)..length];
        let part = &held_back[..held_back.len().min(64)];
        assert!(
            length < 64 || !holds(&outcome.output.stdout, part),
            "cut to {length} bytes"
        );
    }
}

#[test]
fn an_extended_layer_is_not_taken_for_the_layer() {
    let stage = Stage::large();
    // The second is what an attacker would choose who knows how much is held back.
    for extra in [1, HELD_BACK, 1 << 20] {
        let outcome = stage.feed([&stage.blob[..], &vec![0; extra]].concat());
        assert_failed(&outcome);
        assert_ne!(outcome.output.stdout, stage.plain, "{extra} bytes more");
    }
}

#[test]
fn a_flipped_bit_does_not_yield_the_tail() {
    let stage = Stage::large();
    for place in [0, 512, stage.blob.len() / 2, stage.blob.len() - 1] {
        let mut blob = stage.blob.clone();
        blob[place] ^= 1;
        let outcome = stage.feed(blob);
        assert_failed(&outcome);
        let held_back = &stage.plain[stage.plain.len() - HELD_BACK..];
        assert!(
            !holds(&outcome.output.stdout, &held_back[..64]),
            "bit at {place}"
        );
    }
}

#[test]
fn what_a_failed_stream_ends_with_is_different_each_time() {
    let stage = Stage::large();
    let mut blob = stage.blob.clone();
    blob[0] ^= 1;
    let (first, second) = (stage.feed(&blob[..]), stage.feed(&blob[..]));
    assert_ne!(
        first.output.stdout.len(),
        0,
        "some of it was written: {first:?}"
    );
    assert_ne!(first.output.stdout, second.output.stdout);
}

#[test]
fn an_empty_stream_yields_nothing() {
    assert_failed_silently(&Stage::small().feed([]));
}

#[test]
fn a_layer_without_a_mac_yields_nothing() {
    let stage = Stage::small();
    for change in [Value::Null, json!(""), json!("AAAA")] {
        let layer = stage.with_options(|options| options["hmac"] = change);
        assert_failed_silently(&stage.decode().payload(&layer, &Value::Null).run());
    }
    let layer = stage.with_options(|options| {
        options.as_object_mut().unwrap().remove("hmac");
    });
    assert_failed_silently(&stage.decode().payload(&layer, &Value::Null).run());
}

#[test]
fn a_layer_renamed_to_the_other_cipher_yields_nothing() {
    let stage = Stage::small();
    let layer = stage.with_options(|options| {
        *options = json!({"cipher": "AES_256_GCM_STREAM", "hmac": null, "cipheroptions": {}});
    });
    assert_failed_silently(&stage.decode().payload(&layer, &Value::Null).run());
}

#[test]
fn an_unknown_cipher_is_named() {
    let stage = Stage::small();
    let layer = stage.with_options(|options| options["cipher"] = "ROT13".into());
    let outcome = stage.decode().payload(&layer, &Value::Null).run();
    assert_failed_silently(&outcome);
    assert!(
        outcome.output.stderr.contains("ROT13"),
        "{:?}",
        outcome.output
    );
}

/// Bytes that a bad disk changed after containerd had checked them; the store is still where they come from.
#[test]
fn a_large_layer_in_the_store_yields_nothing_when_it_is_bad() {
    let stage = Stage::large();
    let root = tempfile::tempdir().unwrap();
    let file = stage.stored_in(root.path());
    let decode = || {
        let processor = stage.decode().store(root.path());
        processor.blob(file.clone())
    };
    let descriptor = |processor: Processor| processor.payload(&stage.layer, &Value::Null);
    for good in [decode(), descriptor(decode())] {
        let outcome = good.run();
        assert_eq!(outcome.output.stdout, stage.plain, "{:?}", outcome.output);
    }
    let mut blob = stage.blob.clone();
    let middle = blob.len() / 2;
    blob[middle] ^= 1;
    fs::write(&file, blob).unwrap();
    let log = stage.token.path().join("log");
    for bad in [decode(), descriptor(decode())] {
        let outcome = bad.env("OCIHSM_LOG", &log).run();
        assert_failed_silently(&outcome);
        let stderr = &outcome.output.stderr;
        assert!(stderr.contains("verification failed"), "{stderr}");
        let text = fs::read_to_string(&log).unwrap();
        let record: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(record["bytes"], stage.layer["size"], "{text}");
        assert!(record["stream_ms"].as_f64().unwrap() > 0.0, "{text}");
    }
    // As it is written while it is verified, some of it has left by then.
    let outcome = decode().arg("--single-pass").run();
    assert_failed(&outcome);
    assert!(!outcome.output.stdout.is_empty());
}

/// Only what the parent holds open is what it feeds us.
#[test]
fn a_bad_copy_in_some_store_is_no_reason_to_fail() {
    let stage = Stage::large();
    let root = tempfile::tempdir().unwrap();
    let file = stage.stored_in(root.path());
    let mut blob = stage.blob.clone();
    let middle = blob.len() / 2;
    blob[middle] ^= 1;
    fs::write(&file, blob).unwrap();
    // A parent of its own, that holds nothing.
    let processor = stage.decode().store(root.path());
    let outcome = processor
        .through(&["sh", "-c", r#""$@"; exit $?"#, "sh"])
        .run();
    assert_eq!(outcome.output.stdout, stage.plain, "{:?}", outcome.output);
}

#[test]
fn a_payload_for_another_layer_yields_nothing_whole() {
    let stage = Stage::small();
    let other = Vector::first("sha256-pubkey");
    let outcome = stage.decode().payload(&other.layer, &Value::Null).run();
    assert_failed(&outcome);
    assert!(!holds(&outcome.output.stdout, &stage.plain[..64]));
}

#[test]
fn a_payload_of_garbage_is_an_error() {
    let stage = Stage::small();
    let garbage: [&[u8]; 4] = [b"garbage", b"{}", b"[]", b"{\"Descriptor\": 1}"];
    for garbage in garbage {
        let outcome = stage
            .decode()
            .third(Third::Bytes(any(PAYLOAD_TYPE, garbage)))
            .run();
        assert_failed_silently(&outcome);
        assert!(
            outcome.output.stderr.contains("payload"),
            "{:?}",
            outcome.output
        );
    }
}

#[test]
fn a_payload_without_end_is_refused_with_its_bound() {
    let stage = Stage::small();
    let outcome = stage
        .decode()
        .third(Third::Bytes(any(TYPE_URL, &vec![b' '; 5 << 20])))
        .run();
    assert_failed_silently(&outcome);
    assert!(
        outcome.output.stderr.contains(&(4 << 20).to_string()),
        "{:?}",
        outcome.output
    );
}

/// Whatever else has the number 3 is not a payload, and the content store still tells which layer this is.
#[test]
fn what_is_no_payload_is_left_alone() {
    let stage = Stage::small();
    let root = tempfile::tempdir().unwrap();
    stage.layout.store(root.path());
    let open = |path: &str| OwnedFd::from(fs::File::open(path).unwrap());
    let (silent, _writer) = std::io::pipe().unwrap();
    let (ended, writer) = std::io::pipe().unwrap();
    drop(writer);
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let thirds = [
        ("a directory", Third::Is(open("/"))),
        ("a device", Third::Is(open("/dev/null"))),
        ("a file", Third::Is(open("/etc/passwd"))),
        ("a long text", Third::Bytes(vec![b' '; 5 << 20])),
        ("a socket", Third::Is(socket.into())),
        ("an ended pipe", Third::Is(ended.into())),
        ("a pipe that never delivers", Third::Is(silent.into())),
        (
            "another message",
            Third::Bytes(any("type.example/Other", b"{}")),
        ),
        (
            "no message",
            Third::Bytes(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()),
        ),
    ];
    for (what, third) in thirds {
        let outcome = stage.decode().store(root.path()).third(third).run();
        assert_eq!(
            outcome.output.stdout, stage.plain,
            "{what}: {:?}",
            outcome.output
        );
        assert!(
            outcome.until_exit < Duration::from_secs(20),
            "{what}: {:?}",
            outcome.until_exit
        );
    }
}

#[test]
fn a_payload_in_a_file_is_read() {
    let stage = Stage::small();
    let payload = json!({"DecryptConfig": {"Parameters": null}, "Descriptor": stage.layer});
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&any(PAYLOAD_TYPE, payload.to_string().as_bytes()))
        .unwrap();
    let outcome = stage
        .decode()
        .third(Third::Is(file.reopen().unwrap().into()))
        .run();
    assert_eq!(outcome.output.stdout, stage.plain, "{:?}", outcome.output);
}

#[test]
fn a_consumer_that_goes_away_is_a_failure() {
    let stage = Stage::large();
    let outcome = stage
        .decode()
        .payload(&stage.layer, &Value::Null)
        .read_at_most(1 << 20)
        .run();
    assert!(!outcome.output.status.success());
    assert!(
        outcome.output.stderr.contains("write"),
        "{:?}",
        outcome.output
    );
}

#[test]
fn a_layer_that_no_store_knows_says_where_it_looked() {
    let stage = Stage::small();
    let root = tempfile::tempdir().unwrap();
    Vector::first("ctr-enc").layout.store(root.path());
    // A parent of its own, since we hold the blob open, next to its manifest.
    let outcome = stage
        .decode()
        .store(root.path())
        .through(&["sh", "-c", r#""$@"; exit $?"#, "sh"])
        .run();
    assert_failed_silently(&outcome);
    assert!(
        outcome
            .output
            .stderr
            .contains(root.path().to_str().unwrap()),
        "{:?}",
        outcome.output
    );
}
