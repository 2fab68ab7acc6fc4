//! An OCI image layout that is there: its index, its images, its blobs (OCI image spec, image-layout.md).
//!
//! Reads only. A blob's path is made from a checked digest and from nothing else that stands in a manifest.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::libc;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::descriptor::Descriptor;
use super::error::{Error, Result};
use crate::descriptor::Digest;

/// Most bytes that a manifest, an index or a config may have.
pub const MAX_DOCUMENT: u64 = 4 << 20;
/// The annotation that holds an image's tag.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

pub(super) const MARKER: &str = "oci-layout";
pub(super) const INDEX: &str = "index.json";
pub(super) const BLOBS: &str = "blobs/sha256";
/// Most tags that a message lists.
const MAX_LISTED: usize = 10;

/// A layout's directory.
#[derive(Clone, Debug)]
pub struct Layout(PathBuf);

impl Layout {
    /// Opens a directory that is a layout of version 1.
    ///
    /// # Errors
    /// [`Error::NotALayout`] when it is none; [`Error::File`] when it cannot be read.
    pub fn open(directory: &Path) -> Result<Self> {
        let not = |what| Error::NotALayout {
            path: directory.to_owned(),
            what,
        };
        let layout = Self(directory.to_owned());
        let marker = directory.join(MARKER);
        if directory.is_dir() && !marker.exists() {
            return Err(not("it has no file `oci-layout`"));
        }
        if directory.is_file() {
            return Err(not("it is a file"));
        }
        let marker: Option<Value> = serde_json::from_slice(&read_bounded(&marker)?).ok();
        let version = marker
            .as_ref()
            .and_then(|marker| marker.get("imageLayoutVersion")?.as_str());
        match version {
            Some(version) if version.starts_with("1.") => Ok(layout),
            _ => Err(not("its version is not 1")),
        }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// The text of `index.json`.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::FileTooLarge`] when it cannot be read.
    pub fn index(&self) -> Result<Vec<u8>> {
        read_bounded(&self.0.join(INDEX))
    }

    /// The entry of an image in `index.json`: the one of that tag, or the only one there.
    ///
    /// # Errors
    /// [`Error::UnknownTag`] or [`Error::WhichImage`], both of which say what is there.
    pub fn entry(&self, tag: Option<&str>) -> Result<Descriptor> {
        let index: Value =
            serde_json::from_slice(&self.index()?).map_err(|_| Error::InvalidManifest {
                what: "index.json is no JSON",
            })?;
        let entries = entries(&index, "manifests")?;
        let named: Vec<_> = entries
            .iter()
            .filter(|entry| {
                tag.is_none() || entry.annotations.get(REF_NAME).map(String::as_str) == tag
            })
            .collect();
        if let [entry] = named[..] {
            return Ok(entry.clone());
        }
        let tags: Vec<_> = entries
            .iter()
            .filter_map(|entry| entry.annotations.get(REF_NAME))
            .map(|tag| tag.chars().take(80).collect())
            .take(MAX_LISTED)
            .collect();
        let path = self.0.clone();
        Err(match tag {
            Some(tag) if named.is_empty() => Error::UnknownTag {
                path,
                tag: tag.to_owned(),
                tags,
            },
            _ => Error::WhichImage {
                path,
                count: named.len(),
                tags,
            },
        })
    }

    /// A manifest, an index or a config, whose size and digest are right.
    ///
    /// # Errors
    /// [`Error::WrongBlob`] or [`Error::BlobSize`] when they are not; [`Error::TooLarge`] over [`MAX_DOCUMENT`];
    /// [`Error::File`] when it cannot be read.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        if descriptor.size > MAX_DOCUMENT {
            return Err(Error::TooLarge {
                what: "size of a manifest, an index or a config in bytes",
                limit: MAX_DOCUMENT,
            });
        }
        let mut file = self.blob(descriptor)?;
        let mut bytes = Vec::new();
        file.by_ref()
            .take(MAX_DOCUMENT + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| self.failed("read", &descriptor.digest, source))?;
        if bytes.len() as u64 != descriptor.size || digest_of(&bytes) != descriptor.digest {
            return Err(Error::WrongBlob {
                digest: descriptor.digest.clone(),
            });
        }
        Ok(bytes)
    }

    /// Opens a blob, whose length is right; its content is still to be checked.
    ///
    /// # Errors
    /// [`Error::BlobSize`] when it is not; [`Error::File`] when it cannot be opened.
    pub fn blob(&self, descriptor: &Descriptor) -> Result<File> {
        let digest = &descriptor.digest;
        // O_NONBLOCK: a named pipe in a blob's place must not keep us waiting for its writer.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(self.path(digest))
            .map_err(|source| self.failed("read", digest, source))?;
        let metadata = file
            .metadata()
            .map_err(|source| self.failed("read", digest, source))?;
        if !metadata.is_file() {
            return Err(self.failed("read", digest, ErrorKind::InvalidInput.into()));
        }
        if metadata.len() != descriptor.size {
            return Err(Error::BlobSize {
                digest: digest.clone(),
                actual: metadata.len(),
                expected: descriptor.size,
            });
        }
        Ok(file)
    }

    /// Whether something is there under that digest.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).symlink_metadata().is_ok()
    }

    /// The file of a blob.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.0.join(BLOBS).join(digest.hex())
    }

    fn failed(&self, action: &'static str, digest: &Digest, source: std::io::Error) -> Error {
        Error::File {
            action,
            path: self.path(digest),
            source,
        }
    }
}

/// The digest of bytes in memory.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes).into())
}

/// The descriptors of a list in a document; a list that is not there is empty.
pub(super) fn entries(document: &Value, list: &'static str) -> Result<Vec<Descriptor>> {
    match document.get(list) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(entries)) => entries.iter().map(Descriptor::parse).collect(),
        Some(_) => Err(Error::InvalidManifest {
            what: "its list of descriptors is no list",
        }),
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let failed = |source| Error::File {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(Error::FileTooLarge {
            path: path.to_owned(),
            limit: MAX_DOCUMENT,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    fn vector(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("integration/vectors/images")
            .join(name)
    }

    /// A layout whose index has an entry for each of these tags, all for the same manifest.
    fn layout(tags: &[Option<&str>]) -> (TempDir, Layout, Descriptor) {
        let dir = TempDir::new().unwrap();
        fs::create_dir_all(dir.path().join(BLOBS)).unwrap();
        fs::write(dir.path().join(MARKER), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let bytes = b"{}";
        let descriptor = Descriptor::new(super::super::media_type::MANIFEST, digest_of(bytes), 2);
        let entries: Vec<_> = tags
            .iter()
            .map(|tag| {
                let mut entry = descriptor.clone();
                if let Some(tag) = tag {
                    entry
                        .annotations
                        .insert(REF_NAME.to_owned(), (*tag).to_owned());
                }
                entry.to_json()
            })
            .collect();
        let index = json!({"schemaVersion": 2, "manifests": entries});
        fs::write(dir.path().join(INDEX), index.to_string()).unwrap();
        let layout = Layout::open(dir.path()).unwrap();
        fs::write(layout.path(&descriptor.digest), bytes).unwrap();
        (dir, layout, descriptor)
    }

    #[test]
    fn an_image_is_found_by_its_tag_or_because_it_is_alone() {
        let layout = Layout::open(&vector("plain")).unwrap();
        let entry = layout.entry(Some("latest")).unwrap();
        assert_eq!(layout.entry(None).unwrap().digest, entry.digest);
        assert_eq!(layout.document(&entry).unwrap().len(), 872);
    }

    #[test]
    fn an_image_that_is_not_there_or_not_alone_names_the_tags() {
        let (_dir, layout, _) = layout(&[Some("a"), Some("b"), None]);
        assert!(layout.entry(Some("b")).is_ok());
        let unknown = layout.entry(Some("c")).unwrap_err().to_string();
        assert!(unknown.contains(r#""a", "b""#), "{unknown}");
        let which = layout.entry(None).unwrap_err().to_string();
        assert!(which.contains(r#""a", "b""#), "{which}");
    }

    #[test]
    fn one_tag_on_two_images_is_no_name() {
        let (_dir, layout, _) = layout(&[Some("a"), Some("a")]);
        assert!(matches!(
            layout.entry(Some("a")),
            Err(Error::WhichImage { count: 2, .. })
        ));
    }

    #[test]
    fn a_tag_that_would_write_to_the_terminal_is_escaped() {
        let (_dir, layout, _) = layout(&[Some("\u{1b}[2J\u{202e}"), Some("b")]);
        let message = layout.entry(None).unwrap_err().to_string();
        assert!(!message.contains(['\u{1b}', '\u{202e}']), "{message:?}");
    }

    #[test]
    fn documents_with_another_digest_or_size_are_refused() {
        let (_dir, layout, descriptor) = layout(&[None]);
        assert_eq!(layout.document(&descriptor).unwrap(), b"{}");
        fs::write(layout.path(&descriptor.digest), "[]").unwrap();
        let error = layout.document(&descriptor).unwrap_err();
        assert!(matches!(error, Error::WrongBlob { .. }), "{error}");
        fs::write(layout.path(&descriptor.digest), "{} ").unwrap();
        let error = layout.document(&descriptor).unwrap_err();
        assert!(matches!(error, Error::BlobSize { .. }), "{error}");
        fs::remove_file(layout.path(&descriptor.digest)).unwrap();
        assert!(matches!(
            layout.document(&descriptor),
            Err(Error::File { .. })
        ));
    }

    #[test]
    fn huge_documents_are_not_read() {
        let (dir, layout, mut descriptor) = layout(&[None]);
        descriptor.size = MAX_DOCUMENT + 1;
        let error = layout.document(&descriptor).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
        let index = vec![b' '; usize::try_from(MAX_DOCUMENT).unwrap() + 1];
        fs::write(dir.path().join(INDEX), index).unwrap();
        let error = layout.entry(None).unwrap_err();
        assert!(matches!(error, Error::FileTooLarge { .. }), "{error}");
    }

    #[test]
    fn a_pipe_or_a_directory_in_a_blobs_place_is_refused() {
        let (_dir, layout, descriptor) = layout(&[None]);
        let path = layout.path(&descriptor.digest);
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(layout.blob(&descriptor).is_err());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(layout.blob(&descriptor).is_err());
    }

    #[test]
    fn what_is_no_layout() {
        let dir = TempDir::new().unwrap();
        for marker in [None, Some("{}"), Some(r#"{"imageLayoutVersion":"2.0.0"}"#)] {
            if let Some(marker) = marker {
                fs::write(dir.path().join(MARKER), marker).unwrap();
            }
            assert!(matches!(
                Layout::open(dir.path()),
                Err(Error::NotALayout { .. })
            ));
        }
        assert!(matches!(
            Layout::open(&dir.path().join(MARKER)),
            Err(Error::NotALayout { .. })
        ));
        assert!(matches!(
            Layout::open(&dir.path().join("absent")),
            Err(Error::File { .. })
        ));
    }
}
