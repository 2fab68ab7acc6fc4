//! Which manifests of a store list a layer, and how each describes it.
//!
//! Whoever can have an image pulled puts manifests here, and may list anybody's layer in them. So each is read by
//! itself and within bounds, nothing is kept of it but how it describes that layer, and it takes nothing from the next.

use std::fmt;
use std::rc::Rc;
use std::time::SystemTime;

use memchr::memmem::Finder;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::store::Store;
use crate::descriptor::{Digest, LayerDescriptor};

/// Most bytes that a manifest may have.
pub(super) const MAX_MANIFEST: u64 = 4 << 20;
/// Most descriptions of one layer that are taken from one manifest; there is one, unless somebody plays games.
pub(super) const MAX_DESCRIPTIONS: usize = 16;

/// The manifests that list a layer, the newest first, each read when it is asked for.
#[derive(Debug)]
pub struct Descriptions {
    store: Rc<Store>,
    layer: Digest,
    /// From the last to the first.
    manifests: Vec<Digest>,
    /// What was read before it was asked for.
    ahead: Option<Vec<LayerDescriptor>>,
}

impl Descriptions {
    /// Whether there is no other description than the first.
    pub fn is_one(&mut self) -> bool {
        let ahead = self.ahead.take().or_else(|| self.next());
        let is_one = self.manifests.is_empty() && ahead.as_ref().is_none_or(|one| one.len() == 1);
        self.ahead = ahead;
        is_one
    }

    /// The media type that the newest manifest names, before it was asked for.
    #[must_use]
    pub fn media_type(&self) -> Option<String> {
        self.ahead
            .iter()
            .flatten()
            .find_map(|layer| layer.media_type.clone())
    }
}

/// What the manifests of a store say of one layer.
pub(super) struct Listing {
    /// Those that list it; `None` if there are none.
    pub(super) descriptions: Option<Descriptions>,
    /// How many manifests there are.
    pub(super) manifests: usize,
}

/// Looks through those of the candidates that may be manifests.
pub(super) fn listing(store: Rc<Store>, layer: &Digest, candidates: &[Digest]) -> Listing {
    let wanted = Finder::new(layer.hex());
    let mut found: Vec<(SystemTime, Digest)> = Vec::new();
    let mut manifests = 0;
    let mut json = Vec::new();
    for candidate in candidates {
        // A blob that vanishes meanwhile was not the one: containerd holds on to what it unpacks.
        let Ok(start) = store.start_of(candidate) else {
            continue;
        };
        if !start.is_json() {
            continue;
        }
        let modified = start.modified();
        if start.read_into(&mut json, MAX_MANIFEST).is_err() {
            continue;
        }
        manifests += 1;
        if json.len() as u64 <= MAX_MANIFEST && wanted.find(&json).is_some() {
            found.push((modified, candidate.clone()));
        }
    }
    drop(json);
    // The one that is being pulled came just now; what else lists the layer may be anybody's.
    found.sort();
    let mut descriptions = Descriptions {
        store,
        layer: layer.clone(),
        manifests: found.into_iter().map(|(_, digest)| digest).collect(),
        ahead: None,
    };
    descriptions.ahead = descriptions.next();
    Listing {
        descriptions: descriptions.ahead.is_some().then_some(descriptions),
        manifests,
    }
}

/// How each manifest describes the layer: each description once in it, at least one.
impl Iterator for Descriptions {
    type Item = Vec<LayerDescriptor>;

    fn next(&mut self) -> Option<Vec<LayerDescriptor>> {
        if let Some(ahead) = self.ahead.take() {
            return Some(ahead);
        }
        while let Some(manifest) = self.manifests.pop() {
            let mut json = Vec::new();
            let start = self.store.start_of(&manifest);
            if start
                .and_then(|start| start.read_into(&mut json, MAX_MANIFEST))
                .is_err()
            {
                continue;
            }
            let found = described(&json, &self.layer);
            if !found.is_empty() {
                return Some(found);
            }
        }
        None
    }
}

/// What a manifest says of a layer; nothing if it is none.
fn described(json: &[u8], layer: &Digest) -> Vec<LayerDescriptor> {
    let mut found = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let manifest = Manifest {
        layer,
        found: &mut found,
    };
    match manifest
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end())
    {
        Ok(()) => found,
        Err(_) => Vec::new(),
    }
}

/// A manifest of which nothing is kept but the descriptions of one layer.
struct Manifest<'a> {
    layer: &'a Digest,
    found: &'a mut Vec<LayerDescriptor>,
}

impl<'de> DeserializeSeed<'de> for Manifest<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Manifest<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a manifest")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            match &*name {
                "layers" => map.next_value_seed(Layers {
                    layer: self.layer,
                    found: self.found,
                })?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

struct Layers<'a> {
    layer: &'a Digest,
    found: &'a mut Vec<LayerDescriptor>,
}

impl<'de> DeserializeSeed<'de> for Layers<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Layers<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of layers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while self.found.len() < MAX_DESCRIPTIONS {
            // Other layers may have what we would not take, another kind of digest among it.
            match seq.next_element::<LayerDescriptor>()? {
                None => return Ok(()),
                Some(layer)
                    if layer.digest.as_ref() == Some(self.layer)
                        && !self.found.contains(&layer) =>
                {
                    self.found.push(layer);
                }
                Some(_) => {}
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}
