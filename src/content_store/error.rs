//! Why a content store does not tell which layer is on standard input.

use std::io;
use std::path::PathBuf;

use crate::descriptor::Digest;
use crate::words::{listed, reason};

/// What happened, and where was looked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A store, or a file of it, that the system does not let us read.
    #[error("cannot {action} {}: {}", path.display(), reason(source))]
    Failed {
        /// What we tried, a verb.
        action: &'static str,
        /// The directory or the file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Standard input cannot be read.
    #[error("cannot read the layer: {}", reason(source))]
    Stdin {
        /// Why not.
        source: io::Error,
    },
    /// Standard input ends before it begins, and no empty layer was expected.
    #[error("standard input is empty, so no layer came")]
    Empty,
    /// None of the directories is a content store.
    #[error(
        "cannot tell which layer this is: no payload came with it, and there is no content store in {}",
        listed(roots)
    )]
    NoStore {
        /// Where it was looked for.
        roots: Vec<PathBuf>,
    },
    /// No blob of any store begins like standard input.
    #[error(
        "cannot tell which layer this is: none of {blobs} blobs in {} begins like standard input",
        listed(stores)
    )]
    UnknownLayer {
        /// How many blobs there are.
        blobs: usize,
        /// The stores.
        stores: Vec<PathBuf>,
    },
    /// The blob is there, but no manifest lists it.
    #[error("no manifest describes layer {}: looked at {manifests} in {}", digest.short(), listed(stores))]
    NoDescription {
        /// The layer.
        digest: Digest,
        /// How many manifests were read.
        manifests: usize,
        /// The stores.
        stores: Vec<PathBuf>,
    },
}

/// Result with this room's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// One sentence on what to do about it, where we can know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoStore { .. } | Self::UnknownLayer { .. } => Some(
                "name containerd's root directory with --content-store or OCIHSM_CONTENT_STORE"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}
