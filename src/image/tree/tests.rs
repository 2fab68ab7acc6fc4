//! Tests of images as trees: vectors, documents made here, and documents that are refused.

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::image::layout::{Layout, digest_of};
use crate::image::selection::Selection;

fn vector(name: &str) -> Layout {
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/vectors/images");
    Layout::open(&images.join(name)).unwrap()
}

fn load_vector(name: &str) -> Image {
    let layout = vector(name);
    Image::load(&layout, layout.entry(&Selection::Only, None).unwrap()).unwrap()
}

/// A layout that is filled blob by blob.
struct Made {
    _dir: TempDir,
    layout: Layout,
}

impl Made {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        fs::write(
            dir.path().join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        Self { _dir: dir, layout }
    }

    fn put(&self, media_type: &str, text: &str) -> Descriptor {
        let digest = digest_of(text.as_bytes());
        fs::write(self.layout.path(&digest), text).unwrap();
        Descriptor::new(media_type, digest, text.len() as u64)
    }

    fn load(&self, entry: Descriptor) -> Result<Image> {
        Image::load(&self.layout, entry)
    }
}

#[test]
fn an_image_in_which_nothing_changed_keeps_its_bytes() {
    for name in ["plain", "plain-multi-arch", "multi-arch", "ctr-enc"] {
        let image = load_vector(name);
        let digest = image.entry.digest.clone();
        let finished = image.finish().unwrap();
        assert_eq!(finished.entry.digest, digest);
        for (descriptor, bytes) in finished.documents {
            assert_eq!(vector(name).document(&descriptor).unwrap(), bytes);
        }
    }
}

#[test]
fn platforms_come_from_the_index_or_from_the_config() {
    let platforms = |name| -> Vec<_> {
        let image = load_vector(name);
        image
            .manifests()
            .iter()
            .map(|manifest| manifest.platform.as_ref().unwrap().to_string())
            .collect()
    };
    assert_eq!(platforms("multi-arch"), ["linux/amd64", "linux/arm64"]);
    assert_eq!(platforms("ctr-enc"), ["linux/amd64"]);
}

#[test]
fn a_changed_layer_changes_every_document_above_it_and_back() {
    let mut image = load_vector("plain-multi-arch");
    let before = image.entry.clone();
    let layers = image.manifests()[1].layers.clone();
    image.manifests_mut()[1].layers[0].size += 1;
    let finished = image.finish().unwrap();
    assert_ne!(finished.entry.digest, before.digest);
    assert_eq!(finished.documents.len(), 3);
    assert_eq!(finished.blobs.len(), 8);

    let made = Made::new();
    for (descriptor, bytes) in &finished.documents {
        let text = std::str::from_utf8(bytes).unwrap();
        assert_eq!(made.put("", text).digest, descriptor.digest);
    }
    let mut again = made.load(finished.entry).unwrap();
    again.manifests_mut()[1].layers = layers;
    assert_eq!(again.finish().unwrap().entry.digest, before.digest);
}

#[test]
fn a_docker_image_becomes_an_oci_image_when_it_changes() {
    let made = Made::new();
    let layer = made.put(
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "a layer",
    );
    let config = made.put("application/vnd.docker.container.image.v1+json", "{}");
    let manifest = "application/vnd.docker.distribution.manifest.v2+json";
    let text = json!({"schemaVersion": 2, "mediaType": manifest, "config": config.to_json(),
        "layers": [layer.to_json(), layer.to_json()]});
    let entry = made.put(manifest, &text.to_string());
    let mut image = made.load(entry.clone()).unwrap();
    assert_eq!(
        image.clone().finish().unwrap().entry.to_json(),
        entry.to_json()
    );
    image.manifests_mut()[0].layers[0].size = 1;
    let finished = image.finish().unwrap();
    let text = String::from_utf8(finished.documents[0].1.clone()).unwrap();
    assert!(!text.contains("docker"), "{text}");
    assert_eq!(finished.entry.media_type, media_type::MANIFEST);
}

#[test]
fn a_document_that_is_two_things_or_none_is_refused() {
    let made = Made::new();
    for (media_type, text) in [
        (media_type::MANIFEST, r#"{"layers":[],"manifests":[]}"#),
        (media_type::INDEX, r#"{"layers":[],"manifests":[]}"#),
        (media_type::MANIFEST, r#"{"manifests":[]}"#),
        (media_type::INDEX, r#"{"layers":[]}"#),
        (media_type::MANIFEST, r#"{"layers":[]}"#),
        (media_type::INDEX, "{}"),
        (media_type::INDEX, r#"{"manifests":{}}"#),
        (media_type::INDEX, "[]"),
        (media_type::INDEX, "{"),
    ] {
        let error = made.load(made.put(media_type, text)).unwrap_err();
        assert!(
            matches!(error, Error::InvalidManifest { .. }),
            "{text}: {error}"
        );
    }
    let error = made.load(made.put("text/plain", "{}")).unwrap_err();
    assert!(matches!(error, Error::NotAnImage { .. }), "{error}");
}

#[test]
fn what_names_a_changed_manifest_follows_it_and_comes_back() {
    let made = Made::new();
    let layer = made.put("application/vnd.oci.image.layer.v1.tar", "a layer");
    let config = made.put(media_type::EMPTY, "{}");
    let manifest = |fields: Value| {
        let mut json = json!({"schemaVersion": 2, "config": config.to_json(), "layers": []});
        for (name, value) in fields.as_object().unwrap() {
            json[name] = value.clone();
        }
        made.put(media_type::MANIFEST, &json.to_string())
    };
    let image = manifest(json!({"layers": [layer.to_json()]}));
    let about = manifest(json!({"subject": image.to_json()}));
    let about_that = manifest(json!({
        "subject": about.to_json(), "annotations": {"image": image.digest.as_str(), "of": "a"}
    }));
    let mut entries: Vec<_> = [&about_that, &about, &image]
        .map(Descriptor::to_json)
        .into();
    entries[1]["annotations"] = json!({"vnd.docker.reference.digest": image.digest.as_str()});
    let index = made.put(
        media_type::INDEX,
        &json!({"manifests": entries}).to_string(),
    );

    let mut changed = made.load(index.clone()).unwrap();
    changed.manifests_mut()[2].layers[0].size += 1;
    let finished = changed.finish().unwrap();
    assert_eq!(finished.renamed.len(), 4);
    let mut text = String::new();
    for (descriptor, bytes) in &finished.documents {
        let document = std::str::from_utf8(bytes).unwrap();
        made.put(&descriptor.media_type, document);
        text.push_str(document);
    }
    for old in finished.renamed.keys() {
        assert!(!text.contains(old.hex()), "{old} is still named in {text}");
    }
    let mut back = made.load(finished.entry).unwrap();
    back.manifests_mut()[2].layers[0].size -= 1;
    assert_eq!(back.finish().unwrap().entry.to_json(), index.to_json());
}

#[test]
fn a_very_long_chain_of_subjects_is_followed() {
    const COUNT: usize = 1500;
    let made = Made::new();
    let config = made.put(media_type::EMPTY, "{}");
    let layer = made.put("application/vnd.oci.image.layer.v1.tar", "a layer");
    let mut json = json!({"config": config.to_json(), "layers": [layer.to_json()]});
    let mut entries = vec![made.put(media_type::MANIFEST, &json.to_string())];
    for _ in 2..COUNT {
        json["subject"] = entries[0].to_json();
        json["layers"] = json!([]);
        entries.insert(0, made.put(media_type::MANIFEST, &json.to_string()));
    }
    let entries: Vec<_> = entries.iter().map(Descriptor::to_json).collect();
    let index = made.put(
        media_type::INDEX,
        &json!({"manifests": entries}).to_string(),
    );
    let mut image = made.load(index).unwrap();
    let last = image.manifests_mut().pop().unwrap();
    last.layers[0].size += 1;
    assert_eq!(image.finish().unwrap().renamed.len(), COUNT);
}

#[test]
fn what_is_not_here_is_kept_by_name() {
    let made = Made::new();
    let config = made.put(media_type::EMPTY, "{}");
    let json = json!({"config": config.to_json(), "layers": []});
    let here = made.put(media_type::MANIFEST, &json.to_string());
    let away = Descriptor::new(media_type::MANIFEST, digest_of(b"away"), 4);
    let other = made.put("text/plain", "notes");
    let entries: Vec<_> = [&away, &here, &other].map(Descriptor::to_json).into();
    let index = made.put(
        media_type::INDEX,
        &json!({"manifests": entries}).to_string(),
    );
    let image = made.load(index).unwrap();
    assert_eq!(image.manifests().len(), 1);
    assert_eq!(image.absent().next().unwrap().digest, away.digest);
    assert_eq!(image.others().next().unwrap().0.digest, other.digest);
}

#[test]
fn an_index_may_name_what_we_do_not_know() {
    let made = Made::new();
    let config = made.put(media_type::EMPTY, "{}");
    let text = json!({"config": config.to_json()}).to_string();
    // Neither with its media type, in the index or in itself, nor with layers.
    let mut untyped = made.put(media_type::MANIFEST, &text).to_json();
    untyped.as_object_mut().unwrap().remove("mediaType");
    let blob = made.put("a/b", "a blob of an artifact");
    let text = json!({"blobs": [blob.to_json()]}).to_string();
    let artifact = made.put("application/vnd.oci.artifact.manifest.v1+json", &text);
    let other_hash = json!({"mediaType": media_type::MANIFEST, "size": 3,
        "digest": format!("sha512:{}", "ab".repeat(64)), "platform": {"os": "linux", "architecture": "s390x"}});
    let entries = [untyped, artifact.to_json(), other_hash];
    let text = json!({"manifests": entries}).to_string();
    let index = made.put(media_type::INDEX, &text);
    let image = made.load(index).unwrap();
    assert_eq!(image.manifests().len(), 1);
    assert!(image.manifests()[0].layers.is_empty());
    let absent = image.absent().next().unwrap().platform().unwrap();
    assert_eq!(absent.to_string(), "linux/s390x");
    let finished = image.finish().unwrap();
    let named = |blob: &Descriptor| {
        finished
            .blobs
            .iter()
            .any(|it| it.descriptor.digest == blob.digest)
    };
    assert!(named(&artifact) && named(&blob) && named(&config));
    assert_eq!(finished.documents.last().unwrap().1, text.as_bytes());
}

#[test]
fn deeply_nested_or_many_documents_are_refused() {
    let made = Made::new();
    let nest = |inner: &[Descriptor]| {
        let inner: Vec<_> = inner.iter().map(Descriptor::to_json).collect();
        made.put(media_type::INDEX, &json!({"manifests": inner}).to_string())
    };
    let mut index = nest(&[]);
    for _ in 0..MAX_DEPTH {
        index = nest(&[index]);
    }
    assert!(made.load(index.clone()).is_ok());
    assert!(matches!(
        made.load(nest(&[index])),
        Err(Error::TooLarge { .. })
    ));

    let large = format!("{{\"manifests\":[]{}}}", " ".repeat(4_000_000));
    let large = made.put(media_type::INDEX, &large);
    let many = nest(&vec![large; 20]);
    assert!(matches!(made.load(many), Err(Error::TooLarge { .. })));
}
