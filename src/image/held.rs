//! What the place of a new image has of a manifest that the image names and does not bring along.

use super::descriptor::Descriptor;
use super::error::{Error, Result};
use super::place::Settings;
use super::reference::Reference;
use super::registry::{self, Repository};
use super::target::{Existing, Target};

/// What a place has of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    No,
    /// Something under its digest.
    Yes,
    /// It cannot be asked for a digest of this kind.
    Unknown,
}

impl Target {
    /// What is there of a manifest, where `place` is what this target was prepared for.
    ///
    /// # Errors
    /// When the place cannot be asked.
    pub fn holds(
        &self,
        place: &Reference,
        settings: &Settings,
        manifest: &Descriptor,
    ) -> Result<Held> {
        let held = match (self, place) {
            // It is written as a whole.
            (Self::Archive(_), _) => return Ok(Held::No),
            (Self::Layout(layout), _) => return Ok(layout.holds(manifest.own_digest())),
            _ if manifest.is_unreadable() => return Ok(Held::Unknown),
            (Self::Registry(_), Reference::Registry(name)) => {
                let mut name = name.clone();
                name.digest = Some(manifest.digest.clone());
                // Not all registries answer HEAD as they answer GET.
                match Repository::open(&name, &settings.registry) {
                    Ok(_) => true,
                    Err(registry::Error::NotFound { .. }) => false,
                    Err(error) => return Err(error.into()),
                }
            }
            (Self::Containerd(stored), _) => match stored.existing(manifest) {
                Ok(Existing::No) => false,
                Ok(_) | Err(Error::BlobSize { .. }) => true,
                Err(error) => return Err(error),
            },
            (Self::Registry(_), _) => return Ok(Held::Unknown),
        };
        Ok(if held { Held::Yes } else { Held::No })
    }
}
