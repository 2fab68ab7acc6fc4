//! stdin's first bytes -> descriptions of the layer, from containerd's store on disk.
//!
//! Most clients send no payload, so the layer has to say itself which one it is. containerd, our parent, holds
//! the very blob open; where that cannot be seen, the first bytes of stdin match one blob of the store. Every
//! manifest in the store that lists that blob then tells how its key was wrapped. containerd's database is not
//! read, and no path that a manifest contains is ever followed: blobs are opened by their digest alone.

mod alike;
mod error;
mod held;
mod manifests;
mod store;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::descriptor::Digest;

use self::alike::Candidate;
pub use self::alike::{BlobReader, Prefix, PrefixReader};
pub use self::error::{Error, Result};
pub use self::held::held_blob;
pub use self::manifests::Descriptions;
use self::store::Store;

/// How many bytes of stdin are enough to tell one encrypted blob from all others that nobody made to look like it.
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
    /// Its digest.
    pub digest: Digest,
    /// The store's own file of the blob, open.
    pub file: File,
    /// Whether it is the one that the parent feeds us from. Another one may be damaged, and what comes be sound.
    pub held: bool,
    /// The layer as each manifest describes it.
    pub descriptions: Descriptions,
    /// What was read of stdin.
    pub prefix: Prefix,
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

    fn are_start_of(&self, start: &[u8]) -> bool {
        start.starts_with(&self.bytes)
    }
}

/// Finds the layer whose blob is on stdin.
///
/// `roots` are containerd's root directories, content stores or image layouts; `parent` is the process whose open files
/// are looked at first. An empty stdin is an empty layer only where the parent is seen to hold one, or holds nothing
/// that we see: what was to come may have failed to.
///
/// # Errors
/// [`Error::NoStore`], [`Error::UnknownLayer`] or [`Error::NoDescription`], each saying where was looked;
/// [`Error::Empty`]; [`Error::Stdin`].
pub fn find(roots: &[PathBuf], parent: u32, mut stdin: impl Read) -> Result<Found> {
    let first = FirstBytes::read(&mut stdin).map_err(|source| Error::Stdin { source })?;
    let empty = first.bytes.is_empty();
    let mut prefix = Prefix::of(first.bytes.clone());
    let held = held::blobs(parent);
    let sees_nothing = held.is_empty();
    // What the parent holds open is in its store, wherever that is.
    let held = held.into_iter().filter(|held| held.begins_like(&first));
    let held = alike::like_stdin(held.collect(), &mut prefix, &mut stdin)?;
    for candidate in held {
        let digests = candidate.store.digests()?;
        let listing = manifests::listing(Rc::clone(&candidate.store), &candidate.digest, &digests);
        if let Some(descriptions) = listing.descriptions {
            return Ok(candidate.found(descriptions, prefix, true));
        }
    }
    if empty && !sees_nothing {
        return Err(Error::Empty);
    }
    let mut search = Search::default();
    let candidates = search.alike(roots, &first)?;
    for candidate in alike::like_stdin(candidates, &mut prefix, &mut stdin)? {
        let json = search.json_beside(&candidate);
        let listing = manifests::listing(Rc::clone(&candidate.store), &candidate.digest, json);
        search.manifests += listing.manifests;
        match listing.descriptions {
            Some(descriptions) => return Ok(candidate.found(descriptions, prefix, false)),
            None => search.undescribed = Some(candidate.digest),
        }
    }
    if empty {
        return Err(Error::Empty);
    }
    Err(search.failed(roots))
}

/// What a search through the stores has seen so far, so that its failure can say where it looked.
#[derive(Default)]
struct Search {
    /// Each with those of its blobs that may be manifests.
    stores: Vec<(Rc<Store>, Vec<Digest>)>,
    blobs: usize,
    manifests: usize,
    undescribed: Option<Digest>,
    unreadable: Option<Error>,
}

impl Search {
    /// The blobs of all stores that begin like stdin.
    fn alike(&mut self, roots: &[PathBuf], first: &FirstBytes) -> Result<Vec<Candidate>> {
        let mut candidates = Vec::new();
        for root in roots {
            let store = match Store::at(root) {
                Ok(Some(store)) => Rc::new(store),
                Ok(None) => continue,
                // Another store may still have it; if none has, this is the reason to give.
                Err(error) => {
                    self.unreadable = Some(error);
                    continue;
                }
            };
            let index = store.index(first)?;
            self.blobs += index.blobs;
            for digest in index.alike {
                candidates.extend(Candidate::open(&store, digest));
            }
            self.stores.push((store, index.json));
        }
        Ok(candidates)
    }

    fn json_beside(&self, candidate: &Candidate) -> &[Digest] {
        let mut stores = self.stores.iter();
        stores
            .find(|(store, _)| Rc::ptr_eq(store, &candidate.store))
            .map_or(&[], |(_, json)| json)
    }

    fn failed(self, roots: &[PathBuf]) -> Error {
        let stores: Vec<_> = self.stores.iter().map(|(store, _)| store.path()).collect();
        if let Some(digest) = self.undescribed {
            return Error::NoDescription {
                digest,
                manifests: self.manifests,
                stores,
            };
        }
        match self.unreadable {
            Some(error) => error,
            None if stores.is_empty() => Error::NoStore {
                roots: roots.to_vec(),
            },
            None => Error::UnknownLayer {
                blobs: self.blobs,
                stores,
            },
        }
    }
}

/// How many blobs the store of a containerd root has; `None` when there is no store.
///
/// # Errors
/// [`Error::Failed`] when it is there but cannot be listed.
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
