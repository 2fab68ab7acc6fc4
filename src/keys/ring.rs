//! All keys at hand: those of the node's directories, then those that came with a payload, each with its module.
//!
//! The cheapest first: a key from a file answers at once, a token after a login.
//!
//! What is no key, or whose module cannot be loaded, is kept with the reason: it matters only if nothing else
//! opens the layer.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::TokenKey;
use super::certificate::Certificate;
use super::client;
use super::error::{Error, Result};
use super::key_dir::{COPY, KeyDir};
use super::key_file::KeyFile;
use super::policy::{ClientPolicy, Policy};
use super::private::{self, PrivateKey};
use super::shown;
use crate::secret::{Pin, SecretBytes};

/// How long the passwords of a payload may take, after which no further one is tried.
const UNLOCKING: Duration = Duration::from_secs(20);

/// A private key, wherever it is.
#[derive(Clone, Debug)]
pub enum Key {
    /// In a file.
    File(PrivateKey),
    /// In a token.
    Token(Box<TokenKey>),
}

impl Key {
    /// What messages call it: the file that it is in, or that describes it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::File(key) => key.name(),
            Self::Token(key) => &key.file.name,
        }
    }

    /// What a record calls it: the URI without its query, for a key in a token.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::File(key) => key.name().to_owned(),
            Self::Token(key) => key.file.uri.to_string(),
        }
    }

    /// The key in a token, if it is one.
    #[must_use]
    pub fn token(&self) -> Option<&TokenKey> {
        match self {
            Self::File(_) => None,
            Self::Token(key) => Some(key),
        }
    }
}

/// Keys in the order in which they are tried.
#[derive(Debug, Default)]
pub struct KeyRing {
    searched: Vec<PathBuf>,
    keys: Vec<Key>,
    /// How many of them are in files; these stand first.
    in_files: usize,
    certificates: Vec<Certificate>,
    certificate_files: Vec<PathBuf>,
    unusable: Vec<Error>,
    skipped: Vec<Error>,
}

impl KeyRing {
    /// Reads every key under `paths`.
    ///
    /// # Errors
    /// What is wrong with a path. A single key that cannot be used is skipped.
    pub fn read(paths: &[PathBuf], policy: &Policy) -> Result<Self> {
        let mut ring = Self {
            searched: paths.iter().map(|path| shown(path)).collect(),
            ..Self::default()
        };
        for path in paths {
            let found = KeyDir::read(path)?;
            for copy in found.skipped.iter().filter(|skipped| skipped.is_copy()) {
                tracing::warn!("passed over {}: {COPY}", copy.path.display());
            }
            ring.skipped
                .extend(found.skipped.into_iter().map(|skipped| skipped.why));
            ring.certificates.extend(found.certificates);
            ring.certificate_files.extend(found.certificate_files);
            for key in found.private_keys {
                ring.add_private(key);
            }
            for key in found.keys {
                ring.add(key, policy);
            }
        }
        Ok(ring)
    }

    /// Adds the key files that a client sent, with the policies that it sent.
    ///
    /// # Errors
    /// What is wrong with a policy. A single key that cannot be used is skipped.
    pub fn add_payload(
        &mut self,
        keys: &[SecretBytes],
        policies: &[SecretBytes],
        policy: &Policy,
    ) -> Result<()> {
        let mut policy = policy.clone();
        for client in policies {
            let client = ClientPolicy::parse("the payload's module policy", client.expose())?;
            policy = policy.for_client(&client);
        }
        for (number, text) in keys.iter().enumerate() {
            match KeyFile::parse(format!("key {} of the payload", number + 1), text.expose()) {
                Ok(key) => match client::refused(&key.env) {
                    None => self.add(key, &policy),
                    Some(variable) => {
                        let variable = variable.to_owned();
                        let name = key.name;
                        self.unusable.push(Error::ClientVariable { name, variable });
                    }
                },
                Err(error) => self.skipped.push(error),
            }
        }
        Ok(())
    }

    /// Adds the private keys that a client sent, each with its password, if it has one: an empty one is none. `what` is
    /// what messages call them.
    pub fn add_private_keys(
        &mut self,
        what: &str,
        keys: &[SecretBytes],
        passwords: &[SecretBytes],
    ) {
        self.add_private_within(UNLOCKING, what, keys, passwords);
    }

    fn add_private_within(
        &mut self,
        time: Duration,
        what: &str,
        keys: &[SecretBytes],
        passwords: &[SecretBytes],
    ) {
        let begin = Instant::now();
        for (number, bytes) in keys.iter().enumerate() {
            let name = format!("{what} {} of the payload", number + 1);
            let password = passwords.get(number);
            let password = password.filter(|text| !text.expose().is_empty());
            if password.is_some() && begin.elapsed() >= time {
                let error = private::Error::TooCostly;
                self.unusable.push(Error::PrivateKey { name, error });
                continue;
            }
            match PrivateKey::parse(&name, bytes.expose(), password) {
                Ok(key) => self.add_private(key),
                Err(private::Error::NotAPrivateKey) => self.skipped.push(Error::NotAKeyFile {
                    name,
                    what: "it holds no private key",
                }),
                Err(error) => self.unusable.push(Error::PrivateKey { name, error }),
            }
        }
    }

    /// Gives a PIN to the keys whose files say nothing of one; `place` is what messages call where it is from.
    ///
    /// # Errors
    /// The URIs of their tokens, when these may be several: a PIN is for one, and tried on another it costs a try.
    pub fn give_pin(&mut self, pin: &Pin, place: &str) -> std::result::Result<(), Vec<String>> {
        let without = |key: &Key| key.token().is_some_and(|key| key.file.lacks_pin());
        let mut tokens: Vec<(&Path, String)> = Vec::new();
        let lacking = self.keys.iter().filter(|key| without(key));
        for key in lacking.filter_map(Key::token) {
            let uri = key.file.uri.clone().token_alone().to_string();
            let token = (key.module.as_path(), uri);
            if !tokens.contains(&token) {
                tokens.push(token);
            }
        }
        if tokens.len() > 1 {
            return Err(tokens.into_iter().map(|(_, uri)| uri).collect());
        }
        for key in &mut self.keys {
            if let Key::Token(key) = key {
                key.file.give_pin(pin, place);
            }
        }
        Ok(())
    }

    /// Adds the certificates that a client sent.
    pub fn add_certificates(&mut self, sent: &[SecretBytes]) {
        for (number, bytes) in sent.iter().enumerate() {
            match Certificate::all(bytes.expose()) {
                none if none.is_empty() => self.skipped.push(Error::NotAKeyFile {
                    name: format!("certificate {} of the payload", number + 1),
                    what: "it holds no certificate",
                }),
                certificates => self.certificates.extend(certificates),
            }
        }
    }

    /// The certificates at hand, which tell what is wrapped for their owners.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Whether nothing came that is or was meant to be a key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.skipped().next().is_none()
    }

    fn add(&mut self, key: KeyFile, policy: &Policy) {
        match policy.resolve(key) {
            Ok(key) => self.insert(key),
            Err(error) => self.unusable.push(error),
        }
    }

    /// A key that is here already is not tried again. With another PIN it comes before the other if its file is the newer
    /// one: the other most likely is a copy from before the PIN was changed.
    fn insert(&mut self, key: TokenKey) {
        let same = |other: &Key| {
            other
                .token()
                .filter(|other| other.is_same_key(&key))
                .cloned()
        };
        if self
            .keys
            .iter()
            .filter_map(same)
            .any(|other| other.has_same_pin(&key))
        {
            return;
        }
        let changed = changed(&key);
        let older = |other: &Key| same(other).is_some_and(|other| self::changed(&other) < changed);
        let at = self.keys.iter().position(older);
        self.keys
            .insert(at.unwrap_or(self.keys.len()), Key::Token(Box::new(key)));
    }

    fn add_private(&mut self, key: PrivateKey) {
        self.keys.insert(self.in_files, Key::File(key));
        self.in_files += 1;
    }

    /// Keeps only some of the keys.
    pub fn retain(&mut self, keep: impl FnMut(&Key) -> bool) {
        self.keys.retain(keep);
        let in_files = self.keys.iter().take_while(|key| key.token().is_none());
        self.in_files = in_files.count();
    }

    /// Where keys were looked for.
    #[must_use]
    pub fn searched(&self) -> &[PathBuf] {
        &self.searched
    }

    /// The files that hold certificates and nothing else.
    #[must_use]
    pub fn certificate_files(&self) -> &[PathBuf] {
        &self.certificate_files
    }

    /// The usable keys.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Files that are no keys or have a mistake in them, and keys without a module: each with the reason.
    pub fn skipped(&self) -> impl Iterator<Item = &Error> {
        self.unusable.iter().chain(&self.skipped)
    }

    /// If there is no usable key, the reason of the one key that could have been it; `None` if there are others.
    pub fn only_reason(&mut self) -> Option<Error> {
        match self.unusable.len() {
            1 if self.keys.is_empty() => self.unusable.pop(),
            _ => None,
        }
    }
}

/// When a key's file was last written; `None`, and before all others, where it is no file.
fn changed(key: &TokenKey) -> Option<SystemTime> {
    fs::metadata(&key.file.name).ok()?.modified().ok()
}

#[cfg(test)]
mod tests;
