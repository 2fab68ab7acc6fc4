//! Tokens as their user sees them: one question about one key, one answer.
//!
//! A worker for each module and what it is started with; it stays for all questions, so a token sees one login however many
//! layers there are. One that hung or crashed is gone, and so is what it hung or crashed over: keys that may be on that
//! token get that error from then on. Keys on another one have a new worker.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::DeserializeOwned;

use super::child::{Child, Place};
use super::error::Error;
use super::listing::Token;
use super::protocol::{Answered, Components, KeyPin, Question, Request};
use super::refusal::Answer;
use super::token::may_be_one;
use super::worker::{Listed, Report};
use super::{HsmSettings, NewKey, Pair, Probe, surroundings};
use crate::keys::TokenKey;
use crate::keys::public::PublicKey;
use crate::keys::uri::Pkcs11Uri;
use crate::operation::{KeyKind, KeyOperation};

/// How long to wait for a token that is not there, or a device that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Not at all: another module may have the key.
    None,
    /// A few times, with growing pauses.
    Some,
}

/// The workers of the modules that were asked so far.
///
/// `HsmSettings::timeout` bounds the time that is spent on waiting for one answer.
#[derive(Debug)]
pub struct Client {
    settings: HsmSettings,
    workers: Vec<Worker>,
    /// Workers that were told to end.
    leaving: Vec<Child>,
    keys: Vec<KnownKey>,
    /// Whether several keys may serve, so that none is waited for at first.
    several: bool,
}

/// What a worker is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    module: PathBuf,
    env: BTreeMap<String, String>,
    init: Option<String>,
}

#[derive(Debug)]
struct Worker {
    origin: Origin,
    /// `None` after one that hung or crashed, and before the next.
    child: Option<Child>,
    /// What those before it hung or crashed over, and the error; without a URI it is about the module.
    lost: Vec<(Option<Pkcs11Uri>, Error)>,
}

/// A key that was asked about.
#[derive(Debug)]
struct KnownKey {
    origin: Origin,
    name: String,
    uri: String,
    kind: Option<KeyKind>,
}

impl Client {
    /// Nothing is started yet.
    #[must_use]
    pub fn new(settings: HsmSettings) -> Self {
        Self {
            settings,
            workers: Vec::new(),
            leaving: Vec::new(),
            keys: Vec::new(),
            several: false,
        }
    }

    /// Begins the workers of these keys' modules (a program is executed, and loads the module), so that their start hides
    /// behind what the caller does next. Never fails: failures come with the first question.
    ///
    /// A worker lives no longer than the thread that started it.
    pub fn start(&mut self, keys: &[&TokenKey]) {
        self.several |= keys.len() > 1;
        for key in keys {
            let _ = Worker::of(&mut self.workers, key).child(&key.file.uri, &self.settings);
        }
    }

    /// Finds the key in its token, with a login where that is needed. What was found is kept.
    ///
    /// Where [`start`](Self::start) was told several keys, a token that is not there or a device that fails is not waited
    /// for when it is asked for the first time: another key may serve. The error [says](Error::may_pass) so, and asked
    /// again, the key is waited for.
    ///
    /// # Errors
    /// This key's alone. PIN trouble bars its token: later questions that need a login there are answered with the same
    /// error, without a try.
    pub fn kind(&mut self, key: &TokenKey) -> Result<KeyKind, Error> {
        let (at, is_new) = self.known(key);
        if let Some(kind) = self.keys[at].kind {
            return Ok(kind);
        }
        let patience = match self.several && is_new {
            true => Patience::None,
            false => Patience::Some,
        };
        let kind = self.ask(key, patience, Question::Kind)?;
        self.keys[at].kind = Some(kind);
        Ok(kind)
    }

    /// Has the key do an operation. That the input is not for it is no error.
    ///
    /// # Errors
    /// As [`kind`](Self::kind); [`Error::SecretUnreadable`].
    pub fn answer(&mut self, key: &TokenKey, operation: &KeyOperation) -> Result<Answer, Error> {
        let question = Question::Operation(operation.clone());
        Ok(match self.ask(key, Patience::Some, question)? {
            Answered::Opened { secret, how } => Answer::Opened(secret, how),
            Answered::Refused(refused) => Answer::Refused(refused.into()),
        })
    }

    /// The public half of a key; without a login where the token allows.
    ///
    /// # Errors
    /// Whatever keeps the key from being found and read.
    pub fn public_key(&mut self, key: &TokenKey) -> Result<PublicKey, Error> {
        let components: Components = self.ask(key, Patience::Some, Question::PublicKey)?;
        Ok(components.public_key(&key.file.name)?)
    }

    /// Logs in to a key's token and asks about both.
    ///
    /// # Errors
    /// Whatever keeps the key from being found.
    pub fn probe(&mut self, key: &TokenKey) -> Result<Probe, Error> {
        let report: Report = self.ask(key, Patience::Some, Question::Probe)?;
        let public_key = report.components.public_key(&key.file.name)?;
        Ok(Probe {
            had_wrong_pin: report.token.had_wrong_pin(),
            was_final_try: report.token.is_final_try(),
            token: report.token.label,
            manufacturer: report.token.manufacturer,
            model: report.token.model,
            serial: report.token.serial,
            usage: report.usage,
            oaep: report.oaep,
            raw_rsa: report.raw_rsa,
            ecdh: report.ecdh,
            public_key,
        })
    }

    /// Every token that the URI may mean, with its RSA keys. A URI that names nothing means all of them.
    ///
    /// Private keys are seen after a login: where the URI comes with a PIN, or with `pin-source`. It has to mean one
    /// token then.
    ///
    /// # Errors
    /// [`Error::TokenNotFound`] where the URI names a token and none matches; whatever else keeps the module from listing
    /// its tokens.
    pub fn tokens(&mut self, key: &TokenKey, patience: Patience) -> Result<Vec<Token>, Error> {
        let listed: Vec<Listed> = self.ask(key, patience, Question::Tokens)?;
        let tokens = listed.into_iter().map(
            |Listed {
                 info,
                 mechanisms,
                 keys,
             }| Token {
                slot: info.slot,
                needs_login: info.needs_login(),
                has_pin_pad: info.has_pin_pad(),
                is_locked: info.is_locked(),
                is_final_try: info.is_final_try(),
                label: info.label,
                manufacturer: info.manufacturer,
                model: info.model,
                serial: info.serial,
                mechanisms,
                keys: keys.map_err(|failure| failure.into_error(key, None)),
            },
        );
        Ok(tokens.collect())
    }

    /// Makes a pair in the one token that the URI means, with the PIN that comes with it. Returns the public half.
    ///
    /// # Errors
    /// [`Error::KeyExists`] when the token holds a key of that label or id; [`Error::NewKeySize`] when it makes none of
    /// that size; whatever keeps the token from being found and logged in to.
    pub fn generate(&mut self, token: &TokenKey, new: &NewKey) -> Result<PublicKey, Error> {
        let components: Components =
            self.ask(token, Patience::Some, Question::Generate(new.clone()))?;
        Ok(components.public_key(&new.label)?)
    }

    /// The key that [`Client::delete`] would remove.
    ///
    /// # Errors
    /// As there.
    pub fn pair(&mut self, key: &TokenKey) -> Result<Pair, Error> {
        self.ask(key, Patience::Some, Question::Pair)
    }

    /// Removes a key from its token for good: the private object, and the public one.
    ///
    /// # Errors
    /// [`Error::SeveralKeys`] when the URI means more than one key, and then none is removed; [`Error::KeyNotFound`];
    /// whatever keeps the token from being logged in to, or refuses.
    pub fn delete(&mut self, key: &TokenKey) -> Result<Pair, Error> {
        self.ask(key, Patience::Some, Question::Delete)
    }

    /// Begins the workers' end, while the caller does something else: they finalize their modules and exit. Asked again,
    /// a key has a new worker.
    pub fn stop(&mut self) {
        let children = self.workers.drain(..).filter_map(|worker| worker.child);
        self.leaving.extend(children);
        for child in &self.leaving {
            child.dismiss();
        }
    }

    fn ask<T: DeserializeOwned>(
        &mut self,
        key: &TokenKey,
        patience: Patience,
        question: Question,
    ) -> Result<T, Error> {
        let (pin, pin_error) = match key.file.pin() {
            Ok(Some(pin)) => (KeyPin::Known(pin), None),
            Ok(None) => (KeyPin::None, None),
            Err(error) => (KeyPin::Unreadable, Some(error)),
        };
        let left = u64::try_from(self.settings.timeout.as_millis()).unwrap_or(u64::MAX);
        let worker = Worker::of(&mut self.workers, key);
        let child = worker.child(&key.file.uri, &self.settings)?;
        let request = Request {
            left,
            patient: patience == Patience::Some,
            name: key.file.pin_name().to_owned(),
            uri: key.file.uri.with_query(),
            pin,
            question,
        };
        match child.ask(&request) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failure)) => {
                let error = failure.into_error(key, pin_error);
                Err(surroundings::explained(error, key, &self.settings))
            }
            Err(error) => {
                let uri = child.is_about_token().then(|| key.file.uri.clone());
                worker.lost.push((uri, error.clone()));
                worker.child = None;
                Err(error)
            }
        }
    }

    /// The number of a key, and whether it is new.
    fn known(&mut self, key: &TokenKey) -> (usize, bool) {
        let (origin, uri) = (Origin::of(key), key.file.uri.with_query());
        let same = |it: &KnownKey| it.origin == origin && it.name == key.file.name && it.uri == uri;
        match self.keys.iter().position(same) {
            Some(at) => (at, false),
            None => {
                self.keys.push(KnownKey {
                    origin,
                    name: key.file.name.clone(),
                    uri,
                    kind: None,
                });
                (self.keys.len() - 1, true)
            }
        }
    }
}

impl Worker {
    /// The one for a key; it may not be started yet.
    fn of<'a>(workers: &'a mut Vec<Self>, key: &TokenKey) -> &'a mut Self {
        let origin = Origin::of(key);
        let known = workers.iter().position(|it| it.origin == origin);
        let at = known.unwrap_or_else(|| {
            workers.push(Self {
                origin,
                child: None,
                lost: Vec::new(),
            });
            workers.len() - 1
        });
        &mut workers[at]
    }

    /// Why nobody is to be asked about a key that this URI names.
    fn lost(&self, uri: &Pkcs11Uri) -> Option<&Error> {
        let may_be_it = |over: &Option<Pkcs11Uri>| match over {
            Some(over) => may_be_one(over, uri),
            None => true,
        };
        let lost = self.lost.iter().find(|(over, _)| may_be_it(over));
        lost.map(|(_, error)| error)
    }

    /// Its process, which is started now if it is not there.
    fn child(&mut self, uri: &Pkcs11Uri, settings: &HsmSettings) -> Result<&mut Child, Error> {
        if let Some(error) = self.lost(uri) {
            return Err(error.clone());
        }
        match self.child {
            Some(ref mut child) => Ok(child),
            None => {
                let place = Place {
                    module: &self.origin.module,
                    env: &self.origin.env,
                };
                let child = Child::start(place, self.origin.init.as_deref(), settings);
                let child = child.inspect_err(|error| self.lost.push((None, error.clone())))?;
                Ok(self.child.insert(child))
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // All at once; each is waited for as it is dropped.
        self.stop();
    }
}

impl Origin {
    fn of(key: &TokenKey) -> Self {
        Self {
            module: key.module.clone(),
            env: key.file.env.clone(),
            init: key.file.init.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::key_file::KeyFile;

    fn key(name: &str, variable: &str) -> TokenKey {
        TokenKey {
            file: KeyFile {
                name: name.to_owned(),
                uri: "pkcs11:token=t;object=o".parse().unwrap(),
                pin_place: None,
                env: BTreeMap::from([(variable.to_owned(), "/x.so".to_owned())]),
                init: None,
            },
            module: "/none.so".into(),
        }
    }

    #[test]
    fn a_variable_that_no_environment_holds_is_said() {
        let mut client = Client::new(HsmSettings {
            timeout: std::time::Duration::from_secs(60),
            allow_final_try: false,
            runtime_dir: None,
            environment: crate::hsm::Environment::Inherited { softhsm: None },
        });
        let error = client.kind(&key("/keys/a.yaml", "A=B")).unwrap_err();
        assert!(matches!(error, Error::Variable { .. }), "{error}");
    }
}
