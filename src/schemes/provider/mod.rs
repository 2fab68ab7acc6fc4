//! Key providers: programs and services that wrap and unwrap private options in a way of their own (`provider.NAME`).
//!
//! The one scheme without an operation of ours: a provider is asked whole, by the key-provider protocol of `ocicrypt`.
//! A provider gets the parameters that are meant for it, never the keys and the passwords of others.

mod command;
mod config;
mod error;
mod grpc;
pub mod protocol;
mod words;

use std::time::Duration;

pub use self::config::{Provider, Providers};
pub use self::error::Error;
pub use self::grpc::{Address, Tls};
use self::protocol::{Answer, Request};
use crate::escape::escaped;
use crate::secret::SecretBytes;

/// What stands for a text where none was given, as the reference has it.
pub const ENABLED: &str = "Enabled";

/// Names of parameters that are no provider's: those of other schemes.
const RESERVED: [&str; 13] = [
    "gpg-client",
    "gpg-client-version",
    "gpg-privatekeys",
    "gpg-privatekeys-passwords",
    "gpg-pubkeyringfile",
    "gpg-recipients",
    "pkcs11-config",
    "pkcs11-pubkeys",
    "pkcs11-yamls",
    "privkeys",
    "privkeys-passwords",
    "pubkeys",
    "x509s",
];

/// Whether a parameter of this name may be meant for a key provider.
#[must_use]
pub fn may_be(name: &str) -> bool {
    !RESERVED.contains(&name)
}

/// A provider's name and the text for it, from what stands behind `provider:`.
#[must_use]
pub fn name_and_text(written: &str) -> (&str, &str) {
    match written.split_once(':') {
        Some((name, text)) if !name.is_empty() => (name, text),
        _ => (written, ENABLED),
    }
}

/// How long a provider may take, where nothing else is said.
pub const PATIENCE: Duration = Duration::from_secs(30);

impl Providers {
    /// Has a provider open what it wrapped. `parameters` are the texts that came for it.
    ///
    /// # Errors
    /// [`Error::Unknown`], and whatever the provider does wrong.
    pub fn unwrap(
        &self,
        name: &str,
        annotation: &[u8],
        parameters: &[SecretBytes],
        patience: Duration,
    ) -> Result<SecretBytes, Error> {
        let request = Request::unwrap(name, annotation, parameters);
        match self.ask(name, &request, patience)? {
            Answer::Unwrapped(options) => Ok(options),
            Answer::Wrapped(_) => Err(Error::NoAnswer {
                name: name.to_owned(),
            }),
        }
    }

    /// Has a provider wrap private options. `texts` are what stood behind `provider:NAME:`.
    ///
    /// # Errors
    /// As [`Providers::unwrap`].
    pub fn wrap(
        &self,
        name: &str,
        texts: &[SecretBytes],
        options: &SecretBytes,
        patience: Duration,
    ) -> Result<Vec<u8>, Error> {
        let request = Request::wrap(name, texts, options);
        match self.ask(name, &request, patience)? {
            Answer::Wrapped(annotation) => Ok(annotation),
            Answer::Unwrapped(_) => Err(Error::NoAnswer {
                name: name.to_owned(),
            }),
        }
    }

    fn ask(&self, name: &str, request: &Request, patience: Duration) -> Result<Answer, Error> {
        let output = match self.get(name)? {
            Provider::Command { path, args } => {
                command::ask(name, path, args, &request.to_json(), patience)?
            }
            Provider::Grpc { address, tls } => {
                let (request, is_wrap) = (request.to_json(), request.is_wrap());
                grpc::ask(name, address, tls.as_ref(), &request, is_wrap, patience)?
            }
            Provider::Unusable { what } => {
                return Err(Error::Unusable {
                    name: escaped(name),
                    what,
                });
            }
        };
        Answer::parse(&output).ok_or_else(|| Error::NoAnswer {
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
