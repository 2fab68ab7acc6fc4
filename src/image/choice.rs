//! Which layers of an image are to be encrypted or decrypted, and what stays plain beside them, each with its reason.
//!
//! Whatever an image holds is looked at: what has no encrypted form is an error, unless somebody asked for exactly that.

mod platforms;

use std::collections::BTreeMap;

use self::platforms::choose;
use super::content;
use super::descriptor::Descriptor;
use super::document;
use super::error::{Error, Result, shortened};
use super::layout::digest_of;
use super::media_type;
use super::platform::Platform;
use super::source::Source;
use super::tree::{Image, Manifest};
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
    /// A layer, a config, an entry of an index, or a blob that such an entry names.
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
        let mut planning = Planning {
            plan: Self::default(),
            choice,
            source,
        };
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
            for blob in names.iter().filter(|blob| !is_empty(blob)) {
                planning.leave("blob", blob, not_chosen)?;
            }
        }
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
        let mut plan = Self::default();
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

/// A plan in the making.
struct Planning<'a> {
    plan: Plan,
    choice: &'a Choice<'a>,
    source: &'a dyn Source,
}

impl Planning<'_> {
    fn manifest(&mut self, number: usize, manifest: &Manifest) -> Result<()> {
        self.config(&manifest.config)?;
        if manifest.is_attestation() {
            for layer in &manifest.layers {
                self.statement(layer)?;
            }
            return Ok(());
        }
        let wanted = self.wanted(manifest)?;
        for (index, layer) in manifest.layers.iter().enumerate() {
            let is_wanted = wanted.contains(&index);
            if media_type::decrypted(&layer.media_type).is_some() {
                match is_wanted {
                    true => self.plan.encrypted.add(layer, (number, index)),
                    false => self.pass_over(layer)?,
                }
            } else if is_wanted && self.can_be_encrypted(layer)? && !self.may_stay(layer) {
                self.plan.plain.add(layer, (number, index));
            } else if is_empty(layer) {
            } else if layer.is_foreign() && !self.is_here(layer)? {
                self.note("layer", layer, Why::Elsewhere);
            } else {
                self.leave("layer", layer, !is_wanted)?;
            }
        }
        Ok(())
    }

    /// A statement stays plain because whoever checks an image reads it. So it has to be one: a layer under this name would
    /// be plain for everybody.
    fn statement(&mut self, blob: &Descriptor) -> Result<()> {
        if blob.is_foreign() && !self.source.has(blob)? {
            self.note("layer", blob, Why::Elsewhere);
            return Ok(());
        }
        match content::is_json(self.source, blob)? {
            true => self.note("layer", blob, Why::Attestation),
            false if self.may_stay(blob) => self.note("layer", blob, Why::Type),
            false => {
                return Err(Error::StaysPlain {
                    what: "layer",
                    digest: blob.digest.clone(),
                    media_type: shortened(&blob.media_type),
                    why: "is for statements in JSON, and this is no JSON",
                });
            }
        }
        Ok(())
    }

    /// An envelope says nothing of the bytes, which nobody looks at here with a key.
    fn pass_over(&mut self, layer: &Descriptor) -> Result<()> {
        let form = match self.source.has(layer)? {
            true => content::plain_form(self.source, layer)?,
            false => None,
        };
        let layer = layer.clone();
        self.plan.passed_over.push(PassedOver { layer, form });
        Ok(())
    }

    /// A config stays plain because it says how an image runs. So it has to be one, of a kind that says no more.
    fn config(&mut self, config: &Descriptor) -> Result<()> {
        if is_empty(config) {
            return Ok(());
        }
        if !media_type::is_config(&config.media_type) {
            return self.leave("config", config, false);
        }
        let json = self.source.document(config)?;
        let json = document::parse(&json, "a config is no JSON")?;
        match json.is_object() {
            true => Ok(()),
            false => Err(Error::InvalidManifest {
                what: "a config is no object",
            }),
        }
    }

    /// Notes each config but those that every image has.
    fn note_configs(&mut self, image: &Image) {
        for manifest in image.manifests() {
            let config = &manifest.config;
            let is_layer = |layer: &Descriptor| layer.digest == config.digest;
            let expected = media_type::is_image_config(&config.media_type) || is_empty(config);
            let noted = self
                .plan
                .left
                .iter()
                .any(|left| left.digest == config.digest);
            if !noted && (!expected || self.plan.plain.descriptors().any(is_layer)) {
                let why = match media_type::is_config(&config.media_type) || expected {
                    true => Why::Config,
                    false => Why::NotChosen,
                };
                self.note("config", config, why);
            }
        }
    }

    fn is_here(&self, layer: &Descriptor) -> Result<bool> {
        Ok(layer.is_embedded() || self.source.has(layer)?)
    }

    /// The layers of a manifest that the user meant, from the bottom.
    fn wanted(&self, manifest: &Manifest) -> Result<Vec<usize>> {
        let count = manifest.layers.len();
        if self.choice.layers.is_empty() {
            return Ok((0..count).collect());
        }
        let mut wanted = Vec::new();
        for &number in self.choice.layers {
            let from_bottom = match number {
                0.. => usize::try_from(number).ok(),
                _ => usize::try_from(number.unsigned_abs())
                    .ok()
                    .and_then(|from_top| count.checked_sub(from_top)),
            };
            let Some(index) = from_bottom.filter(|&index| index < count) else {
                return Err(Error::NoSuchLayer {
                    number,
                    manifest: manifest.digest.clone(),
                    count,
                });
            };
            let layer = &manifest.layers[index];
            let encrypted = media_type::decrypted(&layer.media_type).is_some();
            if !encrypted && !self.can_be_encrypted(layer)? && !self.may_stay(layer) {
                return Err(Error::CannotBeEncrypted {
                    number,
                    manifest: manifest.digest.clone(),
                    media_type: shortened(&layer.media_type),
                });
            }
            wanted.push(index);
        }
        Ok(wanted)
    }

    fn can_be_encrypted(&self, layer: &Descriptor) -> Result<bool> {
        let has_form = media_type::encrypted(&layer.media_type).is_some();
        Ok(has_form && (!layer.is_foreign() || self.source.has(layer)?))
    }

    fn may_stay(&self, blob: &Descriptor) -> bool {
        let types = self.choice.leave_plain;
        types.contains(&blob.media_type)
    }

    fn not_chosen(&mut self, manifest: &Manifest) -> Result<()> {
        // It is copied with the rest; where it is no config, nobody has looked at what it is.
        let config = &manifest.config;
        let is_read = media_type::is_config(&config.media_type) && !is_empty(config);
        if is_read && self.source.has(config)? && self.config(config).is_err() {
            self.note("config", config, Why::NotChosen);
        }
        for layer in &manifest.layers {
            match manifest.is_attestation() {
                _ if media_type::decrypted(&layer.media_type).is_some() => self.pass_over(layer)?,
                true if !self.source.has(layer)? || content::is_json(self.source, layer)? => {
                    self.note("layer", layer, Why::Attestation);
                }
                false if is_empty(layer) => {}
                _ => self.note("layer", layer, Why::NotChosen),
            }
        }
        Ok(())
    }

    /// Leaves something as it is, if that was asked for.
    fn leave(&mut self, what: &'static str, blob: &Descriptor, not_chosen: bool) -> Result<()> {
        let why = match self.may_stay(blob) {
            true => Why::Type,
            false if not_chosen => Why::NotChosen,
            false => {
                return Err(Error::StaysPlain {
                    what,
                    digest: blob.digest.clone(),
                    media_type: shortened(&blob.media_type),
                    why: match media_type::encrypted(&blob.media_type) {
                        Some(_) if blob.is_embedded() => {
                            "is embedded in its descriptor, and its blob is not here"
                        }
                        _ => "has no encrypted form",
                    },
                });
            }
        };
        self.note(what, blob, why);
        Ok(())
    }

    fn note(&mut self, what: &'static str, blob: &Descriptor, why: Why) {
        self.plan.left.push(Left {
            what,
            digest: blob.digest.clone(),
            media_type: blob.media_type.clone(),
            why,
        });
    }
}

/// Whether it is the two bytes `{}` of the type that says so.
fn is_empty(blob: &Descriptor) -> bool {
    blob.media_type == media_type::EMPTY && blob.digest == digest_of(b"{}")
}
