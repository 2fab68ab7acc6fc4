//! An image as a tree: an index of manifests (or of further indexes), or one manifest.
//!
//! The documents stand in one list, in the order of the indexes, the root first. What an index names and we have no
//! document of is kept as its descriptor: an entry of another kind, or a manifest that is not here.

use serde_json::Value;

use super::descriptor::{Descriptor, PLATFORM};
use super::document::{self, Budget};
use super::error::{Error, Result, shortened};
use super::layout::{entries, list};
use super::media_type::{self, Kind};
use super::platform::Platform;
use super::source::Source;
use crate::descriptor::Digest;

/// How deep indexes may be nested.
const MAX_DEPTH: usize = 4;

/// An image, or the images of several platforms under one name.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its entry in `index.json`.
    pub entry: Descriptor,
    pub(super) parts: Vec<Part>,
    /// What is left of what its documents may cost.
    pub(super) budget: Budget,
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
    /// What it names as an artifact manifest would.
    pub(super) blobs: Names,
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
    /// What something of another kind names in its turn, where it is written like a manifest.
    pub(super) names: Names,
}

/// What a document names in lists that nobody needs to read.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// Each after what it names in its turn.
    pub(super) known: Vec<Descriptor>,
    /// Whether there is more, which we cannot read.
    pub(super) are_more: bool,
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
    /// what its media type says; [`Error::TooLarge`] over a bound; whatever [`Source::document`] has.
    pub fn load(source: &dyn Source, entry: Descriptor) -> Result<Self> {
        let mut loading = Loading {
            source,
            budget: Budget::default(),
            parts: Vec::new(),
        };
        if loading.kind(&entry)? == Kind::Other {
            return Err(Error::NotAnImage {
                media_type: shortened(&entry.media_type),
            });
        }
        loading.load(&entry, 0)?;
        let parts = loading.parts.into_iter().flatten().collect();
        Ok(Self {
            entry,
            parts,
            budget: loading.budget,
        })
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

    /// What the indexes name beside manifests and indexes, each with what it names in its turn.
    pub(super) fn others(&self) -> impl Iterator<Item = (&Descriptor, &Names)> {
        self.children(ChildIs::Other)
            .map(|child| (&child.descriptor, &child.names))
    }

    /// The manifests and indexes that are not here.
    pub fn absent(&self) -> impl Iterator<Item = &Descriptor> {
        self.children(ChildIs::Absent)
            .map(|child| &child.descriptor)
    }

    fn children(&self, is: ChildIs) -> impl Iterator<Item = &Child> {
        let lists = self.parts.iter().filter_map(|part| match part {
            Part::Index { children, .. } => Some(children),
            Part::Manifest(_) => None,
        });
        lists.flatten().filter(move |child| child.is == is)
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

impl Names {
    fn add(&mut self, list: &Value) {
        match list {
            Value::Null => {}
            Value::Array(list) => list.iter().for_each(|it| self.add_one(it)),
            _ => self.are_more = true,
        }
    }

    /// One that cannot be read takes no other with it.
    fn add_one(&mut self, descriptor: &Value) {
        match Descriptor::parse(descriptor) {
            Ok(descriptor) => self.known.push(descriptor),
            Err(_) => self.are_more = true,
        }
    }
}

/// An image that is being read.
struct Loading<'a> {
    source: &'a dyn Source,
    budget: Budget,
    /// `None` where an index waits for what it names.
    parts: Vec<Option<Part>>,
}

impl Loading<'_> {
    /// What a descriptor stands for; where it does not say, its document does.
    fn kind(&mut self, descriptor: &Descriptor) -> Result<Kind> {
        if !descriptor.media_type.is_empty() || !self.source.has(descriptor)? {
            return Ok(media_type::kind(&descriptor.media_type));
        }
        let Ok(json) = self.other(descriptor) else {
            return Ok(Kind::Other);
        };
        let own = json.get("mediaType").and_then(Value::as_str);
        Ok(match own {
            Some(own) => media_type::kind(own),
            None if json.get("manifests").is_some() => Kind::Index,
            None if json.get("config").is_some() => Kind::Manifest,
            None => Kind::Other,
        })
    }

    /// A document of a kind that is not known.
    fn other(&mut self, descriptor: &Descriptor) -> Result<Value> {
        let bytes = self.source.document(descriptor)?;
        self.budget.take(descriptor.size)?;
        self.budget.parse(&bytes, "an entry of an index is no JSON")
    }

    /// Reads a document and all below it; returns its number.
    fn load(&mut self, descriptor: &Descriptor, depth: usize) -> Result<usize> {
        let kind = self.kind(descriptor)?;
        self.budget.take(descriptor.size)?;
        if depth > MAX_DEPTH {
            return Err(Error::TooLarge {
                what: "depth of the image's nested indexes",
                limit: MAX_DEPTH as u64,
            });
        }
        let number = self.parts.len();
        self.parts.push(None);
        let bytes = self.source.document(descriptor)?;
        let part = match kind {
            Kind::Index => self.index(descriptor, bytes, depth)?,
            _ => self.manifest(descriptor, bytes)?,
        };
        self.parts[number] = Some(part);
        Ok(number)
    }

    fn document(&mut self, bytes: Vec<u8>, others: &[&str]) -> Result<Document> {
        let json = self.budget.parse(&bytes, "a manifest is no JSON")?;
        document::checked(&json)?;
        // Read as either, one text could name two images (CVE-2021-41190).
        let has = |name: &&str| json.get(*name).is_some();
        if others.iter().any(has) {
            return Err(broken("a document is a manifest and an index at once"));
        }
        if let Some(subject) = json.get("subject").filter(|it| !it.is_null()) {
            Descriptor::parse_any(subject)?;
        }
        Ok(Document { bytes, json })
    }

    fn index(&mut self, descriptor: &Descriptor, bytes: Vec<u8>, depth: usize) -> Result<Part> {
        let document = self.document(bytes, &["layers", "config", "blobs", "fsLayers"])?;
        if document.json.get("manifests").is_none() {
            return Err(broken("an index has no manifests"));
        }
        let mut children = Vec::new();
        for entry in list(&document.json, "manifests")? {
            // What nobody chooses may be of a kind that we cannot read.
            let descriptor = Descriptor::parse_any(entry)?;
            if descriptor.is_unreadable() {
                children.push(Child {
                    descriptor,
                    is: ChildIs::Absent,
                    names: Names::default(),
                });
                continue;
            }
            let kind = self.kind(&descriptor)?;
            let is_here = self.source.has(&descriptor)?;
            let mut names = Names::default();
            let is = match kind {
                Kind::Other if is_here => {
                    self.names(&descriptor, depth, &mut names);
                    ChildIs::Other
                }
                Kind::Other => ChildIs::Other,
                _ if !is_here => ChildIs::Absent,
                _ => ChildIs::Part(self.load(&descriptor, depth + 1)?),
            };
            children.push(Child {
                descriptor,
                is,
                names,
            });
        }
        Ok(Part::Index {
            digest: descriptor.digest.clone(),
            document,
            children,
        })
    }

    /// What an artifact names, or a manifest of a type that is not known, so that it is not copied alone.
    fn names(&mut self, descriptor: &Descriptor, depth: usize, names: &mut Names) {
        let media_type = &descriptor.media_type;
        if !media_type.is_empty() && !media_type.ends_with("json") {
            return;
        }
        let Ok(json) = self.other(descriptor) else {
            // What has no type need be no document.
            names.are_more |= !media_type.is_empty();
            return;
        };
        let mut own = Names::default();
        for list in ["layers", "blobs", "manifests"] {
            own.add(&json[list]);
        }
        if !json["config"].is_null() {
            own.add_one(&json["config"]);
        }
        names.are_more |= own.are_more;
        for named in own.known {
            let is_document = media_type::kind(&named.media_type) != Kind::Other;
            let is_here = is_document && self.source.has(&named).is_ok_and(|it| it);
            match depth < MAX_DEPTH {
                true if is_here => self.names(&named, depth + 1, names),
                _ => names.are_more |= is_here,
            }
            names.known.push(named);
        }
    }

    fn manifest(&mut self, descriptor: &Descriptor, bytes: Vec<u8>) -> Result<Part> {
        let document = self.document(bytes, &["manifests", "fsLayers"])?;
        let config = Descriptor::parse(&document.json["config"])?;
        let platform = match descriptor.platform() {
            Some(platform) => Some(platform),
            None => self.configured_platform(&config)?,
        };
        let mut blobs = Names::default();
        blobs.add(&document.json["blobs"]);
        Ok(Part::Manifest(Box::new(Manifest {
            blobs,
            digest: descriptor.digest.clone(),
            platform,
            layers: entries(&document.json, "layers")?,
            config,
            needed: true,
            document,
        })))
    }

    fn configured_platform(&mut self, config: &Descriptor) -> Result<Option<Platform>> {
        if media_type::to_oci(&config.media_type) != media_type::CONFIG {
            return Ok(None);
        }
        self.budget.take(config.size)?;
        let bytes = self.source.document(config)?;
        let json = self.budget.parse(&bytes, "an image's config is no JSON")?;
        if let Some(config) = json.as_object() {
            document::no_variants(config, &PLATFORM)?;
        }
        Ok(Platform::from_json(&json))
    }
}

fn broken(what: &'static str) -> Error {
    Error::InvalidManifest { what }
}

#[cfg(test)]
mod tests;
