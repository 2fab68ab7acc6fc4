//! What of an image is encrypted and what stays, manifest by manifest, layer by layer.

use std::collections::BTreeSet;

use super::{Choice, Left, PassedOver, Plan, Why};
use crate::descriptor::Digest;
use crate::image::content;
use crate::image::descriptor::Descriptor;
use crate::image::document;
use crate::image::error::{Error, Result, shortened};
use crate::image::layout::digest_of;
use crate::image::media_type;
use crate::image::source::Source;
use crate::image::tree::{Image, Manifest, Names};

/// A plan in the making.
pub(super) struct Planning<'a> {
    pub(super) plan: Plan,
    choice: &'a Choice<'a>,
    source: &'a dyn Source,
}

impl<'a> Planning<'a> {
    pub(super) fn new(choice: &'a Choice<'a>, source: &'a dyn Source) -> Self {
        Self {
            plan: Plan::default(),
            choice,
            source,
        }
    }

    /// What a document names of which nobody reads what it says.
    pub(super) fn blobs(
        &mut self,
        document: &Digest,
        names: &Names,
        not_chosen: bool,
    ) -> Result<()> {
        for blob in names.known.iter().filter(|blob| !is_empty(blob)) {
            self.leave("blob", blob, not_chosen)?;
        }
        if names.are_more {
            self.plan.unread.push(document.clone());
        }
        Ok(())
    }

    /// Manifests that are not here. The new image names them, so nothing that is written for it may be one.
    pub(super) fn absent(&mut self, image: &Image) -> Result<()> {
        let mut written = BTreeSet::new();
        for manifest in image.manifests() {
            let blobs = [&manifest.config].into_iter().chain(&manifest.layers);
            written.extend(blobs.chain(&manifest.blobs.known).map(|it| &it.digest));
        }
        for (entry, names) in image.others() {
            let blobs = [entry].into_iter().chain(&names.known);
            written.extend(blobs.map(|it| &it.digest));
        }
        if image.absent().any(|it| written.contains(&it.digest)) {
            return Err(Error::InvalidManifest {
                what: "a manifest that is not here is named as another blob as well",
            });
        }
        self.plan.absent.extend(image.absent().cloned());
        Ok(())
    }

    pub(super) fn manifest(&mut self, number: usize, manifest: &Manifest) -> Result<()> {
        self.config(&manifest.config)?;
        self.blobs(&manifest.digest, &manifest.blobs, false)?;
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
                    why: "is for statements in JSON, and this is no JSON, or nested more than 128 deep",
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
    pub(super) fn note_configs(&mut self, image: &Image) {
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

    pub(super) fn not_chosen(&mut self, manifest: &Manifest) -> Result<()> {
        self.blobs(&manifest.digest, &manifest.blobs, true)?;
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
    pub(super) fn leave(
        &mut self,
        what: &'static str,
        blob: &Descriptor,
        not_chosen: bool,
    ) -> Result<()> {
        let why = match self.may_stay(blob) {
            true => Why::Type,
            false if not_chosen => Why::NotChosen,
            false => {
                return Err(Error::StaysPlain {
                    what,
                    digest: blob.digest.clone(),
                    media_type: shortened(&blob.media_type),
                    why: match media_type::encrypted(&blob.media_type) {
                        Some(_) if what == "blob" => "is no layer here, so nobody would decrypt it",
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
