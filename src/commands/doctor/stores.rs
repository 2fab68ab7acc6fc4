//! The content stores in which a decoder looks for its layer, and whether containerd's is among them.

use std::path::{Path, PathBuf};

use super::findings::Findings;
use super::kind;
use crate::content_store;

/// `named` are those that arguments or environment name; `root` is containerd's root directory.
pub(super) fn check(findings: &mut Findings, named: &[PathBuf], root: &Path) {
    let looked_at = match named {
        [] => content_store::usual_roots(),
        named => named.to_vec(),
    };
    let is_at = |store: &PathBuf| store == root || same(store, root);
    let finds_root = looked_at.iter().any(is_at);
    let root_has_one = matches!(content_store::count_blobs(root), Ok(Some(_)));
    let any_named =
        (named.iter()).any(|store| matches!(content_store::count_blobs(store), Ok(Some(_))));
    for store in named.iter().filter(|store| !is_at(store)) {
        match content_store::count_blobs(store) {
            Ok(Some(blobs)) => {
                findings.ok(kind::STORE, format!("{} has {blobs} blobs", store.display()));
            }
            Ok(None) if root_has_one && !finds_root && !any_named => findings.fail(
                kind::STORE_ELSEWHERE,
                format!(
                    "the decoder is told to look in {}, where no content store is; containerd's is in {}",
                    store.display(),
                    root.display()
                ),
                format!("name {} with --content-store in `args`", root.display()),
            ),
            Ok(None) => findings.warn(
                kind::STORE_ABSENT,
                format!("there is none in {}", store.display()),
                "correct --content-store in `args`, or OCIHSM_CONTENT_STORE in `env`",
            ),
            Err(error) => findings.error(kind::STORE_UNREADABLE, &error.into(), "look at the file system that it is on"),
        }
    }
    match content_store::count_blobs(root) {
        Ok(Some(blobs)) if finds_root => {
            findings.ok(kind::STORE, format!("{} has {blobs} blobs", root.display()));
        }
        Ok(Some(blobs)) if named.is_empty() => findings.ok(
            kind::STORE,
            format!(
                "{} has {blobs} blobs; it is not a usual place, and the decoder finds those that containerd holds open",
                root.display()
            ),
        ),
        Ok(Some(_)) if any_named => findings.warn(
            kind::STORE_UNNAMED,
            format!("the decoder is not told to look in containerd's own, in {}", root.display()),
            format!("name {} with --content-store in `args` as well", root.display()),
        ),
        Ok(Some(_)) => {}
        Ok(None) => findings.warn(
            kind::STORE_ABSENT,
            format!("there is none in {}", root.display()),
            "none is there before containerd's first pull; else name its directory with --content-store in `args`",
        ),
        Err(error) => findings.error(kind::STORE_UNREADABLE, &error.into(), "look at the file system that it is on"),
    }
}

fn same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
