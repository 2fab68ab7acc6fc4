//! Layers and keys at once: for each envelope, the first recipient that one of the keys opens.
//!
//! A thin layer over [`Client`], for commands that do not use that yet. It goes when the last of them does.

use std::fmt;

use super::HsmSettings;
use super::client::Client;
use super::error::Error;
use super::refusal::{Answer, How, Refusal as Refused};
use crate::keys::TokenKey;
use crate::keys::packet::{OaepHash, Recipient};
use crate::operation::{KeyKind, KeyOperation};
use crate::secret::SecretBytes;

/// What came of one envelope.
#[derive(Debug)]
pub enum Outcome {
    /// A key opened it.
    Opened(Opened),
    /// None did; a reason for each key, in the order of the keys.
    Refused(Vec<Refusal>),
}

/// A wrapped key, opened.
#[derive(Debug)]
pub struct Opened {
    /// The private options, JSON.
    pub private_options: SecretBytes,
    /// Which of the keys opened it.
    pub key: usize,
    /// Which of the envelope's recipients it was.
    pub recipient: usize,
    /// Its OAEP hash.
    pub hash: OaepHash,
    /// Who took the padding off.
    pub how: How,
}

/// Why one key did not open one envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which of the keys.
    pub key: usize,
    /// Its name.
    pub name: String,
    /// The reason.
    pub why: Why,
}

/// The reason for which a key did not open an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// No wrapped key is as long as its modulus, which has this many bits.
    WrongLength(usize),
    /// The wrapped keys of its length are for others, or broken.
    DoesNotFit,
    /// The same, or the device failed: what it said of the last of them.
    DoesNotFitOrFailed(String),
    /// The token does not do what the wrapped keys of its length need.
    Unable(String),
    /// It could not be tried, for instance since its token is absent.
    Unavailable(Unavailable),
}

/// Why a key could not be tried, as often as it has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// The error's message.
    pub message: String,
    /// The error's hint.
    pub hint: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, why, .. } = self;
        match why {
            Why::WrongLength(bits) => {
                write!(
                    f,
                    "{name}: no wrapped key has the length of this RSA-{bits} key"
                )
            }
            Why::DoesNotFit => write!(f, "{name}: the wrapped keys are for other keys"),
            Why::DoesNotFitOrFailed(said) => write!(
                f,
                "{name}: the wrapped keys are for other keys, or the device failed ({said})"
            ),
            Why::Unable(said) => write!(f, "{name}: {said}"),
            Why::Unavailable(Unavailable { message, .. }) => write!(f, "{name}: {message}"),
        }
    }
}

/// For each envelope, the PKCS#11 recipients of one layer, the first recipient that one of the keys opens.
///
/// A key that is absent, barred or does not fit is refused, and the next one is tried; so it is where a module does not
/// load, crashes or hangs, since a node with two HSMs must survive the loss of one.
///
/// # Errors
/// When nothing was opened: what is wrong with a PIN, else with a module or a device.
pub fn unwrap(
    settings: &HsmSettings,
    keys: &[TokenKey],
    envelopes: &[Vec<Recipient>],
) -> Result<Vec<Outcome>, Error> {
    let mut attempt = Attempt {
        client: Client::new(settings.clone()),
        keys,
        envelopes,
        opened: envelopes.iter().map(|_| None).collect(),
        states: keys.iter().map(|_| State::Untried).collect(),
    };
    attempt.client.expect(keys.len());
    // What is not there just now is waited for only when no other key serves.
    for _ in 0..keys.len().min(2) {
        attempt.round();
    }
    attempt.finish()
}

struct Attempt<'a> {
    client: Client,
    keys: &'a [TokenKey],
    envelopes: &'a [Vec<Recipient>],
    opened: Vec<Option<Opened>>,
    states: Vec<State>,
}

/// What is known of one key.
enum State {
    Untried,
    /// What it is, and what it said of each envelope.
    Tried(KeyKind, Vec<Vec<Refused>>),
    Failed(Error),
}

impl Attempt<'_> {
    fn round(&mut self) {
        for number in 0..self.keys.len() {
            let open = match &self.states[number] {
                State::Untried => true,
                State::Tried(..) => false,
                State::Failed(error) => error.may_pass(),
            };
            if open && self.opened.iter().any(Option::is_none) {
                self.states[number] = match self.try_key(number) {
                    Ok((kind, refused)) => State::Tried(kind, refused),
                    Err(error) => State::Failed(error),
                };
            }
        }
    }

    fn try_key(&mut self, number: usize) -> Result<(KeyKind, Vec<Vec<Refused>>), Error> {
        let key = &self.keys[number];
        let kind = self.client.kind(key)?;
        let mut refused: Vec<Vec<Refused>> = self.envelopes.iter().map(|_| Vec::new()).collect();
        for (at, recipients) in self.envelopes.iter().enumerate() {
            for (recipient, Recipient { hash, blob }) in recipients.iter().enumerate() {
                if self.opened[at].is_some() {
                    break;
                }
                let operation = KeyOperation::RsaOaep {
                    hash: *hash,
                    ciphertext: blob.clone(),
                };
                if !operation.suits(kind) {
                    continue;
                }
                match self.client.answer(key, &operation)? {
                    Answer::Opened(private_options, how) => {
                        self.opened[at] = Some(Opened {
                            private_options,
                            key: number,
                            recipient,
                            hash: *hash,
                            how,
                        });
                    }
                    Answer::Refused(Refused::Unsuited) => {}
                    Answer::Refused(why) => refused[at].push(why),
                }
            }
        }
        Ok((kind, refused))
    }

    fn finish(mut self) -> Result<Vec<Outcome>, Error> {
        if self.opened.iter().all(Option::is_none)
            && let Some((key, error)) = self.worst()
        {
            return Err(error.clone().in_key_file(&self.keys[key].file.name));
        }
        let opened = std::mem::take(&mut self.opened);
        let outcomes = opened.into_iter().enumerate().map(|(at, opened)| {
            opened.map_or_else(|| Outcome::Refused(self.refusals(at)), Outcome::Opened)
        });
        Ok(outcomes.collect())
    }

    /// What is more than a key that is not there: a PIN's trouble first, since it costs tries.
    fn worst(&self) -> Option<(usize, &Error)> {
        let errors = || {
            (self.states.iter().enumerate()).filter_map(|(key, state)| match state {
                State::Failed(error) if !is_absence(error) => Some((key, error)),
                _ => None,
            })
        };
        errors()
            .find(|(_, error)| error.is_about_pin())
            .or_else(|| errors().next())
    }

    fn refusals(&self, envelope: usize) -> Vec<Refusal> {
        let refusals = self.states.iter().enumerate().filter_map(|(key, state)| {
            let why = match state {
                State::Untried => return None,
                State::Tried(kind, refused) => why(*kind, &refused[envelope]),
                State::Failed(error) => Why::Unavailable(Unavailable {
                    message: error.to_string(),
                    hint: error.hint(),
                }),
            };
            let name = self.keys[key].file.name.clone();
            Some(Refusal { key, name, why })
        });
        refusals.collect()
    }
}

/// Whether it is only this key that does not serve: no error, while there are others.
fn is_absence(error: &Error) -> bool {
    matches!(
        error,
        Error::TokenNotFound { .. } | Error::KeyNotFound { .. } | Error::PinMissing { .. }
    )
}

/// What a key said of the wrapped keys of its length, in one sentence. That the device may have failed only where it said
/// so of each.
fn why(kind: KeyKind, refused: &[Refused]) -> Why {
    let unable = refused
        .iter()
        .find(|why| matches!(why, Refused::Unable { .. }));
    match (unable, refused.last()) {
        (Some(unable), _) => Why::Unable(unable.to_string()),
        (None, Some(Refused::NotMineOrFailed { said }))
            if refused.iter().all(Refused::may_be_the_device) =>
        {
            Why::DoesNotFitOrFailed(said.clone())
        }
        (None, Some(_)) => Why::DoesNotFit,
        (None, None) => match kind {
            KeyKind::Rsa {
                modulus_len: Some(length),
            } => Why::WrongLength(length * 8),
            _ => Why::DoesNotFit,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_key_and_says_why() {
        let mut refusal = Refusal {
            key: 0,
            name: "/keys/a.yaml".to_owned(),
            why: Why::WrongLength(2048),
        };
        assert!(refusal.to_string().contains("/keys/a.yaml: "));
        assert!(refusal.to_string().contains("RSA-2048"));
        refusal.why = Why::DoesNotFit;
        assert!(refusal.to_string().contains("other keys"));
    }

    #[test]
    fn a_device_that_refused_one_thing_properly_did_not_fail() {
        let kind = KeyKind::Rsa {
            modulus_len: Some(256),
        };
        let failed = Refused::NotMineOrFailed {
            said: "C_Decrypt: CKR_GENERAL_ERROR".to_owned(),
        };
        let both = [failed.clone(), Refused::NotMine, failed.clone()];
        assert_eq!(why(kind, &both), Why::DoesNotFit);
        assert!(matches!(
            why(kind, &[failed.clone(), failed]),
            Why::DoesNotFitOrFailed(_)
        ));
        assert_eq!(why(kind, &[]), Why::WrongLength(2048));
    }
}
