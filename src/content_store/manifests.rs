//! Which manifests of a store list a layer, and how each describes it.

use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::Value;

use super::store::Store;
use crate::descriptor::{Digest, LayerDescriptor};
use crate::error::{Error, Result};

/// Most bytes that a manifest may have.
pub(super) const MAX_MANIFEST: u64 = 4 << 20;
/// Most descriptions of one layer that differ from one another.
const MAX_DESCRIPTIONS: usize = 256;

/// What the manifests of a store say of one layer.
#[derive(Debug)]
pub(super) struct Described {
    /// Each description once.
    pub(super) layers: Vec<LayerDescriptor>,
    /// How many manifests were read.
    pub(super) manifests: usize,
}

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Value>,
}

/// Reads those of the candidates that are manifests.
///
/// # Errors
/// [`Error::TooLarge`] over [`MAX_DESCRIPTIONS`].
pub(super) fn describing(
    store: &Store,
    digest: &Digest,
    candidates: &[Digest],
) -> Result<Described> {
    let wanted = Finder::new(digest.hex());
    let mut described = Described {
        layers: Vec::new(),
        manifests: 0,
    };
    let mut json = Vec::new();
    for candidate in candidates {
        // A blob that vanishes meanwhile was not the one: containerd holds on to what it unpacks.
        let Ok(start) = store.start_of(candidate) else {
            continue;
        };
        if !start.is_json() || start.read_into(&mut json, MAX_MANIFEST).is_err() {
            continue;
        }
        described.manifests += 1;
        if json.len() as u64 > MAX_MANIFEST {
            continue;
        }
        if wanted.find(&json).is_none() {
            continue;
        }
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&json) else {
            continue;
        };
        // Other layers may have what we would not take, another kind of digest among it.
        let ours = manifest
            .layers
            .into_iter()
            .filter(|layer| layer["digest"] == digest.as_str());
        for layer in ours.filter_map(|layer| serde_json::from_value(layer).ok()) {
            if !described.layers.contains(&layer) {
                described.layers.push(layer);
            }
        }
        if described.layers.len() > MAX_DESCRIPTIONS {
            return Err(Error::TooLarge {
                what: "number of manifests that describe this layer differently",
                limit: MAX_DESCRIPTIONS as u64,
            });
        }
    }
    Ok(described)
}
