//! Images in tar archives: an OCI layout, or what `docker save` writes; as they are, or in one gzip stream.
//!
//! Reads only, each blob from its place in the file. An archive in gzip has no such places, so it is unpacked into a
//! file without a name, which is gone with us however we end.

mod docker;
mod gzip;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::descriptor::Descriptor;
use super::document::MAX_DOCUMENT;
use super::error::{Error, Result};
use super::layout::{INDEX, MARKER, is_version_one};
use super::platform::Platform;
use super::selection::{self, Selection};
use super::source::Source;
use crate::descriptor::Digest;
use crate::file;

/// Most entries of an archive.
const MAX_ENTRIES: usize = 65536;
/// Most bytes of all headers of an archive, long names among them, each of which is held in memory.
const MAX_HEADERS: u64 = 16 << 20;
/// What a gzip stream begins with (RFC 1952, section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// What `docker save` says of its images.
const DOCKER: &str = "manifest.json";

/// An archive.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: Arc<File>,
    /// Where the content of each file is.
    files: BTreeMap<String, Span>,
    /// What stands for another file.
    links: BTreeMap<String, String>,
    /// Blobs that are not under their digest there.
    docker: BTreeMap<Digest, Blob>,
}

/// Bytes of the file.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u64,
    len: u64,
}

#[derive(Debug)]
enum Blob {
    There(Span),
    Made(Vec<u8>),
}

impl Archive {
    /// Opens an archive and finds what is in it. One in gzip is unpacked in the directory `temporary`.
    ///
    /// # Errors
    /// [`Error::NotAnArchive`]; [`Error::Unpacked`]; [`Error::Temporary`]; [`Error::Read`] and [`Error::File`].
    pub fn open(path: &Path, temporary: &Path) -> Result<Self> {
        let mut archive = file::open(path)?;
        let failed = |source| Error::File {
            action: "read",
            path: path.to_owned(),
            source,
        };
        let mut start = [0; 2];
        let is_gzip = archive.read_exact(&mut start).is_ok() && start == GZIP;
        archive.seek(SeekFrom::Start(0)).map_err(failed)?;
        if is_gzip {
            archive = gzip::unpacked(path, archive, temporary)?;
        }
        let mut this = Self {
            path: path.to_owned(),
            file: Arc::new(archive),
            files: BTreeMap::new(),
            links: BTreeMap::new(),
            docker: BTreeMap::new(),
        };
        this.list().map_err(|what| Error::NotAnArchive {
            path: path.to_owned(),
            what,
        })?;
        Ok(this)
    }

    fn list(&mut self) -> Result<(), &'static str> {
        let mut file = self.file.as_ref();
        file.seek(SeekFrom::Start(0))
            .map_err(|_| "it cannot be read")?;
        let left = Cell::new(MAX_HEADERS);
        let mut archive = tar::Archive::new(Headers { file, left: &left });
        let entries = archive
            .entries_with_seek()
            .map_err(|_| "it is no tar archive")?;
        for entry in entries {
            let entry = entry.map_err(|_| match left.get() {
                0 => "its headers are longer than those of an image",
                _ => "it is no tar archive, or it ends too soon",
            })?;
            if self.files.len() + self.links.len() == MAX_ENTRIES {
                return Err("it has more entries than an image");
            }
            let Some(name) = entry
                .path()
                .ok()
                .and_then(|path| normal(Path::new(""), &path))
            else {
                continue;
            };
            let kind = entry.header().entry_type();
            if kind.is_symlink() || kind.is_hard_link() {
                let base = match kind.is_symlink() {
                    true => Path::new(&name).parent().unwrap_or(Path::new("")),
                    false => Path::new(""),
                };
                let target = entry.link_name().ok().flatten();
                if let Some(target) = target.and_then(|target| normal(base, &target)) {
                    self.links.insert(name, target);
                }
            } else if kind.is_file() {
                let span = Span {
                    start: entry.raw_file_position(),
                    len: entry.size(),
                };
                self.files.insert(name, span);
            }
        }
        let len = self.file.metadata().map_err(|_| "it cannot be read")?.len();
        let whole = |span: &Span| {
            span.start
                .checked_add(span.len)
                .is_some_and(|end| end <= len)
        };
        match self.files.values().all(whole) {
            true if self.files.is_empty() => Err("it is empty, or no tar archive"),
            true => Ok(()),
            false => Err("it ends too soon"),
        }
    }

    /// The entry of an image in the archive's `index.json`.
    ///
    /// # Errors
    /// [`Error::NotAnArchive`] without such a file; as `selection::entry`.
    pub fn entry(&self, wanted: &Selection, platform: Option<&Platform>) -> Result<Descriptor> {
        let marker = self.text(MARKER)?;
        if !is_version_one(&marker) {
            return Err(self.not("its version is not 1"));
        }
        let place = self.path.display().to_string();
        selection::entry(&self.text(INDEX)?, &place, wanted, platform)
    }

    /// How many images its `index.json` has.
    ///
    /// # Errors
    /// [`Error::NotAnArchive`] without such a file.
    pub(super) fn count(&self) -> Result<usize> {
        selection::named(&self.text(INDEX)?, None)
    }

    fn find(&self, name: &str) -> Option<Span> {
        let mut name = normal(Path::new(""), Path::new(name))?;
        // `docker save` writes a layer that several images share once, and links to it.
        for _ in 0..8 {
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => break,
            }
        }
        self.files.get(&name).copied()
    }

    fn text(&self, name: &str) -> Result<Vec<u8>> {
        let span = self.find(name).ok_or_else(|| match name {
            MARKER => self.not("it has no file `oci-layout`"),
            DOCKER => self.not("it has no file `manifest.json`"),
            _ => self.not("a file that it names is not in it"),
        })?;
        if span.len > MAX_DOCUMENT {
            return Err(Error::TooLarge {
                what: "size of a document in the archive in bytes",
                limit: MAX_DOCUMENT,
            });
        }
        let mut bytes = Vec::new();
        self.reader(span)
            .read_to_end(&mut bytes)
            .map_err(|source| Error::File {
                action: "read",
                path: self.path.clone(),
                source,
            })?;
        Ok(bytes)
    }

    fn reader(&self, span: Span) -> Section {
        Section {
            file: Arc::clone(&self.file),
            span,
        }
    }

    fn not(&self, what: &'static str) -> Error {
        Error::NotAnArchive {
            path: self.path.clone(),
            what,
        }
    }
}

impl Source for Archive {
    fn has(&self, descriptor: &Descriptor) -> Result<bool> {
        Ok(self.docker.contains_key(&descriptor.digest) || self.find(&blob(descriptor)).is_some())
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>> {
        let span = match self.docker.get(&descriptor.digest) {
            Some(Blob::Made(bytes)) => return Ok(Box::new(io::Cursor::new(bytes.clone()))),
            Some(Blob::There(span)) => Some(*span),
            None => self.find(&blob(descriptor)),
        };
        let digest = || descriptor.digest.clone();
        let span = span.ok_or_else(|| Error::Blob {
            action: "read",
            digest: digest(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        if span.len != descriptor.size {
            return Err(Error::BlobSize {
                digest: digest(),
                actual: span.len,
                expected: descriptor.size,
            });
        }
        Ok(Box::new(self.reader(span)))
    }
}

/// What of the archive is read to list it: the content of files is passed over.
struct Headers<'a> {
    file: &'a File,
    left: &'a Cell<u64>,
}

impl Read for Headers<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.left.get()).unwrap_or(usize::MAX);
        if left == 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::Other.into());
        }
        let len = left.min(buffer.len());
        let read = self.file.read(&mut buffer[..len])?;
        self.left.set(self.left.get() - read as u64);
        Ok(read)
    }
}

impl Seek for Headers<'_> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

/// A part of the archive, read to its end.
struct Section {
    file: Arc<File>,
    span: Span,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = usize::try_from(self.span.len).unwrap_or(usize::MAX);
        let len = len.min(buffer.len());
        let read = self.file.read_at(&mut buffer[..len], self.span.start)?;
        self.span.start += read as u64;
        self.span.len -= read as u64;
        Ok(read)
    }
}

fn blob(descriptor: &Descriptor) -> String {
    format!("{}/{}", super::layout::BLOBS, descriptor.digest.hex())
}

/// A path within the archive, without detours; `None` for one that leads out of it.
fn normal(base: &Path, path: &Path) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in base.components().chain(path.components()) {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => drop(parts.pop()?),
            Component::CurDir | Component::RootDir => {}
            Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_fill_the_memory_is_not_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_path("././@LongLink").unwrap();
        header.set_size(4 << 30);
        header.set_cksum();
        std::fs::write(file.path(), header.as_bytes()).unwrap();
        file.as_file().set_len(5 << 30).unwrap();
        let error = Archive::open(file.path(), Path::new("/tmp"));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("its headers are longer"), "{error}");
    }

    #[test]
    fn paths_stay_within_the_archive() {
        let path = |base: &str, path: &str| normal(Path::new(base), Path::new(path));
        assert_eq!(
            path("", "./blobs/sha256/x").as_deref(),
            Some("blobs/sha256/x")
        );
        assert_eq!(path("a", "../b/layer.tar").as_deref(), Some("b/layer.tar"));
        assert_eq!(path("", "../etc/passwd"), None);
    }
}
