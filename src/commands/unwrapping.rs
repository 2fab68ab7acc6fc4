//! Having layers' keys unwrapped: for whom they are wrapped, by which keys of ours, and why by none.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::commands::args::HsmArgs;
use crate::envelope::{Envelope, MAX_RECIPIENTS, Scheme};
use crate::error::{Cure, Error, Reason, Refusals, Result};
use crate::hsm::unwrap::{self, Outcome, Refusal, Why};
use crate::image::Descriptor;
use crate::keys::TokenKey;
use crate::keys::packet::{self, Recipient};
use crate::keys::policy::{Policy, PolicySearch};
use crate::keys::ring::KeyRing;
use crate::options::PrivateOptions;

/// An encrypted layer, and for whom.
#[derive(Debug)]
pub(super) struct Locked {
    /// The layer.
    pub(super) layer: Descriptor,
    /// Its annotations.
    pub(super) envelope: Envelope,
    /// Its PKCS#11 recipients.
    pub(super) recipients: Vec<Recipient>,
}

impl Locked {
    /// Reads a layer's annotations.
    ///
    /// # Errors
    /// [`Error::InLayer`] with what is wrong with them.
    pub(super) fn new(layer: &Descriptor) -> Result<Self> {
        Self::read(layer).map_err(|error| in_layer(layer, error))
    }

    fn read(layer: &Descriptor) -> Result<Self> {
        let envelope = Envelope::from_annotations(&layer.annotations)?;
        let recipients = recipients(&envelope)?;
        Ok(Self {
            layer: layer.clone(),
            envelope,
            recipients,
        })
    }

    /// That none of the keys opens this layer.
    pub(super) fn refused(&self, keys: Vec<Reason>, ring: &KeyRing) -> Error {
        Error::NoKeyOpens {
            digest: Some(self.layer.digest.clone()),
            refusals: Box::new(refusals([&self.envelope], keys, ring)),
        }
    }
}

/// The PKCS#11 recipients of a layer.
///
/// # Errors
/// What is wrong with a packet; [`Error::TooLarge`] over [`MAX_RECIPIENTS`].
pub(super) fn recipients(envelope: &Envelope) -> Result<Vec<Recipient>> {
    let mut recipients = Vec::new();
    for blob in envelope.blobs(&Scheme::pkcs11())? {
        recipients.extend(packet::parse(&blob)?);
    }
    if recipients.len() > MAX_RECIPIENTS {
        return Err(Error::TooLarge {
            what: "number of PKCS#11 recipients of a layer",
            limit: MAX_RECIPIENTS as u64,
        });
    }
    Ok(recipients)
}

/// Why none of the keys opens a layer that is wrapped like this; `keys` is what each of them says.
pub(super) fn refusals<'a>(
    envelopes: impl IntoIterator<Item = &'a Envelope>,
    keys: Vec<Reason>,
    ring: &KeyRing,
) -> Refusals {
    let schemes: BTreeSet<_> = envelopes
        .into_iter()
        .flat_map(Envelope::schemes)
        .map(|(scheme, _)| scheme.clone())
        .collect();
    let (ours, others): (Vec<_>, Vec<_>) = schemes
        .into_iter()
        .partition(|scheme| *scheme == Scheme::pkcs11());
    Refusals {
        for_pkcs11: !ours.is_empty(),
        other_schemes: others.iter().map(ToString::to_string).collect(),
        searched: ring.searched().to_vec(),
        keys,
        skipped: ring.skipped().map(Reason::from).collect(),
    }
}

/// What keys say, for the message.
pub(super) fn reasons(refusals: &[Refusal]) -> Vec<Reason> {
    let reason = |refusal: &Refusal| Reason {
        text: refusal.to_string(),
        cure: match &refusal.why {
            Why::Unavailable(why) => why.hint.clone().map_or(Cure::Unknown, Cure::Hint),
            Why::DoesNotFitOrFailed(_) | Why::Unable(_) => Cure::Unknown,
            _ => Cure::AnotherKey,
        },
    };
    refusals.iter().map(reason).collect()
}

/// The keys in these files and directories.
///
/// # Errors
/// What is wrong with a path or the policy; what is wrong with the only key, and [`Error::NoUsableKey`] when there are
/// several of these or none at all.
pub(super) fn keys(paths: &[PathBuf]) -> Result<KeyRing> {
    let policy = Policy::discover(&PolicySearch::from_environment())?;
    let mut ring = KeyRing::read(paths, &policy)?;
    match ring.only_reason() {
        Some(error) => Err(error),
        None if ring.keys().is_empty() => Err(Error::NoUsableKey {
            refusals: Box::new(refusals([], Vec::new(), &ring)),
        }),
        None => Ok(ring),
    }
}

/// The private options of each layer.
///
/// # Errors
/// [`Error::NoKeyOpens`] for the first layer that stays shut; whatever is broken in a token or an envelope.
pub(super) fn unwrap(
    hsm: &HsmArgs,
    ring: &KeyRing,
    layers: &[Locked],
) -> Result<Vec<PrivateOptions>> {
    let mut opened = Vec::with_capacity(layers.len());
    for (layer, outcome) in layers.iter().zip(ask(hsm, ring.keys(), layers)?) {
        match outcome {
            Outcome::Opened(key) => {
                let private = PrivateOptions::parse(&key.private_options);
                opened.push(private.map_err(|error| in_layer(&layer.layer, error))?);
            }
            Outcome::Refused(reasons) => {
                return Err(layer.refused(self::reasons(&reasons), ring));
            }
        }
    }
    Ok(opened)
}

/// What each layer says to these keys.
///
/// # Errors
/// Whatever is broken in a token.
pub(super) fn ask(hsm: &HsmArgs, keys: &[TokenKey], layers: &[Locked]) -> Result<Vec<Outcome>> {
    if layers.is_empty() {
        return Ok(Vec::new());
    }
    let envelopes: Vec<_> = layers.iter().map(|it| it.recipients.clone()).collect();
    tracing::info_span!("unwrap").in_scope(|| unwrap::unwrap(&hsm.settings(), keys, &envelopes))
}

/// Says in which layer it happened.
pub(super) fn in_layer(layer: &Descriptor, error: Error) -> Error {
    Error::InLayer {
        digest: layer.digest.clone(),
        source: Box::new(error),
    }
}
