//! `ocihsm inspect`: which layers of an image are encrypted, how and for whom, and which of our keys open them.
//!
//! Without `--key`, no module is loaded and nothing is asked of a token.

mod report;

use std::path::PathBuf;

use super::image_args::{self, RegistryArgs};
use super::pin::PinArgs;
use super::print;
use super::unwrapping::{self, Locked, Opener, Said};
use crate::commands::args::HsmArgs;
use crate::commands::unwrapping::refusals::Cure;
use crate::commands::{Error, Result};
use crate::image::choice::for_platform;
use crate::image::reference::HELP;
use crate::image::{Descriptor, Platform, Reference, media_type};
use crate::keys;
use crate::settings::{self, Environment};

use self::report::{ImageReport, LayerReport, Report};

/// Arguments of `inspect`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The image.
    #[arg(
        help = format!("Image to look at: {HELP}; without TAG, the only image there"),
        value_name = "IMAGE",
        value_parser = image_args::reference()
    )]
    pub image: Reference,
    /// Key file, or directory of key files, or provider:NAME:TEXT: tell which layers each key opens (repeatable)
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// Where the PIN is, for key files that name none.
    #[command(flatten)]
    pub pin: PinArgs,
    /// Look only at the images for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// How to speak to registries.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// How to treat the token.
    #[command(flatten)]
    pub hsm: HsmArgs,
}

const AFTER_HELP: &str = "\
Exit status: 0 if the annotations of every encrypted layer can be read, its cipher is known and, with --key, some key \
opens each. Layers themselves are not read.

Examples:
  ocihsm inspect oci:app-encrypted:v1
  ocihsm inspect docker://r.example/app:v1 --key /etc/containerd/ocicrypt/keys --json";

/// Encrypted layers, and where each stands in the report.
#[derive(Default)]
struct Readable {
    layers: Vec<Locked>,
    places: Vec<(usize, usize)>,
}

/// Inspects the image.
///
/// # Errors
/// Whatever keeps the image from being read. After the report was printed: what is wrong with the keys, or the PIN that
/// was refused; [`Error::InLayer`] for the first layer whose annotations are broken or whose cipher is unknown;
/// [`Error::NoKeyOpens`] for the first that no key opens.
pub fn run(args: &Args) -> Result<()> {
    let (_, image) = image_args::load(&args.image, args.platform.as_ref(), &args.registry)?;
    let manifests = image.manifests();
    let mut report = Report::new(&image);
    let mut readable = Readable::default();
    let mut trouble = None;
    for number in for_platform(&image, args.platform.as_ref())? {
        let mut images = ImageReport::new(manifests[number]);
        for (index, layer) in manifests[number].layers.iter().enumerate() {
            let mut line = LayerReport::new(index, layer);
            if media_type::decrypted(&layer.media_type).is_some() {
                match read(layer, &mut line) {
                    Ok(layer) => {
                        readable.layers.push(layer);
                        readable.places.push((report.images.len(), index));
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
    // Whatever comes of the keys, the report is not lost.
    let shut = match args.key.is_empty() {
        true => Ok(None),
        false => try_keys(args, &readable, &mut report),
    };
    match args.json {
        true => print(&report.to_json())?,
        false => print(&report.to_table())?,
    }
    trouble.or(shut?).map_or(Ok(()), Err)
}

fn read(layer: &Descriptor, line: &mut LayerReport) -> Result<Locked> {
    let locked = Locked::new(layer)?;
    line.describe(&locked);
    let cipher = locked.envelope.public_options.cipher();
    cipher.map_err(|error| unwrapping::in_layer(layer, error))?;
    match locked.wrapped.broken.first() {
        Some((_, error)) => Err(unwrapping::in_layer(layer, error.clone())),
        None => Ok(locked),
    }
}

/// Notes which key opens which layer, and which keys could not be tried; returns the error of the first layer that
/// stays shut.
fn try_keys(args: &Args, readable: &Readable, report: &mut Report) -> Result<Option<Error>> {
    let keys = unwrapping::keys(image_args::key_files(&args.key)?, &args.pin)?;
    let Readable { layers, places } = readable;
    report.untried = (keys.ring.skipped())
        .filter(|error| !matches!(error, keys::Error::NotAKeyFile { .. }))
        .map(ToString::to_string)
        .collect();
    let providers = settings::providers(&Environment::current());
    let mut opener = Opener::new(args.hsm.settings(), providers)
        .with_keys(keys.ring)
        .with_parameters(keys.parameters);
    let mut shut = None;
    for (layer, &(image, line)) in layers.iter().zip(places) {
        let mut opened_by = Vec::new();
        let mut refused = Vec::new();
        for key in 0..opener.ring().keys().len() {
            match opener.try_key(key, layer) {
                Said::Opens => opened_by.push(opener.ring().keys()[key].name().to_owned()),
                Said::Shut(reason) => refused.push(reason),
            }
        }
        for (name, said) in opener.try_providers(layer) {
            match said {
                Said::Opens => opened_by.push(name),
                Said::Shut(reason) => refused.push(reason),
            }
        }
        for reason in &refused {
            if reason.cure != Cure::AnotherKey && !report.untried.contains(&reason.text) {
                report.untried.push(reason.text.clone());
            }
        }
        if opened_by.is_empty() && shut.is_none() {
            shut = Some(opener.refused(layer, refused));
        }
        report.images[image].layers[line].opened_by = Some(opened_by);
    }
    Ok(shut)
}
