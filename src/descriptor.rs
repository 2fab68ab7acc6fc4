//! What names a layer: its media type, digest, size and annotations, as a descriptor in a manifest has them.
//!
//! This is the one form that every way of learning about a layer ends in (a file, arguments, the payload, the
//! content store). It does not know where it came from.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

/// A `sha256:` digest, checked: 64 lower-case hexadecimal digits (OCI image spec, descriptor.md).
///
/// Since nothing else fits in it, a digest can be made part of a path without a further look.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The digest of a finished SHA-256.
    #[must_use]
    pub fn from_sha256(hash: &[u8; 32]) -> Self {
        let mut text = String::with_capacity(7 + 64);
        text.push_str("sha256:");
        for byte in hash {
            text.push_str(&format!("{byte:02x}"));
        }
        Self(text)
    }

    /// The 64 hexadecimal digits after `sha256:`, which is the blob's file name in every store.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }

    /// The whole text, `sha256:…`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first digits, enough for a message: `sha256:1f0c9a2b7d3e`.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[.."sha256:".len() + 12]
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let valid = text.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::InvalidDigest {
                text: text.chars().take(80).collect(),
            })
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the names of the annotations that matter here begin with.
const ENCRYPTION: &str = "org.opencontainers.image.enc.";
/// Most annotations about encryption that a layer may have: one for each scheme, and the public options.
const MAX_ANNOTATIONS: usize = 64;

/// A layer as its manifest describes it, as far as we were told: arguments may bring annotations alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LayerDescriptor {
    /// Media type, with or without `+encrypted`.
    #[serde(deserialize_with = "text")]
    pub media_type: Option<String>,
    /// Digest of the encrypted blob; `None` also for one of another kind.
    #[serde(deserialize_with = "digest")]
    pub digest: Option<Digest>,
    /// Length of the encrypted blob in bytes.
    #[serde(deserialize_with = "length")]
    pub size: Option<u64>,
    /// Its annotations that are about encryption. A document may hold any number of others.
    #[serde(deserialize_with = "annotations")]
    pub annotations: BTreeMap<String, String>,
}

/// Most bytes of a media type that are kept.
const MAX_MEDIA_TYPE: usize = 256;

/// What is wrong with the name of a layer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a digest of the one form that we take.
    #[error("{text:?} is not a sha256 digest")]
    InvalidDigest {
        /// What stood there, shortened.
        text: String,
    },
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text: Option<Cow<'_, str>> = Option::deserialize(deserializer)?;
    Ok(text
        .filter(|text| text.len() <= MAX_MEDIA_TYPE)
        .map(Cow::into_owned))
}

fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Digest>, D::Error> {
    let text: Option<Cow<'_, str>> = Option::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

/// No length is negative, so one that is no such number is none that a layer has.
fn length<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Option::deserialize(deserializer)
}

fn annotations<'de, D>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(Option::<Annotations>::deserialize(deserializer)?
        .unwrap_or_default()
        .0)
}

/// Annotations about encryption, each once.
#[derive(Default)]
pub(crate) struct Annotations(pub(crate) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Annotations;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations, A::Error> {
                let mut kept = BTreeMap::new();
                while let Some(name) = map.next_key::<Cow<'_, str>>()? {
                    if !name.starts_with(ENCRYPTION) {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    if kept.len() >= MAX_ANNOTATIONS {
                        return Err(A::Error::custom("too many annotations about encryption"));
                    }
                    if kept.insert(name.into_owned(), map.next_value()?).is_some() {
                        return Err(A::Error::custom("an annotation stands there twice"));
                    }
                }
                Ok(Annotations(kept))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_accepts_only_sha256_in_lower_case() {
        let good = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(good.parse::<Digest>().unwrap().hex(), "0a".repeat(32));
        for bad in [
            "",
            "sha256:",
            "sha256:../../../../etc/passwd",
            &good.to_uppercase(),
            &good[..70],
            &format!("{good}0"),
            &good.replace("sha256", "sha512"),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn null_annotations_are_none() {
        let layer: LayerDescriptor =
            serde_json::from_str(r#"{"mediaType":"m","annotations":null}"#).unwrap();
        assert_eq!(layer.media_type.as_deref(), Some("m"));
        assert!(layer.annotations.is_empty());
    }

    #[test]
    fn digest_of_a_hash() {
        assert_eq!(
            Digest::from_sha256(&[0xab; 32]).as_str(),
            format!("sha256:{}", "ab".repeat(32))
        );
    }

    #[test]
    fn of_annotations_only_those_about_encryption_are_kept() {
        let read = |annotations: &str| {
            let json = format!(r#"{{"digest":"sha512:ab","annotations":{annotations}}}"#);
            serde_json::from_str::<LayerDescriptor>(&json)
        };
        let kept = read(r#"{"a":{"b":[1]},"a":2,"org.opencontainers.image.enc.pubopts":"e30="}"#);
        let kept = kept.unwrap();
        assert_eq!(kept.annotations.len(), 1);
        assert_eq!(kept.digest, None);
        let twice = r#"{"org.opencontainers.image.enc.x":"","org.opencontainers.image.enc.x":""}"#;
        assert!(read(twice).is_err());
        let many: Vec<_> = (0..=MAX_ANNOTATIONS)
            .map(|n| format!(r#""{ENCRYPTION}keys.{n}":"""#))
            .collect();
        assert!(read(&format!("{{{}}}", many.join(","))).is_err());
    }
}
