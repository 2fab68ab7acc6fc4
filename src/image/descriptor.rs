//! A descriptor as it stands in a manifest or an index: the fields that we use, checked, and all others kept.
//!
//! Not `crate::descriptor`, which is what a decoder is told about one layer.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::document::no_variants;
use super::error::{Error, Result, shortened};
use super::layout::digest_of;
use super::platform::Platform;
use crate::descriptor::Digest;

/// The fields of a descriptor (OCI image spec, descriptor.md).
const KNOWN: [&str; 8] = [
    "mediaType",
    "digest",
    "size",
    "urls",
    "annotations",
    "data",
    "platform",
    "artifactType",
];

/// The fields of a platform (image-index.md), which a config has as well.
pub(super) const PLATFORM: [&str; 5] =
    ["architecture", "os", "os.version", "os.features", "variant"];

/// What names a blob. Change the fields; [`Descriptor::to_json`] then differs in these alone.
#[derive(Clone, Debug)]
pub struct Descriptor {
    /// Media type of the blob.
    pub media_type: String,
    /// Digest of the blob.
    pub digest: Digest,
    /// Length of the blob in bytes.
    pub size: u64,
    /// All annotations.
    pub annotations: BTreeMap<String, String>,
    /// As it was read.
    original: Map<String, Value>,
    /// Whether its digest is of a kind that we read.
    readable: bool,
}

impl Descriptor {
    /// Reads one.
    ///
    /// # Errors
    /// [`Error::InvalidDigest`] for a digest that is not of our one form; [`Error::InvalidManifest`] when a field
    /// is missing or is of another type.
    pub fn parse(json: &Value) -> Result<Self> {
        let original = json
            .as_object()
            .ok_or(broken("a descriptor is no object"))?;
        no_variants(original, &KNOWN)?;
        if let Some(platform) = original.get("platform").and_then(Value::as_object) {
            no_variants(platform, &PLATFORM)?;
        }
        let text = |name, what| {
            original
                .get(name)
                .and_then(Value::as_str)
                .ok_or(broken(what))
        };
        // Some tools leave it out.
        let media_type = match original.get("mediaType") {
            None | Some(Value::Null) => "",
            Some(_) => text("mediaType", "a descriptor has no media type")?,
        };
        let digest = text("digest", "a descriptor has no digest")?;
        let size = original
            .get("size")
            .and_then(Value::as_u64)
            .ok_or(broken("a descriptor has no size"))?;
        let digest: Digest = digest.parse().map_err(|_| Error::InvalidDigest {
            text: shortened(digest),
        })?;
        if let Some(data) = embedded(original) {
            let data = data.as_str().and_then(|data| STANDARD.decode(data).ok());
            let is_blob = |data: &Vec<u8>| data.len() as u64 == size && digest_of(data) == digest;
            if !data.is_some_and(|data| is_blob(&data)) {
                return Err(broken("a descriptor holds data of another digest or size"));
            }
        }
        Ok(Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            annotations: annotations(original.get("annotations"))?,
            original: original.clone(),
            readable: true,
        })
    }

    /// Reads one that nobody may need: a digest of a kind that we do not read is kept as it is. Its digest here is of
    /// its own text, and no blob's.
    ///
    /// # Errors
    /// As [`Descriptor::parse`]; [`Error::InvalidManifest`] where it holds data, which nobody could check.
    pub(super) fn parse_any(json: &Value) -> Result<Self> {
        match Self::parse(json) {
            Err(Error::InvalidDigest { .. }) => {}
            descriptor => return descriptor,
        }
        let original = json.as_object().cloned().unwrap_or_default();
        if embedded(&original).is_some() {
            return Err(broken(
                "a descriptor holds data, and no sha256 digest of it",
            ));
        }
        let media_type = original.get("mediaType").and_then(Value::as_str);
        Ok(Self {
            media_type: media_type.unwrap_or_default().to_owned(),
            digest: digest_of(json.to_string().as_bytes()),
            size: 0,
            annotations: BTreeMap::new(),
            original,
            readable: false,
        })
    }

    pub(super) fn is_unreadable(&self) -> bool {
        !self.readable
    }

    /// Its digest for a message, whatever kind it is of.
    #[must_use]
    pub fn name(&self) -> String {
        match self.readable {
            true => self.digest.to_string(),
            false => shortened(self.own_digest()),
        }
    }

    /// Its digest as it stands there, of whatever kind and form.
    pub(super) fn own_digest(&self) -> &str {
        let own = self.original.get("digest").and_then(Value::as_str);
        match own.filter(|_| !self.readable) {
            Some(own) => own,
            None => self.digest.as_str(),
        }
    }

    /// A descriptor of these bytes, with nothing but the fields that each has.
    #[must_use]
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            annotations: BTreeMap::new(),
            original: Map::new(),
            readable: true,
        }
    }

    /// The platform, where there is one.
    #[must_use]
    pub fn platform(&self) -> Option<Platform> {
        Platform::from_json(self.original.get("platform")?)
    }

    /// Whether the blob is to be fetched from elsewhere (`urls`), and so may not be in the layout.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.original
            .get("urls")
            .and_then(Value::as_array)
            .is_some_and(|urls| !urls.is_empty())
    }

    /// Whether the blob stands in the descriptor itself, so that it is in the image wherever else it is or is not.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        embedded(&self.original).is_some()
    }

    /// Names other bytes: what was said of where the old ones are, or held them, is dropped.
    pub fn become_other(&mut self, media_type: &str, digest: Digest, size: u64) {
        self.original.shift_remove("urls");
        self.original.shift_remove("data");
        self.media_type = media_type.to_owned();
        self.digest = digest;
        self.size = size;
    }

    /// Drops the annotations that describe plain bytes: tables of contents of zstd:chunked, eStargz and the like.
    /// Returns their names.
    pub fn drop_toc(&mut self) -> Vec<String> {
        const PREFIXES: [&str; 3] = [
            "io.github.containers.zstd-chunked.",
            "io.containers.estargz.",
            "containerd.io/snapshot/",
        ];
        let is_toc = |name: &String| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        let names: Vec<_> = self
            .annotations
            .keys()
            .filter(|it| is_toc(it))
            .cloned()
            .collect();
        self.annotations.retain(|name, _| !is_toc(name));
        names
    }

    /// The descriptor as JSON: what was read, in its order, with the fields as they are now.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut json = self.original.clone();
        if self.is_unreadable() {
            return Value::Object(json);
        }
        if json.get("digest").and_then(Value::as_str) != Some(self.digest.as_str()) {
            // The blob itself in base64 (descriptor.md): the old one, which may be a plain layer.
            json.shift_remove("data");
        }
        if !self.media_type.is_empty() || json.get("mediaType").is_some_and(|it| !it.is_null()) {
            json.insert("mediaType".to_owned(), self.media_type.as_str().into());
        }
        json.insert("digest".to_owned(), self.digest.as_str().into());
        json.insert("size".to_owned(), self.size.into());
        self.write_annotations(&mut json);
        Value::Object(json)
    }

    fn write_annotations(&self, json: &mut Map<String, Value>) {
        let mut map = match json.get("annotations") {
            Some(Value::Object(map)) => map.clone(),
            _ => Map::new(),
        };
        let before = map.len();
        map.retain(|name, _| self.annotations.contains_key(name));
        for (name, value) in &self.annotations {
            map.insert(name.clone(), value.as_str().into());
        }
        if !map.is_empty() {
            json.insert("annotations".to_owned(), map.into());
        } else if before > 0 {
            json.shift_remove("annotations");
        }
    }
}

/// The blob itself in base64 (descriptor.md).
fn embedded(descriptor: &Map<String, Value>) -> Option<&Value> {
    descriptor.get("data").filter(|data| !data.is_null())
}

fn annotations(json: Option<&Value>) -> Result<BTreeMap<String, String>> {
    let map = match json {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(broken("annotations are no object")),
    };
    map.iter()
        .map(|(name, value)| match value {
            Value::String(value) => Ok((name.clone(), value.clone())),
            _ => Err(broken("an annotation is no text")),
        })
        .collect()
}

fn broken(what: &'static str) -> Error {
    Error::InvalidManifest { what }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn digest(byte: &str) -> String {
        format!("sha256:{}", byte.repeat(32))
    }

    #[test]
    fn unknown_fields_and_their_order_stay() {
        let json = json!({
            "zz": 1, "size": 3, "digest": digest("ab"), "mediaType": "a/b",
            "annotations": {"y": "1", "x": "2"}, "urls": [], "platform": {"os": "linux", "architecture": "arm64", "os.version": "1"}
        });
        let descriptor = Descriptor::parse(&json).unwrap();
        assert_eq!(descriptor.to_json().to_string(), json.to_string());
        assert_eq!(descriptor.platform().unwrap().to_string(), "linux/arm64");
        assert!(!descriptor.is_foreign());
    }

    #[test]
    fn annotations_come_and_go() {
        let json = json!({"mediaType": "a/b", "digest": digest("ab"), "size": 3});
        let mut descriptor = Descriptor::parse(&json).unwrap();
        descriptor
            .annotations
            .insert("k".to_owned(), "v".to_owned());
        let changed = descriptor.to_json();
        assert_eq!(changed["annotations"], json!({"k": "v"}));
        let mut back = Descriptor::parse(&changed).unwrap();
        back.annotations.clear();
        assert_eq!(back.to_json(), json);
    }

    #[test]
    fn an_embedded_plain_layer_does_not_outlive_its_digest() {
        let own = digest_of(b"plain");
        let json =
            json!({"mediaType": "a/b", "digest": own.as_str(), "size": 5, "data": "cGxhaW4="});
        let mut descriptor = Descriptor::parse(&json).unwrap();
        assert_eq!(descriptor.to_json(), json);
        descriptor.digest = digest("cd").parse().unwrap();
        assert!(descriptor.to_json().get("data").is_none());
    }

    #[test]
    fn embedded_data_is_the_blob_or_refused() {
        let own = digest_of(b"plain");
        let of = |digest: &str, size: u64, data: Value| {
            let json = json!({"mediaType": "a/b", "digest": digest, "size": size, "data": data});
            Descriptor::parse_any(&json).is_ok()
        };
        assert!(of(own.as_str(), 5, "cGxhaW4=".into()));
        assert!(of(own.as_str(), 5, Value::Null));
        for data in ["cGxhaW4", "c2VjcmU=", "", "cGxhaW4=\n"] {
            assert!(!of(own.as_str(), 5, data.into()), "{data}");
        }
        assert!(!of(own.as_str(), 5, json!(["cGxhaW4="])));
        assert!(!of(own.as_str(), 6, "cGxhaW4=".into()));
        let sha512 = format!("sha512:{}", "ab".repeat(64));
        assert!(of(&sha512, 5, Value::Null));
        assert!(!of(&sha512, 5, "cGxhaW4=".into()));
    }

    #[test]
    fn a_field_in_another_case_hides_nothing() {
        for name in ["Data", "DATA", "URLS", "MediaType", "url\u{17f}"] {
            let mut json = json!({"mediaType": "a/b", "digest": digest("ab"), "size": 3});
            json[name] = "cGxhaW4=".into();
            assert!(Descriptor::parse(&json).is_err(), "{name}");
        }
    }

    #[test]
    fn broken_descriptors() {
        for json in [
            json!([]),
            json!({}),
            json!({"mediaType": "a", "size": 1}),
            json!({"mediaType": "a", "digest": "sha256:../../etc/passwd", "size": 1}),
            json!({"mediaType": "a", "digest": digest("ab"), "size": -1}),
            json!({"mediaType": "a", "digest": digest("ab"), "size": "1"}),
            json!({"mediaType": 1, "digest": digest("ab"), "size": 1}),
            json!({"mediaType": "a", "digest": digest("ab"), "size": 1, "annotations": []}),
            json!({"mediaType": "a", "digest": digest("ab"), "size": 1, "annotations": {"a": 1}}),
        ] {
            assert!(Descriptor::parse(&json).is_err(), "{json}");
        }
    }
}
