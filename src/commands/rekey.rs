//! `ocihsm rekey`: the layers as they are, their keys wrapped for others. No layer is changed, and in a registry none is read.

use std::path::PathBuf;

use super::args::HsmArgs;
use super::image_args::{self, ImageArgs, JobsArgs, RegistryArgs};
use super::pin::PinArgs;
use super::recipients::{self, Recipients, oaep_hash};
use super::summary::{Change, Summary};
use super::transfer::Transfer;
use super::unwrapping;
use crate::cipher::{self, Parameters};
use crate::commands::Result;
use crate::envelope::Envelope;
use crate::image::reference::HELP;
use crate::image::{self, Plan, Platform, Reference, place};
use crate::operation::OaepHash;

/// Arguments of `rekey`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
#[command(group = clap::ArgGroup::new("recipients").required(true))]
pub struct Args {
    /// The image.
    #[arg(
        help = format!("Image whose layers are encrypted: {HELP}"),
        value_name = "SRC",
        value_parser = image_args::reference()
    )]
    pub source: Reference,
    /// Image to write; without it, SRC's tag is moved to the new image
    #[arg(value_name = "DST", value_parser = image_args::reference())]
    pub destination: Option<Reference>,
    /// Key file, or directory of key files, or provider:NAME:TEXT, that opens the layers as they are (repeatable)
    #[arg(long, value_name = "FILE", required = true)]
    pub key: Vec<PathBuf>,
    /// Where the PIN is, for key files that name none.
    #[command(flatten)]
    pub pin: PinArgs,
    /// Who will be able to decrypt as well, beside those who are (repeatable; as --recipient of `encrypt`)
    #[arg(long, value_name = "[SCHEME:]FILE", group = "recipients")]
    pub add: Vec<String>,
    /// Who alone will be able to decrypt: every other recipient of every scheme is dropped (repeatable)
    #[arg(
        long,
        value_name = "[SCHEME:]FILE",
        group = "recipients",
        conflicts_with = "add"
    )]
    pub only: Vec<String>,
    /// Only the images for this platform; others stay in the index as they are
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// Hash of the RSA-OAEP padding: sha256 or sha1; without it, sha256 for pkcs11 and sha1 for jwe, as other tools write [env: OCICRYPT_OAEP_HASHALG=]
    #[arg(long, value_name = "HASH", value_parser = oaep_hash)]
    pub oaep_hash: Option<OaepHash>,
    /// Replace an image that DST's tag names already
    #[arg(long)]
    pub force: bool,
    /// Print JSON: the digest, which layers have other recipients, and the notes
    #[arg(long)]
    pub json: bool,
    /// How many layers at once, where layers are copied.
    #[command(flatten)]
    pub jobs: JobsArgs,
    /// How to speak to registries.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// How to treat the token.
    #[command(flatten)]
    pub hsm: HsmArgs,
}

const AFTER_HELP: &str = "\
Prints the digest of the new image. The layers stay what they are, byte for byte; in a registry, manifests alone are \
written.

This takes nothing away from whoever has the old manifest and a key that opens it, or a layer's own key: they can still \
read these layers. Against that, encrypt the layers anew, with `ocihsm encrypt --anew`, and remove the old image.

Examples:
  ocihsm rekey oci:app-encrypted:v1 --key old.yaml --add pkcs11:new.pub.pem
  ocihsm rekey docker://r.example/app:v1 --key old.yaml --only pkcs11:new.pub.pem";

/// Wraps the layers' keys anew.
///
/// # Errors
/// Whatever kept that from being done; nothing was written then.
pub fn run(args: &Args) -> Result<()> {
    let (source, mut image) =
        image_args::load(&args.source, args.platform.as_ref(), &args.registry)?;
    let plan = Plan::decrypt(&mut image, args.platform.as_ref())?;
    let layers = &plan.encrypted;
    let given = if args.only.is_empty() {
        &args.add
    } else {
        &args.only
    };
    let recipients = Recipients::find(given, args.oaep_hash, &args.hsm)?;
    let in_registry = matches!(args.source, Reference::Registry(_));
    let opened = recipients::open(
        &args.hsm,
        (&args.key, &args.pin),
        layers,
        |present| recipients.count() + if args.only.is_empty() { present } else { 0 },
        // A registry's layers are not fetched for it: the first key that opens is taken.
        |layer, parameters| match in_registry {
            true => Ok(()),
            false => Ok(cipher::verify(
                parameters,
                source.blob(layer)?,
                Some(layer.size),
            )?),
        },
    )?;

    let images = ImageArgs {
        source: args.source.clone(),
        destination: match &args.destination {
            Some(destination) => destination.clone(),
            None => place::in_place(&args.source, &image.entry, &args.registry.settings())?,
        },
        force: args.force || args.destination.is_none(),
        jobs: args.jobs,
        registry: args.registry.clone(),
    };
    if let (None, Reference::Registry(name)) = (&args.destination, &args.source)
        && name.digest.is_some()
    {
        let name = name.to_string();
        return Err(image::Error::from(image::registry::Error::DigestAsTarget { name }).into());
    }
    let bytes = match in_registry {
        true => 0,
        false => layers.descriptors().map(|layer| layer.size).sum(),
    };
    let transfer = Transfer::begin(&*source, &image, &images, bytes)?;
    let mut summary = Summary::default();
    summary.not_here(&plan);
    if in_registry {
        summary.add(
            "the layers were not read: one that is plain, and only called encrypted, still is"
                .to_owned(),
        );
    } else {
        // An envelope says nothing of the bytes.
        transfer.look_at(layers.descriptors(), |number, input| {
            let (locked, private) = &opened[number];
            let parameters = Parameters::new(&locked.envelope.public_options, private)?;
            Ok(cipher::verify(&parameters, input, Some(locked.layer.size))?)
        })?;
    }
    let mut manifests = image.manifests_mut();
    for ((layer, places), (locked, private)) in layers.places().zip(opened) {
        let envelope = match args.only.is_empty() {
            true => locked.envelope,
            false => Envelope::new(locked.envelope.public_options),
        };
        let envelope = recipients
            .add_to(envelope, &private)
            .map_err(|error| unwrapping::in_layer(layer, error))?;
        summary.changed(Change::Rewrapped, layer, &layer.digest, layer.size);
        for &(manifest, layer) in places {
            let annotations = &mut manifests[manifest].layers[layer].annotations;
            Envelope::remove_from(annotations);
            envelope.write_to(annotations);
        }
    }
    let digest = transfer.finish(image, &mut summary)?;
    summary.print(&digest, args.json)
}
