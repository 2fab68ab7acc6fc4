//! How a command line names an image: `oci:DIR[:TAG]` or `DIR[:TAG]`, as skopeo and buildah have it.
//!
//! Says which directory and which tag; whether they are there is `layout`'s to find out.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use super::error::{Error, Result};

/// Longest tag, in bytes.
const MAX_TAG: usize = 255;
/// What other tools have before the colon, for places that are no OCI layout in a directory.
const OTHER_TRANSPORTS: [&str; 9] = [
    "containers-storage",
    "dir",
    "docker",
    "docker-archive",
    "docker-daemon",
    "http",
    "https",
    "oci-archive",
    "sif",
];

/// An image in a layout: the directory, and which of the images in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The layout's directory.
    pub directory: PathBuf,
    /// The image's name in `index.json`; without one, the only image there.
    pub tag: Option<String>,
}

impl Reference {
    /// Reads what stood on a command line. The first colon ends the directory, for a tag may have colons of its own.
    ///
    /// # Errors
    /// [`Error::InvalidReference`] without a directory, with a tag that cannot be one, or for another transport.
    pub fn parse(text: &OsStr) -> Result<Self> {
        let invalid = |what| Error::InvalidReference {
            text: text.to_string_lossy().chars().take(80).collect(),
            what,
        };
        let bytes = text.as_bytes();
        let bytes = bytes.strip_prefix(b"oci:").unwrap_or(bytes);
        let colon = bytes.iter().position(|&byte| byte == b':');
        let (directory, tag) = match colon {
            None => (bytes, None),
            Some(colon) => (&bytes[..colon], Some(&bytes[colon + 1..])),
        };
        if directory.is_empty() {
            return Err(invalid("names no directory"));
        }
        if tag.is_some() && OTHER_TRANSPORTS.iter().any(|it| it.as_bytes() == directory) {
            return Err(invalid(
                "is not an OCI image layout in a directory, oci:DIR[:TAG]",
            ));
        }
        let tag = match tag.map(std::str::from_utf8) {
            None => None,
            Some(Ok(tag)) if is_tag(tag) => Some(tag.to_owned()),
            Some(_) => return Err(invalid("has a tag that is not one")),
        };
        Ok(Self {
            directory: OsString::from_vec(directory.to_vec()).into(),
            tag,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci:{}", self.directory.display())?;
        match &self.tag {
            Some(tag) => write!(f, ":{tag}"),
            None => Ok(()),
        }
    }
}

/// The characters of the grammar of `org.opencontainers.image.ref.name` (OCI image spec, annotations.md).
fn is_tag(text: &str) -> bool {
    let within = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:@+/".contains(&byte);
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= MAX_TAG
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|&byte| within(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Reference> {
        Reference::parse(OsStr::new(text))
    }

    #[test]
    fn directory_and_tag() {
        for (text, directory, tag) in [
            ("oci:a/b:c", "a/b", Some("c")),
            ("oci:/a", "/a", None),
            ("a", "a", None),
            ("./a:1.2", "./a", Some("1.2")),
            (
                "a:docker.io/library/b:latest",
                "a",
                Some("docker.io/library/b:latest"),
            ),
            ("docker", "docker", None),
        ] {
            let reference = parse(text).unwrap();
            assert_eq!(reference.directory.to_str(), Some(directory));
            assert_eq!(reference.tag.as_deref(), tag);
        }
    }

    #[test]
    fn what_is_no_reference() {
        for text in [
            "",
            "oci:",
            ":tag",
            "a:",
            "a:b c",
            "a:-b",
            "a:b/",
            "a:\u{202e}b",
            "docker://busybox",
            "oci-archive:a.tar",
            &format!("a:{}", "b".repeat(256)),
        ] {
            assert!(
                matches!(parse(text), Err(Error::InvalidReference { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn a_path_need_not_be_utf8() {
        let reference = Reference::parse(OsStr::from_bytes(b"\xff:t")).unwrap();
        assert_eq!(reference.directory.as_os_str().as_bytes(), b"\xff");
    }
}
