//! Which of the images in an `index.json` is meant: by its tag, its digest, its number, or because it is alone.

use serde_json::Value;

use super::descriptor::Descriptor;
use super::document;
use super::error::{Error, Result, shortened};
use super::layout::list;
use super::platform::Platform;
use crate::descriptor::Digest;

/// The annotation that holds an image's tag.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd's own name for an image, which an archive carries beside the tag.
pub(super) const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// Most tags that a message lists.
const MAX_LISTED: usize = 10;

/// What a user wrote after the place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// Nothing: the only image there.
    #[default]
    Only,
    /// A tag, or containerd's name for the image.
    Tag(String),
    /// `@sha256:…`.
    Digest(Digest),
    /// `@N`, from 0.
    Number(usize),
}

impl Selection {
    /// Whether a new image may be called so. A number or a digest says which of those that are there is meant; in a tag it
    /// would say what is not so.
    pub(super) fn may_be_given(&self) -> bool {
        let says_which = |it: &str| it.parse::<Digest>().is_ok() || it.parse::<usize>().is_ok();
        match self {
            Self::Only => true,
            Self::Tag(tag) => !tag.rsplit_once('@').is_some_and(|(_, it)| says_which(it)),
            Self::Digest(_) | Self::Number(_) => false,
        }
    }

    /// The tag, if it is one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        match self {
            Self::Tag(tag) => Some(tag),
            _ => None,
        }
    }
}

/// The entry that is meant in the text of an `index.json`. Of several with one tag, the one for the platform.
///
/// # Errors
/// [`Error::UnknownTag`] or [`Error::WhichImage`], both of which say what is there.
pub(super) fn entry(
    index: &[u8],
    place: &str,
    wanted: &Selection,
    platform: Option<&Platform>,
) -> Result<Descriptor> {
    let index = document::parse(index, "index.json is no JSON")?;
    document::checked(&index)?;
    let entries = list(&index, "manifests")?;
    let name = |entry: &Value, name| entry["annotations"][name].as_str().map(str::to_owned);
    let is_meant = |number: usize, entry: &Value| match wanted {
        Selection::Only => true,
        Selection::Number(wanted) => number == *wanted,
        Selection::Digest(digest) => entry["digest"] == *digest.as_str(),
        Selection::Tag(tag) => is_named(entry, tag),
    };
    let mut named: Vec<&Value> = entries
        .iter()
        .enumerate()
        .filter(|(number, entry)| is_meant(*number, entry))
        .map(|(_, entry)| entry)
        .collect();
    if let (2.., Some(platform)) = (named.len(), platform) {
        named.retain(|entry| {
            let own = Platform::from_json(&entry["platform"]);
            own.is_some_and(|own| platform.includes(&own))
        });
    }
    if matches!(wanted, Selection::Digest(_)) {
        // One image, however often it is named.
        named.truncate(1);
    }
    if let [entry] = named[..] {
        return Descriptor::parse(entry);
    }
    let tags = entries.iter().filter_map(|entry| name(entry, REF_NAME));
    let tags = tags.map(|tag| shortened(&tag)).take(MAX_LISTED).collect();
    let place = place.to_owned();
    Err(match (wanted, named.len()) {
        (Selection::Only, count) => Error::WhichImage { place, count, tags },
        (Selection::Tag(tag), 0) => Error::UnknownTag {
            place,
            tag: tag.clone(),
            tags,
        },
        (_, 0) => Error::UnknownEntry {
            place,
            count: entries.len(),
        },
        (_, count) => Error::WhichImage { place, count, tags },
    })
}

/// How many images there are of that name in the text of an `index.json`; without a name, how many there are.
///
/// # Errors
/// [`Error::InvalidManifest`] where it is none.
pub(super) fn named(index: &[u8], tag: Option<&str>) -> Result<usize> {
    let index = document::parse(index, "index.json is no JSON")?;
    let entries = list(&index, "manifests")?;
    let is_meant = |entry: &&Value| tag.is_none_or(|tag| is_named(entry, tag));
    Ok(entries.iter().filter(is_meant).count())
}

/// Whether an entry has that tag, or containerd's name for it is that.
pub(super) fn is_named(entry: &Value, tag: &str) -> bool {
    let mut names = [REF_NAME, CONTAINERD_NAME].into_iter();
    names.any(|name| entry["annotations"][name] == *tag)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn digest(byte: &str) -> String {
        format!("sha256:{}", byte.repeat(32))
    }

    fn index() -> String {
        let entry = |byte: &str, tag: &str, name: &str, architecture: &str| {
            json!({
                "mediaType": "a/b", "digest": digest(byte), "size": 1,
                "platform": {"os": "linux", "architecture": architecture},
                "annotations": {REF_NAME: tag, CONTAINERD_NAME: name},
            })
        };
        let mut untagged = entry("dd", "", "", "amd64");
        untagged["annotations"] = Value::Null;
        json!({"manifests": [
            entry("aa", "latest", "docker.io/library/a:latest", "amd64"),
            entry("bb", "latest", "docker.io/library/b:latest", "arm64"),
            entry("cc", "one", "", "amd64"),
            untagged,
            {"mediaType": "a/b", "digest": "sha512:00", "size": 1},
        ]})
        .to_string()
    }

    fn find(wanted: &Selection, platform: Option<&str>) -> Result<String> {
        let platform: Option<Platform> = platform.map(|text| text.parse().unwrap());
        let found = entry(index().as_bytes(), "here", wanted, platform.as_ref())?;
        Ok(found.digest.to_string())
    }

    #[test]
    fn one_is_found_by_every_kind_of_name() {
        let tag = |tag: &str| Selection::Tag(tag.to_owned());
        for (wanted, platform, byte) in [
            (tag("one"), None, "cc"),
            (tag("docker.io/library/b:latest"), None, "bb"),
            (tag("latest"), Some("linux/arm64"), "bb"),
            (Selection::Digest(digest("dd").parse().unwrap()), None, "dd"),
            (Selection::Number(3), None, "dd"),
            (Selection::Number(0), Some("linux/arm64"), "aa"),
        ] {
            assert_eq!(find(&wanted, platform).unwrap(), digest(byte), "{wanted:?}");
        }
    }

    #[test]
    fn what_is_not_one_image_says_what_is_there() {
        let tag = |tag: &str| Selection::Tag(tag.to_owned());
        for (wanted, part) in [
            (Selection::Only, "5 images"),
            (tag("latest"), "2 images"),
            (tag("two"), "no image tagged"),
            (Selection::Number(5), "has 5 entries"),
            (
                Selection::Digest(digest("ee").parse().unwrap()),
                "has 5 entries",
            ),
            (Selection::Number(4), "is not a sha256 digest"),
        ] {
            let error = find(&wanted, None).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
