//! Having a layer's key unwrapped: descriptions of it, one after the other, the keys at hand, and who decides.
//!
//! Everything that asks a key goes through the [`Opener`]: `decode`, `decrypt`, `encrypt` with `--key` and `inspect`
//! with `--key`. It asks for one operation after the other, and stops when what it opened is accepted: anybody can wrap
//! a key for a public key, so the layer's MAC has the last word. What one foreign description, wrapped key or token does
//! wrong is kept as a reason, and takes nothing from the next.

mod description;
mod queue;

use std::collections::{BTreeSet, HashMap};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cipher::Parameters;
use crate::cli::HsmArgs;
use crate::descriptor::{Digest, LayerDescriptor};
use crate::envelope::Scheme;
use crate::error::{Cure, Error, Reason, Refusals, Result};
use crate::escape::escaped;
use crate::hsm::{self, Answer, Client, HsmSettings};
use crate::image::Descriptor;
use crate::keys::policy::Policy;
use crate::keys::ring::{Key, KeyRing};
use crate::operation::{KeyKind, KeyOperation};
use crate::options::{PrivateOptions, PublicOptions};
use crate::schemes::provider::{self, Providers};
use crate::schemes::{self, WrappedKey, WrappedKeys};
use crate::settings::{self, Environment};
use crate::software;

pub(super) use self::description::{Description, Locked};
use self::queue::{Queue, REJECTED};

/// How long operations may go on that open nothing, over all descriptions of one layer.
const PATIENCE: Duration = Duration::from_secs(300);

/// Whoever opens layers with the keys at hand.
pub(super) struct Opener {
    ring: KeyRing,
    client: Client,
    /// The file that names the key providers of this node.
    providers: Option<PathBuf>,
    /// What kept a key from being used; it is not asked again, or once more if that may pass.
    trouble: Vec<Option<hsm::Error>>,
    /// Keys that were waited for.
    waited_for: Vec<bool>,
    /// Time that keys took.
    pub(super) asked_for: Duration,
}

/// A key of the layer that was unwrapped, and what it was unwrapped from.
#[derive(Debug)]
pub(super) struct Unwrapped {
    /// What is needed to decrypt the layer, if this is its key.
    pub(super) parameters: Parameters,
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

/// A wrapped key that only a key provider opens.
struct Provided {
    name: String,
    annotation: Vec<u8>,
    public_options: PublicOptions,
    size: Option<u64>,
}

/// Most of these over all descriptions of a layer.
const MAX_PROVIDED: usize = 16;

/// What happened on the way to one layer.
struct Tally {
    schemes: BTreeSet<Scheme>,
    /// What each key said last; nothing of one that was not asked.
    said: Vec<Option<Reason>>,
    /// Length of the moduli of keys for which nothing was there.
    unsuited: Vec<Option<KeyKind>>,
    /// Operations that were asked for already, and what they opened.
    answers: HashMap<(usize, u64), Option<PrivateOptions>>,
    /// The first description or wrapped key that could not be read.
    broken: Option<Error>,
    /// Wrapped keys that could not be read.
    unreadable: Vec<Reason>,
    /// Wrapped keys that only a key provider opens.
    provided: Vec<Provided>,
    /// What was opened and is not the layer's key, and why.
    rejected: Option<Error>,
    /// Whether any description could be read.
    readable: bool,
    /// Time of operations that opened nothing.
    in_vain: Duration,
    hasher: std::hash::RandomState,
}

impl Opener {
    pub(super) fn new(settings: HsmSettings, providers: Option<PathBuf>) -> Self {
        Self {
            ring: KeyRing::default(),
            client: Client::new(settings),
            providers,
            trouble: Vec::new(),
            waited_for: Vec::new(),
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
        self.ring = ring;
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
        while let Some(mut turn) = queue.next(&mut |layer| tally.read(layer)) {
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
                        Ok(unwrapped) => return Ok(unwrapped),
                        Err(Rejected::GiveUp(error)) => return Err(layer_error(digest, error)),
                        Err(Rejected::TryNext(error)) => {
                            tally.rejected = tally.rejected.or(Some(error));
                            turn.pay(REJECTED);
                        }
                    }
                }
                if tally.in_vain > PATIENCE {
                    return Err(self.failed(digest, tally));
                }
                turn.put_back(entry);
            }
            queue.put_back(turn);
        }
        if let Some(unwrapped) = self.ask_providers(digest, &mut tally, &mut accept)? {
            return Ok(unwrapped);
        }
        Err(self.failed(digest, tally))
    }

    /// Has the key providers of this node open what they wrapped: last, since each is a program that is started.
    fn ask_providers(
        &self,
        digest: Option<&Digest>,
        tally: &mut Tally,
        accept: &mut impl FnMut(&Unwrapped) -> Result<(), Rejected>,
    ) -> Result<Option<Unwrapped>> {
        if tally.provided.is_empty() {
            return Ok(None);
        }
        let providers = match &self.providers {
            Some(path) => Providers::read(path),
            None => Ok(Providers::default()),
        };
        let providers = match providers {
            Ok(providers) => providers,
            Err(error) => {
                tally.unreadable.push(Reason::from(&Error::from(error)));
                return Ok(None);
            }
        };
        for provided in std::mem::take(&mut tally.provided) {
            let name = &provided.name;
            let opened = providers.unwrap(name, &provided.annotation, &[], provider::PATIENCE);
            let private = match opened {
                Ok(options) => PrivateOptions::parse(&options),
                Err(error) => {
                    let reason = Reason::from(&Error::from(error));
                    if !tally.unreadable.contains(&reason) {
                        tally.unreadable.push(reason);
                    }
                    continue;
                }
            };
            let unwrapped = private.map_err(Error::from).and_then(|private| {
                Ok(Unwrapped {
                    parameters: Parameters::new(&provided.public_options, &private)?,
                    private,
                    size: provided.size,
                    uri: format!("provider {}", escaped(name)),
                    scheme: Scheme::named(&format!("provider.{name}")),
                    hash: None,
                })
            });
            let judged = (unwrapped.map_err(Rejected::TryNext))
                .and_then(|unwrapped| accept(&unwrapped).map(|()| unwrapped));
            match judged {
                Ok(unwrapped) => return Ok(Some(unwrapped)),
                Err(Rejected::GiveUp(error)) => return Err(layer_error(digest, error)),
                Err(Rejected::TryNext(error)) => {
                    tally.rejected = tally.rejected.take().or(Some(error));
                }
            }
        }
        Ok(None)
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
                && Parameters::new(&layer.envelope.public_options, &private).is_ok()
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

    /// The next key and wrapped key that suit one another.
    fn question(&mut self, entry: &mut queue::Entry, tally: &mut Tally) -> Option<(usize, usize)> {
        let wrapped = &entry.description.wrapped.keys;
        while entry.key < self.ring.keys().len() {
            // What was put off is for the keys alone that were not there.
            let asked = !entry.again || self.waited_for[entry.key] || self.wait_for(entry.key);
            if let Some(kind) = self.kind(entry.key).filter(|_| asked) {
                while let Some(candidate) = wrapped.get(entry.number) {
                    let number = entry.number;
                    entry.number += 1;
                    if candidate.operation.suits(kind) {
                        return Some((entry.key, number));
                    }
                    tally.unsuited[entry.key] = Some(kind);
                }
            }
            entry.key += 1;
            entry.number = 0;
        }
        entry.done = true;
        None
    }

    /// Whether a key that could not be used may be there a little later.
    fn may_pass(&self) -> bool {
        let troubles = self.trouble.iter().zip(&self.waited_for);
        troubles
            .filter(|(_, waited_for)| !**waited_for)
            .any(|(trouble, _)| trouble.as_ref().is_some_and(hsm::Error::may_pass))
    }

    /// Lets a key be asked once more, if that may help: it is waited for then.
    fn wait_for(&mut self, key: usize) -> bool {
        let may_pass = self.trouble[key].as_ref().is_some_and(hsm::Error::may_pass);
        if may_pass {
            self.trouble[key] = None;
            self.waited_for[key] = true;
        }
        may_pass
    }

    /// What a key is; `None` if it cannot be used.
    fn kind(&mut self, key: usize) -> Option<KeyKind> {
        if self.trouble[key].is_some() {
            return None;
        }
        let start = Instant::now();
        let kind = match &self.ring.keys()[key] {
            Key::File(key) => Ok(key.kind()),
            Key::Token(key) => self.client.kind(key),
        };
        self.asked_for += start.elapsed();
        kind.map_err(|error| self.note(key, error)).ok()
    }

    /// Has one operation done, unless it was done before.
    fn ask(
        &mut self,
        key: usize,
        wrapped: &WrappedKey,
        tally: &mut Tally,
    ) -> Option<PrivateOptions> {
        let question = (key, tally.hash(&wrapped.operation));
        if let Some(known) = tally.answers.get(&question) {
            return known.clone();
        }
        let start = Instant::now();
        let answer = match &self.ring.keys()[key] {
            Key::File(file) => Ok(software::answer(file, &wrapped.operation)
                .map_err(|why| self.another_key(key, &why.to_string()))),
            Key::Token(token) => match self.client.answer(token, &wrapped.operation) {
                Ok(Answer::Opened(secret, _)) => Ok(Ok(secret)),
                Ok(Answer::Refused(why)) => Ok(Err(self.refusal(key, &why))),
                Err(error) => Err(error),
            },
        };
        let took = start.elapsed();
        self.asked_for += took;
        let opened = match answer {
            Ok(Ok(secret)) => match wrapped.private_options(&secret) {
                Ok(private) => Some(private),
                // Not this key's: what is not authentic may be for another one.
                Err(error @ schemes::Error::NotOpened) => {
                    tally.said[key] = Some(self.another_key(key, &error.to_string()));
                    None
                }
                Err(error) => {
                    tally.rejected = tally.rejected.take().or(Some(error.into()));
                    None
                }
            },
            Ok(Err(why)) => {
                tally.said[key] = Some(why);
                None
            }
            Err(error) => {
                self.note(key, error);
                None
            }
        };
        if opened.is_none() {
            tally.in_vain += took;
        }
        tally.answers.insert(question, opened.clone());
        opened
    }

    fn unwrapped(
        &self,
        key: usize,
        wrapped: &WrappedKey,
        description: &Description,
        private: PrivateOptions,
    ) -> Result<Unwrapped> {
        Ok(Unwrapped {
            parameters: Parameters::new(&description.envelope.public_options, &private)?,
            private,
            size: description.size,
            uri: self.ring.keys()[key].shown(),
            scheme: wrapped.scheme.clone(),
            hash: match &wrapped.operation {
                KeyOperation::RsaOaep { hash, .. } => Some(hash.as_str()),
                _ => None,
            },
        })
    }

    fn note(&mut self, key: usize, error: hsm::Error) {
        self.trouble[key] = Some(error);
    }

    fn refusal(&self, key: usize, why: &hsm::Refusal) -> Reason {
        let name = self.ring.keys()[key].name();
        match why {
            hsm::Refusal::NotMineOrFailed { said } => Reason {
                text: format!(
                    "{name}: the wrapped keys are for other keys, or the device failed ({said})"
                ),
                cure: Cure::AnotherKey,
            },
            hsm::Refusal::Unable { said } => Reason {
                text: format!("{name}: {said}"),
                cure: Cure::Unknown,
            },
            _ => self.another_key(key, "the wrapped keys are for other keys"),
        }
    }

    fn another_key(&self, key: usize, why: &str) -> Reason {
        Reason {
            text: format!("{}: {why}", self.ring.keys()[key].name()),
            cure: Cure::AnotherKey,
        }
    }

    /// Why a key opened nothing; `None` where it was not asked.
    fn reason(&self, key: usize, tally: &Tally) -> Option<Reason> {
        if let Some(trouble) = &self.trouble[key] {
            return Some(reason(self.ring.keys()[key].name(), trouble));
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
        })
    }

    fn failed(&self, digest: Option<&Digest>, tally: Tally) -> Error {
        if let Some(error) = tally.rejected {
            return layer_error(digest, error);
        }
        match tally.broken {
            Some(error) if !tally.readable => return error,
            _ => {}
        }
        // What bars a token is told by each of its keys, and once is enough.
        let barred = |key: usize| match &self.trouble[key] {
            Some(error) if error.is_about_pin() => Some(error.to_string()),
            _ => None,
        };
        let told_before = |key: usize| {
            let own = barred(key);
            own.is_some() && (0..key).any(|other| barred(other) == own)
        };
        let keys = (0..self.ring.keys().len()).filter(|&key| !told_before(key));
        let mut reasons: Vec<_> = keys.filter_map(|key| self.reason(key, &tally)).collect();
        reasons.extend(tally.unreadable);
        Error::NoKeyOpens {
            digest: digest.cloned(),
            refusals: Box::new(refusals(tally.schemes, reasons, &self.ring)),
        }
    }
}

impl Tally {
    fn new(keys: usize) -> Self {
        Self {
            schemes: BTreeSet::new(),
            said: (0..keys).map(|_| None).collect(),
            unsuited: vec![None; keys],
            answers: HashMap::new(),
            broken: None,
            unreadable: Vec::new(),
            provided: Vec::new(),
            rejected: None,
            readable: false,
            in_vain: Duration::ZERO,
            hasher: std::hash::RandomState::new(),
        }
    }

    /// Reads a description; `None` if it cannot be, which is noted.
    fn read(&mut self, layer: &LayerDescriptor) -> Option<Description> {
        let description = match Description::new(layer) {
            Ok(description) => description,
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

    fn hash(&self, operation: &KeyOperation) -> u64 {
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
fn refusals(schemes: BTreeSet<Scheme>, keys: Vec<Reason>, ring: &KeyRing) -> Refusals {
    let (ours, others): (Vec<_>, Vec<_>) = schemes.into_iter().partition(schemes::is_known);
    Refusals {
        for_pkcs11: !ours.is_empty(),
        schemes: ours.iter().map(ToString::to_string).collect(),
        other_schemes: others.iter().map(ToString::to_string).collect(),
        searched: ring.searched().to_vec(),
        keys,
        skipped: ring.skipped().map(Reason::from).collect(),
    }
}

/// The keys in these files and directories.
///
/// # Errors
/// What is wrong with a path or the policy; what is wrong with the only key, and [`Error::NoUsableKey`] when there are
/// several of these or none at all.
pub(super) fn keys(paths: &[PathBuf]) -> Result<KeyRing> {
    let policy = Policy::discover(&settings::policy(&Environment::current()))?;
    // A provider of keys is no file.
    let is_provider = |path: &&PathBuf| path.as_os_str().as_bytes().starts_with(b"provider:");
    let files: Vec<_> = (paths.iter().filter(|path| !is_provider(path)).cloned()).collect();
    let mut ring = KeyRing::read(&files, &policy)?;
    match ring.only_reason() {
        Some(error) => Err(error),
        None if files.is_empty() && !paths.is_empty() => Ok(ring),
        None if ring.keys().is_empty() => Err(Error::NoUsableKey {
            refusals: Box::new(refusals(BTreeSet::new(), Vec::new(), &ring)),
        }),
        None => Ok(ring),
    }
}

/// The private options of each layer, one client for all. `verify` looks at the layer itself; it is asked where more
/// than one wrapped key might be meant.
///
/// # Errors
/// As [`Opener::open`], of the first layer that stays shut.
pub(super) fn unwrap(
    hsm: &HsmArgs,
    ring: KeyRing,
    layers: &[Locked],
    verify: impl Fn(&Descriptor, &Parameters) -> Result<()>,
) -> Result<Vec<PrivateOptions>> {
    let providers = settings::providers(&Environment::current());
    let mut opener = Opener::new(hsm.settings(), providers).with_keys(ring);
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
