//! For whom layers' keys are wrapped; and the layers whose keys are wrapped already, opened to be wrapped for others.

use std::path::{Path, PathBuf};

use super::args::HsmArgs;
use super::image_args;
use super::transfer::Made;
use super::unwrapping::{self, Locked};
use crate::cipher::Sealed;
use crate::descriptor::Digest;
use crate::envelope::{Envelope, MAX_RECIPIENTS, Scheme};
use crate::error::{Error, Result};
use crate::hsm;
use crate::image::Layers;
use crate::keys::packet::{self, OaepHash};
use crate::keys::policy::{Policy, PolicySearch};
use crate::keys::public::PublicKey;
use crate::keys::recipient::Recipient;
use crate::options::PrivateOptions;

const OAEP_HASH: &str = "OCICRYPT_OAEP_HASHALG";

/// To whom layer keys are wrapped, and how.
pub(super) struct Recipients {
    hash: OaepHash,
    keys: Vec<PublicKey>,
}

impl Recipients {
    /// The public key of each recipient, in a file or in a token. That forks, so no thread may run yet.
    ///
    /// # Errors
    /// What is wrong with an argument, a file or a token; [`Error::InvalidVariable`] for the hash.
    pub(super) fn find(given: &[String], hash: Option<OaepHash>, hsm: &HsmArgs) -> Result<Self> {
        let hash = chosen_hash(hash)?;
        if given.len() > MAX_RECIPIENTS {
            return Err(too_many());
        }
        let policy = Policy::discover(&PolicySearch::from_environment())?;
        let mut keys: Vec<PublicKey> = Vec::new();
        for recipient in given {
            if image_args::is_uri(recipient) {
                return Err(Error::UriAsArgument {
                    argument: "--recipient",
                });
            }
            let Some(file) = recipient.strip_prefix("pkcs11:") else {
                return Err(Error::UnknownRecipient {
                    text: recipient.chars().take(80).collect(),
                });
            };
            let key = public_key(Path::new(file), &policy, hsm)?;
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        Ok(Self { hash, keys })
    }

    pub(super) fn count(&self) -> usize {
        self.keys.len()
    }

    /// Adds one packet with all recipients, as the reference does.
    ///
    /// # Errors
    /// [`Error::MessageTooLong`] and [`Error::Wrapping`].
    pub(super) fn add_to(
        &self,
        mut envelope: Envelope,
        private: &PrivateOptions,
    ) -> Result<Envelope> {
        let recipients: Vec<_> = self
            .keys
            .iter()
            .map(|key| key.wrap(self.hash, private))
            .collect::<Result<_>>()?;
        envelope.push(Scheme::pkcs11(), &packet::to_json(&recipients));
        Ok(envelope)
    }

    /// What a layer became that was just encrypted: its envelope, digest and length.
    ///
    /// # Errors
    /// As [`Recipients::add_to`].
    pub(super) fn made(&self, sealed: Sealed) -> Result<Made<(Envelope, Digest, u64)>> {
        let envelope = Envelope::new(sealed.public_options);
        let envelope = self.add_to(envelope, &sealed.private_options)?;
        Ok(Made {
            digest: sealed.blob_digest.clone(),
            rest: (envelope, sealed.blob_digest, sealed.blob_len),
        })
    }
}

/// Each of the layers, with its private options. `recipients` says how many a layer will have that has so many.
///
/// # Errors
/// [`Error::TooLarge`] for too many recipients; whatever keeps a layer from being opened.
pub(super) fn open(
    hsm: &HsmArgs,
    keys: &[PathBuf],
    layers: &Layers,
    recipients: impl Fn(usize) -> usize,
) -> Result<Vec<(Locked, PrivateOptions)>> {
    if layers.is_empty() {
        return Ok(Vec::new());
    }
    let mut locked = Vec::new();
    for layer in layers.descriptors() {
        let layer = Locked::new(layer)?;
        if recipients(layer.recipients.len()) > MAX_RECIPIENTS {
            return Err(too_many());
        }
        locked.push(layer);
    }
    let ring = unwrapping::keys(image_args::key_files(keys)?)?;
    let opened = unwrapping::unwrap(hsm, &ring, &locked)?;
    Ok(locked.into_iter().zip(opened).collect())
}

fn too_many() -> Error {
    Error::TooLarge {
        what: "number of recipients of a layer",
        limit: MAX_RECIPIENTS as u64,
    }
}

/// The public key in a file; or in the token, if it is a key file.
fn public_key(file: &Path, policy: &Policy, hsm: &HsmArgs) -> Result<PublicKey> {
    let key = match Recipient::read(file)? {
        Recipient::InToken(key) => hsm::public_key(&hsm.settings(), &policy.resolve(*key)?)?,
        Recipient::Key(key) => key,
    };
    key.for_pkcs11(&file.display().to_string())?;
    Ok(key)
}

fn chosen_hash(given: Option<OaepHash>) -> Result<OaepHash> {
    match (given, std::env::var_os(OAEP_HASH)) {
        (Some(hash), _) => Ok(hash),
        (None, Some(name)) if !name.is_empty() => {
            name.to_str()
                .and_then(OaepHash::parse)
                .ok_or(Error::InvalidVariable {
                    name: OAEP_HASH,
                    expected: "sha256 or sha1",
                })
        }
        _ => Ok(OaepHash::Sha256),
    }
}

/// Parses the value of `--oaep-hash`.
pub(super) fn oaep_hash(name: &str) -> Result<OaepHash, &'static str> {
    OaepHash::parse(name).ok_or("expected sha256 or sha1")
}
