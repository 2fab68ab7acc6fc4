//! Arguments that the image commands share, and what they mean before an image is looked at.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser as _};

use crate::descriptor::Digest;
use crate::error::{Error, Result};
use crate::image::{Descriptor, Image, Layout, Manifest, Platform, Reference, media_type};
pub(crate) use crate::settings::is_uri;
use crate::settings::no_uris;

/// Where an image comes from and where it goes.
#[derive(clap::Args, Clone, Debug)]
pub struct ImageArgs {
    /// Where the image comes from.
    #[arg(
        help = "Image to read: an OCI layout, oci:DIR[:TAG] or DIR[:TAG]; without TAG, the only image in it",
        value_name = "SRC",
        value_parser = reference()
    )]
    pub source: Reference,
    /// Image to write, likewise; without TAG, SRC's. May be another tag in the same layout
    #[arg(value_name = "DST", value_parser = reference())]
    pub destination: Reference,
}

/// Parses [`Reference`]s.
pub(super) fn reference() -> impl clap::builder::TypedValueParser<Value = Reference> {
    OsStringValueParser::new().try_map(|text: OsString| Reference::parse(&text))
}

/// The files that `--key` named.
///
/// # Errors
/// As [`no_uris`].
pub(super) fn key_files(given: &[PathBuf]) -> Result<&[PathBuf]> {
    no_uris("--key", given)
}

/// Where a layer stands in an image: manifest and layer, both counted from 0.
pub(super) type Place = (usize, usize);

/// Layers to be worked on, each once, however often it stands in the image.
#[derive(Debug, Default)]
pub(super) struct Layers(BTreeMap<LayerKey, (Descriptor, Vec<Place>)>);

/// Annotations are a part of it where the layer is encrypted: one blob may stand there with several envelopes, of
/// which each is to be opened, since who made them need not be the same.
type LayerKey = (Digest, BTreeMap<String, String>);

impl Layers {
    pub(super) fn add(&mut self, layer: &Descriptor, place: Place) {
        let annotations = match media_type::decrypted(&layer.media_type) {
            Some(_) => layer.annotations.clone(),
            None => BTreeMap::new(),
        };
        let entry = self.0.entry((layer.digest.clone(), annotations));
        let (_, places) = entry.or_insert_with(|| (layer.clone(), Vec::new()));
        places.push(place);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = &Descriptor> {
        self.0.values().map(|(layer, _)| layer)
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &(Descriptor, Vec<Place>)> {
        self.0.values()
    }
}

/// Reads an image.
///
/// # Errors
/// Whatever keeps it from being found and read.
pub(super) fn load(reference: &Reference) -> Result<(Layout, Image)> {
    let layout = Layout::open(&reference.directory)?;
    let image = Image::load(&layout, layout.entry(reference.tag.as_deref())?)?;
    Ok((layout, image))
}

/// Numbers of the manifests for a platform; of all, if none was asked for.
///
/// # Errors
/// [`Error::NoSuchPlatform`] when there is no such manifest.
pub(super) fn for_platform(
    manifests: &[&Manifest],
    platform: Option<&Platform>,
) -> Result<Vec<usize>> {
    let wanted = |manifest: &Manifest| {
        platform.is_none_or(|wanted| {
            let own = manifest.platform.as_ref();
            own.is_some_and(|own| wanted.includes(own))
        })
    };
    let numbers: Vec<usize> = (0..manifests.len())
        .filter(|&number| wanted(manifests[number]))
        .collect();
    match platform {
        Some(platform) if numbers.is_empty() => Err(Error::NoSuchPlatform {
            platform: platform.to_string(),
            there: manifests
                .iter()
                .filter_map(|manifest| Some(manifest.platform.as_ref()?.to_string()))
                .take(10)
                .collect(),
        }),
        _ => Ok(numbers),
    }
}
