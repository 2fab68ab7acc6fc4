//! 5,000 random mutations of layers and of what describes them: none is accepted with other bytes, none is refused
//! without a reason, and a layer that nobody touched opens, whatever stands beside it.
//!
//! `OCIHSM_MUTATIONS_SEED` repeats a campaign, `OCIHSM_MUTATION` one mutation of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use integration::content_store;
use integration::layer::{Compression, Layer, digest, noise};
use integration::layout::Layout;
use integration::processor::Processor;
use integration::token::Token;
use integration::vectors::Vector;
use serde_json::{Value, json};

const MUTATIONS: u64 = 5_000;
const SEED: u64 = 0x6f63_6968_736d;
/// Processes that share the work. Each is the parent of its own decoders alone, which look at what it holds open; most of
/// their time a refused layer's standard output is held open.
const PARTS: u64 = 24;
const PUBLIC: &str = "org.opencontainers.image.enc.pubopts";
const KEYS: &str = "org.opencontainers.image.enc.keys.pkcs11";
const KEY: &str = "rsa3072";

/// A layer that opens.
struct Sample {
    layout: Layout,
    layer: Value,
    blob: Vec<u8>,
    plain: String,
}

/// SplitMix64.
struct Random(u64);

/// How one mutation is fed to a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Descriptor,
    Payload,
    /// Nothing but manifests of a store says what the layer is.
    Store,
}

/// What one mutation came to.
struct Case {
    way: Way,
    what: String,
    blob: Vec<u8>,
    /// As other tenants describe it.
    layers: Vec<Value>,
    /// Whether it still is the layer, and a description that nobody touched stands there.
    intact: bool,
}

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    fn one_of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// Layers of both ciphers, small and larger than what is verified whole.
fn samples(token: &Token, place: &Path) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut add = |layout: Layout, plain: String, layer: Value| {
        let blob = layout.read(&layer);
        samples.push(Sample {
            layout,
            layer,
            blob,
            plain,
        });
    };
    for vector in Vector::all()
        .into_iter()
        .filter(|it| it.image == "sha256-pubkey")
    {
        add(
            vector.layout,
            vector.plain.expect("it is written down"),
            vector.layer,
        );
    }
    for (name, length, cipher) in [
        ("gcm-small", 3_000, "aes-256-gcm"),
        ("gcm-large", 1_200_000, "aes-256-gcm"),
        ("ctr-large", 1_200_000, "aes-256-ctr-hmac-sha256"),
    ] {
        let layers = [Layer::file(name, &noise(length), Compression::None)];
        let plain = Layout::create(place.join(name), &layers, &["/x"]);
        let digest = plain.layers()[0]["digest"].as_str().unwrap().to_owned();
        let encrypted = token.encrypt(&plain, KEY, &["--cipher", cipher]);
        let layer = encrypted.layers()[0].clone();
        add(encrypted, digest, layer);
    }
    samples
}

/// Changes bytes.
fn damage(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8], what: &mut String) {
    let at = random.below(bytes.len());
    let kind = random.below(8);
    let _ = write!(what, " damage {kind} at {at}");
    match kind {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 => bytes.truncate(at),
        3 => {
            let more = random.below(40) + 1;
            bytes.extend(random.bytes(more));
        }
        4 => {
            let end = (at + random.below(64) + 1).min(bytes.len());
            bytes.drain(at..end);
        }
        5 => {
            let more = random.bytes(8);
            bytes.splice(at..at, more);
        }
        6 => *bytes = other.to_vec(),
        _ => bytes.extend(bytes.clone()),
    }
}

/// Changes the text of an annotation, as text, or as what it stands for.
fn change_text(random: &mut Random, text: &str, other: &str, what: &mut String) -> String {
    match random.below(4) {
        0 => {
            let mut bytes = text.as_bytes().to_vec();
            damage(random, &mut bytes, other.as_bytes(), what);
            String::from_utf8_lossy(&bytes).into_owned()
        }
        1 => {
            what.push_str(" joined with another's");
            let both = [text, other];
            let first = random.below(2);
            format!("{},{}", both[first], both[1 - first])
        }
        _ => {
            let mut bytes = STANDARD
                .decode(text.split(',').next().unwrap())
                .unwrap_or_default();
            let other = STANDARD
                .decode(other.split(',').next().unwrap())
                .unwrap_or_default();
            damage(random, &mut bytes, &other, what);
            STANDARD.encode(bytes)
        }
    }
}

/// Adds, moves or swaps public options.
fn change_options(random: &mut Random, text: &str, other: &str, what: &mut String) -> String {
    let read =
        |text: &str| -> Value { serde_json::from_slice(&STANDARD.decode(text).unwrap()).unwrap() };
    let (mut options, other) = (read(text), read(other));
    let kind = random.below(12);
    let _ = write!(what, " options {kind}");
    let length = *random.one_of(&[7, 16, 12, 0, 32]);
    let value = STANDARD.encode(random.bytes(length));
    let name = *random.one_of(&["nonce", "Nonce", "iv", "segment", "symkey"]);
    match kind {
        0 | 1 => options["cipheroptions"] = json!({ "nonce": value }),
        2 => options["cipheroptions"] = json!({ name: value }),
        3 => {
            options.as_object_mut().unwrap().remove("cipheroptions");
            let name = *random.one_of(&["CipherOptions", "CIPHEROPTIONS", "cipheroption\u{17f}"]);
            options[name] = json!({ "nonce": value });
        }
        4 => options["hmac"] = other["hmac"].clone(),
        5 => options["hmac"] = STANDARD.encode(random.bytes(length)).into(),
        6 => {
            let names = [
                "AES_256_GCM_STREAM",
                "AES_256_CTR_HMAC_SHA256",
                "AES_128_CTR",
                "",
            ];
            options["cipher"] = (*random.one_of(&names)).into();
        }
        7 => {
            let member = *random.one_of(&["cipher", "hmac", "cipheroptions"]);
            options.as_object_mut().unwrap().remove(member);
        }
        8 => options[name] = value.into(),
        9 => {
            // A member twice, which no map can hold.
            let text = options.to_string();
            let twice = format!(r#"{{"cipheroptions":{{"nonce":"{value}"}},{}"#, &text[1..]);
            return STANDARD.encode(twice);
        }
        10 => return STANDARD.encode(format!("{options}{other}")),
        _ => options["cipheroptions"] = json!({ "nonce": null, name: value }),
    }
    STANDARD.encode(options.to_string())
}

/// Changes one thing about a description.
fn change_description(random: &mut Random, layer: &mut Value, other: &Value, what: &mut String) {
    let text = |layer: &Value, name: &str| {
        layer["annotations"][name]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    match random.below(10) {
        0..=3 => {
            let changed = change_options(random, &text(layer, PUBLIC), &text(other, PUBLIC), what);
            layer["annotations"][PUBLIC] = changed.into();
        }
        4 => {
            what.push_str(" pubopts");
            let changed = change_text(random, &text(layer, PUBLIC), &text(other, PUBLIC), what);
            layer["annotations"][PUBLIC] = changed.into();
        }
        5 | 6 => {
            what.push_str(" keys");
            let changed = change_text(random, &text(layer, KEYS), &text(other, KEYS), what);
            layer["annotations"][KEYS] = changed.into();
        }
        7 => {
            let name = *random.one_of(&[PUBLIC, KEYS]);
            let _ = write!(what, " another's {name}");
            layer["annotations"][name] = other["annotations"][name].clone();
        }
        8 => {
            let size = *random.one_of(&[0, 1, 15, 16, 1 << 20, u64::MAX]);
            let _ = write!(what, " size {size}");
            layer["size"] = size.into();
        }
        _ => {
            what.push_str(" all annotations of another");
            layer["annotations"] = other["annotations"].clone();
        }
    }
}

fn case(samples: &[Sample], seed: u64, number: u64) -> (usize, Case) {
    let mut random = Random(seed ^ number.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let at = random.below(samples.len());
    let sample = &samples[at];
    let other = &samples[(at + 1 + random.below(samples.len() - 1)) % samples.len()];
    let way = *random.one_of(&[Way::Descriptor, Way::Payload, Way::Store, Way::Store]);
    let mut what = format!("{way:?}, layer {at}:");
    let mut blob = sample.blob.clone();
    let touched = random.below(4) == 0;
    if touched {
        damage(&mut random, &mut blob, &other.blob, &mut what);
    }
    let mut layers = Vec::new();
    let others = match way {
        Way::Store => random.below(6),
        _ => usize::from(!touched),
    };
    for _ in 0..others {
        let mut layer = sample.layer.clone();
        change_description(&mut random, &mut layer, &other.layer, &mut what);
        layers.push(layer);
    }
    let genuine = layers.is_empty() || (way == Way::Store && random.below(2) == 0);
    if genuine {
        what.push_str(" (and the true one)");
        let place = random.below(layers.len() + 1);
        layers.insert(place, sample.layer.clone());
    }
    let intact = genuine && blob == sample.blob;
    (
        at,
        Case {
            way,
            what,
            blob,
            layers,
            intact,
        },
    )
}

/// What is wrong with how a decoder took it.
fn run(token: &Token, keys: &Path, sample: &Sample, case: &Case) -> Result<bool, String> {
    let place = tempfile::tempdir().unwrap();
    // A store names blobs by their digests, whatever a manifest calls them.
    let file = content_store::put(place.path(), &case.blob);
    let processor = Processor::decode(token, &sample.layout, &sample.layer, keys)
        .blob(file)
        .store(place.path());
    let processor = match case.way {
        Way::Descriptor => {
            let path = place.path().join("descriptor");
            fs::write(&path, case.layers[0].to_string()).unwrap();
            processor.arg("--descriptor").arg(path)
        }
        Way::Payload => processor.payload(&case.layers[0], &Value::Null),
        Way::Store => {
            for layer in &case.layers {
                let mut layer = layer.clone();
                layer["digest"] = digest(&case.blob).into();
                content_store::describe(place.path(), &[layer]);
            }
            processor
        }
    };
    let output = processor.run().output;
    let accepted = output.status.success();
    if accepted && digest(&output.stdout) != sample.plain {
        return Err("accepted with other bytes".to_owned());
    }
    if !accepted && digest(&output.stdout) == sample.plain {
        return Err("refused after all of the layer had left".to_owned());
    }
    let reason = &output.stderr;
    let told = reason.starts_with("ocihsm: error: ") && reason.len() > 30;
    if !accepted && (output.status.code() != Some(1) || !told || reason.contains("internal")) {
        return Err(format!(
            "refused without a reason: {} {reason:?}",
            output.status
        ));
    }
    if case.intact && !accepted {
        return Err(format!("refused, though nobody touched it: {reason}"));
    }
    Ok(accepted)
}

fn seed() -> u64 {
    let named = env::var("OCIHSM_MUTATIONS_SEED").ok();
    named.map_or(SEED, |seed| seed.parse().expect("a number"))
}

/// The numbers of one part, or the one that is asked for.
fn part(part: u64) {
    let token = Token::vectors();
    let place = tempfile::tempdir().unwrap();
    let samples = samples(&token, place.path());
    let keys = token.keys(&[KEY]);
    let only = env::var("OCIHSM_MUTATION").ok();
    let numbers: Vec<u64> = match &only {
        Some(number) => vec![number.parse().expect("a number")],
        None => (part..MUTATIONS).step_by(PARTS as usize).collect(),
    };
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for &number in &numbers {
        let (at, case) = case(&samples, seed(), number);
        match run(&token, &keys, &samples[at], &case) {
            Ok(true) => *counts.entry("accepted").or_default() += 1,
            Ok(false) => *counts.entry("refused").or_default() += 1,
            Err(why) => println!("FOUND {number}: {why}; {}", case.what),
        }
    }
    println!("DONE {} {counts:?}", numbers.len());
}

#[test]
fn no_mutation_is_accepted_with_other_bytes() {
    if let Ok(number) = env::var("OCIHSM_MUTATIONS_PART") {
        return part(number.parse().expect("a number"));
    }
    println!("seed {}", seed());
    let parts = if env::var_os("OCIHSM_MUTATION").is_some() {
        1
    } else {
        PARTS
    };
    let program = env::current_exe().unwrap();
    let children: Vec<_> = (0..parts)
        .map(|number| {
            let mut command = Command::new(&program);
            command
                .args([
                    "--exact",
                    "no_mutation_is_accepted_with_other_bytes",
                    "--nocapture",
                ])
                .env("OCIHSM_MUTATIONS_PART", number.to_string())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    let mut found = Vec::new();
    let mut done = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        for line in text.lines() {
            if let Some(at) = line.find("FOUND ") {
                found.push(line[at..].to_owned());
            }
            if let Some(rest) = line.split("DONE ").nth(1) {
                println!("{rest}");
                done += rest.split(' ').next().unwrap().parse::<u64>().unwrap();
            }
        }
    }
    assert!(
        found.is_empty(),
        "{} of {done}:\n{}",
        found.len(),
        found.join("\n")
    );
    assert!(parts == 1 || done == MUTATIONS, "{done}");
}
