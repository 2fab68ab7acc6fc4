//! An unwrapping as the parent sees it: which modules are asked, in which order, and what their answers come to.
//!
//! The rules are those of [`super::unwrap`]; what a module does with its keys is `unwrap.rs`, in its process.

use super::device::{Key, Patience};
use super::failure::Failure;
use super::lockout::Lockout;
use super::{
    HsmSettings, Opened, Outcome, Refusal, Unavailable, Why, in_child, place, read_pin, unwrap,
};
use crate::error::{Error, Result};
use crate::keys::TokenKey;
use crate::keys::packet::Recipient;

/// All keys on all envelopes.
pub(super) struct Attempt<'a> {
    settings: &'a HsmSettings,
    lockout: Lockout,
    keys: &'a [TokenKey],
    envelopes: &'a [Vec<Recipient>],
    opened: Vec<Option<Opened>>,
    states: Vec<State>,
}

/// What is known of one key.
enum State {
    Untried,
    /// The length of its modulus in bytes; what it can open is open.
    Tried(usize),
    /// It does not serve, and why. The token may be there a moment later.
    Refused {
        error: Error,
        again: bool,
    },
    /// Its module or device failed.
    Broken {
        error: Option<Error>,
        why: Unavailable,
        again: bool,
    },
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        settings: &'a HsmSettings,
        keys: &'a [TokenKey],
        envelopes: &'a [Vec<Recipient>],
    ) -> Self {
        Self {
            settings,
            lockout: settings.lockout(),
            keys,
            envelopes,
            opened: envelopes.iter().map(|_| None).collect(),
            states: keys.iter().map(|_| State::Untried).collect(),
        }
    }

    /// Asks the modules in turn.
    pub(super) fn run(mut self) -> Result<Vec<Outcome>> {
        let groups = self.groups();
        // With several modules, a token that is absent from one is waited for only when no other has the key.
        let rounds: &[_] = match groups.len() {
            1 => &[Patience::Some],
            _ => &[Patience::None, Patience::Some],
        };
        for &patience in rounds {
            for group in &groups {
                let members: Vec<usize> = (group.iter().copied())
                    .filter(|&key| self.states[key].is_open())
                    .collect();
                if self.opened.iter().any(Option::is_none) && !members.is_empty() {
                    self.ask(&members, patience)?;
                }
            }
        }
        self.finish()
    }

    /// Numbers of the keys that share a module and its environment.
    fn groups(&self) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (number, key) in self.keys.iter().enumerate() {
            let group = groups.iter_mut().find(|group| {
                group
                    .first()
                    .is_some_and(|&first| place(&self.keys[first]) == place(key))
            });
            match group {
                Some(group) => group.push(number),
                None => groups.push(vec![number]),
            }
        }
        groups
    }

    /// Asks the module of these keys.
    fn ask(&mut self, members: &[usize], patience: Patience) -> Result<()> {
        let module = &self.keys[members[0]];
        let mut pin_errors = Vec::new();
        let keys: Vec<Key<'_>> = members
            .iter()
            .map(|&number| {
                let (pin, error) = read_pin(&self.keys[number]);
                pin_errors.extend(error.map(|error| (number, error)));
                let file = &self.keys[number].file;
                Key { number, file, pin }
            })
            .collect();
        let wanted: Vec<bool> = self.opened.iter().map(Option::is_none).collect();
        let (settings, lockout, envelopes) = (self.settings, &self.lockout, self.envelopes);
        let answer = in_child(settings, lockout, place(module), |device| {
            unwrap::unwrap(device, patience, &keys, envelopes, &wanted)
        });
        let mut into_error = |failure: Failure| {
            failure.into_error(&module.module, |key| {
                let at = pin_errors.iter().position(|(number, _)| *number == key);
                pin_errors
                    .swap_remove(at.expect("the child reports errors of these keys only"))
                    .1
            })
        };
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(failure)) if failure.stops() => return Err(into_error(failure)),
            Ok(Err(failure)) => {
                let again = failure.is_transient();
                self.broken(members, into_error(failure), again);
                return Ok(());
            }
            Err(error @ Error::Threads { .. }) => return Err(error),
            Err(error) => {
                self.broken(members, error, false);
                return Ok(());
            }
        };
        for (&number, state) in members.iter().zip(answer.keys) {
            self.states[number] = match state {
                None => State::Untried,
                Some(Ok(modulus_len)) => State::Tried(modulus_len),
                Some(Err(failure)) => {
                    let (again, refusal) = (failure.is_transient(), failure.is_refusal());
                    let error = into_error(failure);
                    if refusal {
                        State::Refused { error, again }
                    } else {
                        State::broken(error, again)
                    }
                }
            };
        }
        for ((opened, blob), recipients) in self.opened.iter_mut().zip(answer.opened).zip(envelopes)
        {
            if let Some(blob) = blob
                && let Some(recipient) = recipients.get(blob.recipient)
            {
                *opened = Some(Opened {
                    private_options: blob.private_options,
                    key: blob.key,
                    recipient: blob.recipient,
                    hash: recipient.hash,
                    how: blob.how,
                });
            }
        }
        Ok(())
    }

    fn broken(&mut self, members: &[usize], error: Error, again: bool) {
        let why = Unavailable::from(&error);
        let mut error = Some(error);
        for &number in members {
            self.states[number] = State::Broken {
                error: error.take(),
                why: why.clone(),
                again,
            };
        }
    }

    fn finish(mut self) -> Result<Vec<Outcome>> {
        if self.opened.iter().all(Option::is_none) {
            let broken = self.states.iter_mut().find_map(|state| match state {
                State::Broken { error, .. } => error.take(),
                _ => None,
            });
            if let Some(error) = broken {
                return Err(error);
            }
        }
        let opened = std::mem::take(&mut self.opened);
        let outcomes = opened
            .into_iter()
            .zip(self.envelopes)
            .map(|(opened, recipients)| {
                opened.map_or_else(
                    || Outcome::Refused(self.refusals(recipients)),
                    Outcome::Opened,
                )
            });
        Ok(outcomes.collect())
    }

    fn refusals(&self, recipients: &[Recipient]) -> Vec<Refusal> {
        let refusals = self.states.iter().enumerate().filter_map(|(key, state)| {
            let why = match state {
                State::Untried => return None,
                State::Tried(length) if recipients.iter().any(|one| one.blob.len() == *length) => {
                    Why::DoesNotFit
                }
                State::Tried(0) => Why::DoesNotFit,
                State::Tried(length) => Why::WrongLength(length * 8),
                State::Refused { error, .. } => Why::Unavailable(error.into()),
                State::Broken { why, .. } => Why::Unavailable(why.clone()),
            };
            let name = self.keys[key].file.name.clone();
            Some(Refusal { key, name, why })
        });
        refusals.collect()
    }
}

impl State {
    fn broken(error: Error, again: bool) -> Self {
        Self::Broken {
            why: Unavailable::from(&error),
            error: Some(error),
            again,
        }
    }

    /// Whether the key may still open something.
    fn is_open(&self) -> bool {
        match self {
            Self::Untried => true,
            Self::Tried(_) => false,
            Self::Refused { again, .. } | Self::Broken { again, .. } => *again,
        }
    }
}
