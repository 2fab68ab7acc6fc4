//! containerd's content store as files, below a containerd root: each blob by its digest.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::layer::digest;

/// Where a blob is.
#[must_use]
pub fn file(root: &Path, digest: &str) -> PathBuf {
    root.join("io.containerd.content.v1.content/blobs")
        .join(digest.replace(':', "/"))
}

/// Puts a blob there, and tells where it is.
///
/// # Panics
/// If it cannot be written.
pub fn put(root: &Path, bytes: &[u8]) -> PathBuf {
    let path = file(root, &digest(bytes));
    fs::create_dir_all(path.parent().expect("it is in a directory")).expect("the root is ours");
    fs::write(&path, bytes).expect("the root is ours");
    path
}

/// Puts a manifest with these layers there.
///
/// # Panics
/// If it cannot be written.
pub fn describe(root: &Path, layers: &[Value]) {
    let manifest = json!({ "schemaVersion": 2, "layers": layers }).to_string();
    put(root, manifest.as_bytes());
}
