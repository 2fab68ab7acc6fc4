//! One content store: a directory `blobs/sha256` whose files are named by their digests.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::FirstBytes;
use super::error::{Error, Result};
use crate::descriptor::Digest;

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
    /// [`Error::Failed`] when it is there but cannot be opened.
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
    /// [`Error::Failed`] when it cannot be opened.
    pub(super) fn of_blobs(path: PathBuf) -> Result<Option<Self>> {
        match File::open(&path) {
            Ok(directory) => Ok(Some(Self { path, directory })),
            Err(error) if is_absent(&error) => Ok(None),
            Err(source) => Err(Error::Failed {
                action: "open",
                path,
                source,
            }),
        }
    }

    /// The directory, for a message.
    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Opens a blob.
    ///
    /// # Errors
    /// What the operating system says.
    pub(super) fn open(&self, digest: &Digest) -> io::Result<File> {
        // What is no file but called like a blob shall not keep us waiting.
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        Ok(openat(&self.directory, digest.hex(), flags, Mode::empty())?.into())
    }

    /// The file of a blob.
    #[cfg(test)]
    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.path.join(digest.hex())
    }

    /// All blobs.
    ///
    /// # Errors
    /// [`Error::Failed`] when the directory cannot be listed.
    pub(super) fn digests(&self) -> Result<Vec<Digest>> {
        let failed = |source| Error::Failed {
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
    /// [`Error::Failed`] when the directory cannot be listed.
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

    /// Opens a blob and reads how it begins.
    ///
    /// # Errors
    /// What the operating system says.
    pub(super) fn start_of(&self, digest: &Digest) -> io::Result<Start> {
        Start::of(self.open(digest)?)
    }
}

impl Start {
    /// Of a file whose position is its beginning.
    ///
    /// # Errors
    /// What the operating system says.
    pub(super) fn of(mut file: File) -> io::Result<Self> {
        let mut bytes = [0; START];
        let count = file.read(&mut bytes)?;
        Ok(Self { file, bytes, count })
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.count]
    }

    pub(super) fn is_like(&self, first: &FirstBytes) -> bool {
        first.are_start_of(self.bytes())
            && (!first.whole
                || self
                    .file
                    .metadata()
                    .is_ok_and(|blob| blob.len() == first.bytes.len() as u64))
    }

    /// When the blob was written; long ago if nobody knows.
    pub(super) fn modified(&self) -> SystemTime {
        let metadata = self.file.metadata();
        let modified = metadata.and_then(|metadata| metadata.modified());
        modified.unwrap_or(SystemTime::UNIX_EPOCH)
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
            // All of the room at once: a vector that grows holds it twice for a moment.
            let length = self.file.metadata()?.len().min(limit + 1);
            content.reserve_exact(
                usize::try_from(length)
                    .unwrap_or_default()
                    .saturating_sub(content.len())
                    + 1,
            );
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
