//! An image with other layers: its documents written anew from the leaves up, and every name in them that has changed.
//!
//! A document in which nothing changed keeps its bytes, and so its digest. One that changed keeps all that is not
//! about the change, its layout as text included. What names a document by its digest (`subject`, an annotation of
//! buildx) follows it, so an image that was encrypted and decrypted again is what it was.

use std::collections::BTreeMap;

use serde_json::Value;

use super::descriptor::Descriptor;
use super::error::Result;
use super::layout::digest_of;
use super::media_type::{self, Kind};
use super::style::Style;
use super::tree::{Child, ChildIs, Document, Image, Manifest, Part};
use crate::descriptor::Digest;

/// What is to be written of an image.
#[derive(Clone, Debug)]
pub struct Finished {
    /// For `index.json`.
    pub entry: Descriptor,
    /// Manifests and indexes, each after what it names.
    pub documents: Vec<(Descriptor, Vec<u8>)>,
    /// Configs, layers, and what else the indexes name.
    pub blobs: Vec<Blob>,
    /// Manifests and indexes that have another digest now, by the old one.
    pub renamed: BTreeMap<Digest, Digest>,
}

/// A blob of a finished image.
#[derive(Clone, Debug)]
pub struct Blob {
    /// What it is.
    pub descriptor: Descriptor,
    /// Whether the image is not whole without it.
    pub needed: bool,
    /// Whether an index names it, as it names manifests.
    pub is_entry: bool,
}

impl Image {
    /// The documents as they are now, from the leaves up, and the blobs that they name.
    ///
    /// # Errors
    /// [`Error::TooLarge`](super::Error::TooLarge) where they have become longer than what is read.
    pub fn finish(self) -> Result<Finished> {
        let mut budget = self.budget;
        for part in &self.parts {
            budget.give_back(&part.document().bytes);
        }
        let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
        for (number, part) in self.parts.iter().enumerate() {
            numbers.entry(part.digest().to_string()).or_insert(number);
        }
        let mut finishing = Finishing {
            numbers,
            made: vec![None; self.parts.len()],
            parts: self.parts.into_iter().map(Some).collect(),
            documents: Vec::new(),
            blobs: Vec::new(),
            renamed: BTreeMap::new(),
        };
        let mut entry = self.entry;
        finishing.all();
        finishing.rename(&mut entry, ChildIs::Part(0));
        for (_, bytes) in &finishing.documents {
            budget.written(bytes)?;
        }
        Ok(Finished {
            entry,
            documents: finishing.documents,
            blobs: finishing.blobs,
            renamed: finishing.renamed,
        })
    }
}

impl Part {
    pub(super) fn digest(&self) -> &Digest {
        match self {
            Self::Index { digest, .. } => digest,
            Self::Manifest(manifest) => &manifest.digest,
        }
    }

    fn document(&self) -> &Document {
        match self {
            Self::Index { document, .. } => document,
            Self::Manifest(manifest) => &manifest.document,
        }
    }
}

/// An image of which some documents are written.
struct Finishing {
    /// The first document of each digest, as it was read.
    numbers: BTreeMap<String, usize>,
    /// `None` once it is written.
    parts: Vec<Option<Part>>,
    /// Media type, digest and size of each that is written.
    made: Vec<Option<Descriptor>>,
    documents: Vec<(Descriptor, Vec<u8>)>,
    blobs: Vec<Blob>,
    renamed: BTreeMap<Digest, Digest>,
}

impl Finishing {
    /// Writes every document, each after all that it names. No chain of names leads back to where it began, for that
    /// would be a chain of hashes.
    fn all(&mut self) {
        let mut begun = vec![false; self.parts.len()];
        let mut waiting = vec![(0, false)];
        while let Some((number, may_be_written)) = waiting.pop() {
            if may_be_written {
                self.write(number);
            } else if !begun[number] {
                begun[number] = true;
                waiting.push((number, true));
                let named = self.named_by(number).into_iter().rev();
                waiting.extend(named.map(|number| (number, false)));
            }
        }
    }

    fn named_by(&self, number: usize) -> Vec<usize> {
        let Some(part) = &self.parts[number] else {
            return Vec::new();
        };
        let mut named: Vec<usize> = names(&part.document().json)
            .filter_map(|name| self.numbers.get(name).copied())
            .collect();
        if let Part::Index { children, .. } = part {
            named.extend(children.iter().filter_map(|child| match child.is {
                ChildIs::Part(number) => Some(number),
                ChildIs::Absent | ChildIs::Other => None,
            }));
        }
        named
    }

    fn write(&mut self, number: usize) {
        let Some(mut part) = self.parts[number].take() else {
            return;
        };
        let before = part.digest().clone();
        let (bytes, media_type) = match &mut part {
            Part::Index {
                document, children, ..
            } => self.index(document, children),
            Part::Manifest(manifest) => self.manifest(manifest),
        };
        let made = Descriptor::new(&media_type, digest_of(&bytes), bytes.len() as u64);
        if made.digest != before {
            self.renamed.insert(before, made.digest.clone());
        }
        self.documents.push((made.clone(), bytes));
        self.made[number] = Some(made);
    }

    fn index(&mut self, document: &mut Document, children: &mut [Child]) -> (Vec<u8>, String) {
        let style = Style::of(&document.bytes, &document.json);
        let others = children.iter().filter(|child| child.is == ChildIs::Other);
        for child in others {
            let blob = |descriptor: &Descriptor, is_entry| Blob {
                descriptor: descriptor.clone(),
                needed: false,
                is_entry,
            };
            // A manifest among them is put where manifests are, after what it names.
            let names = child.names.known.iter();
            let is_entry = |it: &Descriptor| media_type::kind(&it.media_type) != Kind::Other;
            self.blobs.extend(names.map(|it| blob(it, is_entry(it))));
            self.blobs.push(blob(&child.descriptor, true));
        }
        for child in children.iter_mut() {
            self.rename(&mut child.descriptor, child.is);
        }
        let entries: Vec<_> = children
            .iter()
            .map(|child| child.descriptor.to_json())
            .collect();
        let changed = replace(&mut document.json, "manifests", entries);
        self.written(document, &style, changed, media_type::INDEX)
    }

    fn manifest(&mut self, manifest: &mut Manifest) -> (Vec<u8>, String) {
        let document = &mut manifest.document;
        let style = Style::of(&document.bytes, &document.json);
        let layers = manifest.layers.iter().map(Descriptor::to_json).collect();
        let changed = replace(&mut document.json, "layers", layers);
        if changed {
            // A manifest of Docker's has no encrypted layers: all of it becomes OCI's.
            for blob in manifest.layers.iter_mut().chain([&mut manifest.config]) {
                blob.media_type = media_type::normal(&blob.media_type);
            }
            let layers = manifest.layers.iter().map(Descriptor::to_json).collect();
            replace(&mut document.json, "layers", layers);
            document.json["config"] = manifest.config.to_json();
        }
        let needed = manifest.needed;
        let blobs = [&manifest.config].into_iter().chain(&manifest.layers);
        let blobs = blobs.map(|blob| (blob, needed));
        let others = manifest.blobs.known.iter().map(|blob| (blob, false));
        self.blobs
            .extend(blobs.chain(others).map(|(blob, needed)| Blob {
                descriptor: blob.clone(),
                needed,
                is_entry: false,
            }));
        self.written(document, &style, changed, media_type::MANIFEST)
    }

    /// The document's text, and its media type.
    fn written(
        &self,
        document: &mut Document,
        style: &Style,
        changed: bool,
        oci: &'static str,
    ) -> (Vec<u8>, String) {
        let renamed = self.rename_within(&mut document.json);
        let own = document.json["mediaType"].as_str().map(str::to_owned);
        if !changed && !renamed {
            let media_type = own.unwrap_or_else(|| oci.to_owned());
            return (std::mem::take(&mut document.bytes), media_type);
        }
        if let Some(own) = own {
            document.json["mediaType"] = media_type::to_oci(&own).into();
        }
        (style.write(&document.json), oci.to_owned())
    }

    /// Lets a descriptor follow what it names.
    fn rename(&self, descriptor: &mut Descriptor, is: ChildIs) {
        if let ChildIs::Part(number) = is
            && let Some(made) = &self.made[number]
            && made.digest != descriptor.digest
        {
            descriptor.digest = made.digest.clone();
            descriptor.size = made.size;
            descriptor.media_type = media_type::to_oci(&descriptor.media_type).to_owned();
        }
        for value in descriptor.annotations.values_mut() {
            if let Some(new) = self.new_name(value) {
                *value = new.to_string();
            }
        }
    }

    /// Lets `subject` and the annotations of a document follow what they name.
    fn rename_within(&self, json: &mut Value) -> bool {
        let mut renamed = false;
        let old = json["subject"]["digest"].as_str().map(str::to_owned);
        let number = old.and_then(|old| self.numbers.get(&old).copied());
        if let Some(made) = number.and_then(|number| self.made[number].as_ref())
            && let Ok(mut subject) = Descriptor::parse(&json["subject"])
            && subject.digest != made.digest
        {
            self.rename(&mut subject, ChildIs::Part(number.unwrap_or_default()));
            json["subject"] = subject.to_json();
            renamed = true;
        }
        for value in json
            .get_mut("annotations")
            .and_then(Value::as_object_mut)
            .into_iter()
            .flat_map(|map| map.values_mut())
        {
            let new = value.as_str().and_then(|value| self.new_name(value));
            if let Some(new) = new {
                *value = new.as_str().into();
                renamed = true;
            }
        }
        renamed
    }

    fn new_name(&self, text: &str) -> Option<&Digest> {
        self.renamed.get(&text.parse::<Digest>().ok()?)
    }
}

/// What a document names beside its list: its subject, and whatever stands in its annotations.
fn names(json: &Value) -> impl Iterator<Item = &str> {
    let annotations = json.get("annotations").and_then(Value::as_object);
    let values = annotations.into_iter().flat_map(|map| map.values());
    values
        .filter_map(Value::as_str)
        .chain(json["subject"]["digest"].as_str())
}

/// Puts other descriptors into a list; `false` where they are what stood there.
fn replace(json: &mut Value, list: &str, new: Vec<Value>) -> bool {
    let unchanged = match json[list].as_array() {
        Some(old) => *old == new,
        None => new.is_empty(),
    };
    if !unchanged {
        json[list] = new.into();
    }
    !unchanged
}
