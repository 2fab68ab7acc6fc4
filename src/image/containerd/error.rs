//! What can go wrong between us and containerd, and what to do about it.

use std::io;
use std::path::PathBuf;

use crate::descriptor::Digest;
use crate::words::reason;

/// What happened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody listens at the socket, or not to us.
    #[error("cannot reach containerd at {}: {}", address.display(), reason(source))]
    Unreachable {
        /// The socket.
        address: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An answer that is not the one that was wanted.
    #[error("containerd at {} cannot {action}: {said:?}", address.display())]
    Refused {
        /// The socket.
        address: PathBuf,
        /// What we asked for.
        action: &'static str,
        /// The start of what it says.
        said: String,
    },
    /// There is no such image.
    #[error("containerd has no image {name:?} in its namespace {namespace:?}")]
    NoImage {
        /// What was asked for.
        name: String,
        /// Where it was looked for.
        namespace: String,
        /// The name in full, if there is an image of that name.
        meant: Option<String>,
    },
    /// A blob that an image names, and that is not in the store.
    #[error("blob {} is not in containerd's content store, in its namespace {namespace:?}", digest.short())]
    NoBlob {
        /// The blob.
        digest: Digest,
        /// Where it was looked for.
        namespace: String,
    },
}

impl Error {
    /// One sentence on what to do about it, where we can know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    Some("run it as root, whose socket that is".to_owned())
                }
                _ => Some("start containerd, or name its socket in CONTAINERD_ADDRESS".to_owned()),
            },
            Self::Refused { .. } => None,
            Self::NoImage {
                meant: Some(meant),
                namespace,
                ..
            } => Some(format!("there is containerd:{namespace}/{meant}")),
            Self::NoImage { namespace, .. } => Some(format!(
                "`ctr --namespace {namespace} images list` shows those that there are; name another namespace as containerd:NAMESPACE/NAME"
            )),
            Self::NoBlob { namespace, .. } => Some(format!(
                "containerd does not keep what is of other platforms, and can be told to discard layers that are unpacked: fetch all of the image with `ctr --namespace {namespace} content fetch NAME`, or choose with --platform"
            )),
        }
    }
}
