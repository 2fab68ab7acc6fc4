//! How one layer is described: its envelope and its wrapped keys.

use super::in_layer;
use crate::commands::Result;
use crate::descriptor::LayerDescriptor;
use crate::envelope::{Envelope, Scheme};
use crate::image::Descriptor;
use crate::schemes::{self, WrappedKeys};

/// One way in which a layer is described.
#[derive(Debug)]
pub(in crate::commands) struct Description {
    pub(super) envelope: Envelope,
    pub(super) wrapped: WrappedKeys,
    pub(super) size: Option<u64>,
}

/// A layer of an image that is encrypted, and for whom.
#[derive(Debug)]
pub(in crate::commands) struct Locked {
    /// The layer.
    pub(in crate::commands) layer: Descriptor,
    /// Its annotations.
    pub(in crate::commands) envelope: Envelope,
    /// Its wrapped keys of the schemes that we open.
    pub(in crate::commands) wrapped: WrappedKeys,
}

impl Description {
    /// Reads a description.
    ///
    /// # Errors
    /// What is wrong with its annotations; that its cipher is unknown, since what cannot be decrypted need not be
    /// unwrapped.
    pub(super) fn new(layer: &LayerDescriptor) -> Result<Self> {
        let envelope = Envelope::from_annotations(&layer.annotations)?;
        envelope.public_options.cipher()?;
        Ok(Self {
            wrapped: schemes::wrapped_keys(&envelope),
            envelope,
            size: layer.size,
        })
    }
}

impl Locked {
    /// Reads a layer's annotations.
    ///
    /// # Errors
    /// [`crate::commands::Error::InLayer`] with what is wrong with them. A single wrapped key that cannot be read is kept in
    /// `wrapped.broken`.
    pub(in crate::commands) fn new(layer: &Descriptor) -> Result<Self> {
        let envelope = Envelope::from_annotations(&layer.annotations);
        let envelope = envelope.map_err(|error| in_layer(layer, error))?;
        Ok(Self {
            layer: layer.clone(),
            wrapped: schemes::wrapped_keys(&envelope),
            envelope,
        })
    }

    /// How many wrapped keys of a scheme there are that we read.
    pub(in crate::commands) fn recipients(&self, scheme: &Scheme) -> usize {
        let keys = self.wrapped.keys.iter().filter(|key| key.scheme == *scheme);
        keys.count()
    }

    /// The layer as a decoder is told of it.
    pub(in crate::commands) fn description(&self) -> LayerDescriptor {
        let layer = &self.layer;
        LayerDescriptor {
            media_type: Some(layer.media_type.clone()),
            digest: Some(layer.digest.clone()),
            size: Some(layer.size),
            annotations: layer.annotations.clone(),
        }
    }
}
