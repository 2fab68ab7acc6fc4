//! All keys at hand: those of the node's directories, then those that came with a payload, each with its module.
//!
//! What is no key, or whose module cannot be loaded, is kept with the reason: it matters only if nothing else
//! opens the layer.

use std::path::PathBuf;

use super::TokenKey;
use super::client;
use super::key_dir::KeyDir;
use super::key_file::KeyFile;
use super::policy::{ClientPolicy, Policy};
use crate::error::{Error, Result};
use crate::secret::SecretBytes;

/// Keys in the order in which they are tried.
#[derive(Debug, Default)]
pub struct KeyRing {
    searched: Vec<PathBuf>,
    keys: Vec<TokenKey>,
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

    fn add(&mut self, key: KeyFile, policy: &Policy) {
        match policy.resolve(key) {
            Ok(key) => self.keys.push(key),
            Err(error) => self.unusable.push(error),
        }
    }

    /// Where keys were looked for.
    #[must_use]
    pub fn searched(&self) -> &[PathBuf] {
        &self.searched
    }

    /// The usable keys.
    #[must_use]
    pub fn keys(&self) -> &[TokenKey] {
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
