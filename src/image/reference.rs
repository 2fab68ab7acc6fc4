//! How a command line names an image, in skopeo's notation: a transport and what it takes, or a directory.
//!
//! Says where and which; whether it is there is for whoever opens it to find out.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use super::containerd;
use super::error::{Error, Result};
use super::registry::Name;
use super::selection::Selection;

/// Longest tag, in bytes.
const MAX_TAG: usize = 255;
/// What other tools have before the colon, for places that we do not know.
const OTHER_TRANSPORTS: [&str; 6] = [
    "containers-storage",
    "dir",
    "docker-daemon",
    "http",
    "https",
    "sif",
];
const TRANSPORTS: &str = "has a transport that is not one of these: oci:DIR, oci-archive:FILE, docker-archive:FILE, docker://NAME, containerd:NAME";

/// What the arguments for an image mean, for the help.
pub const HELP: &str = "oci:DIR[:TAG], DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], docker://NAME[:TAG] or containerd:[NAMESPACE/]NAME";

/// An image, wherever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// In a layout.
    Layout(InFile),
    /// In a layout in a tar archive.
    OciArchive(InFile),
    /// In what `docker save` writes.
    DockerArchive(InFile),
    /// In a registry.
    Registry(Name),
    /// In containerd.
    Containerd(containerd::Name),
}

/// An image in a directory or in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFile {
    /// The directory or the file.
    pub path: PathBuf,
    /// Which of the images there.
    pub image: Selection,
}

impl Reference {
    /// Reads what stood on a command line. The first colon ends the path, for a tag may have colons of its own.
    ///
    /// # Errors
    /// [`Error::InvalidReference`] without a path, with a tag that cannot be one, or for another transport.
    pub fn parse(text: &OsStr) -> Result<Self> {
        let invalid = |what| Error::InvalidReference {
            text: without_login(&text.to_string_lossy())
                .chars()
                .take(80)
                .collect(),
            what,
        };
        let bytes = text.as_bytes();
        let strip = |prefix: &str| bytes.strip_prefix(prefix.as_bytes());
        let in_file = |bytes| InFile::parse(bytes).map_err(invalid);
        if let Some(rest) = strip("docker://") {
            let name = std::str::from_utf8(rest).ok().and_then(Name::parse);
            let name = name.ok_or(invalid("is not docker://[HOST/]NAME[:TAG] or …@DIGEST"))?;
            return Ok(Self::Registry(name));
        }
        if strip("docker:").is_some_and(|rest| !rest.is_empty()) {
            return Err(invalid("has no // after docker:"));
        }
        if let Some(rest) = strip("containerd:") {
            let name = std::str::from_utf8(rest).ok();
            let name = name.and_then(containerd::Name::parse);
            let name = name.ok_or(invalid("is not containerd:[NAMESPACE/]NAME"))?;
            return Ok(Self::Containerd(name));
        }
        if let Some(rest) = strip("oci-archive:") {
            return Ok(Self::OciArchive(in_file(rest)?));
        }
        if let Some(rest) = strip("docker-archive:") {
            return Ok(Self::DockerArchive(in_file(rest)?));
        }
        if let Some(rest) = strip("oci:") {
            return Ok(Self::Layout(in_file(rest)?));
        }
        let scheme = bytes.split(|&byte| byte == b':').next().unwrap_or_default();
        let other = OTHER_TRANSPORTS.iter().any(|it| it.as_bytes() == scheme);
        if scheme.len() < bytes.len() && (other || bytes[scheme.len()..].starts_with(b"://")) {
            return Err(invalid(TRANSPORTS));
        }
        Ok(Self::Layout(in_file(bytes)?))
    }

    /// The tag that it names.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        match self {
            Self::Layout(place) | Self::OciArchive(place) | Self::DockerArchive(place) => {
                place.image.tag()
            }
            Self::Registry(name) => name.tag(),
            Self::Containerd(_) => None,
        }
    }
}

/// What a message may show of a reference: somebody may have put a password before the host, as in an address.
fn without_login(text: &str) -> String {
    let after = |mark: &str| text.find(mark).map(|at| at + mark.len());
    let Some(start) = after("://").or(after("docker:")) else {
        return text.to_owned();
    };
    let end = ["@sha256:", "@sha512:"]
        .iter()
        .find_map(|it| text.rfind(it));
    let name = &text[start..end.filter(|&end| end >= start).unwrap_or(text.len())];
    match name.rfind('@') {
        None => text.to_owned(),
        Some(at) => format!("{}…{}", &text[..start], &text[start + at..]),
    }
}

impl InFile {
    fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let colon = bytes.iter().position(|&byte| byte == b':');
        if let Some(place) = Self::numbered(bytes, colon) {
            return Ok(place);
        }
        let (path, tag) = match colon {
            None => (bytes, None),
            Some(colon) => (&bytes[..colon], Some(&bytes[colon + 1..])),
        };
        if path.is_empty() {
            return Err("names no directory or file");
        }
        let image = match tag.map(std::str::from_utf8) {
            None => Selection::Only,
            Some(Ok(tag)) if is_tag(tag) => Selection::Tag(tag.to_owned()),
            Some(_) => return Err("has a tag that is not one"),
        };
        Ok(Self {
            path: path_of(path),
            image,
        })
    }

    /// `PATH@sha256:…` or `PATH@N`. Any other `@` is a part of the path or of the tag.
    fn numbered(bytes: &[u8], colon: Option<usize>) -> Option<Self> {
        let at = bytes.iter().rposition(|&byte| byte == b'@')?;
        let (path, image) = (&bytes[..at], std::str::from_utf8(&bytes[at + 1..]).ok()?);
        let image = match image.parse() {
            Ok(digest) if colon? > at => Selection::Digest(digest),
            _ if colon.is_none() => Selection::Number(image.parse().ok()?),
            _ => return None,
        };
        let path = path_of(path);
        (!path.as_os_str().is_empty()).then_some(Self { path, image })
    }

    /// The image in a registry that was probably meant with the name of a directory that is not there.
    pub(super) fn meant(&self) -> Option<String> {
        meant(&self.path, self.image.tag())
    }
}

/// See [`InFile::meant`].
pub(super) fn meant(path: &Path, tag: Option<&str>) -> Option<String> {
    let mut name = path.to_str()?.to_owned();
    if let Some(tag) = tag {
        name.push(':');
        name.push_str(tag);
    }
    let host = name.split('/').next()?;
    let is_host =
        host.contains('.') && !host.starts_with('.') || host.contains(':') || host == "localhost";
    let is_name = is_host && name.contains('/') && Name::parse(&name).is_some();
    is_name.then(|| format!("docker://{name}"))
}

fn path_of(bytes: &[u8]) -> PathBuf {
    OsString::from_vec(bytes.to_vec()).into()
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, place) = match self {
            Self::Layout(place) => ("oci", place),
            Self::OciArchive(place) => ("oci-archive", place),
            Self::DockerArchive(place) => ("docker-archive", place),
            Self::Registry(name) => return write!(f, "docker://{name}"),
            Self::Containerd(name) => return write!(f, "containerd:{name}"),
        };
        write!(f, "{transport}:{}", place.path.display())?;
        match &place.image {
            Selection::Only => Ok(()),
            Selection::Tag(tag) => write!(f, ":{tag}"),
            Selection::Digest(digest) => write!(f, "@{digest}"),
            Selection::Number(number) => write!(f, "@{number}"),
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
    fn a_name_is_what_it_is_printed_as() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        for (text, printed) in [
            ("oci:a/b:c", "oci:a/b:c"),
            ("oci:/a", "oci:/a"),
            ("a", "oci:a"),
            ("./a:1.2", "oci:./a:1.2"),
            (
                "a:docker.io/library/b:latest",
                "oci:a:docker.io/library/b:latest",
            ),
            ("docker", "oci:docker"),
            ("a@2", "oci:a@2"),
            ("a@b", "oci:a@b"),
            ("oci-archive:x.tar:v1", "oci-archive:x.tar:v1"),
            (
                "docker-archive:x.tar:busybox:1",
                "docker-archive:x.tar:busybox:1",
            ),
            (
                "docker://busybox",
                "docker://docker.io/library/busybox:latest",
            ),
            (
                "containerd:k8s.io/docker.io/library/b:1",
                "containerd:k8s.io/docker.io/library/b:1",
            ),
            ("containerd", "oci:containerd"),
            (&format!("a@{digest}"), &format!("oci:a@{digest}")),
            (&format!("a:b@{digest}"), &format!("oci:a:b@{digest}")),
        ] {
            assert_eq!(parse(text).unwrap().to_string(), printed);
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
            "docker:busybox",
            "docker://Busy box",
            "ftp://busybox",
            "containerd:",
            "containerd://busybox",
            "containerd:a b",
            "containers-storage:busybox",
            &format!("a:{}", "b".repeat(256)),
        ] {
            assert!(
                matches!(parse(text), Err(Error::InvalidReference { .. })),
                "{text}"
            );
        }
        let error = parse("dir:/x").unwrap_err().to_string();
        assert!(error.contains("oci-archive:"), "{error}");
    }

    #[test]
    fn a_registry_without_its_transport_is_recognised() {
        let meant = |text: &str| match parse(text).unwrap() {
            Reference::Layout(place) => place.meant(),
            other => panic!("{other}"),
        };
        for text in [
            "docker.io/library/busybox",
            "localhost:5000/a:v1",
            "r.test/a/b:v1",
        ] {
            assert_eq!(meant(text), Some(format!("docker://{text}")));
        }
        for text in ["a/b", "./a.b/c", "image.d", "../a/b:v1"] {
            assert_eq!(meant(text), None, "{text}");
        }
    }

    #[test]
    fn a_path_need_not_be_utf8() {
        let reference = Reference::parse(OsStr::from_bytes(b"\xff:t")).unwrap();
        let Reference::Layout(place) = reference else {
            panic!("{reference}");
        };
        assert_eq!(place.path.as_os_str().as_bytes(), b"\xff");
    }

    #[test]
    fn a_password_in_a_reference_is_not_shown() {
        for (text, shown) in [
            ("docker://me:pw@r.test/a", "docker://…@r.test/a"),
            ("docker:me:pw@r.test/a", "docker:…@r.test/a"),
            ("https://me:p/w@r.test/a", "https://…@r.test/a"),
            (
                "docker://me:p@w@r.test/a@sha256:ab",
                "docker://…@r.test/a@sha256:ab",
            ),
            ("docker://r.test/A@sha256:ab", "docker://r.test/A@sha256:ab"),
            ("dir@home:x y", "dir@home:x y"),
        ] {
            assert_eq!(without_login(text), shown);
        }
    }
}
