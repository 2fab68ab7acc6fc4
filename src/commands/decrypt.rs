//! `ocihsm decrypt`: an image as it was before it was encrypted.

use std::path::PathBuf;

use super::image_args::{self, ImageArgs};
use super::pin::PinArgs;
use super::summary::{Change, Summary};
use super::transfer::{Made, Transfer};
use super::unwrapping::{self, Locked};
use crate::cipher::{self, Parameters};
use crate::commands::Result;
use crate::commands::args::HsmArgs;
use crate::envelope::Envelope;
use crate::image::{Plan, Platform, media_type};

/// Arguments of `decrypt`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The images.
    #[command(flatten)]
    pub image: ImageArgs,
    /// Key file, or directory of key files, or provider:NAME:TEXT (repeatable)
    #[arg(long, value_name = "FILE", required = true)]
    pub key: Vec<PathBuf>,
    /// Where the PIN is, for key files that name none.
    #[command(flatten)]
    pub pin: PinArgs,
    /// Decrypt only the images for this platform; others stay in the index as they are
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// Print JSON: the digest, what became of each layer, and the notes
    #[arg(long)]
    pub json: bool,
    /// How to treat the token.
    #[command(flatten)]
    pub hsm: HsmArgs,
}

const AFTER_HELP: &str = "\
Prints the digest of the new image. Every encrypted layer must open and verify, or nothing is written. \
A new DST appears when it is whole.

Examples:
  ocihsm decrypt oci:app-encrypted:v1 oci:app-plain:v1 --key imagekey.yaml
  ocihsm decrypt oci:app-encrypted:v1 oci:app-plain:v1 --key imagekey.yaml --pin-file pin --json";

/// Decrypts the image.
///
/// # Errors
/// Whatever kept it from being decrypted; nothing was written then.
pub fn run(args: &Args) -> Result<()> {
    let (source, mut image) = image_args::load(
        &args.image.source,
        args.platform.as_ref(),
        &args.image.registry,
    )?;
    let plan = Plan::decrypt(&mut image, args.platform.as_ref())?;
    let found = &plan.encrypted;
    let mut locked = Vec::new();
    for layer in found.descriptors() {
        let layer = Locked::new(layer)?;
        // Before any token is asked: what cannot be decrypted need not be unwrapped.
        let cipher = layer.envelope.public_options.cipher();
        cipher.map_err(|error| unwrapping::in_layer(&layer.layer, error))?;
        locked.push(layer);
    }
    let keys = unwrapping::keys(image_args::key_files(&args.key)?, &args.pin)?;
    let opened = unwrapping::unwrap(&args.hsm, keys, &locked, |layer, parameters| {
        Ok(cipher::verify(
            parameters,
            source.blob(layer)?,
            Some(layer.size),
        )?)
    })?;

    let bytes = found.descriptors().map(|layer| layer.size).sum();
    let transfer = Transfer::begin(&*source, &image, &args.image, bytes)?;
    let made = transfer.layers(found.descriptors(), |number, input, output| {
        let locked = &locked[number];
        let parameters = Parameters::new(&locked.envelope.public_options, &opened[number])?;
        let (opened, digest) =
            cipher::decrypt_and_digest(&parameters, input, output, Some(locked.layer.size))?;
        // Not compared with the digest in the private options: skopeo, when it compresses a layer and encrypts
        // it, puts the digest from before both there. The MAC covers every byte.
        Ok(Made {
            digest: digest.clone(),
            rest: (digest, opened.plain_len),
        })
    })?;
    let mut summary = Summary::default();
    summary.not_here(&plan);
    let mut manifests = image.manifests_mut();
    for ((layer, places), (digest, size)) in found.places().zip(made) {
        summary.changed(Change::Decrypted, layer, &digest, size);
        for &(manifest, layer) in places {
            let layer = &mut manifests[manifest].layers[layer];
            let plain = media_type::decrypted(&layer.media_type)
                .expect("the plan holds encrypted layers")
                .to_owned();
            layer.become_other(&plain, digest.clone(), size);
            Envelope::remove_from(&mut layer.annotations);
        }
    }
    let digest = transfer.finish(image, &mut summary)?;
    summary.print(&digest, args.json)
}
