//! One key and one wrapped key: whether they suit one another, and what comes of asking.

use std::time::Instant;

use super::queue::Entry;
use super::refusals::{Cure, Reason};
use super::tally::Tally;
use super::{Description, Opener, Unwrapped};
use crate::cipher::Parameters;
use crate::commands::Result;
use crate::hsm::{self, Answer};
use crate::keys::ring::Key;
use crate::operation::{KeyKind, KeyOperation};
use crate::options::PrivateOptions;
use crate::schemes::{self, WrappedKey};
use crate::secret::SecretBytes;
use crate::software;

impl Opener {
    /// The next key and wrapped key that suit one another.
    pub(super) fn question(
        &mut self,
        entry: &mut Entry,
        tally: &mut Tally,
    ) -> Option<(usize, usize)> {
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
    pub(super) fn may_pass(&self) -> bool {
        let troubles = self.trouble.iter().zip(&self.waited_for);
        troubles
            .filter(|(_, waited_for)| !**waited_for)
            .any(|(trouble, _)| trouble.as_ref().is_some_and(hsm::Error::may_pass))
    }

    /// Lets a key be asked once more, if that may help: it is waited for then.
    pub(super) fn wait_for(&mut self, key: usize) -> bool {
        let may_pass = self.trouble[key].as_ref().is_some_and(hsm::Error::may_pass);
        if may_pass {
            self.trouble[key] = None;
            self.waited_for[key] = true;
        }
        may_pass
    }

    /// What a key is; `None` if it cannot be used.
    pub(super) fn kind(&mut self, key: usize) -> Option<KeyKind> {
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

    /// What a key makes of a wrapped key. What it answered to the same operation before is not asked for again: anybody
    /// can put other content beside the input of an operation.
    pub(super) fn ask(
        &mut self,
        key: usize,
        wrapped: &WrappedKey,
        tally: &mut Tally,
    ) -> Option<PrivateOptions> {
        let question = (key, tally.hash(&wrapped.operation));
        let begin = Instant::now();
        let secret = match tally.answers.get(&question) {
            Some(known) => known.clone(),
            None => {
                let answer = self.operate(key, wrapped, tally);
                self.asked_for += begin.elapsed();
                tally.answers.insert(question, answer.clone());
                answer
            }
        };
        let opened = match wrapped.private_options(secret.as_ref()?) {
            Ok(private) => Some(private),
            // Not this key's: what is not authentic may be for another one.
            Err(error @ (schemes::Error::NotOpened | schemes::Error::NotAuthentic)) => {
                tally.note(key, self.another_key(key, &error.to_string()), false);
                None
            }
            Err(error) => {
                tally.rejected = tally.rejected.take().or(Some(error.into()));
                None
            }
        };
        if opened.is_none() {
            tally.in_vain += begin.elapsed();
        }
        opened
    }

    /// Has one operation done.
    fn operate(
        &mut self,
        key: usize,
        wrapped: &WrappedKey,
        tally: &mut Tally,
    ) -> Option<SecretBytes> {
        let begin = Instant::now();
        let answer = match &self.ring.keys()[key] {
            Key::File(file) => Ok(software::answer(file, &wrapped.operation)
                .map_err(|why| (in_file(file.name(), why), false))),
            Key::Token(token) => match self.client.answer(token, &wrapped.operation) {
                Ok(Answer::Opened(secret, _)) => Ok(Ok(secret)),
                Ok(Answer::Refused(why)) => Ok(Err((
                    refusal(&token.file.name, &why),
                    why.may_be_the_device(),
                ))),
                Err(error) => Err(error),
            },
        };
        match answer {
            Ok(Ok(secret)) => return Some(secret),
            Ok(Err((why, may_be_the_device))) => tally.note(key, why, may_be_the_device),
            Err(error) => self.note(key, error),
        }
        tally.in_vain += begin.elapsed();
        None
    }

    pub(super) fn unwrapped(
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

    pub(super) fn note(&mut self, key: usize, error: hsm::Error) {
        self.trouble[key] = Some(error);
    }

    /// Says once what took a token or a module away from a layer that another key opened all the same. Where none opens
    /// it, the error says so.
    pub(super) fn warn(&mut self) {
        for key in 0..self.trouble.len() {
            if let Some(error) = &self.trouble[key]
                && (error.is_about_pin() || error.is_about_module())
                && !self.told[key]
                && !self.is_barred(key)
            {
                tracing::warn!(key = self.ring.keys()[key].name(), "{error}");
                self.told[key] = true;
            }
        }
    }

    pub(super) fn another_key(&self, key: usize, why: &str) -> Reason {
        another_key(self.ring.keys()[key].name(), why)
    }
}

/// What a token's refusal says of the key with this name.
pub(in crate::commands) fn refusal(name: &str, why: &hsm::Refusal) -> Reason {
    match why {
        hsm::Refusal::NotMineOrFailed { said } => another_key(
            name,
            &format!("the wrapped keys are for other keys, or the device failed ({said})"),
        ),
        hsm::Refusal::Unable { said } => Reason {
            text: format!("{name}: {said}"),
            cure: Cure::Unknown,
        },
        _ => another_key(name, "the wrapped keys are for other keys"),
    }
}

/// What a refusal says of a key in a file.
fn in_file(name: &str, why: software::Refusal) -> Reason {
    let mut reason = another_key(name, &why.to_string());
    if why == software::Refusal::WrongPassword {
        reason.cure = Cure::Unknown;
    }
    reason
}

fn another_key(name: &str, why: &str) -> Reason {
    Reason {
        text: format!("{name}: {why}"),
        cure: Cure::AnotherKey,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_the_device_may_have_failed_is_told_in_any_order() {
        let failed = hsm::Refusal::NotMineOrFailed {
            said: "C_Decrypt: CKR_GENERAL_ERROR".to_owned(),
        };
        let not_mine = hsm::Refusal::NotMine;
        for order in [[&failed, &not_mine], [&not_mine, &failed]] {
            let mut tally = Tally::new(1);
            for why in order {
                tally.note(0, refusal("a.yaml", why), why.may_be_the_device());
            }
            let said = &tally.said[0].as_ref().unwrap().text;
            assert!(said.contains("the device failed (C_Decrypt"), "{said}");
        }
        let mut tally = Tally::new(1);
        tally.note(0, refusal("a.yaml", &not_mine), false);
        assert!(!tally.said[0].as_ref().unwrap().text.contains("failed"));
    }
}
