//! An image as a tree: an index of manifests (or of further indexes), or one manifest.
//!
//! The documents stand in one list, in the order of the indexes, the root first. What an index names and we have no
//! document of is kept as its descriptor: an entry of another kind, or a manifest that is not here.

use serde_json::Value;

use super::descriptor::Descriptor;
use super::error::{Error, Result, shortened};
use super::layout::{Layout, entries};
use super::media_type::{self, Kind};
use super::platform::Platform;
use crate::descriptor::Digest;

/// Most bytes that all documents of an image may have together.
const MAX_DOCUMENTS: u64 = 64 << 20;
/// Most documents of an image.
const MAX_COUNT: usize = 4096;
/// How deep indexes may be nested.
const MAX_DEPTH: usize = 4;

/// An image, or the images of several platforms under one name.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its entry in `index.json`.
    pub entry: Descriptor,
    pub(super) parts: Vec<Part>,
}

/// The manifest of one platform's image, or of something else that is kept like one.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// As it was read.
    pub digest: Digest,
    /// What the index says that it is for; else what its config says.
    pub platform: Option<Platform>,
    /// The config.
    pub config: Descriptor,
    /// The layers, from the bottom. Change them, and [`Image::finish`] writes the change.
    pub layers: Vec<Descriptor>,
    /// Whether it cannot do without its blobs. Those of one that nobody chose are copied where they are at hand.
    pub needed: bool,
    pub(super) document: Document,
}

/// One document.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Index {
        digest: Digest,
        document: Document,
        children: Vec<Child>,
    },
    Manifest(Box<Manifest>),
}

/// What an index names.
#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) descriptor: Descriptor,
    pub(super) is: ChildIs,
}

/// What there is of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChildIs {
    /// A document, by its number.
    Part(usize),
    /// A manifest or an index that is not here.
    Absent,
    /// Something else.
    Other,
}

#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) bytes: Vec<u8>,
    pub(super) json: Value,
}

impl Image {
    /// Reads the documents of an image, each against its digest.
    ///
    /// # Errors
    /// [`Error::NotAnImage`] for an entry of another kind; [`Error::InvalidManifest`] for a document that is not
    /// what its media type says; [`Error::TooLarge`] over a bound; whatever [`Layout::document`] has.
    pub fn load(layout: &Layout, entry: Descriptor) -> Result<Self> {
        if media_type::kind(&entry.media_type) == Kind::Other {
            return Err(Error::NotAnImage {
                media_type: shortened(&entry.media_type),
            });
        }
        let mut loading = Loading {
            layout,
            left: MAX_DOCUMENTS,
            parts: Vec::new(),
        };
        loading.load(&entry, 0)?;
        let parts = loading.parts.into_iter().flatten().collect();
        Ok(Self { entry, parts })
    }

    /// The manifests, in the order of the indexes.
    #[must_use]
    pub fn manifests(&self) -> Vec<&Manifest> {
        self.parts.iter().filter_map(Part::manifest).collect()
    }

    /// The manifests, to be changed, in the same order.
    pub fn manifests_mut(&mut self) -> Vec<&mut Manifest> {
        self.parts
            .iter_mut()
            .filter_map(Part::manifest_mut)
            .collect()
    }

    /// What the indexes name beside manifests and indexes.
    pub fn others(&self) -> impl Iterator<Item = &Descriptor> {
        self.children(ChildIs::Other)
    }

    /// The manifests and indexes that are not here.
    pub fn absent(&self) -> impl Iterator<Item = &Descriptor> {
        self.children(ChildIs::Absent)
    }

    fn children(&self, is: ChildIs) -> impl Iterator<Item = &Descriptor> {
        let lists = self.parts.iter().filter_map(|part| match part {
            Part::Index { children, .. } => Some(children),
            Part::Manifest(_) => None,
        });
        let wanted = lists.flatten().filter(move |child| child.is == is);
        wanted.map(|child| &child.descriptor)
    }
}

impl Part {
    fn manifest(&self) -> Option<&Manifest> {
        match self {
            Self::Manifest(manifest) => Some(manifest),
            Self::Index { .. } => None,
        }
    }

    fn manifest_mut(&mut self) -> Option<&mut Manifest> {
        match self {
            Self::Manifest(manifest) => Some(manifest),
            Self::Index { .. } => None,
        }
    }
}

impl Manifest {
    /// Whether it holds statements about images and nothing else, whatever its index says of it.
    #[must_use]
    pub fn is_attestation(&self) -> bool {
        let statement = |layer: &Descriptor| media_type::is_statement(&layer.media_type);
        !self.layers.is_empty() && self.layers.iter().all(statement)
    }
}

impl Document {
    fn parse(bytes: Vec<u8>, list: &str, other: &str) -> Result<Self> {
        let json: Value =
            serde_json::from_slice(&bytes).map_err(|_| broken("a manifest is no JSON"))?;
        if !json.is_object() {
            return Err(broken("a manifest is no object"));
        }
        // Read as either, one text could name two images (CVE-2021-41190).
        if json.get(other).is_some() {
            return Err(broken("a document is a manifest and an index at once"));
        }
        if json.get(list).is_none() {
            return Err(broken("a manifest has no layers, or an index no manifests"));
        }
        Ok(Self { bytes, json })
    }
}

/// An image that is being read.
struct Loading<'a> {
    layout: &'a Layout,
    /// Bytes that its further documents may have.
    left: u64,
    /// `None` where an index waits for what it names.
    parts: Vec<Option<Part>>,
}

impl Loading<'_> {
    /// Reads a document and all below it; returns its number.
    fn load(&mut self, descriptor: &Descriptor, depth: usize) -> Result<usize> {
        self.left = self
            .left
            .checked_sub(descriptor.size)
            .ok_or(Error::TooLarge {
                what: "size of all manifests of the image in bytes",
                limit: MAX_DOCUMENTS,
            })?;
        if depth > MAX_DEPTH {
            return Err(Error::TooLarge {
                what: "depth of the image's nested indexes",
                limit: MAX_DEPTH as u64,
            });
        }
        let number = self.parts.len();
        if number == MAX_COUNT {
            return Err(Error::TooLarge {
                what: "number of manifests of the image",
                limit: MAX_COUNT as u64,
            });
        }
        self.parts.push(None);
        let bytes = self.layout.document(descriptor)?;
        let part = match media_type::kind(&descriptor.media_type) {
            Kind::Index => self.index(descriptor, bytes, depth)?,
            _ => self.manifest(descriptor, bytes)?,
        };
        self.parts[number] = Some(part);
        Ok(number)
    }

    fn index(&mut self, descriptor: &Descriptor, bytes: Vec<u8>, depth: usize) -> Result<Part> {
        let document = Document::parse(bytes, "manifests", "layers")?;
        let mut children = Vec::new();
        for descriptor in entries(&document.json, "manifests")? {
            let is = match media_type::kind(&descriptor.media_type) {
                Kind::Other => ChildIs::Other,
                _ if !self.layout.has(&descriptor.digest) => ChildIs::Absent,
                _ => ChildIs::Part(self.load(&descriptor, depth + 1)?),
            };
            children.push(Child { descriptor, is });
        }
        Ok(Part::Index {
            digest: descriptor.digest.clone(),
            document,
            children,
        })
    }

    fn manifest(&self, descriptor: &Descriptor, bytes: Vec<u8>) -> Result<Part> {
        let document = Document::parse(bytes, "layers", "manifests")?;
        let config = Descriptor::parse(&document.json["config"])?;
        let platform = match descriptor.platform() {
            Some(platform) => Some(platform),
            None => self.configured_platform(&config)?,
        };
        Ok(Part::Manifest(Box::new(Manifest {
            digest: descriptor.digest.clone(),
            platform,
            layers: entries(&document.json, "layers")?,
            config,
            needed: true,
            document,
        })))
    }

    fn configured_platform(&self, config: &Descriptor) -> Result<Option<Platform>> {
        if media_type::to_oci(&config.media_type) != media_type::CONFIG {
            return Ok(None);
        }
        let json: Value = serde_json::from_slice(&self.layout.document(config)?)
            .map_err(|_| broken("an image's config is no JSON"))?;
        Ok(Platform::from_json(&json))
    }
}

fn broken(what: &'static str) -> Error {
    Error::InvalidManifest { what }
}

#[cfg(test)]
mod tests;
