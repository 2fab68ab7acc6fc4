//! A layer of any length passes through a decoder that holds little of it.

use integration::content_store;
use integration::layer::{Compression, Layer, digest, noise};
use integration::layout::Layout;
use integration::ocihsm;
use integration::processor::Processor;
use integration::program::Program;
use integration::token::Token;
use integration::vectors::Vector;
use serde_json::{Value, json};
use tempfile::TempDir;

#[test]
fn memory_does_not_grow_with_the_layer() {
    let token = Token::vectors();
    let place = TempDir::new().unwrap();
    let layers = [Layer::file("big", &noise(96 << 20), Compression::None)];
    let plain = Layout::create(place.path().join("image"), &layers, &["/big"]);
    let expected = plain.layers()[0]["digest"].clone();
    for cipher in ["aes-256-ctr-hmac-sha256", "aes-256-gcm"] {
        let encrypted = token.encrypt(&plain, "rsa3072", &["--cipher", cipher]);
        let layer = &encrypted.layers()[0];
        let keys = token.keys(&["rsa3072"]);
        // All data of the process, the module's child and thread stacks included.
        let outcome = Processor::decode(&token, &encrypted, layer, &keys)
            .payload(layer, &Value::Null)
            .through(&["prlimit", "--data=16777216"])
            .run();
        assert!(outcome.output.status.success(), "{:?}", outcome.output);
        assert_eq!(digest(&outcome.output.stdout), expected, "{cipher}");
        std::fs::remove_dir_all(encrypted.path()).unwrap();
    }
}

/// An image is somebody else's: what its manifests unfold to must not take the memory of whoever looks at it. Fifteen of
/// 4 MiB each took gibibytes.
#[test]
fn hostile_manifests_of_an_image_cost_inspect_little() {
    let vector = Vector::first("sha256-pubkey");
    let image = TempDir::new().unwrap();
    let blobs = image.path().join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(
        image.path().join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    let before = format!(r#"{{"schemaVersion":2,"layers":[{}],"x":["#, vector.layer);
    let manifests: Vec<Value> = (0..15)
        .map(|number| {
            let room = (4 << 20) - 64 - before.len();
            let manifest = format!(
                "{before}{}[]]}}{}",
                "[],".repeat(room / 3),
                " ".repeat(number)
            );
            let name = digest(manifest.as_bytes());
            let length = manifest.len();
            std::fs::write(blobs.join(&name["sha256:".len()..]), manifest).unwrap();
            json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": name,
                "size": length,
                "platform": { "architecture": format!("a{number}"), "os": "linux" },
            })
        })
        .collect();
    let index = json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
    let name = digest(index.as_bytes());
    std::fs::write(blobs.join(&name["sha256:".len()..]), &index).unwrap();
    let entry = json!({
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": name,
        "size": index.len(),
    });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    std::fs::write(image.path().join("index.json"), index.to_string()).unwrap();
    let output = Program::new("prlimit")
        .args(["--data=67108864"])
        .arg(ocihsm())
        .arg("inspect")
        .arg(image.path())
        .run();
    // Refused in words, not by the end of memory.
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.contains("over the limit of"), "{output:?}");
}

/// What a tenant's manifest may hold: as much as is read, deep, or of many small values.
#[test]
fn a_hostile_manifest_costs_no_more_than_its_own_length() {
    let token = Token::vectors();
    let vector = Vector::first("sha256-pubkey");
    let keys = token.keys(&["rsa3072"]);
    let digest = vector.layer["digest"].as_str().unwrap();
    let layer = vector.layer.to_string();
    let filled = |piece: &str, before: &str, after: &str| {
        let room = (4 << 20) - 64 - before.len() - after.len();
        format!("{before}{}{after}", piece.repeat(room / piece.len()))
    };
    let described = format!(r#"{{"layers":[{{"digest":"{digest}","annotations":{{"#);
    for (what, manifest) in [
        ("deep", {
            let depth = (2 << 20) - 200;
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            format!(r#"{{"layers":[{{"digest":"{digest}"}}],"x":{open}{close}}}"#)
        }),
        (
            "values",
            filled(
                "0,",
                &format!(r#"{{"layers":[{{"digest":"{digest}"}}],"x":["#),
                "0]}",
            ),
        ),
        (
            "annotations",
            filled(r#""a":"","#, &described, r#""a":""}}]}"#),
        ),
        (
            "annotations about encryption",
            filled(
                r#""org.opencontainers.image.enc.keys.x":"","#,
                &described,
                r#""a":""}}]}"#,
            ),
        ),
        (
            "layers",
            filled(
                &format!(r#"{{"digest":"{digest}","size":1}},"#),
                r#"{"layers":["#,
                &format!("{layer}]}}"),
            ),
        ),
        (
            "empty layers",
            filled("{},", r#"{"layers":["#, &format!("{layer}]}}")),
        ),
    ] {
        let store = tempfile::tempdir().unwrap();
        vector.layout.store(store.path());
        for number in 0..15 {
            let manifest = format!("{manifest}{}", " ".repeat(number));
            content_store::put(store.path(), manifest.as_bytes());
        }
        // 12 MiB, and the manifest.
        let outcome = Processor::decode(&token, &vector.layout, &vector.layer, &keys)
            .store(store.path())
            .through(&["prlimit", "--data=16777216"])
            .run();
        assert!(
            outcome.output.status.success(),
            "{what}: {:?}",
            outcome.output
        );
        vector.assert_plain(&outcome.output.stdout);
    }
}
