//! stdin's first bytes -> descriptors, from containerd's store on disk.
//!
//! Most clients send no payload, so the layer has to say itself which one it is. containerd, our parent, holds
//! the very blob open; where that cannot be seen, the first bytes of stdin match one blob of the store. Every
//! manifest in the store that lists that blob then tells how its key was wrapped. containerd's database is not
//! read, and no path that a manifest contains is ever followed: blobs are opened by their digest alone.

mod manifests;
mod store;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::descriptor::{Digest, LayerDescriptor};
use crate::error::{Error, Result};

use self::store::Store;

/// How many bytes of stdin are enough to tell one encrypted blob from all others.
pub const FIRST_BYTES: usize = 512;

/// Root directories of containerd where they usually are: plain, k3s, RKE2, microk8s, Docker.
pub const USUAL_ROOTS: [&str; 5] = [
    "/var/lib/containerd",
    "/var/lib/rancher/k3s/agent/containerd",
    "/var/lib/rancher/rke2/agent/containerd",
    "/var/snap/microk8s/common/var/lib/containerd",
    "/var/lib/docker/containerd/daemon",
];

/// The beginning of the layer on stdin.
#[derive(Debug)]
pub struct FirstBytes {
    bytes: Vec<u8>,
    /// Whether this is all there is.
    whole: bool,
}

/// A layer that was found in a store.
#[derive(Debug)]
pub struct Found {
    /// The store's own file of the blob.
    pub blob: PathBuf,
    /// The layer as each manifest describes it, without repetitions; at least one.
    pub layers: Vec<LayerDescriptor>,
}

impl FirstBytes {
    /// Takes up to [`FIRST_BYTES`] bytes from the reader.
    ///
    /// # Errors
    /// What the reader fails with.
    pub fn read(mut reader: impl Read) -> io::Result<Self> {
        let mut bytes = Vec::with_capacity(FIRST_BYTES);
        reader
            .by_ref()
            .take(FIRST_BYTES as u64)
            .read_to_end(&mut bytes)?;
        let whole = bytes.len() < FIRST_BYTES;
        Ok(Self { bytes, whole })
    }

    /// The bytes, to be put back before what follows them.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Whether there is nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn are_start_of(&self, start: &[u8]) -> bool {
        !self.bytes.is_empty() && start.starts_with(&self.bytes)
    }
}

/// Finds the layer whose blob is on stdin.
///
/// `roots` are containerd's root directories, content stores or image layouts; `parent` is the process whose open files are looked
/// at first.
///
/// # Errors
/// [`Error::NoContentStore`], [`Error::UnknownLayer`] or [`Error::NoDescriptor`], each saying where was looked.
pub fn find(roots: &[PathBuf], parent: u32, first: &FirstBytes) -> Result<Found> {
    // What the parent holds open is in its store, wherever that is.
    for (store, digest) in open_blobs(parent) {
        if store.begins_like(&digest, first) {
            let described = manifests::describing(&store, &digest, &store.digests()?)?;
            if let Some(found) = Found::new(&store, &digest, described) {
                return Ok(found);
            }
        }
    }
    let mut search = Search::default();
    for root in roots {
        if let Some(found) = search.look_in(root, first)? {
            return Ok(found);
        }
    }
    Err(search.failed(roots))
}

/// The file of a blob that a process holds open: what it feeds us from, if it is our parent.
#[must_use]
pub fn held_blob(pid: u32, digest: &Digest) -> Option<PathBuf> {
    let held = open_blobs(pid)
        .into_iter()
        .find(|(_, open)| open == digest)
        .map(|(store, _)| store.blob(digest));
    held.filter(|path| path.is_file())
}

/// What a search through the stores has seen so far, so that its failure can say where it looked.
#[derive(Default)]
struct Search {
    stores: Vec<PathBuf>,
    blobs: usize,
    manifests: usize,
    undescribed: Option<Digest>,
    unreadable: Option<Error>,
}

impl Search {
    fn look_in(&mut self, root: &Path, first: &FirstBytes) -> Result<Option<Found>> {
        let store = match Store::at(root) {
            Ok(Some(store)) => store,
            Ok(None) => return Ok(None),
            // Another store may still have it; if none has, this is the reason to give.
            Err(error) => {
                self.unreadable = Some(error);
                return Ok(None);
            }
        };
        let index = store.index(first)?;
        self.blobs += index.blobs;
        for digest in index.alike {
            let described = manifests::describing(&store, &digest, &index.json)?;
            self.manifests += described.manifests;
            if let Some(found) = Found::new(&store, &digest, described) {
                return Ok(Some(found));
            }
            self.undescribed = Some(digest);
        }
        self.stores.push(store.into_path());
        Ok(None)
    }

    fn failed(self, roots: &[PathBuf]) -> Error {
        if let Some(digest) = self.undescribed {
            return Error::NoDescriptor {
                digest,
                manifests: self.manifests,
                stores: self.stores,
            };
        }
        match self.unreadable {
            Some(error) => error,
            None if self.stores.is_empty() => Error::NoContentStore {
                roots: roots.to_vec(),
            },
            None => Error::UnknownLayer {
                blobs: self.blobs,
                stores: self.stores,
            },
        }
    }
}

impl Found {
    fn new(store: &Store, digest: &Digest, described: manifests::Described) -> Option<Self> {
        (!described.layers.is_empty()).then(|| Self {
            blob: store.blob(digest),
            layers: described.layers,
        })
    }
}

/// Blobs that a process holds open: the links in `/proc/<pid>/fd` that end in `blobs/sha256/<digest>`.
/// Empty where we may not look (another user's process).
fn open_blobs(pid: u32) -> Vec<(Store, Digest)> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    let mut blobs: Vec<(Store, Digest)> = entries
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|target| {
            let digest = store::digest_of(target.file_name()?)?;
            let content = target
                .parent()
                .filter(|dir| dir.ends_with("blobs/sha256"))?;
            Some((Store::of_blobs(content.to_owned()).ok()??, digest))
        })
        .collect();
    blobs.sort_by(|(_, a), (_, b)| a.cmp(b));
    blobs.dedup_by(|(_, a), (_, b)| a == b);
    blobs
}

/// How many blobs the store of a containerd root has; `None` when there is no store.
///
/// # Errors
/// [`Error::File`] when it is there but cannot be listed.
pub fn count_blobs(root: &Path) -> Result<Option<usize>> {
    let Some(store) = Store::at(root)? else {
        return Ok(None);
    };
    store.digests().map(|digests| Some(digests.len()))
}

/// The roots to look in when nobody names any.
#[must_use]
pub fn usual_roots() -> Vec<PathBuf> {
    USUAL_ROOTS.iter().map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests;
