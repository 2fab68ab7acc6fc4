//! From descriptors to the cipher's parameters: which keys there are, and which of them opens the layer.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use super::source::Layer;
use super::{Args, paths};
use crate::cipher::{self, Parameters};
use crate::commands::args::no_uris;
use crate::commands::unwrapping;
use crate::descriptor::{Digest, LayerDescriptor};
use crate::envelope::{Envelope, Scheme};
use crate::error::{Error, Result};
use crate::hsm::HsmSettings;
use crate::hsm::unwrap::{self, Outcome};
use crate::keys::packet::{OaepHash, Recipient};
use crate::keys::policy::{Policy, PolicySearch};
use crate::keys::ring::KeyRing;
use crate::options::PrivateOptions;
use crate::telemetry::LayerRecord;

/// A layer whose key is known.
pub(super) struct Opened {
    pub(super) parameters: Parameters,
    /// The layer, where we know.
    pub(super) digest: Option<Digest>,
    /// What was read of stdin already.
    pub(super) peeked: Vec<u8>,
    /// Length of the blob, where the descriptor has one.
    pub(super) size: Option<u64>,
}

/// One way in which the layer's key was wrapped.
struct Candidate {
    envelope: Envelope,
    size: Option<u64>,
    recipients: Vec<Recipient>,
}

/// A candidate that a key opened.
#[derive(PartialEq)]
struct Unwrapped {
    parameters: Parameters,
    size: Option<u64>,
    /// The key that did it, without its query.
    uri: String,
    hash: OaepHash,
}

const KEYS_PATH: &str = "OCIHSM_KEYS_PATH";

/// Has the layer's key unwrapped.
///
/// # Errors
/// [`Error::NoKeyOpens`] with what each key says, or whatever is broken: an envelope, a key directory, a token.
pub(super) fn open(args: &Args, layer: Layer, record: &mut LayerRecord) -> Result<Opened> {
    let digest = layer.digest().cloned();
    let candidates = candidates(&layer.descriptors)?;
    let ring = keys_at_hand(args, &layer)?;
    let opened = unwrap(
        &args.hsm.settings(),
        &ring,
        &candidates,
        digest.as_ref(),
        record,
    )?;
    let unwrapped = match opened.as_slice() {
        [only] => only,
        several => {
            // More than one descriptor comes from the store alone, where the file is known.
            let path = layer.blob.ok_or(Error::Verification)?;
            the_one_that_verifies(several, &path)?
        }
    };
    record.key = Some(unwrapped.uri.clone());
    record.scheme = Some(Scheme::pkcs11().to_string());
    record.hash = Some(unwrapped.hash.as_str());
    Ok(Opened {
        parameters: unwrapped.parameters.clone(),
        digest,
        peeked: layer.peeked,
        size: unwrapped.size,
    })
}

/// The node's keys, then those of the payload.
fn keys_at_hand(args: &Args, layer: &Layer) -> Result<KeyRing> {
    let policy = Policy::discover(&PolicySearch::from_environment())?;
    let paths = paths(&args.keys.decryption_keys_path, KEYS_PATH);
    let mut ring = KeyRing::read(no_uris("--decryption-keys-path", &paths)?, &policy)?;
    ring.add_payload(&layer.key_files, &layer.policies, &policy)?;
    match ring.only_reason() {
        Some(error) => Err(error),
        None if ring.keys().is_empty() && paths.is_empty() => Err(Error::NoKeys),
        None => Ok(ring),
    }
}

/// What the keys make of the candidates: at least one that is open.
fn unwrap(
    settings: &HsmSettings,
    ring: &KeyRing,
    candidates: &[Candidate],
    digest: Option<&Digest>,
    record: &mut LayerRecord,
) -> Result<Vec<Unwrapped>> {
    record.notes.extend(settings.warning());
    let recipients: Vec<_> = candidates.iter().map(|it| it.recipients.clone()).collect();
    let start = Instant::now();
    let outcomes = unwrap::unwrap(settings, ring.keys(), &recipients);
    record.unwrap = Some(start.elapsed());

    let mut opened: Vec<Unwrapped> = Vec::new();
    let mut refused = Vec::new();
    let mut broken = None;
    for (candidate, outcome) in candidates.iter().zip(outcomes?) {
        match outcome {
            Outcome::Opened(key) => match Unwrapped::new(candidate, &key, ring) {
                Ok(unwrapped) if opened.contains(&unwrapped) => {}
                Ok(unwrapped) => opened.push(unwrapped),
                Err(error) => broken = Some(error),
            },
            Outcome::Refused(reasons) => refused.extend(unwrapping::reasons(&reasons)),
        }
    }
    if !opened.is_empty() {
        return Ok(opened);
    }
    Err(broken.unwrap_or_else(|| {
        let envelopes = candidates.iter().map(|candidate| &candidate.envelope);
        Error::NoKeyOpens {
            digest: digest.cloned(),
            refusals: Box::new(unwrapping::refusals(envelopes, refused, ring)),
        }
    }))
}

/// Every readable description of the layer; the error of the first if there is none.
fn candidates(descriptors: &[LayerDescriptor]) -> Result<Vec<Candidate>> {
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut broken = None;
    for descriptor in descriptors {
        match Candidate::new(descriptor) {
            Ok(candidate) => candidates.push(candidate),
            Err(error) => broken = broken.or(Some(error)),
        }
    }
    match broken {
        Some(error) if candidates.is_empty() => Err(error),
        _ => Ok(candidates),
    }
}

impl Candidate {
    fn new(descriptor: &LayerDescriptor) -> Result<Self> {
        let envelope = Envelope::from_annotations(&descriptor.annotations)?;
        // Before any token is asked: what cannot be decrypted need not be unwrapped.
        envelope.public_options.cipher()?;
        let recipients = unwrapping::recipients(&envelope)?;
        Ok(Self {
            envelope,
            size: descriptor.size,
            recipients,
        })
    }
}

impl Unwrapped {
    fn new(candidate: &Candidate, key: &unwrap::Opened, ring: &KeyRing) -> Result<Self> {
        let private = PrivateOptions::parse(&key.private_options)?;
        Ok(Self {
            parameters: Parameters::new(&candidate.envelope.public_options, &private)?,
            size: candidate.size,
            uri: ring.keys()[key.key].file.uri.to_string(),
            hash: key.hash,
        })
    }
}

/// Manifests may wrap different keys for one blob, and anybody can wrap a key for a public key: the MAC decides.
fn the_one_that_verifies<'a>(several: &'a [Unwrapped], path: &Path) -> Result<&'a Unwrapped> {
    // A wrong size would only fail later, when another description may be right.
    for unwrapped in several {
        if cipher::verify(&unwrapped.parameters, read_blob(path)?, unwrapped.size).is_ok() {
            return Ok(unwrapped);
        }
    }
    Err(Error::Verification)
}

fn read_blob(path: &Path) -> Result<File> {
    File::open(path).map_err(|source| Error::File {
        action: "open",
        path: path.to_owned(),
        source,
    })
}
