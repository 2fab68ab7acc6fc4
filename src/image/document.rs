//! The JSON of a manifest, an index or a config, read within a budget.
//!
//! A few bytes of text become a hundred of memory (`[0,0,0`), so what is counted is the values, before any is made.

use serde_json::{Map, Value};

use super::error::{Error, Result};
use crate::json::{self, Once, TWICE};

/// Most bytes that a manifest, an index or a config may have.
pub const MAX_DOCUMENT: u64 = 4 << 20;
/// Most bytes that all documents of an image may have together.
const MAX_BYTES: u64 = 32 << 20;
/// Most JSON values that all documents of an image may have together.
const MAX_VALUES: usize = 256 << 10;
/// Most documents of an image.
const MAX_COUNT: usize = 4096;

/// What the documents of an image may still cost.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    bytes: u64,
    values: usize,
    documents: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            bytes: MAX_BYTES,
            values: MAX_VALUES,
            documents: MAX_COUNT,
        }
    }
}

impl Budget {
    /// Pays for a document that is about to be read.
    pub(super) fn take(&mut self, bytes: u64) -> Result<()> {
        let over = |what, limit| Error::TooLarge { what, limit };
        self.bytes = self.bytes.checked_sub(bytes).ok_or(over(
            "size of all manifests of the image in bytes",
            MAX_BYTES,
        ))?;
        self.documents = self
            .documents
            .checked_sub(1)
            .ok_or(over("number of manifests of the image", MAX_COUNT as u64))?;
        Ok(())
    }

    /// Gives back what a document cost that is written anew.
    pub(super) fn give_back(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.values += values(bytes);
        self.documents += 1;
    }

    /// Pays for a document that was written, so that whoever reads it with this budget can.
    pub(super) fn written(&mut self, bytes: &[u8]) -> Result<()> {
        is_not_too_long(bytes)?;
        self.take(bytes.len() as u64)?;
        self.pay(bytes)
    }

    /// Reads a document.
    pub(super) fn parse(&mut self, bytes: &[u8], no_json: &'static str) -> Result<Value> {
        self.pay(bytes)?;
        let Once(json) = serde_json::from_slice(bytes).map_err(|error| Error::InvalidManifest {
            // Readers do not agree about which of the two counts, so one of them would not see what another one does.
            what: match error.to_string().starts_with(TWICE) {
                true => "a document has a field twice",
                false => no_json,
            },
        })?;
        Ok(json)
    }

    fn pay(&mut self, bytes: &[u8]) -> Result<()> {
        self.values = self
            .values
            .checked_sub(values(bytes))
            .ok_or(Error::TooLarge {
                what: "number of JSON values in all manifests of the image",
                limit: MAX_VALUES as u64,
            })?;
        Ok(())
    }
}

/// That a manifest or an index that was written can be read again.
///
/// # Errors
/// [`Error::TooLarge`].
pub(super) fn is_not_too_long(bytes: &[u8]) -> Result<()> {
    match bytes.len() as u64 > MAX_DOCUMENT {
        true => Err(Error::TooLarge {
            what: "size of a manifest or an index to be written, in bytes,",
            limit: MAX_DOCUMENT,
        }),
        false => Ok(()),
    }
}

/// The fields of manifests and of indexes, of artifact manifests too (OCI image spec, manifest.md and image-index.md).
const FIELDS: [&str; 10] = [
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "fsLayers",
    "manifests",
    "blobs",
    "subject",
    "annotations",
];

/// That a manifest or an index is an object, in which nothing stands that Go's tools read and we would not.
pub(super) fn checked(json: &Value) -> Result<()> {
    let object = json.as_object().ok_or(Error::InvalidManifest {
        what: "a manifest is no object",
    })?;
    no_variants(object, &FIELDS)
}

/// Go's tools read a name in any case, so what we keep as unknown would be something to them.
pub(super) fn no_variants(object: &Map<String, Value>, known: &[&str]) -> Result<()> {
    match json::has_variant(object, known) {
        true => Err(Error::InvalidManifest {
            what: "a field is written in another case, which tools do not agree about",
        }),
        false => Ok(()),
    }
}

/// Reads a document that stands alone.
pub(super) fn parse(bytes: &[u8], no_json: &'static str) -> Result<Value> {
    Budget::default().parse(bytes, no_json)
}

/// How many values a text has at most: each but the first comes after one of four characters.
fn values(bytes: &[u8]) -> usize {
    let (mut count, mut within_text, mut escaped) = (1, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = within_text,
            b'"' => within_text = !within_text,
            b',' | b'[' | b'{' | b':' if !within_text => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_and_texts_are_not_looked_into() {
        for (text, expected) in [
            ("{}", 2),
            ("[0,0,0]", 4),
            (r#"{"a":1,"b":[]}"#, 6),
            (r#""a,[{:\",[""#, 1),
            (r#"["\\",1]"#, 3),
        ] {
            assert_eq!(values(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_text_that_would_become_a_hundred_times_as_large_is_not_read() {
        let text = format!("[{}0]", "0,".repeat(2 << 20));
        let error = parse(text.as_bytes(), "").unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
        let mut budget = Budget::default();
        let text = format!("[{}0]", "0,".repeat(100_000));
        assert!(budget.parse(text.as_bytes(), "").is_ok());
        assert!(budget.parse(text.as_bytes(), "").is_ok());
        assert!(budget.parse(text.as_bytes(), "").is_err());
    }
}
