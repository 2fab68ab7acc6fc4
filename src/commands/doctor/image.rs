//! Whether this node's decoder opens the layers of an image, each asked about as the decoder would ask, and if not, why.
//!
//! No layer is read: what its annotations hold is unwrapped, and that the blob is there is looked up.

use super::containerd::Decoder;
use super::findings::Findings;
use super::kind;
use super::setup::Setup;
use super::token::Trial;
use crate::commands::image_args::{self, RegistryArgs};
use crate::commands::unwrapping::{Locked, Opener};
use crate::commands::{Error, Result};
use crate::hsm::HsmSettings;
use crate::image::choice::for_platform;
use crate::image::{self, Descriptor, Image, Platform, Reference, Source, media_type};
use crate::keys::policy::Policy;
use crate::keys::ring::KeyRing;
use crate::node::stanza::PROCESSORS;

/// An image that is asked about.
pub(super) struct Asked {
    source: Box<dyn Source>,
    /// Its layers, for one platform.
    layers: Vec<Descriptor>,
}

/// Reads an image, as far as it is for this node or for the platform that was named.
pub(super) fn read(
    findings: &mut Findings,
    reference: &Reference,
    platform: Option<&Platform>,
    registry: &RegistryArgs,
) -> Option<Asked> {
    let (source, image) = match image_args::load(reference, platform, registry) {
        Ok(found) => found,
        Err(error) => {
            let mend = "correct --image, or fetch the image first";
            findings.error(kind::IMAGE_UNREADABLE, &error, mend);
            return None;
        }
    };
    let own = Platform::own();
    let platform = platform.unwrap_or(&own);
    let numbers = match chosen(&image, platform) {
        Ok(numbers) => numbers,
        Err(error) => {
            let mend = "name another platform with --platform";
            findings.error(kind::IMAGE_PLATFORM, &Error::from(error), mend);
            return None;
        }
    };
    let manifests = image.manifests();
    let mut layers: Vec<Descriptor> = Vec::new();
    for number in numbers {
        for layer in &manifests[number].layers {
            let same = |known: &Descriptor| {
                known.digest == layer.digest && known.annotations == layer.annotations
            };
            if !layers.iter().any(same) {
                layers.push(layer.clone());
            }
        }
    }
    let encrypted = layers.iter().filter(|layer| is_encrypted(layer)).count();
    findings.ok(
        kind::IMAGE,
        format!(
            "{reference} is {}, for {platform}; its layers: {}, encrypted: {encrypted}",
            image.entry.digest,
            layers.len()
        ),
    );
    Some(Asked { source, layers })
}

/// Those for the platform; else those of which nothing says what they are for.
fn chosen(image: &Image, platform: &Platform) -> image::Result<Vec<usize>> {
    let manifests = image.manifests();
    let unknown: Vec<usize> = (0..manifests.len())
        .filter(|&number| manifests[number].platform.is_none())
        .collect();
    match for_platform(image, Some(platform)) {
        Err(image::Error::NoSuchPlatform { .. }) if !unknown.is_empty() => Ok(unknown),
        chosen => chosen,
    }
}

fn is_encrypted(layer: &Descriptor) -> bool {
    media_type::decrypted(&layer.media_type).is_some()
}

impl Asked {
    /// Says of the layers what does not depend on who opens them. Returns those that may open, each with its name.
    pub(super) fn check(&self, findings: &mut Findings) -> Vec<(String, Locked)> {
        let mut sound = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            let name = format!(
                "{} of {}, {}",
                number + 1,
                self.layers.len(),
                layer.digest.short()
            );
            match self.source.has(layer) {
                Ok(true) => {}
                Ok(false) if layer.is_foreign() => {}
                Ok(false) => findings.fail(
                    kind::LAYER_ABSENT,
                    format!("{name}: it is not where the image is"),
                    "fetch all of the image, or push it again",
                ),
                Err(error) => {
                    let mend = "see that the image can be read";
                    findings.error(kind::LAYER_ABSENT, &Error::from(error), mend);
                }
            }
            if !is_encrypted(layer) {
                continue;
            }
            if !PROCESSORS
                .iter()
                .any(|one| one.accepts() == layer.media_type)
            {
                findings.fail(
                    kind::LAYER_TYPE,
                    format!(
                        "{name}: no stream processor is for layers of type {:?}",
                        layer.media_type
                    ),
                    "let `ocihsm rekey` write the image anew: it turns Docker's types into OCI's",
                );
            }
            match locked(layer) {
                Ok(locked) => sound.push((name, locked)),
                Err(error) => {
                    let mend = "encrypt the image anew";
                    findings.error(kind::LAYER_BROKEN, &error, mend);
                }
            }
        }
        sound
    }
}

/// A layer whose annotations can be read, and whose cipher is known.
fn locked(layer: &Descriptor) -> Result<Locked> {
    let locked = Locked::new(layer)?;
    let cipher = locked.envelope.public_options.cipher();
    cipher.map_err(|error| crate::commands::unwrapping::in_layer(layer, error))?;
    Ok(locked)
}

/// Has the keys of a decoder tried on each of the layers.
pub(super) fn open(
    findings: &mut Findings,
    layers: &[(String, Locked)],
    setup: &Setup,
    trial: &Trial<'_>,
    ours: &HsmSettings,
) {
    let ring = Policy::discover(&setup.policy)
        .map_err(Error::from)
        .and_then(|policy| Ok(KeyRing::read(&setup.keys, &policy)?));
    let mut ring = match ring {
        Ok(ring) => ring,
        // What is wrong with them stands above.
        Err(_) => return untried(findings, layers),
    };
    // No PIN is tried again that was refused a moment ago.
    let mut refused = None;
    ring.retain(
        |key| match key.token().and_then(|key| trial.refused_by(key)) {
            Some(other) => {
                refused = Some(other.file.name.clone());
                false
            }
            None => true,
        },
    );
    let mut opener = Opener::new(setup.settings(ours), setup.providers.clone()).with_keys(ring);
    for (name, locked) in layers {
        let digest = &locked.layer.digest;
        let description = std::iter::once(vec![locked.description()]);
        match opener.open(Some(digest), description, |_| Ok(())) {
            Ok(unwrapped) => findings.ok(
                kind::LAYER_OPENS,
                format!(
                    "{name}: opens with {}, wrapped with {}",
                    unwrapped.uri, unwrapped.scheme
                ),
            ),
            Err(error) => match &refused {
                Some(file) => {
                    let mend = format!("mend {file} first");
                    findings.fail(kind::LAYER_SHUT, format!("{name}: {error}"), mend);
                }
                None => findings.error(
                    kind::LAYER_SHUT,
                    &error,
                    "give the image one more recipient",
                ),
            },
        }
    }
}

fn untried(findings: &mut Findings, layers: &[(String, Locked)]) {
    for (name, _) in layers {
        findings.warn(
            kind::LAYER_UNTRIED,
            format!("{name}: not tried, since there are no keys to try"),
            "mend the keys first, or name them with --key",
        );
    }
}

/// Asks every decoder of this node about the layers.
pub(super) fn ask(
    findings: &mut Findings,
    asked: &Asked,
    decoders: &[Decoder],
    trial: &Trial<'_>,
    ours: &HsmSettings,
) {
    findings.about(&[]);
    let layers = asked.check(findings);
    if decoders.is_empty() {
        untried(findings, &layers);
    }
    for Decoder { setup, containerds } in decoders {
        let containerds: Vec<_> = containerds
            .iter()
            .map(std::path::PathBuf::as_path)
            .collect();
        findings.about(&containerds);
        open(findings, &layers, setup, trial, ours);
    }
}
