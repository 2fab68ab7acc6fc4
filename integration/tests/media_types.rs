//! The stream processors that `ocihsm config containerd` prints, on layers of the media types that are rare.

use std::fs;
use std::path::Path;

use integration::containerd::{Containerd, Settings};
use integration::layer::{Compression, Layer, digest};
use integration::layout::Layout;
use integration::program::Program;
use integration::root::{Root, ran_on};
use integration::token::Token;
use integration::{ocihsm, skip, vector};
use serde_json::Value;

/// A copy of an image whose layers are marked as not to be distributed.
fn nondistributable(from: &Layout, to: &Path) -> Layout {
    let copy = from.copy(to);
    let index = copy.path().join("index.json");
    let text = fs::read_to_string(&index).unwrap();
    let entry: Value = serde_json::from_str(&text).unwrap();
    let old = entry["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let size = entry["manifests"][0]["size"].to_string();
    let manifest = fs::read_to_string(copy.blob(&old)).unwrap();
    let manifest = manifest.replace("image.layer.v1", "image.layer.nondistributable.v1");
    let new = digest(manifest.as_bytes());
    fs::write(copy.blob(&new), &manifest).unwrap();
    let text = text.replace(&old, &new);
    fs::write(&index, text.replace(&size, &manifest.len().to_string())).unwrap();
    copy
}

/// A layer of no bytes at all, as Docker makes them, among two that have some.
fn with_an_empty_layer(place: &Path) -> Layout {
    let some = |name| Layer::file(name, b"content", Compression::Gzip);
    let layers = [some("a"), Layer::new(b"", Compression::None), some("b")];
    Layout::create(place, &layers, &["/none"])
}

#[test]
fn a_layer_of_no_bytes_is_imported_as_it_is_plain() {
    if !skip::root() || !skip::programs(&["containerd", "ctr"]) {
        return;
    }
    let token = Token::vectors();
    let plain = with_an_empty_layer(&token.path().join("plain"));
    let mut versions = Vec::new();
    for (cipher, root) in ["aes-256-ctr-hmac-sha256", "aes-256-gcm"]
        .into_iter()
        .flat_map(|cipher| Root::all().into_iter().map(move |root| (cipher, root)))
    {
        let encrypted = token.path().join(cipher);
        let _ = fs::remove_dir_all(&encrypted);
        Program::new(ocihsm())
            .args(["encrypt", "--cipher", cipher])
            .args([plain.path(), &encrypted])
            .arg("--recipient")
            .arg(vector("keys/rsa3072.pub.pem"))
            .ok();
        let containerd = Containerd::start(&Settings::new(root, &token.keys(&["rsa3072"])));
        for (name, layout) in [
            ("plain", plain.copy(token.path().join("copy"))),
            ("encrypted", Layout::open(&encrypted)),
        ] {
            let output = containerd.import(&layout.archive(), name);
            assert!(
                output.status.success(),
                "{name}, {}: {output:?}",
                containerd.version()
            );
            let _ = fs::remove_dir_all(token.path().join("copy"));
        }
        versions.push(containerd.version().to_owned());
    }
    ran_on(&versions);
}

#[test]
fn layers_that_are_not_to_be_distributed_are_opened_like_others() {
    if !skip::root() || !skip::programs(&["containerd", "ctr"]) {
        return;
    }
    let token = Token::vectors();
    let (keys, log) = (token.keys(&["rsa3072"]), token.path().join("log"));
    let processors = Program::new(ocihsm())
        .args(["config", "containerd", "--policy", "internal", "--keys"])
        .arg(&keys)
        .arg("--path")
        .arg(ocihsm())
        .arg("--log")
        .arg(&log)
        .ok()
        .text();
    let plain = Layout::open(vector("images/plain"));
    let plain = nondistributable(&plain, &token.path().join("plain"));
    let encrypted = token.path().join("encrypted");
    Program::new(ocihsm())
        .arg("encrypt")
        .args([plain.path(), &encrypted])
        .arg("--recipient")
        .arg(format!(
            "pkcs11:{}",
            vector("keys/rsa3072.pub.pem").display()
        ))
        .ok();
    let archive = Layout::open(encrypted).archive();
    let mut versions = Vec::new();
    for root in Root::all() {
        let _ = fs::remove_file(&log);
        let containerd = Containerd::start(&Settings {
            root,
            // The file that this becomes part of has a version of its own.
            processors: processors.replace("\nversion = 2\n", "\n"),
            cri: None,
        });
        let output = containerd.import(&archive, "nondistributable");
        assert!(
            output.status.success(),
            "{}: {output:?}",
            containerd.version()
        );
        let records = fs::read_to_string(&log).unwrap();
        let layers: Vec<Value> = records
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        for (kind, layer) in ["tar", "tar+gzip", "tar+zstd"].iter().zip(&layers) {
            let expected =
                format!("application/vnd.oci.image.layer.nondistributable.v1.{kind}+encrypted");
            assert_eq!(layer["media_type"], expected.as_str());
        }
        assert_eq!(layers.len(), 3, "{}: {records}", containerd.version());
        versions.push(containerd.version().to_owned());
    }
    ran_on(&versions);
}
