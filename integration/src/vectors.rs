//! The encrypted layers among the test vectors, by scheme, with what they must become.

use std::fs;

use serde_json::Value;

use crate::layer::{Compression, digest};
use crate::layout::Layout;
use crate::processor::Outcome;
use crate::vector;

/// The keys of the vectors' token.
pub const KEYS: [&str; 3] = ["rsa3072", "rsa2048", "other3072"];

const RECIPIENTS: &str = "org.opencontainers.image.enc.keys.";

/// A layer of a vector image.
#[derive(Clone, Debug)]
pub struct Vector {
    /// Name of the image.
    pub image: String,
    /// The image.
    pub layout: Layout,
    /// The layer's descriptor.
    pub layer: Value,
    /// Digest of the plain blob, where it was written down.
    pub plain: Option<String>,
    /// Digest of the archive in it.
    pub diff_id: String,
}

impl Vector {
    /// Every layer of every image that has PKCS#11 recipients, of every platform.
    #[must_use]
    pub fn all() -> Vec<Self> {
        Self::wrapped("pkcs11")
    }

    /// Every layer of every image whose key is wrapped with this scheme, of every platform.
    ///
    /// # Panics
    /// If the vectors are not what their README says.
    #[must_use]
    pub fn wrapped(scheme: &str) -> Vec<Self> {
        let recipients = format!("{RECIPIENTS}{scheme}");
        let text = fs::read(vector("expected.json")).expect("the vectors are in the repository");
        let expected: Value = serde_json::from_slice(&text).expect("expected.json is JSON");
        let mut vectors = Vec::new();
        for (image, facts) in expected
            .as_object()
            .expect("expected.json has an image a key")
        {
            let layout = Layout::open(vector("images").join(image));
            for (architecture, plain) in facts["platforms"].as_object().into_iter().flatten() {
                let manifest = layout.manifest(architecture);
                let layers = manifest["layers"].as_array().into_iter().flatten();
                for (layer, plain) in layers.zip(plain.as_array().into_iter().flatten()) {
                    if layer["annotations"].get(&recipients).is_some() {
                        vectors.push(Self {
                            image: image.clone(),
                            layout: layout.clone(),
                            layer: layer.clone(),
                            plain: plain["plaintext_sha256"]
                                .as_str()
                                .map(|hash| format!("sha256:{hash}")),
                            diff_id: plain["diff_id"]
                                .as_str()
                                .expect("each layer has a diff id")
                                .to_owned(),
                        });
                    }
                }
            }
        }
        vectors
    }

    /// The first layer of an image.
    ///
    /// # Panics
    /// If there is no such image.
    #[must_use]
    pub fn first(image: &str) -> Self {
        Self::all()
            .into_iter()
            .find(|vector| vector.image == image)
            .expect("there is such an image")
    }

    /// Fails the test unless a decoder gave the layer in plain, in silence.
    ///
    /// # Panics
    /// If it did not.
    pub fn assert_opened(&self, outcome: Outcome) {
        let output = outcome.output;
        assert!(output.status.success(), "{}: {output:?}", self.image);
        self.assert_plain(&output.stdout);
        assert_eq!(output.stderr, "", "decode is silent on success");
    }

    /// Fails the test unless this is the layer in plain.
    ///
    /// # Panics
    /// If it is not.
    pub fn assert_plain(&self, bytes: &[u8]) {
        if let Some(plain) = &self.plain {
            assert_eq!(&digest(bytes), plain, "a layer of {}", self.image);
        }
        let media_type = self.layer["mediaType"]
            .as_str()
            .expect("a layer has a type");
        let archive = Compression::of(media_type.trim_end_matches("+encrypted")).decompress(bytes);
        assert_eq!(digest(&archive), self.diff_id, "a layer of {}", self.image);
    }
}
