//! Which layers of an image are to be encrypted or decrypted, and what stays plain beside them, each with its reason.
//!
//! Whatever an image holds is looked at: what has no encrypted form is an error, unless somebody asked for exactly that.

mod planning;
mod platforms;

use std::collections::BTreeMap;

use self::planning::Planning;
use self::platforms::choose;
use super::descriptor::Descriptor;
use super::error::{Error, Result};
use super::media_type;
use super::platform::Platform;
use super::source::Source;
use super::tree::Image;
use crate::descriptor::Digest;

pub use self::platforms::for_platform;

/// What a user asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice<'a> {
    /// Only the images for this platform.
    pub platform: Option<&'a Platform>,
    /// Only these layers, from the bottom, or from the top if negative; all if there are none.
    pub layers: &'a [i64],
    /// Media types that everybody may read.
    pub leave_plain: &'a [String],
}

/// What is to be done about an image.
#[derive(Debug, Default)]
pub struct Plan {
    /// Plain layers to be encrypted.
    pub plain: Layers,
    /// Encrypted layers.
    pub encrypted: Layers,
    /// What of the image stays plain.
    pub left: Vec<Left>,
    /// Layers that are called encrypted, and that nobody chose.
    pub passed_over: Vec<PassedOver>,
    /// Manifests and indexes that are not here, and that the image goes on to name.
    pub absent: Vec<Descriptor>,
    /// Documents that name more than we can read, and that is not copied.
    pub unread: Vec<Digest>,
}

/// A layer that is called encrypted, and that nobody opens.
#[derive(Clone, Debug)]
pub struct PassedOver {
    /// The layer.
    pub layer: Descriptor,
    /// What it begins as, if that is as plain layers begin.
    pub form: Option<&'static str>,
}

/// Something that stays plain.
#[derive(Clone, Debug)]
pub struct Left {
    /// A layer, a config, an entry of an index, or a blob that such an entry or an artifact names.
    pub what: &'static str,
    /// The blob.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Why.
    pub why: Why,
}

/// Why something stays plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// It is a statement about an image.
    Attestation,
    /// It is a config.
    Config,
    /// It is not in the image, but at an address on the net.
    Elsewhere,
    /// `--leave-plain` names its type.
    Type,
    /// `--encrypt-layer` or `--platform` does not choose it.
    NotChosen,
}

/// Where a layer stands in an image: manifest and layer, both counted from 0.
pub type Place = (usize, usize);

/// Layers to be worked on, each once, however often it stands in the image.
#[derive(Debug, Default)]
pub struct Layers(BTreeMap<LayerKey, (Descriptor, Vec<Place>)>);

/// Annotations are a part of it where the layer is encrypted: one blob may stand there with several envelopes, of
/// which each is to be opened, since who made them need not be the same.
type LayerKey = (Digest, BTreeMap<String, String>);

impl Layers {
    fn add(&mut self, layer: &Descriptor, place: Place) {
        let annotations = match media_type::decrypted(&layer.media_type) {
            Some(_) => layer.annotations.clone(),
            None => BTreeMap::new(),
        };
        let entry = self.0.entry((layer.digest.clone(), annotations));
        let (_, places) = entry.or_insert_with(|| (layer.clone(), Vec::new()));
        places.push(place);
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The layers.
    pub fn descriptors(&self) -> impl Iterator<Item = &Descriptor> {
        self.0.values().map(|(layer, _)| layer)
    }

    /// The layers, in the same order, and where each stands.
    pub fn places(&self) -> impl Iterator<Item = &(Descriptor, Vec<Place>)> {
        self.0.values()
    }
}

impl Plan {
    /// What `encrypt` has to do with an image from `source`.
    ///
    /// # Errors
    /// [`Error::StaysPlain`] for what has no encrypted form and nobody asked to leave; [`Error::InvalidManifest`] for a
    /// config that is none; [`Error::NoSuchPlatform`], [`Error::NoSuchLayer`] and [`Error::CannotBeEncrypted`] for a
    /// choice that cannot be met; [`Error::ManifestAbsent`] for a manifest that is chosen and not here;
    /// [`Error::NothingToEncrypt`].
    pub fn encrypt(image: &mut Image, choice: &Choice<'_>, source: &dyn Source) -> Result<Self> {
        let chosen = choose(image, choice.platform)?;
        if image.holds_unread_data() {
            return Err(Error::InvalidManifest {
                what: "a document holds data (a blob in base64) where nobody reads it, and that may be a plain layer",
            });
        }
        let mut planning = Planning::new(choice, source);
        for (number, manifest) in image.manifests().into_iter().enumerate() {
            match chosen.contains(&number) {
                true => planning.manifest(number, manifest)?,
                false => planning.not_chosen(manifest)?,
            }
        }
        for (entry, names) in image.others() {
            let not_chosen = choice.platform.is_some();
            planning.leave("entry", entry, not_chosen)?;
            // Nobody reads what such an entry says of its blobs.
            planning.blobs(&entry.digest, names, not_chosen)?;
        }
        planning.absent(image)?;
        planning.note_configs(image);
        let plan = planning.plan;
        match plan.plain.is_empty() && plan.encrypted.is_empty() {
            true => Err(Error::NothingToEncrypt),
            false => Ok(plan),
        }
    }

    /// What `decrypt` has to do.
    ///
    /// # Errors
    /// [`Error::NoSuchPlatform`], [`Error::ManifestAbsent`], [`Error::NothingToDecrypt`].
    pub fn decrypt(image: &mut Image, platform: Option<&Platform>) -> Result<Self> {
        let chosen = choose(image, platform)?;
        let mut plan = Self {
            absent: image.absent().cloned().collect(),
            ..Self::default()
        };
        for (number, manifest) in image.manifests().into_iter().enumerate() {
            let encrypted =
                |layer: &&Descriptor| media_type::decrypted(&layer.media_type).is_some();
            for (index, layer) in manifest.layers.iter().enumerate() {
                if chosen.contains(&number) && encrypted(&layer) {
                    plan.encrypted.add(layer, (number, index));
                }
            }
        }
        match plan.encrypted.is_empty() {
            true => Err(Error::NothingToDecrypt),
            false => Ok(plan),
        }
    }
}
