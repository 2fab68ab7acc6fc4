//! One content store: a directory `blobs/sha256` whose files are named by their digests.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::FirstBytes;
use crate::descriptor::Digest;
use crate::error::{Error, Result};

/// Below containerd's root directory.
const CONTENT: &str = "io.containerd.content.v1.content";

/// Bytes of a blob that are read to see what it is.
const START: usize = super::FIRST_BYTES;
/// Bytes that are read next of one that may be a manifest. Most are shorter, and so take one more call.
const NEXT: usize = 32 << 10;

/// Where blobs lie.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    /// Open, so that each of ten thousand blobs is found without walking the whole path.
    directory: File,
}

/// What is known of a store's blobs after a look at the start of each.
#[derive(Debug)]
pub(super) struct Index {
    /// How many there are.
    pub(super) blobs: usize,
    /// Those that begin like standard input.
    pub(super) alike: Vec<Digest>,
    /// Those that begin like a JSON object: manifests among others.
    pub(super) json: Vec<Digest>,
}

/// The start of an open blob.
pub(super) struct Start {
    file: File,
    bytes: [u8; START],
    count: usize,
}

impl Store {
    /// The store of a containerd root, or the directory itself if that is a content store or an image layout.
    /// `None` if it is neither.
    ///
    /// # Errors
    /// [`Error::File`] when it is there but cannot be opened.
    pub(super) fn at(root: &Path) -> Result<Option<Self>> {
        for content in [&root.join(CONTENT), root] {
            if let Some(store) = Self::of_blobs(content.join("blobs/sha256"))? {
                return Ok(Some(store));
            }
        }
        Ok(None)
    }

    /// The store whose blobs are in this directory, if it is there.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be opened.
    pub(super) fn of_blobs(path: PathBuf) -> Result<Option<Self>> {
        match File::open(&path) {
            Ok(directory) => Ok(Some(Self { path, directory })),
            Err(error) if is_absent(&error) => Ok(None),
            Err(source) => Err(Error::File {
                action: "open",
                path,
                source,
            }),
        }
    }

    /// The directory, for a message.
    pub(super) fn into_path(self) -> PathBuf {
        self.path
    }

    /// The file of a blob.
    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.path.join(digest.hex())
    }

    /// All blobs.
    ///
    /// # Errors
    /// [`Error::File`] when the directory cannot be listed.
    pub(super) fn digests(&self) -> Result<Vec<Digest>> {
        let failed = |source| Error::File {
            action: "list",
            path: self.path.clone(),
            source,
        };
        let mut digests = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            digests.extend(digest_of(&entry.map_err(failed)?.file_name()));
        }
        Ok(digests)
    }

    /// Looks at the start of every blob.
    ///
    /// # Errors
    /// [`Error::File`] when the directory cannot be listed.
    pub(super) fn index(&self, first: &FirstBytes) -> Result<Index> {
        let digests = self.digests()?;
        let mut index = Index {
            blobs: digests.len(),
            alike: Vec::new(),
            json: Vec::new(),
        };
        for digest in digests {
            // A blob that cannot be opened has just been collected, or is none of ours.
            let Ok(start) = self.start_of(&digest) else {
                continue;
            };
            if start.is_like(first) {
                index.alike.push(digest);
            } else if start.is_json() {
                index.json.push(digest);
            }
        }
        Ok(index)
    }

    /// Whether a blob is there and begins with these bytes.
    pub(super) fn begins_like(&self, digest: &Digest, first: &FirstBytes) -> bool {
        self.start_of(digest)
            .is_ok_and(|start| start.is_like(first))
    }

    /// Opens a blob and reads how it begins.
    ///
    /// # Errors
    /// What the operating system says.
    pub(super) fn start_of(&self, digest: &Digest) -> io::Result<Start> {
        // What is no file but called like a blob shall not keep us waiting.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = openat(&self.directory, digest.hex(), flags, Mode::empty())?;
        let mut file = File::from(file);
        let mut bytes = [0; START];
        let count = file.read(&mut bytes)?;
        Ok(Start { file, bytes, count })
    }
}

impl Start {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.count]
    }

    fn is_like(&self, first: &FirstBytes) -> bool {
        first.are_start_of(self.bytes())
            && (!first.whole
                || self
                    .file
                    .metadata()
                    .is_ok_and(|blob| blob.len() == first.bytes.len() as u64))
    }

    /// Whether this may be a manifest. A layer, encrypted or not, does not begin like this but by rare chance.
    pub(super) fn is_json(&self) -> bool {
        self.bytes().trim_ascii_start().first() == Some(&b'{')
    }

    /// Reads all of the blob, or one byte more than `limit`.
    ///
    /// # Errors
    /// What the operating system says.
    pub(super) fn read_into(mut self, content: &mut Vec<u8>, limit: u64) -> io::Result<()> {
        content.clear();
        content.extend_from_slice(self.bytes());
        if self.count < START {
            return Ok(());
        }
        content.resize(START + NEXT, 0);
        let next = self.file.read(&mut content[START..])?;
        content.truncate(START + next);
        // A file gives all it has: less than was asked for is its end.
        if next == NEXT {
            let left = (limit + 1).saturating_sub(content.len() as u64);
            self.file.take(left).read_to_end(content)?;
        }
        Ok(())
    }
}

/// The digest that a blob's file name is, if it is one.
pub(super) fn digest_of(name: &OsStr) -> Option<Digest> {
    format!("sha256:{}", name.to_str()?).parse().ok()
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
