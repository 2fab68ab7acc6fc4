//! For whom a layer's key is wrapped: `pkcs11:FILE`, `jwe:FILE`, `pkcs7:FILE`, `pgp:FILE`, `provider:NAME[:TEXT]`, or a bare
//! FILE; and the layers whose keys are wrapped already, opened to be wrapped for others.
//!
//! A public key is all that wrapping takes, but for a provider, which is asked. Nothing else of a scheme is known here.

mod written;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use self::written::Written;
use super::image_args;
use super::pin::PinArgs;
use super::unwrapping::{self, Locked};
use crate::cipher::{Parameters, Sealed};
use crate::commands::args::HsmArgs;
use crate::commands::{Error, Result};
use crate::envelope::{Envelope, MAX_RECIPIENTS, Scheme};
use crate::file;
use crate::hsm;
use crate::image::{Descriptor, Layers};
use crate::keys;
use crate::keys::certificate::Certificate;
use crate::keys::policy::Policy;
use crate::keys::public::PublicKey;
use crate::keys::public::jwk::Jwk;
use crate::keys::public::openpgp::{self, OpenPgpPublicKey};
use crate::keys::recipient::Recipient;
use crate::operation::OaepHash;
use crate::options::PrivateOptions;
use crate::schemes::jwe::{self, WrapFor};
use crate::schemes::provider::{self, Providers};
use crate::schemes::{pgp, pkcs7, pkcs11};
use crate::secret::SecretBytes;
use crate::settings::{self, Environment};

const OAEP_HASH: &str = "OCICRYPT_OAEP_HASHALG";

/// Most bytes of a recipient's file.
const MAX_FILE: usize = 64 << 10;

/// Everybody that a layer's key is wrapped for, by scheme.
#[derive(Debug, Default)]
pub(super) struct Recipients {
    /// OAEP hash of the PKCS#11 packet.
    pub(super) hash: Option<OaepHash>,
    packet: Vec<PublicKey>,
    jwe: Vec<(PublicKey, OaepHash)>,
    certificates: Vec<Certificate>,
    openpgp: Vec<OpenPgpPublicKey>,
    /// Providers, each with the texts behind its name.
    providers: BTreeMap<String, Vec<SecretBytes>>,
    known: Providers,
}

impl Recipients {
    /// Reads what was given. A key file's token is asked for its public key, so no thread may run yet.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub(super) fn read(given: &[String], hash: Option<OaepHash>, hsm: &HsmArgs) -> Result<Self> {
        if given.len() > MAX_RECIPIENTS {
            return Err(too_many());
        }
        let environment = Environment::current();
        let policy = Policy::discover(&settings::policy(&environment))?;
        let mut all = Self::default();
        if let Some(path) = settings::providers(&environment) {
            all.known = Providers::read(&path)?;
        }
        for text in given {
            if image_args::is_uri(text) {
                return Err(settings::Error::UriAsArgument {
                    argument: "--recipient",
                }
                .into());
            }
            match Written::parse(text)? {
                Written::Packet(path) => {
                    let (key, _) = public_key(path, &policy, hsm)?;
                    key.for_pkcs11(&path.display().to_string())?;
                    add(&mut all.packet, key);
                }
                Written::Jwe(path) => {
                    let (key, asked) = public_key(path, &policy, hsm)?;
                    let wrapping = asked.hash.or(hash).unwrap_or(OaepHash::Sha1);
                    add(&mut all.jwe, (key, wrapping));
                }
                Written::Pkcs7(path) => {
                    let bytes = file::read_secret_or_pipe(path, MAX_FILE)?;
                    let certificate = Certificate::all(bytes.expose()).into_iter().next();
                    let certificate = certificate.ok_or_else(|| keys::Error::InvalidPublicKey {
                        name: path.display().to_string(),
                        what: "it is not a certificate, which the scheme pkcs7 takes",
                    })?;
                    add(&mut all.certificates, certificate);
                }
                Written::Pgp(path) => {
                    let bytes = file::read_secret_or_pipe(path, MAX_FILE)?;
                    add(&mut all.openpgp, openpgp_key(path, bytes.expose())?);
                }
                Written::Provider(name, text) => {
                    all.known.get(name)?;
                    let texts = all.providers.entry(name.to_owned()).or_default();
                    add(texts, SecretBytes::new(text.into()));
                }
                Written::Bare(path) => {
                    let bytes = file::read_secret_or_pipe(path, MAX_FILE)?;
                    if openpgp::is_one(bytes.expose()) {
                        add(&mut all.openpgp, openpgp_key(path, bytes.expose())?);
                        continue;
                    }
                    let (key, asked) = public_key_of(path, bytes.expose(), &policy, hsm)?;
                    match (&key, asked.in_token) {
                        (PublicKey::Rsa(_), true) => add(&mut all.packet, key),
                        // Whoever has the private key can open it, wherever that is.
                        _ => {
                            let wrapping = asked.hash.or(hash).unwrap_or(OaepHash::Sha1);
                            add(&mut all.jwe, (key, wrapping));
                        }
                    }
                }
            }
        }
        all.hash = hash;
        Ok(all)
    }

    /// The same, with the hash that a variable names where none was given.
    ///
    /// # Errors
    /// As [`Recipients::read`]; [`Error::InvalidVariable`] for the hash.
    pub(super) fn find(given: &[String], hash: Option<OaepHash>, hsm: &HsmArgs) -> Result<Self> {
        Self::read(given, chosen_hash(hash)?, hsm)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.packet.len()
            + self.jwe.len()
            + self.certificates.len()
            + self.openpgp.len()
            + self.providers.len()
    }

    /// Adds a wrapped key for each: of a packet, a JWE, a PKCS#7 and an OpenPGP message one for all that it is for, as
    /// the reference does.
    ///
    /// # Errors
    /// What kept one from being made.
    pub(super) fn add_to(
        &self,
        mut envelope: Envelope,
        private: &PrivateOptions,
    ) -> Result<Envelope> {
        if !self.packet.is_empty() {
            envelope.push(Scheme::pkcs11(), &self.packet(private)?);
        }
        let options = private.to_json();
        if !self.jwe.is_empty() {
            let keys: Vec<_> = (self.jwe.iter())
                .map(|(key, hash)| wrap_for(key, *hash))
                .collect();
            let sealed = jwe::seal(options.expose(), &keys).map_err(crate::schemes::Error::from)?;
            envelope.push(Scheme::named("jwe"), &sealed);
        }
        if !self.certificates.is_empty() {
            let sealed = pkcs7::seal(options.expose(), &self.certificates)
                .map_err(crate::schemes::Error::from)?;
            envelope.push(Scheme::named("pkcs7"), &sealed);
        }
        if !self.openpgp.is_empty() {
            let sealed =
                pgp::seal(options.expose(), &self.openpgp).map_err(crate::schemes::Error::from)?;
            envelope.push(Scheme::named("pgp"), &sealed);
        }
        for (name, texts) in &self.providers {
            let wrapped = (self.known).wrap(name, texts, &options, provider::PATIENCE)?;
            envelope.push(Scheme::named(&format!("provider.{name}")), &wrapped);
        }
        Ok(envelope)
    }

    /// The envelope of a layer that was just encrypted.
    ///
    /// # Errors
    /// As [`Recipients::add_to`].
    pub(super) fn envelope(&self, sealed: &Sealed) -> Result<Envelope> {
        let envelope = Envelope::new(sealed.public_options.clone());
        self.add_to(envelope, &sealed.private_options)
    }

    /// The one wrapped key for all of them that a key provider answers with: a PKCS#11 packet where that takes every
    /// recipient, else a JWE.
    ///
    /// # Errors
    /// [`Error::RecipientOfProvider`] for a certificate, an OpenPGP key or another provider; what kept it from being made.
    pub(super) fn wrap_alone(&self, private: &PrivateOptions) -> Result<Vec<u8>> {
        let other = |text: &str| Error::RecipientOfProvider {
            text: text.to_owned(),
        };
        if let Some(name) = self.providers.keys().next() {
            let name: String = name.chars().take(40).collect();
            return Err(other(&format!("provider:{name}")));
        }
        if !self.certificates.is_empty() {
            return Err(other("pkcs7:"));
        }
        if !self.openpgp.is_empty() {
            return Err(other("pgp:"));
        }
        if self.jwe.is_empty() {
            return self.packet(private);
        }
        let packet = self.packet.iter().map(|key| (key, OaepHash::Sha1));
        let keys: Vec<_> = packet
            .chain(self.jwe.iter().map(|(key, hash)| (key, *hash)))
            .map(|(key, hash)| wrap_for(key, hash))
            .collect();
        Ok(jwe::seal(private.to_json().expose(), &keys).map_err(crate::schemes::Error::from)?)
    }

    fn packet(&self, private: &PrivateOptions) -> Result<Vec<u8>> {
        let hash = self.hash.unwrap_or(OaepHash::Sha256);
        let wrapped: Vec<_> = (self.packet.iter())
            .map(|key| key.wrap(hash, private))
            .collect::<keys::Result<_>>()?;
        Ok(pkcs11::to_json(&wrapped))
    }
}

/// Each of the layers, with its private options; the keys come with the PIN for those that have none. `recipients` says
/// how many a layer will have that has so many; `verify` looks at the layer itself, where more than one wrapped key might
/// be meant.
///
/// # Errors
/// [`Error::TooLarge`] for too many recipients; whatever keeps a layer from being opened.
pub(super) fn open(
    hsm: &HsmArgs,
    (keys, pin): (&[PathBuf], &PinArgs),
    layers: &Layers,
    recipients: impl Fn(usize) -> usize,
    verify: impl Fn(&Descriptor, &Parameters) -> Result<()>,
) -> Result<Vec<(Locked, PrivateOptions)>> {
    if layers.is_empty() {
        return Ok(Vec::new());
    }
    let mut locked = Vec::new();
    for layer in layers.descriptors() {
        let layer = Locked::new(layer)?;
        if recipients(layer.wrapped.keys.len()) > MAX_RECIPIENTS {
            return Err(too_many());
        }
        locked.push(layer);
    }
    let keys = unwrapping::keys(image_args::key_files(keys)?, pin)?;
    let opened = unwrapping::unwrap(hsm, keys, &locked, verify)?;
    Ok(locked.into_iter().zip(opened).collect())
}

fn wrap_for(key: &PublicKey, hash: OaepHash) -> WrapFor<'_> {
    match key {
        PublicKey::Rsa(key) => WrapFor::Rsa(key, hash),
        PublicKey::Ec(key) => WrapFor::Ec(key),
    }
}

/// What a file asks of whoever wraps for its key.
#[derive(Default)]
struct Asked {
    /// By its `alg`, if it is a JWK.
    hash: Option<OaepHash>,
    /// Whether the private key is in a token.
    in_token: bool,
}

/// The public key in a file; or in the token, if it is a key file.
fn public_key(path: &Path, policy: &Policy, hsm: &HsmArgs) -> Result<(PublicKey, Asked)> {
    let bytes = file::read_secret_or_pipe(path, MAX_FILE)?;
    public_key_of(path, bytes.expose(), policy, hsm)
}

/// The same, of a file that was read.
fn public_key_of(
    path: &Path,
    bytes: &[u8],
    policy: &Policy,
    hsm: &HsmArgs,
) -> Result<(PublicKey, Asked)> {
    let name = path.display().to_string();
    match Recipient::parse(&name, bytes)? {
        Recipient::InToken(key) => {
            let key = hsm::public_key(&hsm.settings(), &policy.resolve(*key)?)?;
            let in_token = true;
            Ok((
                key,
                Asked {
                    hash: None,
                    in_token,
                },
            ))
        }
        Recipient::Key(key) => {
            let jwk = Jwk::parse(&name, bytes).ok();
            let hash = jwk.and_then(|jwk| match jwk.algorithm.as_deref() {
                Some("RSA-OAEP-256") => Some(OaepHash::Sha256),
                Some("RSA-OAEP") => Some(OaepHash::Sha1),
                _ => None,
            });
            let in_token = false;
            Ok((key, Asked { hash, in_token }))
        }
    }
}

fn openpgp_key(path: &Path, bytes: &[u8]) -> Result<OpenPgpPublicKey> {
    Ok(OpenPgpPublicKey::parse(&path.display().to_string(), bytes)?)
}

fn add<T: PartialEq>(list: &mut Vec<T>, one: T) {
    if !list.contains(&one) {
        list.push(one);
    }
}

/// The hash that was asked for; without any, each scheme takes its own.
fn chosen_hash(given: Option<OaepHash>) -> Result<Option<OaepHash>> {
    match (given, settings::variable(OAEP_HASH)) {
        (Some(hash), _) => Ok(Some(hash)),
        (None, Some(name)) if !name.is_empty() => name
            .to_str()
            .and_then(OaepHash::parse)
            .map(Some)
            .ok_or_else(|| {
                settings::Error::InvalidVariable {
                    name: OAEP_HASH,
                    expected: "sha256 or sha1",
                }
                .into()
            }),
        _ => Ok(None),
    }
}

/// Parses the value of `--oaep-hash`.
pub(super) fn oaep_hash(name: &str) -> Result<OaepHash, &'static str> {
    OaepHash::parse(name).ok_or("expected sha256 or sha1")
}

/// That a layer would have more recipients than a reader tries.
fn too_many() -> Error {
    Error::TooLarge {
        what: "number of recipients of a layer",
        limit: MAX_RECIPIENTS as u64,
    }
}
