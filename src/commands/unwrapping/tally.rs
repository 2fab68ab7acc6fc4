//! What happened on the way to one layer, and what is told of it when nothing opened it.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::providers::{MAX_PROVIDED, Provided};
use super::refusals::{Cure, Reason, Refusals};
use super::{Description, Opener, layer_error};
use crate::commands::Error;
use crate::descriptor::{Digest, LayerDescriptor};
use crate::envelope::Scheme;
use crate::hsm;
use crate::keys::certificate::Certificate;
use crate::keys::ring::KeyRing;
use crate::operation::{KeyKind, KeyOperation};
use crate::schemes;
use crate::secret::SecretBytes;

/// What happened on the way to one layer.
pub(super) struct Tally {
    pub(super) schemes: BTreeSet<Scheme>,
    /// What each key said last; nothing of one that was not asked.
    pub(super) said: Vec<Option<Reason>>,
    /// Whether that may have been the device's fault.
    failed: Vec<bool>,
    /// What the keys are for which nothing was there.
    pub(super) unsuited: Vec<Option<KeyKind>>,
    /// Operations that were asked for already, and their answers.
    pub(super) answers: HashMap<(usize, u64), Option<SecretBytes>>,
    /// The first description or wrapped key that could not be read.
    pub(super) broken: Option<Error>,
    /// Wrapped keys that could not be read.
    pub(super) unreadable: Vec<Reason>,
    /// Wrapped keys that only a key provider opens.
    pub(super) provided: Vec<Provided>,
    /// What was opened and is not the layer's key, and why.
    pub(super) rejected: Option<Error>,
    /// Whether any description could be read.
    pub(super) readable: bool,
    /// Time of operations that opened nothing.
    pub(super) in_vain: Duration,
    /// Whether that was too much, with descriptions left.
    pub(super) gave_up: bool,
    hasher: std::hash::RandomState,
}

impl Opener {
    /// Why a key opened nothing; `None` where it was not asked.
    pub(super) fn reason(&self, key: usize, tally: &Tally) -> Option<Reason> {
        if let Some(trouble) = &self.trouble[key] {
            let mut reason = reason(self.ring.keys()[key].name(), trouble);
            if self.is_barred(key) {
                let name = self.ring.keys()[key].name();
                reason.text = format!("{name}: not tried, since a PIN was refused on its token");
            }
            return Some(reason);
        }
        if let Some(said) = &tally.said[key] {
            return Some(said.clone());
        }
        Some(match tally.unsuited[key]? {
            KeyKind::Rsa {
                modulus_len: Some(length),
            } => {
                let bits = length.saturating_mul(8);
                self.another_key(
                    key,
                    &format!("no wrapped key has the length of this RSA-{bits} key"),
                )
            }
            KeyKind::Rsa { .. } => self.another_key(key, "the wrapped keys are for other keys"),
            KeyKind::Ec(curve) => {
                self.another_key(key, &format!("no wrapped key is for a key on {curve}"))
            }
            KeyKind::OpenPgp => self.another_key(key, "no wrapped key is for an OpenPGP key"),
        })
    }

    /// Whether a key was not tried, since the PIN of one before it was refused on their token.
    pub(super) fn is_barred(&self, key: usize) -> bool {
        let refused = |key: usize| match &self.trouble[key] {
            Some(error) if error.is_about_pin() => Some(error.to_string()),
            _ => None,
        };
        let own = refused(key);
        own.is_some() && (0..key).any(|other| refused(other) == own)
    }

    pub(super) fn failed(&self, digest: Option<&Digest>, tally: Tally) -> Error {
        if let Some(error) = tally.rejected {
            return layer_error(digest, error);
        }
        match tally.broken {
            Some(error) if !tally.readable => return error,
            _ => {}
        }
        // What bars a token is told by one of its keys, and once is enough.
        let keys = (0..self.ring.keys().len()).filter(|&key| !self.is_barred(key));
        let mut reasons: Vec<_> = keys.filter_map(|key| self.reason(key, &tally)).collect();
        reasons.extend(tally.unreadable);
        if tally.gave_up {
            reasons.insert(
                0,
                Reason {
                    text: format!(
                        "gave up after {} s and {} wrapped keys, with more in the manifests that list this layer",
                        tally.in_vain.as_secs(),
                        tally.answers.len()
                    ),
                    cure: Cure::Hint("allow more time with --hsm-timeout".to_owned()),
                },
            );
        }
        Error::NoKeyOpens {
            digest: digest.cloned(),
            refusals: Box::new(refusals(tally.schemes, reasons, &self.ring)),
        }
    }
}

impl Tally {
    pub(super) fn new(keys: usize) -> Self {
        Self {
            schemes: BTreeSet::new(),
            said: (0..keys).map(|_| None).collect(),
            failed: vec![false; keys],
            unsuited: vec![None; keys],
            answers: HashMap::new(),
            broken: None,
            unreadable: Vec::new(),
            provided: Vec::new(),
            rejected: None,
            readable: false,
            in_vain: Duration::ZERO,
            gave_up: false,
            hasher: std::hash::RandomState::new(),
        }
    }

    /// Notes what a key said. That the device may have failed is not lost again: with another wrapped key it may have
    /// been right.
    pub(super) fn note(&mut self, key: usize, said: Reason, may_be_the_device: bool) {
        if may_be_the_device || !self.failed[key] {
            self.said[key] = Some(said);
        }
        self.failed[key] |= may_be_the_device;
    }

    /// Reads a description; `None` if it cannot be, which is noted.
    pub(super) fn read(
        &mut self,
        layer: &LayerDescriptor,
        certificates: &[Certificate],
    ) -> Option<Description> {
        let description = match Description::new(layer) {
            Ok(mut description) => {
                description.wrapped.prefer(certificates);
                description
            }
            Err(error) => {
                self.broken = self.broken.take().or(Some(error));
                return None;
            }
        };
        let schemes = description.envelope.schemes();
        self.schemes
            .extend(schemes.map(|(scheme, _)| scheme.clone()));
        for (name, annotation) in &description.wrapped.provided {
            let is_there = |one: &Provided| one.name == *name && one.annotation == *annotation;
            if self.provided.len() < MAX_PROVIDED && !self.provided.iter().any(is_there) {
                self.provided.push(Provided {
                    name: name.clone(),
                    annotation: annotation.clone(),
                    public_options: description.envelope.public_options.clone(),
                    size: description.size,
                });
            }
        }
        for (_, error) in &description.wrapped.broken {
            let reason = Reason {
                text: error.to_string(),
                cure: Cure::AnotherKey,
            };
            if !self.unreadable.contains(&reason) {
                self.unreadable.push(reason);
            }
        }
        match description.wrapped.broken.first() {
            Some((_, error)) if description.wrapped.keys.is_empty() => {
                self.broken = self.broken.take().or(Some(error.clone().into()));
                None
            }
            _ => {
                self.readable = true;
                Some(description)
            }
        }
    }

    pub(super) fn hash(&self, operation: &KeyOperation) -> u64 {
        use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
        let mut hasher = self.hasher.build_hasher();
        match operation {
            KeyOperation::RsaOaep { hash, ciphertext } => {
                (0, hash.as_str(), ciphertext).hash(&mut hasher)
            }
            KeyOperation::RsaPkcs1 { length, ciphertext } => {
                (1, length, ciphertext).hash(&mut hasher)
            }
            KeyOperation::Ecdh { curve, point } => (2, curve.field_len(), point).hash(&mut hasher),
            KeyOperation::OpenPgp { packet } => (3, packet).hash(&mut hasher),
        }
        hasher.finish()
    }
}

/// Why a key cannot be used.
fn reason(name: &str, error: &hsm::Error) -> Reason {
    Reason {
        text: match error.names_key_file() {
            true => error.to_string(),
            false => format!("{name}: {error}"),
        },
        cure: error.hint().map_or(Cure::Unknown, Cure::Hint),
    }
}

/// Why none of the keys opens a layer that is wrapped with these schemes; `keys` is what each of them says.
pub(super) fn refusals(schemes: BTreeSet<Scheme>, keys: Vec<Reason>, ring: &KeyRing) -> Refusals {
    let (ours, others): (Vec<_>, Vec<_>) = schemes.into_iter().partition(schemes::is_known);
    Refusals {
        for_pkcs11: !ours.is_empty(),
        schemes: ours.iter().map(ToString::to_string).collect(),
        other_schemes: others.iter().map(ToString::to_string).collect(),
        searched: ring.searched().to_vec(),
        certificates: ring.certificate_files().to_vec(),
        keys,
        skipped: ring.skipped().map(Reason::from).collect(),
    }
}
