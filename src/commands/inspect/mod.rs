//! `ocihsm inspect`: which layers of an image are encrypted, how and for whom, and which of our keys open them.
//!
//! Without `--key`, no module is loaded and nothing is asked of a token.

mod report;

use std::path::PathBuf;

use super::image_args;
use super::print;
use super::unwrapping::{self, Locked};
use crate::cli::HsmArgs;
use crate::error::{Error, Result};
use crate::hsm::Outcome;
use crate::image::{Platform, Reference, media_type};

use self::report::{ImageReport, LayerReport, Report};

/// Arguments of `inspect`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The image.
    #[arg(
        help = "Image to look at: an OCI layout, oci:DIR[:TAG] or DIR[:TAG]; without TAG, the only image in it",
        value_name = "IMAGE",
        value_parser = image_args::reference()
    )]
    pub image: Reference,
    /// Key file, or directory of key files: tell which layers each key opens (repeatable)
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// Look only at the images for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// How to treat the token.
    #[command(flatten)]
    pub hsm: HsmArgs,
}

const AFTER_HELP: &str = "\
Exit status: 0 if the annotations of every encrypted layer can be read and, with --key, some key opens each. \
Layers themselves are not read.";

/// An encrypted layer, and where it stands in the report.
type Place = (usize, usize);

/// Inspects the image.
///
/// # Errors
/// Whatever keeps the image from being read. [`Error::InLayer`] for the first layer whose annotations are broken, and
/// [`Error::NoKeyOpens`] for the first that no key opens, after the report was printed.
pub fn run(args: &Args) -> Result<()> {
    let (_, image) = image_args::load(&args.image)?;
    let manifests = image.manifests();
    let mut report = Report::new(&image.entry);
    let mut locked = Vec::new();
    let mut places: Vec<Place> = Vec::new();
    let mut trouble = None;
    for number in image_args::for_platform(&manifests, args.platform.as_ref())? {
        let mut images = ImageReport::new(manifests[number]);
        for (index, layer) in manifests[number].layers.iter().enumerate() {
            let mut line = LayerReport::new(index, layer);
            if media_type::decrypted(&layer.media_type).is_some() {
                match Locked::new(layer) {
                    Ok(layer) => {
                        line.describe(&layer);
                        places.push((report.images.len(), index));
                        locked.push(layer);
                    }
                    Err(error) => {
                        line.error = Some(error.to_string());
                        trouble = trouble.or(Some(error));
                    }
                }
            }
            images.layers.push(line);
        }
        report.images.push(images);
    }
    let shut = match args.key.is_empty() {
        true => None,
        false => try_keys(args, &locked, &places, &mut report)?,
    };
    match args.json {
        true => print(&report.to_json())?,
        false => print(&report.to_table())?,
    }
    trouble.or(shut).map_or(Ok(()), Err)
}

/// Notes which key opens which layer; returns the error of the first layer that stays shut.
fn try_keys(
    args: &Args,
    locked: &[Locked],
    places: &[Place],
    report: &mut Report,
) -> Result<Option<Error>> {
    let ring = unwrapping::keys(image_args::key_files(&args.key)?)?;
    let mut opened_by = vec![Vec::new(); locked.len()];
    let mut refusals = vec![Vec::new(); locked.len()];
    // One by one: all at once, the first key that opens a layer would hide the others.
    for key in ring.keys() {
        let outcomes = unwrapping::ask(&args.hsm, std::slice::from_ref(key), locked)?;
        for (layer, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Outcome::Opened(_) => opened_by[layer].push(key.file.name.clone()),
                Outcome::Refused(why) => {
                    refusals[layer].extend(unwrapping::reasons(&why));
                }
            }
        }
    }
    let mut shut = None;
    for (layer, names) in opened_by.into_iter().enumerate() {
        if names.is_empty() && shut.is_none() {
            shut = Some(locked[layer].refused(std::mem::take(&mut refusals[layer]), &ring));
        }
        let (image, line) = places[layer];
        report.images[image].layers[line].opened_by = Some(names);
    }
    Ok(shut)
}
