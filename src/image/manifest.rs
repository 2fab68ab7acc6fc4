//! An image as a tree: an index of manifests (or of further indexes), or one manifest; and that tree with other layers.
//!
//! A document in which nothing changed keeps its bytes, and so its digest. One that changed keeps all that is not
//! about the change, its layout as text included.

use serde_json::Value;

use super::descriptor::Descriptor;
use super::layout::{Layout, digest_of, entries};
use super::media_type::{self, Kind};
use super::platform::Platform;
use super::style::Style;
use crate::descriptor::Digest;
use crate::error::{Error, Result};

/// Most bytes that all documents of an image may have together.
const MAX_DOCUMENTS: u64 = 64 << 20;
/// How deep indexes may be nested.
const MAX_DEPTH: usize = 4;

/// An image, or the images of several platforms under one name.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its entry in `index.json`.
    pub entry: Descriptor,
    root: Node,
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
    document: Document,
}

/// What is to be written of an image.
#[derive(Clone, Debug)]
pub struct Finished {
    /// For `index.json`.
    pub entry: Descriptor,
    /// Manifests and indexes.
    pub documents: Vec<(Descriptor, Vec<u8>)>,
    /// Configs, layers, and what else the indexes name.
    pub blobs: Vec<Descriptor>,
}

#[derive(Clone, Debug)]
enum Node {
    Index(Document, Vec<(Descriptor, Node)>),
    Manifest(Box<Manifest>),
    Other,
}

#[derive(Clone, Debug)]
struct Document {
    bytes: Vec<u8>,
    json: Value,
}

impl Image {
    /// Reads the documents of an image, each against its digest.
    ///
    /// # Errors
    /// [`Error::NotAnImage`] for an entry of another kind; [`Error::InvalidManifest`] for a document that is not
    /// what its media type says; [`Error::TooLarge`] over a bound; whatever [`Layout::document`] has.
    pub fn load(layout: &Layout, entry: Descriptor) -> Result<Self> {
        let mut left = MAX_DOCUMENTS;
        match load(layout, &entry, &mut left, 0)? {
            Node::Other => Err(Error::NotAnImage {
                media_type: entry.media_type.chars().take(80).collect(),
            }),
            root => Ok(Self { entry, root }),
        }
    }

    /// The manifests, in the order of the indexes.
    #[must_use]
    pub fn manifests(&self) -> Vec<&Manifest> {
        let mut found = Vec::new();
        collect(&self.root, &mut found);
        found
    }

    /// The manifests, to be changed, in the same order.
    pub fn manifests_mut(&mut self) -> Vec<&mut Manifest> {
        let mut found = Vec::new();
        collect_mut(&mut self.root, &mut found);
        found
    }

    /// The documents as they are now, from the leaves up, and the blobs that they name.
    #[must_use]
    pub fn finish(mut self) -> Finished {
        let mut out = Finished {
            entry: self.entry.clone(),
            documents: Vec::new(),
            blobs: Vec::new(),
        };
        finish(&mut self.entry, self.root, &mut out);
        out.entry = self.entry;
        out
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

    /// Puts other descriptors into a list; `false` where they are what stood there.
    fn replace(&mut self, list: &str, descriptors: &[Descriptor]) -> bool {
        let new: Vec<_> = descriptors.iter().map(Descriptor::to_json).collect();
        let unchanged = match self.json[list].as_array() {
            Some(old) => *old == new,
            None => new.is_empty(),
        };
        if !unchanged {
            self.json[list] = new.into();
        }
        !unchanged
    }

    /// Writes the text anew, as a document of OCI's, and its descriptor with it.
    fn rewrite(&mut self, style: &Style, descriptor: &mut Descriptor) {
        if let Some(own) = self.json["mediaType"].as_str() {
            self.json["mediaType"] = media_type::to_oci(own).to_owned().into();
        }
        self.bytes = style.write(&self.json);
        descriptor.media_type = media_type::to_oci(&descriptor.media_type).to_owned();
        descriptor.digest = digest_of(&self.bytes);
        descriptor.size = self.bytes.len() as u64;
    }
}

fn load(layout: &Layout, descriptor: &Descriptor, left: &mut u64, depth: usize) -> Result<Node> {
    let kind = media_type::kind(&descriptor.media_type);
    if kind == Kind::Other {
        return Ok(Node::Other);
    }
    *left = left.checked_sub(descriptor.size).ok_or(Error::TooLarge {
        what: "size of all manifests of the image in bytes",
        limit: MAX_DOCUMENTS,
    })?;
    if depth > MAX_DEPTH {
        return Err(Error::TooLarge {
            what: "depth of the image's nested indexes",
            limit: MAX_DEPTH as u64,
        });
    }
    let bytes = layout.document(descriptor)?;
    if kind == Kind::Index {
        let document = Document::parse(bytes, "manifests", "layers")?;
        let children = entries(&document.json, "manifests")?
            .into_iter()
            .map(|child| {
                let node = load(layout, &child, left, depth + 1)?;
                Ok((child, node))
            })
            .collect::<Result<_>>()?;
        return Ok(Node::Index(document, children));
    }
    let document = Document::parse(bytes, "layers", "manifests")?;
    let config = Descriptor::parse(&document.json["config"])?;
    let platform = match descriptor.platform() {
        Some(platform) => Some(platform),
        None => configured_platform(layout, &config)?,
    };
    Ok(Node::Manifest(Box::new(Manifest {
        digest: descriptor.digest.clone(),
        platform,
        layers: entries(&document.json, "layers")?,
        config,
        document,
    })))
}

fn configured_platform(layout: &Layout, config: &Descriptor) -> Result<Option<Platform>> {
    if media_type::to_oci(&config.media_type) != media_type::CONFIG {
        return Ok(None);
    }
    let json: Value = serde_json::from_slice(&layout.document(config)?)
        .map_err(|_| broken("an image's config is no JSON"))?;
    Ok(Platform::from_json(&json))
}

fn collect<'a>(node: &'a Node, found: &mut Vec<&'a Manifest>) {
    match node {
        Node::Index(_, children) => children.iter().for_each(|(_, node)| collect(node, found)),
        Node::Manifest(manifest) => found.push(manifest),
        Node::Other => {}
    }
}

fn collect_mut<'a>(node: &'a mut Node, found: &mut Vec<&'a mut Manifest>) {
    match node {
        Node::Index(_, children) => children
            .iter_mut()
            .for_each(|(_, node)| collect_mut(node, found)),
        Node::Manifest(manifest) => found.push(manifest),
        Node::Other => {}
    }
}

fn finish(descriptor: &mut Descriptor, node: Node, out: &mut Finished) {
    let document = match node {
        Node::Other => {
            out.blobs.push(descriptor.clone());
            return;
        }
        Node::Index(mut document, children) => {
            let style = Style::of(&document.bytes, &document.json);
            let mut entries = Vec::with_capacity(children.len());
            for (mut child, node) in children {
                finish(&mut child, node, out);
                entries.push(child);
            }
            if document.replace("manifests", &entries) {
                document.rewrite(&style, descriptor);
            }
            document
        }
        Node::Manifest(manifest) => finish_manifest(descriptor, *manifest, out),
    };
    out.documents.push((descriptor.clone(), document.bytes));
}

fn finish_manifest(
    descriptor: &mut Descriptor,
    manifest: Manifest,
    out: &mut Finished,
) -> Document {
    let Manifest {
        mut document,
        mut config,
        mut layers,
        ..
    } = manifest;
    let style = Style::of(&document.bytes, &document.json);
    if document.replace("layers", &layers) {
        // A manifest of Docker's has no encrypted layers: all of it becomes OCI's.
        for blob in layers.iter_mut().chain([&mut config]) {
            blob.media_type = media_type::to_oci(&blob.media_type).to_owned();
        }
        document.replace("layers", &layers);
        document.json["config"] = config.to_json();
        document.rewrite(&style, descriptor);
    }
    out.blobs.push(config);
    out.blobs.extend(layers);
    document
}

fn broken(what: &'static str) -> Error {
    Error::InvalidManifest { what }
}

#[cfg(test)]
mod tests;
