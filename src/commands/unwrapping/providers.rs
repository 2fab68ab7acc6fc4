//! Wrapped keys that only a key provider of this node opens: it is asked whole.

use super::refusals::Reason;
use super::tally::Tally;
use super::{Locked, Opener, Rejected, Said, Unwrapped, layer_error};
use crate::cipher;
use crate::commands::{Error, Result};
use crate::descriptor::Digest;
use crate::envelope::Scheme;
use crate::escape::escaped;
use crate::options::{PrivateOptions, PublicOptions};
use crate::schemes::provider::{self, Providers};
use crate::secret::SecretBytes;

/// A wrapped key that only a key provider opens.
pub(super) struct Provided {
    pub(super) name: String,
    pub(super) annotation: Vec<u8>,
    pub(super) public_options: PublicOptions,
    pub(super) size: Option<u64>,
}

/// Most of these over all descriptions of a layer.
pub(super) const MAX_PROVIDED: usize = 16;

impl Opener {
    /// Has the key providers of this node open what they wrapped: last, since each is a program that is started.
    pub(super) fn ask_providers(
        &self,
        digest: Option<&Digest>,
        tally: &mut Tally,
        accept: &mut impl FnMut(&Unwrapped) -> Result<(), Rejected>,
    ) -> Result<Option<Unwrapped>> {
        if tally.provided.is_empty() {
            return Ok(None);
        }
        let providers = match self.providers() {
            Ok(providers) => providers,
            Err(error) => {
                tally.unreadable.push(Reason::new(&error, error.hint()));
                return Ok(None);
            }
        };
        for provided in std::mem::take(&mut tally.provided) {
            let name = &provided.name;
            let private = match self.ask_provider(&providers, name, &provided.annotation) {
                Ok(options) => PrivateOptions::parse(&options),
                Err(error) => {
                    let reason = Reason::new(&error, error.hint());
                    if !tally.unreadable.contains(&reason) {
                        tally.unreadable.push(reason);
                    }
                    continue;
                }
            };
            let unwrapped = private.map_err(Error::from).and_then(|private| {
                Ok(Unwrapped {
                    parameters: cipher::Parameters::new(&provided.public_options, &private)?,
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

    /// What the providers that `--key` named say to a layer's wrapped keys, without a look at the layer itself.
    pub(in crate::commands) fn try_providers(&self, layer: &Locked) -> Vec<(String, Said)> {
        let named = |(name, _): &&(String, Vec<u8>)| self.parameters.contains_key(name);
        let mut said = Vec::new();
        for (name, annotation) in layer.wrapped.provided.iter().filter(named) {
            let options = (self.providers())
                .and_then(|providers| self.ask_provider(&providers, name, annotation));
            let options = options.map_err(|error| Reason::new(&error, error.hint()));
            let private = options.and_then(|options| {
                let private = PrivateOptions::parse(&options).map_err(Error::from);
                let opened = private.and_then(|private| {
                    let public = &layer.envelope.public_options;
                    Ok(cipher::Parameters::new(public, &private)?)
                });
                opened.map_err(|error| Reason::new(&error, error.hint()))
            });
            let name = format!("provider {}", escaped(name));
            said.push((name, private.map_or_else(Said::Shut, |_| Said::Opens)));
        }
        said
    }

    fn providers(&self) -> Result<Providers, provider::Error> {
        match &self.providers {
            Some(path) => Providers::read(path),
            None => Ok(Providers::default()),
        }
    }

    /// Asks one, with the texts that are for it alone.
    fn ask_provider(
        &self,
        providers: &Providers,
        name: &str,
        annotation: &[u8],
    ) -> Result<SecretBytes, provider::Error> {
        let texts = self.parameters.get(name).map_or(&[][..], Vec::as_slice);
        providers.unwrap(name, annotation, texts, provider::PATIENCE)
    }
}
