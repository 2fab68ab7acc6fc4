//! A layout that is filled blob by blob, so that it may hold what no tool would write.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::layer::{Compression, Layer};
use crate::layout::{Layout, TAG};

/// An index of manifests.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// A manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An image's config.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// A layer that can be encrypted.
pub const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// A layer that cannot.
pub const EROFS: &str = "application/vnd.erofs.layer.v1";
/// A statement about an image.
pub const STATEMENT: &str = "application/vnd.in-toto+json";

/// The layout.
#[derive(Debug)]
pub struct Made {
    /// What is there so far.
    pub layout: Layout,
}

impl Made {
    /// A new one, which has some image until another one is named.
    ///
    /// # Panics
    /// If it cannot be written; the methods too.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let layer = [Layer::file("a", b"first", Compression::None)];
        Self {
            layout: Layout::create(path, &layer, &["/a"]),
        }
    }

    /// Puts a layer there.
    #[must_use]
    pub fn layer(&self, media_type: &str, content: &[u8]) -> Value {
        self.layout.put(media_type, content)
    }

    /// The text of a manifest with these layers, and other fields.
    #[must_use]
    pub fn manifest_text(&self, layers: &[Value], others: &Value) -> String {
        let config = self
            .layout
            .put(CONFIG, br#"{"architecture":"amd64","os":"linux"}"#);
        let mut manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        for (name, value) in others.as_object().into_iter().flatten() {
            manifest[name] = value.clone();
        }
        manifest.to_string()
    }

    /// A manifest with these layers, and other fields.
    #[must_use]
    pub fn manifest(&self, layers: &[Value], others: Value) -> Value {
        let text = self.manifest_text(layers, &others);
        self.layout.put(MANIFEST, text.as_bytes())
    }

    /// A manifest of one layer that can be encrypted.
    #[must_use]
    pub fn ordinary(&self) -> Value {
        self.manifest(&[self.layer(TAR, b"an ordinary layer")], json!({}))
    }

    /// Makes an index of these the image.
    pub fn index(&self, entries: &[Value]) {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        self.name(self.layout.put(INDEX, index.to_string().as_bytes()));
    }

    /// Makes this the image.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn name(&self, mut entry: Value) {
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": TAG});
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        fs::write(self.layout.path().join("index.json"), index.to_string())
            .expect("the layout is ours");
    }
}
