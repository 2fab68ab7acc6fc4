//! `ocihsm encrypt`: an image whose layers only the holders of some keys can read; or further recipients for one.

use std::path::PathBuf;

use super::image_args::{self, ImageArgs};
use super::print;
use super::recipients::{self, Recipients};
use super::summary::Summary;
use super::transfer::{Made, Transfer};
use super::unwrapping::{self, Locked};
use crate::cipher;
use crate::commands::args::HsmArgs;
use crate::envelope::{Envelope, MAX_RECIPIENTS};
use crate::error::{Error, Result};
use crate::image::{self, Choice, Layers, Layout, Plan, Platform, media_type};
use crate::operation::OaepHash;
use crate::options::{CipherName, PrivateOptions};
use crate::settings;

/// Arguments of `encrypt`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The images.
    #[command(flatten)]
    pub image: ImageArgs,
    /// Who will be able to decrypt: pkcs11:FILE (RSA) or jwe:FILE (RSA, EC), where FILE is a public key, a certificate, a JWK,
    /// or a key file, whose token is asked for the public key; pkcs7:FILE, a certificate; provider:NAME[:TEXT], a key
    /// provider; or a FILE alone, for what fits it (repeatable)
    #[arg(long, value_name = "[SCHEME:]FILE", required = true)]
    pub recipient: Vec<String>,
    /// Encrypt only this layer: 0 is the lowest, -1 the topmost (repeatable; all layers if not given)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub encrypt_layer: Vec<i64>,
    /// Encrypt only the images for this platform; others stay in the index as they are
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// Leave layers, configs and entries of this media type plain, which have no encrypted form (repeatable)
    #[arg(long, value_name = "TYPE")]
    pub leave_plain: Vec<String>,
    /// Key file, or directory of key files, that opens layers which are encrypted already: they get the
    /// recipients as well, and are not encrypted anew (repeatable)
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// Cipher of the layers
    #[arg(long, value_enum, default_value_t)]
    pub cipher: Cipher,
    /// Hash of the RSA-OAEP padding: sha256 or sha1; without it, sha256 for pkcs11 and sha1 for jwe, as other tools write
    /// them [env: OCICRYPT_OAEP_HASHALG=]
    #[arg(long, value_name = "HASH", value_parser = oaep_hash)]
    pub oaep_hash: Option<OaepHash>,
    /// How to treat the token.
    #[command(flatten)]
    pub hsm: HsmArgs,
}

const AFTER_HELP: &str = "\
Prints the digest of the new image. The config and attestations stay as they are. Anything else that cannot be \
encrypted is an error, unless --leave-plain, --encrypt-layer or --platform leaves it out; what stays plain then is told.

A new DST holds nothing that the new image does not name, and appears when it is whole. Nothing is \
removed from a layout that is there: after encrypting within one, the plain layers are still in it.";

/// The ciphers to choose from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Cipher {
    /// What skopeo, buildah, CRI-O and containerd's own decoder read as well
    #[default]
    #[value(name = "aes-256-ctr-hmac-sha256")]
    Aes256CtrHmacSha256,
    /// Faster, and checked segment by segment, but read by ocihsm alone
    #[value(name = "aes-256-gcm")]
    Aes256Gcm,
}

const OAEP_HASH: &str = "OCICRYPT_OAEP_HASHALG";

/// Encrypts the image.
///
/// # Errors
/// Whatever kept it from being encrypted; nothing was written then.
pub fn run(args: &Args) -> Result<()> {
    let (layout, mut image) = image_args::load(&args.image.source)?;
    let choice = Choice {
        platform: args.platform.as_ref(),
        layers: &args.encrypt_layer,
        leave_plain: &args.leave_plain,
    };
    let plan = Plan::encrypt(&mut image, &choice, |blob| layout.has(&blob.digest))?;
    let mut summary = Summary::default();
    summary.stays_plain(&plan);
    let hash = chosen_hash(args.oaep_hash)?;
    let wrapping = Recipients::read(&args.recipient, hash, &args.hsm)?;
    let opened = open_encrypted(args, &layout, &plan.encrypted, wrapping.len())?;

    let bytes = plan.plain.descriptors().map(|layer| layer.size).sum();
    let mut transfer = Transfer::begin(&layout, &image, &args.image, bytes)?;
    let mut manifests = image.manifests_mut();
    for ((layer, places), (locked, private)) in plan.encrypted.places().zip(opened) {
        let envelope = wrapping
            .add(locked.envelope, &private)
            .map_err(|error| unwrapping::in_layer(layer, error))?;
        for &(manifest, layer) in places {
            envelope.write_to(&mut manifests[manifest].layers[layer].annotations);
        }
    }
    for (layer, places) in plan.plain.places() {
        let (envelope, digest, size) = transfer.layer(layer, |input, output| {
            let sealed = cipher::encrypt(args.cipher.name(), input, output)?;
            if sealed.plain_digest != layer.digest {
                let digest = layer.digest.clone();
                return Err(image::Error::WrongBlob { digest }.into());
            }
            let envelope = Envelope::new(sealed.public_options);
            Ok(Made {
                digest: sealed.blob_digest.clone(),
                rest: (
                    wrapping.add(envelope, &sealed.private_options)?,
                    sealed.blob_digest,
                    sealed.blob_len,
                ),
            })
        })?;
        for &(manifest, layer) in places {
            let layer = &mut manifests[manifest].layers[layer];
            let media_type = media_type::encrypted(&layer.media_type)
                .expect("the plan holds layers that can be encrypted");
            layer.become_other(&media_type, digest.clone(), size);
            summary.dropped(layer.drop_toc());
            envelope.write_to(&mut layer.annotations);
        }
    }
    let digest = transfer.finish(image, &mut summary)?;
    summary.print();
    print(&digest)
}

/// Each layer that is encrypted already, with its private options.
fn open_encrypted(
    args: &Args,
    layout: &Layout,
    layers: &Layers,
    recipients: usize,
) -> Result<Vec<(Locked, PrivateOptions)>> {
    if args.key.is_empty() {
        return match layers.descriptors().next() {
            None => Ok(Vec::new()),
            Some(layer) => Err(image::Error::AlreadyEncrypted {
                digest: layer.digest.clone(),
            }
            .into()),
        };
    }
    let mut locked = Vec::new();
    for layer in layers.descriptors() {
        let layer = Locked::new(layer)?;
        if layer.wrapped.keys.len() + recipients > MAX_RECIPIENTS {
            return Err(recipients::too_many());
        }
        locked.push(layer);
    }
    let ring = unwrapping::keys(image_args::key_files(&args.key)?)?;
    let opened = unwrapping::unwrap(&args.hsm, ring, &locked, |layer, parameters| {
        cipher::verify(parameters, layout.blob(layer)?, Some(layer.size))
    })?;
    Ok(locked.into_iter().zip(opened).collect())
}

/// The hash that was asked for; without any, each scheme takes its own.
fn chosen_hash(given: Option<OaepHash>) -> Result<Option<OaepHash>> {
    match (given, settings::variable(OAEP_HASH)) {
        (Some(hash), _) => Ok(Some(hash)),
        (None, Some(name)) if !name.is_empty() => name
            .to_str()
            .and_then(OaepHash::parse)
            .map(Some)
            .ok_or(Error::InvalidVariable {
                name: OAEP_HASH,
                expected: "sha256 or sha1",
            }),
        _ => Ok(None),
    }
}

fn oaep_hash(name: &str) -> Result<OaepHash, &'static str> {
    OaepHash::parse(name).ok_or("expected sha256 or sha1")
}

impl Cipher {
    fn name(self) -> CipherName {
        match self {
            Self::Aes256CtrHmacSha256 => CipherName::Aes256CtrHmacSha256,
            Self::Aes256Gcm => CipherName::Aes256GcmStream,
        }
    }
}
