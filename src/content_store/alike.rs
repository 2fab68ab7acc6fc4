//! Blobs that begin alike, and which of them is on stdin.
//!
//! Whoever can have an image pulled can put a blob into the store that begins like a victim's, as far as they like. So
//! where several begin like stdin, it is read on until one is left. Up to there stdin says what that one's file says, so
//! nothing of it need be kept.

use std::fs::File;
use std::io::{self, Cursor, Read, Take};
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;

use super::manifests::Descriptions;
use super::store::{Start, Store};
use super::{Error, FirstBytes, Found, Result};
use crate::descriptor::Digest;

/// Bytes that are compared at once.
const PIECE: usize = 64 << 10;

/// A blob that may be the one on stdin.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) store: Rc<Store>,
    pub(super) digest: Digest,
    pub(super) file: File,
}

/// What was read of stdin, to be put before what follows there.
#[derive(Debug)]
pub struct Prefix {
    bytes: Vec<u8>,
    /// How much of the layer's file stdin was seen to agree with, if that is more.
    agreed: u64,
}

impl Candidate {
    /// A blob of a store, if it can be opened.
    pub(super) fn open(store: &Rc<Store>, digest: Digest) -> Option<Self> {
        let file = store.open(&digest).ok()?;
        let store = Rc::clone(store);
        Some(Self {
            store,
            digest,
            file,
        })
    }

    pub(super) fn begins_like(&self, first: &FirstBytes) -> bool {
        let file = self.file.try_clone();
        file.and_then(Start::of)
            .is_ok_and(|start| start.is_like(first))
    }

    pub(super) fn found(self, descriptions: Descriptions, prefix: Prefix, held: bool) -> Found {
        Found {
            digest: self.digest,
            file: self.file,
            held,
            descriptions,
            prefix,
        }
    }

    /// Whether the blob has these bytes there, and ends with them if `last`.
    fn has(&self, bytes: &[u8], offset: u64, last: bool, buffer: &mut [u8]) -> bool {
        let own = &mut buffer[..bytes.len()];
        let end = offset + bytes.len() as u64;
        self.file.read_exact_at(own, offset).is_ok()
            && own == bytes
            && (!last || self.file.metadata().is_ok_and(|blob| blob.len() == end))
    }
}

/// Those of the candidates that are not known to be another blob: one, unless stdin ends before they differ.
pub(super) fn like_stdin(
    mut candidates: Vec<Candidate>,
    prefix: &mut Prefix,
    mut stdin: impl Read,
) -> Result<Vec<Candidate>> {
    let differ = |candidates: &[Candidate]| {
        let mut others = candidates.iter().skip(1);
        others.any(|other| other.digest != candidates[0].digest)
    };
    let mut bytes = Vec::new();
    let mut buffer = Vec::new();
    while differ(&candidates) {
        bytes.clear();
        buffer.resize(PIECE, 0);
        let read = stdin.by_ref().take(PIECE as u64).read_to_end(&mut bytes);
        read.map_err(|source| Error::Stdin { source })?;
        let last = bytes.len() < PIECE;
        let offset = prefix.agreed;
        candidates.retain(|candidate| candidate.has(&bytes, offset, last, &mut buffer));
        if candidates.is_empty() {
            // Nobody's file: what was compared last is not known from any.
            return Ok(candidates);
        }
        prefix.agreed += bytes.len() as u64;
        if last {
            break;
        }
    }
    Ok(candidates)
}

impl Prefix {
    /// These bytes.
    #[must_use]
    pub fn of(bytes: Vec<u8>) -> Self {
        let agreed = bytes.len() as u64;
        Self { bytes, agreed }
    }

    /// A reader of what was read, where `file` is the layer's own.
    ///
    /// # Errors
    /// When the file cannot be opened a second time.
    pub fn reader(self, file: &File) -> io::Result<PrefixReader> {
        let rest = self.agreed - self.bytes.len() as u64;
        Ok(PrefixReader {
            rest: BlobReader {
                offset: self.bytes.len() as u64,
                ..BlobReader::new(file)?
            }
            .take(rest),
            bytes: Cursor::new(self.bytes),
        })
    }

    /// The bytes, where no file was compared.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// What was read of stdin, once more.
#[derive(Debug)]
pub struct PrefixReader {
    bytes: Cursor<Vec<u8>>,
    rest: Take<BlobReader>,
}

impl Read for PrefixReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.bytes.read(buffer)? {
            0 => self.rest.read(buffer),
            count => Ok(count),
        }
    }
}

/// A blob's file from its beginning, whatever its position is.
#[derive(Debug)]
pub struct BlobReader {
    file: File,
    offset: u64,
}

impl BlobReader {
    /// Of an open file.
    ///
    /// # Errors
    /// When it cannot be opened a second time.
    pub fn new(file: &File) -> io::Result<Self> {
        let file = file.try_clone()?;
        Ok(Self { file, offset: 0 })
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
