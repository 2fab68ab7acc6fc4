//! Having a layer's key unwrapped: descriptions of it, one after the other, the keys at hand, and who decides.
//!
//! Everything that opens a layer goes through the [`Opener`]: `decode`, `decrypt`, `encrypt` with `--key` and `inspect`
//! with `--key`. It asks for one operation after the other, and stops when what it opened is accepted: anybody can wrap
//! a key for a public key, so the layer's MAC has the last word. What one foreign description, wrapped key or token does
//! wrong is kept as a reason, and takes nothing from the next.

mod asking;
mod description;
mod providers;
mod queue;
pub(super) mod refusals;
mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::cipher;
use crate::commands::args::HsmArgs;
use crate::commands::pin::PinArgs;
use crate::commands::{Error, Result};
use crate::descriptor::{Digest, LayerDescriptor};
use crate::envelope::Scheme;
use crate::hsm::{self, Client, HsmSettings};
use crate::image::Descriptor;
use crate::keys::policy::Policy;
use crate::keys::ring::{Key, KeyRing};
use crate::options::PrivateOptions;
use crate::schemes::{WrappedKeys, provider};
use crate::secret::SecretBytes;
use crate::settings::{self, Environment};

pub(super) use self::asking::refusal;
pub(super) use self::description::{Description, Locked};
use self::queue::{Queue, REJECTED};
use self::refusals::Reason;
use self::tally::{Tally, refusals};

/// Texts for key providers, by their names.
pub(super) type Parameters = BTreeMap<String, Vec<SecretBytes>>;

/// How long operations may go on that open nothing, over all descriptions of one layer: so many times the time that a
/// module has for one answer.
const PATIENCE: u32 = 5;

/// Whoever opens layers with the keys at hand.
pub(super) struct Opener {
    ring: KeyRing,
    client: Client,
    patience: Duration,
    /// The file that names the key providers of this node.
    providers: Option<PathBuf>,
    /// What each of them is told, by its name.
    parameters: Parameters,
    /// What kept a key from being used; it is not asked again, or once more if that may pass.
    trouble: Vec<Option<hsm::Error>>,
    /// Keys that were waited for.
    waited_for: Vec<bool>,
    /// Keys whose trouble was told as a warning.
    told: Vec<bool>,
    /// Time that keys took.
    pub(super) asked_for: Duration,
}

/// A key of the layer that was unwrapped, and what it was unwrapped from.
#[derive(Debug)]
pub(super) struct Unwrapped {
    /// What is needed to decrypt the layer, if this is its key.
    pub(super) parameters: cipher::Parameters,
    /// What was wrapped.
    pub(super) private: PrivateOptions,
    /// Length of the blob, as its description has it.
    pub(super) size: Option<u64>,
    /// URI of the key that did it, without its query.
    pub(super) uri: String,
    /// Scheme of the wrapped key.
    pub(super) scheme: Scheme,
    /// OAEP hash of the wrapped key, where it has one.
    pub(super) hash: Option<&'static str>,
}

/// Why a key that was unwrapped is not the layer's.
#[derive(Debug)]
pub(super) enum Rejected {
    /// Another one may be.
    TryNext(Error),
    /// There is no way back.
    GiveUp(Error),
}

/// What one key said to the wrapped keys of a layer.
pub(super) enum Said {
    /// It opens one of them.
    Opens,
    /// It does not, and why.
    Shut(Reason),
}

impl Opener {
    pub(super) fn new(settings: HsmSettings, providers: Option<PathBuf>) -> Self {
        Self {
            ring: KeyRing::default(),
            patience: settings.timeout.saturating_mul(PATIENCE),
            client: Client::new(settings),
            providers,
            parameters: Parameters::new(),
            trouble: Vec::new(),
            waited_for: Vec::new(),
            told: Vec::new(),
            asked_for: Duration::ZERO,
        }
    }

    /// Begins what these keys need, so that it is done when they are asked.
    pub(super) fn start(&mut self, ring: &KeyRing) {
        let tokens: Vec<_> = ring.keys().iter().filter_map(Key::token).collect();
        self.client.start(&tokens);
    }

    /// The keys to be asked from now on.
    pub(super) fn with_keys(mut self, ring: KeyRing) -> Self {
        self.trouble = ring.keys().iter().map(|_| None).collect();
        self.waited_for = ring.keys().iter().map(|_| false).collect();
        self.told = ring.keys().iter().map(|_| false).collect();
        self.ring = ring;
        self
    }

    /// What key providers are told from now on.
    pub(super) fn with_parameters(mut self, parameters: Parameters) -> Self {
        self.parameters = parameters;
        self
    }

    /// Lets go of the keys, while the caller does something else. Asked again, they are found again.
    pub(super) fn rest(&mut self) {
        self.client.stop();
    }

    /// The keys at hand.
    pub(super) fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// Opens a layer. `manifests` say how it is described, those first that are likely to be right; `accept` judges
    /// each key that was unwrapped, and the first one that it takes is returned.
    ///
    /// # Errors
    /// What `accept` gave up with; why the last one was rejected; [`Error::NoKeyOpens`] with what each key says; what is
    /// wrong with the descriptions, if none can be read.
    pub(super) fn open(
        &mut self,
        digest: Option<&Digest>,
        manifests: impl Iterator<Item = Vec<LayerDescriptor>>,
        mut accept: impl FnMut(&Unwrapped) -> Result<(), Rejected>,
    ) -> Result<Unwrapped> {
        let mut tally = Tally::new(self.ring.keys().len());
        let mut queue = Queue::new(manifests);
        while let Some(mut turn) =
            queue.next(&mut |layer| tally.read(layer, self.ring.certificates()))
        {
            while let Some(mut entry) = turn.next() {
                let Some((key, number)) = self.question(&mut entry, &mut tally) else {
                    if !entry.again && self.may_pass() {
                        queue.put_off(entry);
                    }
                    continue;
                };
                turn.pay(1);
                let wrapped = &entry.description.wrapped.keys[number];
                if let Some(private) = self.ask(key, wrapped, &mut tally) {
                    let unwrapped = self.unwrapped(key, wrapped, &entry.description, private);
                    let judged = unwrapped
                        .map_err(Rejected::TryNext)
                        .and_then(|unwrapped| accept(&unwrapped).map(|()| unwrapped));
                    match judged {
                        Ok(unwrapped) => {
                            self.warn();
                            return Ok(unwrapped);
                        }
                        Err(Rejected::GiveUp(error)) => return Err(layer_error(digest, error)),
                        Err(Rejected::TryNext(error)) => {
                            tally.rejected = tally.rejected.or(Some(error));
                            turn.pay(REJECTED);
                        }
                    }
                }
                if tally.in_vain > self.patience {
                    tally.gave_up = true;
                    return Err(self.failed(digest, tally));
                }
                turn.put_back(entry);
            }
            queue.put_back(turn);
        }
        if let Some(unwrapped) = self.ask_providers(digest, &mut tally, &mut accept)? {
            self.warn();
            return Ok(unwrapped);
        }
        Err(self.failed(digest, tally))
    }

    /// What one key says to the wrapped keys of a layer, without a look at the layer itself.
    pub(super) fn try_key(&mut self, key: usize, layer: &Locked) -> Said {
        let mut tally = Tally::new(self.ring.keys().len());
        for wrapped in &layer.wrapped.keys {
            match self.kind(key) {
                Some(kind) if wrapped.operation.suits(kind) => {}
                Some(kind) => {
                    tally.unsuited[key] = Some(kind);
                    continue;
                }
                None => break,
            }
            if let Some(private) = self.ask(key, wrapped, &mut tally)
                && cipher::Parameters::new(&layer.envelope.public_options, &private).is_ok()
            {
                return Said::Opens;
            }
        }
        let reason = self.reason(key, &tally);
        Said::Shut(
            reason.unwrap_or_else(|| self.another_key(key, "the wrapped keys are for other keys")),
        )
    }

    /// The private options from wrapped keys that stand by themselves; what they are for is not known here.
    ///
    /// # Errors
    /// As [`Opener::open`].
    pub(super) fn open_alone(
        &mut self,
        scheme: &Scheme,
        wrapped: &WrappedKeys,
    ) -> Result<PrivateOptions> {
        let mut tally = Tally::new(self.ring.keys().len());
        tally.schemes.insert(scheme.clone());
        if wrapped.keys.is_empty() {
            let first = wrapped.broken.first();
            tally.broken = first.map(|(_, error)| error.clone().into());
        } else {
            tally.readable = true;
        }
        for key in 0..self.ring.keys().len() {
            for wrapped in &wrapped.keys {
                match self.kind(key) {
                    Some(kind) if wrapped.operation.suits(kind) => {}
                    Some(kind) => {
                        tally.unsuited[key] = Some(kind);
                        continue;
                    }
                    None => break,
                }
                if let Some(private) = self.ask(key, wrapped, &mut tally) {
                    self.warn();
                    return Ok(private);
                }
            }
        }
        Err(self.failed(None, tally))
    }

    /// That none of the keys opens a layer.
    pub(super) fn refused(&self, layer: &Locked, keys: Vec<Reason>) -> Error {
        let schemes = layer.envelope.schemes().map(|(scheme, _)| scheme.clone());
        Error::NoKeyOpens {
            digest: Some(layer.layer.digest.clone()),
            refusals: Box::new(refusals(schemes.collect(), keys, &self.ring)),
        }
    }
}

/// What `--key` named: keys, and what key providers are told.
pub(super) struct Given {
    pub(super) ring: KeyRing,
    pub(super) parameters: Parameters,
}

/// The keys in these files and directories, with the PIN that was given for those whose files have none; and
/// `provider:NAME[:TEXT]`, which is no file.
///
/// # Errors
/// What is wrong with a path or the policy; what is wrong with the only key, and [`Error::NoUsableKey`] when there are
/// several of these or none at all; [`Error::PinForSeveral`].
pub(super) fn keys(paths: &[PathBuf], pin: &PinArgs) -> Result<Given> {
    let policy = Policy::discover(&settings::policy(&Environment::current()))?;
    let mut parameters = Parameters::new();
    let mut files = Vec::new();
    for path in paths {
        match path.as_os_str().as_bytes().strip_prefix(b"provider:") {
            Some(written) => {
                let written = String::from_utf8_lossy(written);
                let (name, text) = provider::name_and_text(&written);
                let texts: &mut Vec<_> = parameters.entry(name.to_owned()).or_default();
                texts.push(SecretBytes::new(text.into()));
            }
            None => files.push(path.clone()),
        }
    }
    let mut ring = KeyRing::read(&files, &policy)?;
    if let Some(given) = pin.given()? {
        ring.give_pin(&given.pin, &given.place)
            .map_err(|tokens| Error::PinForSeveral { tokens })?;
    }
    match ring.only_reason() {
        Some(error) => Err(error.into()),
        None if ring.keys().is_empty() && parameters.is_empty() => Err(Error::NoUsableKey {
            refusals: Box::new(refusals(BTreeSet::new(), Vec::new(), &ring)),
        }),
        None => Ok(Given { ring, parameters }),
    }
}

/// The private options of each layer, one client for all. `verify` looks at the layer itself; it is asked where more
/// than one wrapped key might be meant.
///
/// # Errors
/// As [`Opener::open`], of the first layer that stays shut.
pub(super) fn unwrap(
    hsm: &HsmArgs,
    keys: Given,
    layers: &[Locked],
    verify: impl Fn(&Descriptor, &cipher::Parameters) -> Result<()>,
) -> Result<Vec<PrivateOptions>> {
    let providers = settings::providers(&Environment::current());
    let mut opener = Opener::new(hsm.settings(), providers)
        .with_keys(keys.ring)
        .with_parameters(keys.parameters);
    let mut opened = Vec::with_capacity(layers.len());
    for locked in layers {
        let layer = &locked.layer;
        let only = locked.wrapped.keys.len() + locked.wrapped.provided.len() == 1;
        let description = std::iter::once(vec![locked.description()]);
        let unwrapped = opener.open(Some(&layer.digest), description, |unwrapped| match only {
            true => Ok(()),
            false => verify(layer, &unwrapped.parameters).map_err(Rejected::TryNext),
        })?;
        opened.push(unwrapped.private);
    }
    Ok(opened)
}

/// Says in which layer it happened.
pub(super) fn in_layer(layer: &Descriptor, error: impl Into<Error>) -> Error {
    layer_error(Some(&layer.digest), error.into())
}

fn layer_error(digest: Option<&Digest>, error: Error) -> Error {
    match digest {
        Some(digest) => Error::InLayer {
            digest: digest.clone(),
            source: Box::new(error),
        },
        None => error,
    }
}
