//! OCI image layouts as the tests need them: made from layers, read, tampered with, archived, spread out as a store.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempPath};

use crate::content_store;
use crate::layer::{Compression, Layer, digest};
use crate::token::copy_directory;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// The name under which images are put into layouts here.
pub const TAG: &str = "latest";

const HOUR: Duration = Duration::from_secs(3600);

/// An image layout on disk. Nothing in it is checked: it may be a broken one.
#[derive(Clone, Debug)]
pub struct Layout(PathBuf);

impl Layout {
    /// A layout that is there.
    pub fn open(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// A copy, to be changed.
    ///
    /// # Panics
    /// If the disk is full.
    #[must_use]
    pub fn copy(&self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        copy_directory(&self.0, &path);
        Self(path)
    }

    /// A new layout with one image for amd64, whose containers run `command`.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn create(path: impl Into<PathBuf>, layers: &[Layer], command: &[&str]) -> Self {
        let layout = Self(path.into());
        fs::create_dir_all(layout.0.join("blobs/sha256"))
            .expect("the place for a layout is writable");
        fs::write(
            layout.0.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .expect("the directory is ours");
        let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.diff_id).collect();
        let config = json!({
            "created": "1970-01-01T00:00:00Z", "architecture": "amd64", "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": command},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = layout.put_json(CONFIG, &config);
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| layout.put(layer.compression.media_type(), &layer.blob))
            .collect();
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        layout.name(&manifest);
        layout
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// `oci:DIR:TAG`, as command lines name it.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("oci:{}:{TAG}", self.0.display())
    }

    /// The file of a blob.
    ///
    /// # Panics
    /// If that is no digest.
    #[must_use]
    pub fn blob(&self, digest: &str) -> PathBuf {
        let (algorithm, hash) = digest.split_once(':').expect("a digest has a colon");
        self.0.join("blobs").join(algorithm).join(hash)
    }

    /// The entry of a tag in the index.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn entry(&self, tag: &str) -> Value {
        let index = read(&self.0.join("index.json"));
        let tagged =
            |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == tag;
        let entries = index["manifests"].as_array().expect("an index has entries");
        let entry = entries.iter().find(tagged);
        entry.expect("there is such a tag").clone()
    }

    /// Fails the test unless every blob has its digest, each that is named is there, and each that is there is named.
    /// Returns the blobs' digests.
    ///
    /// # Panics
    /// If it is not so.
    pub fn assert_sound(&self) -> Vec<String> {
        let mut named = Vec::new();
        self.assert_named(&read(&self.0.join("index.json")), &mut named);
        let blobs = fs::read_dir(self.0.join("blobs/sha256")).expect("a layout has blobs");
        let mut digests = Vec::new();
        for blob in blobs {
            let path = blob.expect("a listed directory has entries").path();
            let actual = digest(&fs::read(&path).expect("a blob is readable"));
            assert_eq!(self.blob(&actual), path);
            assert!(named.contains(&actual), "nothing names {actual}");
            digests.push(actual);
        }
        digests
    }

    fn assert_named(&self, document: &Value, named: &mut Vec<String>) {
        for list in ["manifests", "layers"] {
            for descriptor in document[list].as_array().into_iter().flatten() {
                let bytes = self.read(descriptor);
                assert_eq!(descriptor["size"], bytes.len());
                named.push(digest(&bytes));
                if list == "manifests" {
                    let document = serde_json::from_slice(&bytes).expect("a manifest is JSON");
                    self.assert_named(&document, named);
                }
            }
        }
        if document["config"].is_object() {
            named.push(digest(&self.read(&document["config"])));
        }
    }

    /// The manifest of the image for a platform.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn manifest(&self, architecture: &str) -> Value {
        let mut document = read(&self.0.join("index.json"));
        while let Some(entries) = document["manifests"].as_array() {
            let fits = |entry: &&Value| {
                entry["platform"]["architecture"]
                    .as_str()
                    .is_none_or(|found| found == architecture)
            };
            let entry = entries
                .iter()
                .find(fits)
                .expect("the image is for this platform");
            document =
                read(&self.blob(entry["digest"].as_str().expect("a descriptor has a digest")));
        }
        document
    }

    /// The descriptors of the layers, for amd64.
    #[must_use]
    pub fn layers(&self) -> Vec<Value> {
        self.manifest("amd64")["layers"]
            .as_array()
            .expect("a manifest has layers")
            .clone()
    }

    /// The bytes that a descriptor stands for.
    ///
    /// # Panics
    /// If they are not there.
    #[must_use]
    pub fn read(&self, descriptor: &Value) -> Vec<u8> {
        let path = self.blob(
            descriptor["digest"]
                .as_str()
                .expect("a descriptor has a digest"),
        );
        fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
    }

    /// Digests of the archives in the plain layers of a platform, whatever they are compressed with.
    ///
    /// # Panics
    /// If a layer is encrypted.
    #[must_use]
    pub fn archives(&self, architecture: &str) -> Vec<String> {
        let manifest = self.manifest(architecture);
        let layers = manifest["layers"]
            .as_array()
            .expect("a manifest has layers")
            .iter();
        layers
            .map(|layer| {
                let media_type = layer["mediaType"].as_str().expect("a layer has a type");
                digest(&Compression::of(media_type).decompress(&self.read(layer)))
            })
            .collect()
    }

    /// Puts other bytes in a layer's place: size and digest become right again, and so does its `diff_ids` entry if
    /// one is given. Only the layer's MAC can still tell.
    ///
    /// # Panics
    /// If the layout is broken already.
    pub fn replace_layer(&self, number: usize, bytes: &[u8], diff_id: Option<&str>) {
        let mut manifest = self.manifest("amd64");
        let layer = self.put(
            manifest["layers"][number]["mediaType"]
                .as_str()
                .expect("a layer has a type"),
            bytes,
        );
        for field in ["digest", "size"] {
            manifest["layers"][number][field] = layer[field].clone();
        }
        if let Some(diff_id) = diff_id {
            let mut config: Value =
                serde_json::from_slice(&self.read(&manifest["config"])).expect("a config is JSON");
            config["rootfs"]["diff_ids"][number] = diff_id.into();
            manifest["config"] = self.put_json(CONFIG, &config);
        }
        self.name(&manifest);
    }

    /// Writes the layout as the archive that `ctr images import` takes; it is removed when it is dropped.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn archive(&self) -> TempPath {
        let file = NamedTempFile::new().expect("the temporary directory is writable");
        let mut archive = tar::Builder::new(file);
        archive
            .append_dir_all(".", &self.0)
            .expect("a layout can be archived");
        let file = archive.into_inner().expect("a layout can be archived");
        file.into_temp_path()
    }

    /// Spreads the blobs out as containerd's content store does, below a containerd root.
    pub fn store(&self, root: &Path) {
        copy_directory(&self.0.join("blobs"), &content_store::file(root, ""));
    }

    /// The same, an hour ago: what is put beside them is younger, and looked at first.
    ///
    /// # Panics
    /// If the files are not ours.
    pub fn store_earlier(&self, root: &Path) {
        self.store(root);
        for entry in fs::read_dir(content_store::file(root, "sha256")).expect("it was just made") {
            let path = entry.expect("it was just made").path();
            let file = fs::File::options().write(true).open(path);
            file.and_then(|file| file.set_modified(SystemTime::now() - HOUR))
                .expect("the file is ours");
        }
    }

    fn put_json(&self, media_type: &str, document: &Value) -> Value {
        self.put(media_type, document.to_string().as_bytes())
    }

    /// Puts a blob there and returns its descriptor.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn put(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        fs::write(self.blob(&digest), bytes).expect("the layout is ours");
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    fn name(&self, manifest: &Value) {
        let mut entry = self.put_json(MANIFEST, manifest);
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": TAG});
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        fs::write(self.0.join("index.json"), index.to_string()).expect("the layout is ours");
    }
}

fn read(path: &Path) -> Value {
    let bytes =
        fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    serde_json::from_slice(&bytes)
        .unwrap_or_else(|error| panic!("{} is not JSON: {error}", path.display()))
}
