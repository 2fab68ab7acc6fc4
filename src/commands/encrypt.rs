//! `ocihsm encrypt`: an image whose layers only the holders of some keys can read; or further recipients for one.

use std::io;
use std::path::PathBuf;
use std::thread;

use super::image_args::{self, ImageArgs};
use super::pin::PinArgs;
use super::recipients::{self, Recipients, oaep_hash};
use super::summary::{Change, Summary};
use super::transfer::{Made, Metered, Transfer};
use super::unwrapping::{self, Locked};
use crate::cipher::{self, Parameters, Sealed};
use crate::commands::args::HsmArgs;
use crate::commands::{Error, Result};
use crate::envelope::Envelope;
use crate::image::{self, Choice, Plan, Platform, Staged, media_type};
use crate::operation::OaepHash;
use crate::options::{CipherName, PrivateOptions};

/// Arguments of `encrypt`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The images.
    #[command(flatten)]
    pub image: ImageArgs,
    /// Who will be able to decrypt: pkcs11:FILE (RSA) or jwe:FILE (RSA, EC), where FILE is a public key, a certificate, a JWK,
    /// or a key file, whose token is asked for the public key; pkcs7:FILE, a certificate; pgp:FILE, an OpenPGP public key;
    /// provider:NAME or provider:NAME:TEXT, a key
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
    /// Key file, or directory of key files, or provider:NAME:TEXT, that opens layers which are encrypted already: they get the
    /// recipients as well, and are not encrypted anew (repeatable)
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// Where the PIN is, for key files of --key that name none.
    #[command(flatten)]
    pub pin: PinArgs,
    /// Encrypt anew, under new keys and for the recipients alone, what --key opens
    #[arg(long, requires = "key")]
    pub anew: bool,
    /// Cipher of the layers
    #[arg(long, value_enum, default_value_t)]
    pub cipher: Cipher,
    /// Hash of the RSA-OAEP padding: sha256 or sha1; without it, sha256 for pkcs11 and sha1 for jwe, as other tools write
    /// them [env: OCICRYPT_OAEP_HASHALG=]
    #[arg(long, value_name = "HASH", value_parser = oaep_hash)]
    pub oaep_hash: Option<OaepHash>,
    /// Print JSON: the digest, what became of each layer, and the notes
    #[arg(long)]
    pub json: bool,
    /// How to treat the token.
    #[command(flatten)]
    pub hsm: HsmArgs,
}

const AFTER_HELP: &str = "\
Prints the digest of the new image. The config and attestations stay as they are. Anything else that cannot be \
encrypted is an error, unless --leave-plain, --encrypt-layer or --platform leaves it out; what stays plain then is told.

A new DST holds nothing that the new image does not name, and appears when it is whole. Nothing is \
removed from a layout that is there: after encrypting within one, the plain layers are still in it.

Examples:
  ocihsm encrypt oci:app:v1 oci:app-encrypted:v1 --recipient pkcs11:imagekey.pub.pem
  ocihsm encrypt docker://r.example/app:v1 docker://r.example/app:v1-enc --recipient jwe:k.pem
  ocihsm encrypt oci:app-enc:v1 oci:app-enc:v2 --key old.yaml --recipient pkcs11:new.pub.pem";

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

/// Encrypts the image.
///
/// # Errors
/// Whatever kept it from being encrypted; nothing was written then.
pub fn run(args: &Args) -> Result<()> {
    let (source, mut image) = image_args::load(
        &args.image.source,
        args.platform.as_ref(),
        &args.image.registry,
    )?;
    let choice = Choice {
        platform: args.platform.as_ref(),
        layers: &args.encrypt_layer,
        leave_plain: &args.leave_plain,
    };
    let plan = Plan::encrypt(&mut image, &choice, &*source)?;
    let mut summary = Summary::default();
    summary.stays_plain(&plan);
    summary.not_opened(&plan);
    summary.not_here(&plan);
    let recipients = Recipients::find(&args.recipient, args.oaep_hash, &args.hsm)?;
    if let (true, Some(layer)) = (args.key.is_empty(), plan.encrypted.descriptors().next()) {
        // One that is only called so is told as that.
        let digest = Locked::new(layer)?.layer.digest;
        return Err(image::Error::AlreadyEncrypted { digest }.into());
    }
    let opened = recipients::open(
        &args.hsm,
        (&args.key, &args.pin),
        &plan.encrypted,
        |present| recipients.count() + if args.anew { 0 } else { present },
        |layer, parameters| {
            Ok(cipher::verify(
                parameters,
                source.blob(layer)?,
                Some(layer.size),
            )?)
        },
    )?;

    let read = plan.plain.descriptors().chain(plan.encrypted.descriptors());
    let bytes = read.map(|layer| layer.size).sum();
    let mut transfer = Transfer::begin(&*source, &image, &args.image, bytes)?;
    transfer.brings_none_back(&plan.absent, &args.leave_plain)?;
    if args.anew {
        transfer = transfer.halved();
    }
    let mut manifests = image.manifests_mut();
    if args.anew {
        let sealed = transfer.layers(plan.encrypted.descriptors(), |number, input, output| {
            anew(args.cipher.name(), &opened[number], input, output).map(kept)
        })?;
        for ((layer, places), sealed) in plan.encrypted.places().zip(&sealed) {
            let envelope = recipients.envelope(sealed);
            let envelope = envelope.map_err(|error| unwrapping::in_layer(layer, error))?;
            let (digest, size) = (&sealed.blob_digest, sealed.blob_len);
            summary.changed(Change::Reencrypted, layer, digest, size);
            for &(manifest, layer) in places {
                let layer = &mut manifests[manifest].layers[layer];
                let media_type = layer.media_type.clone();
                layer.become_other(&media_type, sealed.blob_digest.clone(), sealed.blob_len);
                Envelope::remove_from(&mut layer.annotations);
                envelope.write_to(&mut layer.annotations);
            }
        }
    } else {
        // An envelope says nothing of the bytes: those that are not of it would leave here called encrypted.
        transfer.look_at(plan.encrypted.descriptors(), |number, input| {
            let (locked, private) = &opened[number];
            let parameters = Parameters::new(&locked.envelope.public_options, private)?;
            Ok(cipher::verify(&parameters, input, Some(locked.layer.size))?)
        })?;
        for ((layer, places), (locked, private)) in plan.encrypted.places().zip(opened) {
            let envelope = recipients
                .add_to(locked.envelope, &private)
                .map_err(|error| unwrapping::in_layer(layer, error))?;
            summary.changed(Change::Rewrapped, layer, &layer.digest, layer.size);
            for &(manifest, layer) in places {
                envelope.write_to(&mut manifests[manifest].layers[layer].annotations);
            }
        }
    }
    let plain: Vec<_> = plan.plain.descriptors().collect();
    let sealed = transfer.layers(plan.plain.descriptors(), |number, input, output| {
        let sealed = cipher::encrypt(args.cipher.name(), input, output)?;
        if sealed.plain_digest != plain[number].digest {
            let digest = plain[number].digest.clone();
            return Err(image::Error::WrongBlob { digest }.into());
        }
        Ok(kept(sealed))
    })?;
    for ((layer, places), sealed) in plan.plain.places().zip(&sealed) {
        let envelope = recipients.envelope(sealed);
        let envelope = envelope.map_err(|error| unwrapping::in_layer(layer, error))?;
        let (digest, size) = (&sealed.blob_digest, sealed.blob_len);
        summary.changed(Change::Encrypted, layer, digest, size);
        for &(manifest, layer) in places {
            let layer = &mut manifests[manifest].layers[layer];
            let media_type = media_type::encrypted(&layer.media_type)
                .expect("the plan holds layers that can be encrypted");
            layer.become_other(&media_type, sealed.blob_digest.clone(), sealed.blob_len);
            summary.dropped(layer.drop_toc());
            // A plain layer may have some, of whoever made it.
            Envelope::remove_from(&mut layer.annotations);
            envelope.write_to(&mut layer.annotations);
        }
    }
    let digest = transfer.finish(image, &mut summary)?;
    summary.print(&digest, args.json)
}

fn kept(sealed: Sealed) -> Made<Sealed> {
    Made {
        digest: sealed.blob_digest.clone(),
        rest: sealed,
    }
}

/// Opens a layer and encrypts what comes out of it under a new key. No plaintext is written anywhere.
fn anew(
    cipher: CipherName,
    (locked, private): &(Locked, PrivateOptions),
    input: Metered<'_>,
    output: &mut Staged,
) -> Result<Sealed> {
    let parameters = Parameters::new(&locked.envelope.public_options, private)?;
    let failed = |source| Error::Stream {
        action: "make a pipe",
        source,
    };
    let (reader, writer) = io::pipe().map_err(failed)?;
    thread::scope(|scope| {
        let size = Some(locked.layer.size);
        let opening = thread::Builder::new()
            .name("opening".to_owned())
            .spawn_scoped(scope, move || {
                cipher::decrypt(&parameters, input, writer, size)
            })
            .map_err(failed)?;
        // Ends when the other side does, also where that fails.
        let sealed = cipher::encrypt(cipher, reader, output);
        let opened = opening
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let sealed = sealed?;
        // What came out of a layer that does not verify is no layer, however well it was encrypted.
        opened?;
        Ok(sealed)
    })
}

impl Cipher {
    fn name(self) -> CipherName {
        match self {
            Self::Aes256CtrHmacSha256 => CipherName::Aes256CtrHmacSha256,
            Self::Aes256Gcm => CipherName::Aes256GcmStream,
        }
    }
}
