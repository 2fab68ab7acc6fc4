//! `ocihsm doctor --image`: whether the decoder of this node opens an image, layer by layer, and if not, why.

use std::fs;

use integration::layout::Layout;
use integration::node::Node;
use integration::registry::Registry;
use integration::skip;
use integration::token::{PIN, WRONG_PIN};
use integration::vector;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The findings about an image and its layers, each as `id text`; and whether doctor found nothing wrong.
fn ask(node: &Node, image: &str, more: &[&str]) -> (Vec<String>, bool) {
    let args = ["--image", image, "--json"];
    let output = node.doctor_program().args(args).args(more).run();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap().iter();
    let about = findings.filter(|it| it["subject"] == "image" || it["subject"] == "layer");
    let text = |name: &Value| name.as_str().unwrap_or_default().to_owned();
    let lines = about.map(|it| {
        let [id, said, mend] = ["id", "text", "mend"].map(|name| text(&it[name]));
        format!("{id} {said} -> {mend}")
    });
    (lines.collect(), output.status.success())
}

fn ids(found: &[String]) -> Vec<&str> {
    let ids = found.iter().filter_map(|line| line.split(' ').next());
    ids.collect()
}

fn image(name: &str) -> Layout {
    Layout::open(vector("images").join(name))
}

/// A copy whose first layer has another descriptor.
fn changed(place: &TempDir, change: impl Fn(&mut Value)) -> Layout {
    let layout = image("sha256-pubkey").copy(place.path().join("changed"));
    let mut manifest = layout.manifest("amd64");
    change(&mut manifest["layers"][0]);
    let entry = layout.put(
        "application/vnd.oci.image.manifest.v1+json",
        manifest.to_string().as_bytes(),
    );
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(layout.path().join("index.json"), index.to_string()).unwrap();
    layout
}

fn reference(layout: &Layout) -> String {
    format!("oci:{}", layout.path().display())
}

#[test]
fn each_layer_is_opened_by_the_key_of_the_node() {
    let node = Node::new();
    let image = image("sha256-pubkey");
    let (found, sound) = ask(&node, &reference(&image), &["--platform", "linux/amd64"]);
    assert!(sound, "{found:#?}");
    let mut expected = vec!["image"];
    expected.extend(image.layers().iter().map(|_| "layer-opens"));
    assert_eq!(ids(&found), expected, "{found:#?}");
    assert!(found[1].contains("object=rsa3072"), "{}", found[1]);

    if skip::programs(&["docker-registry"]) {
        let registry = Registry::start();
        let there = format!("docker://{}", registry.push(&image, "app"));
        let more = ["--platform", "linux/amd64", "--tls-verify=false"];
        let (there, sound) = ask(&node, &there, &more);
        assert!(sound);
        assert_eq!(there[1..], found[1..]);
    }
}

#[test]
fn a_layer_that_stays_shut_says_why() {
    let node = Node::new();
    let place = TempDir::new().unwrap();
    let plain = image("plain").copy(place.path().join("plain"));
    let shut = node.token.encrypt(&plain, "other3072", &[]);
    let image = reference(&shut);
    let (found, sound) = ask(&node, &image, &[]);
    assert!(!sound);
    assert!(
        found[1].starts_with("layer-shut") && found[1].contains("are for other keys"),
        "{found:#?}"
    );
    let (found, sound) = ask(&node, &reference(&plain), &[]);
    assert!(sound);
    assert_eq!(ids(&found), ["image"]);
    assert!(found[0].contains("encrypted: 0"), "{found:#?}");
    // As an operator reads it.
    let text = node.doctor(&["--image", &image]).text();
    assert!(text.contains("fail  layer: "), "{text}");
    assert!(text.contains("-> give this node a key"), "{text}");
}

#[test]
fn what_is_wrong_with_the_image_is_told_of() {
    let node = Node::new();
    let place = TempDir::new().unwrap();
    let one = |image: &str, more: &[&str], part: &str| {
        let (found, sound) = ask(&node, image, more);
        assert!(!sound, "{found:#?}");
        let line = found.iter().find(|line| line.starts_with(part));
        assert!(line.is_some(), "no {part} in {found:#?}");
    };
    one(
        "oci:/nowhere",
        &[],
        "image-unreadable there is no directory",
    );
    let multi = reference(&image("multi-arch"));
    let other = ["--platform", "linux/riscv64"];
    one(&multi, &other, "image-platform there is no image for");

    let absent = image("sha256-pubkey").copy(place.path().join("absent"));
    let digest = absent.layers()[0]["digest"].as_str().unwrap().to_owned();
    fs::remove_file(absent.blob(&digest)).unwrap();
    one(&reference(&absent), &[], "layer-absent 1 of ");

    let docker = changed(&place, |layer| {
        layer["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip+encrypted".into();
    });
    one(&reference(&docker), &[], "layer-type 1 of ");
    fs::remove_dir_all(docker.path()).unwrap();

    let broken = changed(&place, |layer| {
        layer["annotations"]["org.opencontainers.image.enc.pubopts"] = "!".into();
    });
    one(&reference(&broken), &[], "layer-broken ");
}

/// The key was tried, and its PIN refused. Nothing tries it again, be the layers ever so many.
#[test]
fn a_pin_that_was_refused_is_not_tried_for_the_image() {
    let node = Node::new();
    let path = node.key_file();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace(PIN, WRONG_PIN)).unwrap();
    // Where what was rejected cannot be remembered, nothing else would keep it from that.
    node.change(
        "conf.d/ocihsm.toml",
        "OCIHSM_RUNTIME_DIR=/",
        "OCIHSM_RUNTIME_DIR=/proc/none/",
    );
    let image = reference(&image("sha256-pubkey"));
    let (found, sound) = ask(&node, &image, &[]);
    assert!(!sound);
    assert!(found.len() > 2, "{found:#?}");
    for line in &found[1..] {
        assert!(line.starts_with("layer-shut"), "{line}");
        assert!(line.contains("-> mend /"), "{line}");
    }
}
