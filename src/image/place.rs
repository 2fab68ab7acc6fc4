//! Opening an image wherever a command line says that it is.

use super::archive::Archive;
use super::containerd::{self, Store};
use super::descriptor::Descriptor;
use super::error::{Error, Result};
use super::layout::Layout;
use super::platform::Platform;
use super::reference::Reference;
use super::registry::{self, Repository};
use super::source::Source;

/// How places are spoken to that are no files.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Registries.
    pub registry: registry::Settings,
    /// containerd.
    pub containerd: containerd::Settings,
}

/// An image's place, and its entry there. Of several with one tag, the one for the platform.
///
/// # Errors
/// Whatever keeps the place from being read, or the image from being found.
pub fn open(
    reference: &Reference,
    platform: Option<&Platform>,
    settings: &Settings,
) -> Result<(Box<dyn Source>, Descriptor)> {
    match reference {
        Reference::Layout(place) => {
            if !place.path.exists() {
                return Err(Error::NoSuchDirectory {
                    path: place.path.clone(),
                    meant: place.meant(),
                });
            }
            let layout = Layout::open(&place.path)?;
            let entry = layout.entry(&place.image, platform)?;
            Ok((Box::new(layout), entry))
        }
        Reference::OciArchive(place) => {
            let archive = Archive::open(&place.path)?;
            let entry = archive.entry(&place.image, platform)?;
            Ok((Box::new(archive), entry))
        }
        Reference::DockerArchive(place) => {
            let mut archive = Archive::open(&place.path)?;
            let entry = archive.docker_entry(&place.image)?;
            Ok((Box::new(archive), entry))
        }
        Reference::Registry(name) => {
            let repository = Repository::open(name, &settings.registry)?;
            let entry = repository.entry();
            Ok((Box::new(repository), entry))
        }
        Reference::Containerd(name) => {
            let store = Store::open(name, &settings.containerd)?;
            let entry = store.entry();
            Ok((Box::new(store), entry))
        }
    }
}
