//! Wrapped keys that only a key provider of this node opens: it is asked whole.

use super::refusals::Reason;
use super::tally::Tally;
use super::{Opener, Rejected, Unwrapped, layer_error};
use crate::cipher::Parameters;
use crate::commands::{Error, Result};
use crate::descriptor::Digest;
use crate::envelope::Scheme;
use crate::escape::escaped;
use crate::options::{PrivateOptions, PublicOptions};
use crate::schemes::provider::{self, Providers};

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
        let providers = match &self.providers {
            Some(path) => Providers::read(path),
            None => Ok(Providers::default()),
        };
        let providers = match providers {
            Ok(providers) => providers,
            Err(error) => {
                tally.unreadable.push(Reason::new(&error, error.hint()));
                return Ok(None);
            }
        };
        for provided in std::mem::take(&mut tally.provided) {
            let name = &provided.name;
            let opened = providers.unwrap(name, &provided.annotation, &[], provider::PATIENCE);
            let private = match opened {
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
}
