//! What our parent holds open: the links in `/proc/<pid>/fd` that end in `blobs/sha256/<digest>`.
//!
//! A file is opened through its link, so it is the very one that the parent reads, whatever has its name by now and in
//! whatever mount namespace the parent lives.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::rc::Rc;

use nix::fcntl::OFlag;

use super::alike::Candidate;
use super::store::{self, Store};
use crate::descriptor::Digest;

/// The blobs that a process holds open, each once. Empty where we may not look (another user's process).
pub(super) fn blobs(pid: u32) -> Vec<Candidate> {
    let mut blobs: Vec<Candidate> = Vec::new();
    for (link, target, digest) in links(pid) {
        if blobs.iter().any(|known| known.digest == digest) {
            continue;
        }
        let Some(file) = open(&link) else { continue };
        let content = target.parent().map(PathBuf::from).unwrap_or_default();
        if let Ok(Some(store)) = Store::of_blobs(content) {
            blobs.push(Candidate {
                store: Rc::new(store),
                digest,
                file,
            });
        }
    }
    blobs
}

/// The file of a blob that a process holds open: what it feeds us from, if it is our parent.
#[must_use]
pub fn held_blob(pid: u32, digest: &Digest) -> Option<File> {
    links(pid)
        .filter(|(_, _, held)| held == digest)
        .find_map(|(link, _, _)| open(&link))
}

/// Link, what it leads to, and the digest that is its name.
fn links(pid: u32) -> impl Iterator<Item = (PathBuf, PathBuf, Digest)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"));
    entries.into_iter().flatten().filter_map(|entry| {
        let link = entry.ok()?.path();
        let target = fs::read_link(&link).ok()?;
        let digest = store::digest_of(target.file_name()?)?;
        let is_blob = target.parent()?.ends_with("blobs/sha256");
        is_blob.then_some((link, target, digest))
    })
}

/// Opened anew, with a position of its own.
fn open(link: &std::path::Path) -> Option<File> {
    let flags = (OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits();
    let file = File::options().read(true).custom_flags(flags).open(link);
    file.ok()
        .filter(|file| file.metadata().is_ok_and(|metadata| metadata.is_file()))
}
