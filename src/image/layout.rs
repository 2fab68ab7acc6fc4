//! An OCI image layout that is there: its index, its images, its blobs (OCI image spec, image-layout.md).
//!
//! Reads only. A blob's path is made from a checked digest and from nothing else that stands in a manifest.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::descriptor::Descriptor;
use super::document::{self, MAX_DOCUMENT};
use super::error::{Error, IS_A_FILE, Result};
use super::platform::Platform;
use super::selection::{self, Selection};
use super::source::Source;
use crate::descriptor::Digest;
use crate::file;

/// Most bytes of `index.json`.
const LIMIT: usize = MAX_DOCUMENT as usize;
pub(super) const MARKER: &str = "oci-layout";
pub(super) const INDEX: &str = "index.json";
pub(super) const BLOBS: &str = "blobs/sha256";

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
            return Err(not(IS_A_FILE));
        }
        match is_version_one(&file::read(&marker, LIMIT)?) {
            true => Ok(layout),
            false => Err(not("its version is not 1")),
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
    /// [`Error::Read`] when it cannot be read.
    pub fn index(&self) -> Result<Vec<u8>> {
        Ok(file::read(&self.0.join(INDEX), LIMIT)?)
    }

    /// The entry of an image in `index.json`.
    ///
    /// # Errors
    /// As `selection::entry`.
    pub fn entry(&self, wanted: &Selection, platform: Option<&Platform>) -> Result<Descriptor> {
        let place = self.0.display().to_string();
        selection::entry(&self.index()?, &place, wanted, platform)
    }

    /// Opens a blob, whose length is right; its content is still to be checked.
    ///
    /// # Errors
    /// [`Error::BlobSize`] when it is not; [`Error::Read`] when it cannot be opened.
    pub fn open_blob(&self, descriptor: &Descriptor) -> Result<File> {
        let digest = &descriptor.digest;
        let path = self.path(digest);
        let file = file::open(&path)?;
        let metadata = file
            .metadata()
            .map_err(file::Error::failed("read", &path))?;
        if metadata.len() != descriptor.size {
            return Err(Error::BlobSize {
                digest: digest.clone(),
                actual: metadata.len(),
                expected: descriptor.size,
            });
        }
        Ok(file)
    }

    /// The file of a blob.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.0.join(BLOBS).join(digest.hex())
    }
}

impl Source for Layout {
    fn has(&self, descriptor: &Descriptor) -> Result<bool> {
        Ok(self.path(&descriptor.digest).symlink_metadata().is_ok())
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>> {
        Ok(Box::new(self.open_blob(descriptor)?))
    }
}

/// Whether the text of `oci-layout` is of the version that we know.
pub(super) fn is_version_one(marker: &[u8]) -> bool {
    let marker = document::parse(marker, "").unwrap_or_default();
    let version = marker.get("imageLayoutVersion").and_then(Value::as_str);
    version.is_some_and(|version| version.starts_with("1."))
}

/// The digest of bytes in memory.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes).into())
}

/// The descriptors of a list in a document; a list that is not there is empty.
pub(super) fn entries(document: &Value, name: &'static str) -> Result<Vec<Descriptor>> {
    list(document, name)?
        .iter()
        .map(Descriptor::parse)
        .collect()
}

/// A list in a document; one that is not there is empty.
pub(super) fn list<'a>(document: &'a Value, name: &'static str) -> Result<&'a [Value]> {
    match document.get(name) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(entries)) => Ok(entries),
        Some(_) => Err(Error::InvalidManifest {
            what: "its list of descriptors is no list",
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;
    use tempfile::TempDir;

    use super::super::selection::REF_NAME;
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

    fn tagged(layout: &Layout, tag: &str) -> Result<Descriptor> {
        layout.entry(&Selection::Tag(tag.to_owned()), None)
    }

    #[test]
    fn an_image_is_found_by_its_tag_or_because_it_is_alone() {
        let layout = Layout::open(&vector("plain")).unwrap();
        let entry = tagged(&layout, "latest").unwrap();
        assert_eq!(
            layout.entry(&Selection::Only, None).unwrap().digest,
            entry.digest
        );
        assert_eq!(layout.document(&entry).unwrap().len(), 872);
    }

    #[test]
    fn an_image_that_is_not_there_or_not_alone_names_the_tags() {
        let (_dir, layout, _) = layout(&[Some("a"), Some("b"), None]);
        assert!(tagged(&layout, "b").is_ok());
        let unknown = tagged(&layout, "c").unwrap_err().to_string();
        assert!(unknown.contains(r#""a", "b""#), "{unknown}");
        let which = layout
            .entry(&Selection::Only, None)
            .unwrap_err()
            .to_string();
        assert!(which.contains(r#""a", "b""#), "{which}");
    }

    #[test]
    fn one_tag_on_two_images_is_no_name() {
        let (_dir, layout, _) = layout(&[Some("a"), Some("a")]);
        assert!(matches!(
            tagged(&layout, "a"),
            Err(Error::WhichImage { count: 2, .. })
        ));
    }

    #[test]
    fn a_tag_that_would_write_to_the_terminal_is_escaped() {
        let (_dir, layout, _) = layout(&[Some("\u{1b}[2J\u{202e}"), Some("b")]);
        let message = layout
            .entry(&Selection::Only, None)
            .unwrap_err()
            .to_string();
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
        assert!(matches!(layout.document(&descriptor), Err(Error::Read(_))));
    }

    #[test]
    fn huge_documents_are_not_read() {
        let (dir, layout, mut descriptor) = layout(&[None]);
        descriptor.size = MAX_DOCUMENT + 1;
        let error = layout.document(&descriptor).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
        let index = vec![b' '; usize::try_from(MAX_DOCUMENT).unwrap() + 1];
        fs::write(dir.path().join(INDEX), index).unwrap();
        let error = layout.entry(&Selection::Only, None).unwrap_err();
        assert!(
            matches!(error, Error::Read(file::Error::TooLarge { .. })),
            "{error}"
        );
    }

    #[test]
    fn a_pipe_or_a_directory_in_a_blobs_place_is_refused() {
        let (_dir, layout, descriptor) = layout(&[None]);
        let path = layout.path(&descriptor.digest);
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(layout.open_blob(&descriptor).is_err());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(layout.open_blob(&descriptor).is_err());
    }

    #[test]
    fn a_pipe_in_the_place_of_a_document_is_refused_at_once() {
        for name in [MARKER, INDEX] {
            let (dir, layout, _) = layout(&[None]);
            let path = dir.path().join(name);
            fs::remove_file(&path).unwrap();
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            let opened = Layout::open(dir.path()).and_then(|_| layout.index());
            assert!(matches!(opened, Err(Error::Read(_))), "{name}");
        }
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
            Err(Error::Read(_))
        ));
    }
}
