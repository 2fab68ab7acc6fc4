//! Opening an image wherever a command line says that it is.

use std::path::PathBuf;

use super::archive::Archive;
use super::containerd::{self, Store};
use super::descriptor::Descriptor;
use super::error::{Error, Result};
use super::layout::Layout;
use super::platform::Platform;
use super::reference::{InFile, Reference};
use super::registry::{self, Repository};
use super::selection::{self, REF_NAME, Selection};
use super::source::Source;

/// How places are spoken to that are no files.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Registries.
    pub registry: registry::Settings,
    /// containerd.
    pub containerd: containerd::Settings,
    /// The directory in which archives are unpacked.
    pub temporary: PathBuf,
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
            let archive = Archive::open(&place.path, &settings.temporary)?;
            let entry = archive.entry(&place.image, platform)?;
            Ok((Box::new(archive), entry))
        }
        Reference::DockerArchive(place) => {
            let mut archive = Archive::open(&place.path, &settings.temporary)?;
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

/// What an image is called that takes the place of the one that was read: by its tag, whatever it was found by.
///
/// # Errors
/// [`Error::WouldReplace`] where others would be gone with it; whatever keeps the place from being read.
pub fn in_place(
    reference: &Reference,
    entry: &Descriptor,
    settings: &Settings,
) -> Result<Reference> {
    let would_replace = |place: &InFile, count, tag: Option<&str>| Error::WouldReplace {
        place: place.path.display().to_string(),
        count,
        tag: tag.map(str::to_owned),
    };
    let tagged = |place: &InFile| InFile {
        path: place.path.clone(),
        image: match entry.annotations.get(REF_NAME) {
            Some(own) => Selection::Tag(own.clone()),
            None => place.image.clone(),
        },
    };
    match reference {
        Reference::Layout(place) => {
            let new = tagged(place);
            let index = Layout::open(&place.path)?.index()?;
            match new
                .image
                .tag()
                .map(|tag| selection::named(&index, Some(tag)))
            {
                Some(count) if count.as_ref().is_ok_and(|&count| count > 1) => {
                    Err(would_replace(place, count?, new.image.tag()))
                }
                _ => Ok(Reference::Layout(new)),
            }
        }
        Reference::OciArchive(place) => {
            match Archive::open(&place.path, &settings.temporary)?.count()? {
                // A new archive has one image.
                count @ 2.. => Err(would_replace(place, count, None)),
                _ => Ok(Reference::OciArchive(tagged(place))),
            }
        }
        other => Ok(other.clone()),
    }
}
