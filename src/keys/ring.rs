//! All keys at hand: those of the node's directories, then those that came with a payload, each with its module.
//!
//! The cheapest first: a key from a file answers at once, a token after a login.
//!
//! What is no key, or whose module cannot be loaded, is kept with the reason: it matters only if nothing else
//! opens the layer.

use std::path::PathBuf;

use super::TokenKey;
use super::key_dir::KeyDir;
use super::key_file::KeyFile;
use super::policy::{ClientPolicy, Policy};
use super::private::{self, PrivateKey};
use crate::error::{Error, Result};
use crate::secret::SecretBytes;

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
            searched: paths.to_vec(),
            ..Self::default()
        };
        for path in paths {
            let found = KeyDir::read(path)?;
            ring.skipped
                .extend(found.skipped.into_iter().map(|skipped| skipped.why));
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
                Ok(key) => self.add(key, &policy),
                Err(error) => self.skipped.push(error),
            }
        }
        Ok(())
    }

    /// Adds the private keys that a client sent, each with its password, if it has one.
    pub fn add_private_keys<'a>(
        &mut self,
        keys: impl Iterator<Item = (&'a SecretBytes, Option<&'a SecretBytes>)>,
    ) {
        for (number, (bytes, password)) in keys.enumerate() {
            let name = format!("private key {} of the payload", number + 1);
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

    /// Notes OpenPGP keys that a client sent.
    pub fn skip_openpgp_keys(&mut self, count: usize) {
        self.skipped
            .extend((0..count.min(1)).map(|_| Error::NotAKeyFile {
                name: "key of the payload".to_owned(),
                what: "it is for OpenPGP, which this program does not read",
            }));
    }

    /// Whether nothing came that is or was meant to be a key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.skipped().next().is_none()
    }

    fn add(&mut self, key: KeyFile, policy: &Policy) {
        match policy.resolve(key) {
            Ok(key) => self.keys.push(Key::Token(Box::new(key))),
            Err(error) => self.unusable.push(error),
        }
    }

    fn add_private(&mut self, key: PrivateKey) {
        self.keys.insert(self.in_files, Key::File(key));
        self.in_files += 1;
    }

    /// Where keys were looked for.
    #[must_use]
    pub fn searched(&self) -> &[PathBuf] {
        &self.searched
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
