//! A module that was started, its tokens, and one session and one login for each token that is used.

use std::thread;
use std::time::Duration;

use cryptoki_sys as sys;

use super::child::{Place, Reporter};
use super::ckr::Ckr;
use super::failure::{Failure, Fault};
use super::function::Function;
use super::lockout::{Lockout, RejectedBefore, Turn};
use super::module::{Module, Session};
use super::token::{TokenInfo, fits};
use crate::keys::key_file::KeyFile;
use crate::keys::uri::Pkcs11Uri;
use crate::secret::Pin;

/// A key as the work in the child sees it.
#[derive(Debug)]
pub(super) struct Key<'a> {
    /// Its number among the caller's keys.
    pub(super) number: usize,
    pub(super) file: &'a KeyFile,
    pub(super) pin: KeyPin,
}

/// The PIN of a key, read before the module was loaded.
#[derive(Debug)]
pub(super) enum KeyPin {
    /// From the file, or from the one that it names.
    Known(Pin),
    /// The file has none.
    None,
    /// It cannot be read; the parent knows why.
    Unreadable,
}

/// How long to wait for a token that is not there, or a device that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Not at all: another module may have the key.
    None,
    /// A few times, with growing pauses.
    Some,
}

/// The pauses between two starts. SoftHSM and openCryptoki needed three at most with 20 processes at once.
const PAUSES: [Duration; 6] = [
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(40),
    Duration::from_millis(80),
    Duration::from_millis(160),
    Duration::from_millis(320),
];

/// A started module.
pub(super) struct Device<'a> {
    pub(super) module: Module<'a>,
    place: Place<'a>,
    reporter: &'a Reporter,
    lockout: &'a Lockout,
    allow_final_try: bool,
    started: bool,
    /// Held from the start to the first login: a login rewrites the token's file under whoever starts just then.
    turn: Option<Turn>,
    tokens: Vec<TokenInfo>,
    any_slot: bool,
    /// Why a slot could not be described.
    unclear: Option<Fault>,
    sessions: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    slot: sys::CK_SLOT_ID,
    session: Session,
    logged_in: bool,
}

impl<'a> Device<'a> {
    /// Loads the module; nothing is started yet.
    pub(super) fn load(
        place: Place<'a>,
        reporter: &'a Reporter,
        lockout: &'a Lockout,
        allow_final_try: bool,
    ) -> Result<Self, Failure> {
        Ok(Self {
            module: Module::load(place.module, reporter)?,
            place,
            reporter,
            lockout,
            allow_final_try,
            started: false,
            turn: None,
            tokens: Vec::new(),
            any_slot: false,
            unclear: None,
            sessions: Vec::new(),
        })
    }

    /// Starts the module and does the work; where a failure may pass, stops it, waits, and does it again.
    pub(super) fn patiently<T>(
        &mut self,
        patience: Patience,
        mut work: impl FnMut(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut pauses = match patience {
            Patience::None => [].iter(),
            Patience::Some => PAUSES.iter(),
        };
        loop {
            let result = self.start().and_then(|()| work(self));
            self.turn = None;
            match (result, pauses.next()) {
                (Err(failure), Some(&pause)) if failure.is_transient() => {
                    self.stop();
                    thread::sleep(pause);
                }
                (result, _) => return result,
            }
        }
    }

    /// Finalizes the module, which closes the sessions and logs out.
    pub(super) fn stop(&mut self) {
        self.sessions.clear();
        if std::mem::take(&mut self.started) {
            self.module.finalize();
        }
    }

    fn start(&mut self) -> Result<(), Failure> {
        self.take_turn();
        self.module.initialize()?;
        self.started = true;
        self.list()?;
        Ok(())
    }

    fn take_turn(&mut self) {
        if self.turn.is_none() {
            self.reporter.announce(Function::flock);
            self.turn = self.lockout.turn(self.place);
        }
    }

    /// Finds the tokens; a slot whose token is absent or was never initialized is passed over.
    fn list(&mut self) -> Result<(), Fault> {
        self.tokens.clear();
        self.unclear = None;
        let slots = self.module.slots()?;
        self.any_slot = !slots.is_empty();
        for slot in slots {
            match self.module.token_info(slot) {
                Ok(token) if token.is_initialized() => self.tokens.push(token),
                Ok(_) => {}
                Err(fault)
                    if matches!(
                        fault.code,
                        Ckr::CKR_TOKEN_NOT_PRESENT
                            | Ckr::CKR_TOKEN_NOT_RECOGNIZED
                            | Ckr::CKR_SLOT_ID_INVALID
                    ) => {}
                Err(fault) => self.unclear = Some(fault),
            }
        }
        Ok(())
    }

    /// The one token that a URI means.
    pub(super) fn token(&self, uri: &Pkcs11Uri) -> Result<TokenInfo, Failure> {
        match self.tokens(uri)?.as_slice() {
            [token] => Ok(token.clone()),
            [] => Err(self.no_token(uri)),
            tokens => Err(Failure::SeveralTokens {
                uri: uri.to_string(),
                tokens: tokens.iter().map(ToString::to_string).collect(),
            }),
        }
    }

    /// All tokens that a URI may mean.
    pub(super) fn tokens(&self, uri: &Pkcs11Uri) -> Result<Vec<TokenInfo>, Failure> {
        let mut found = Vec::new();
        if self.library_matches(uri)? {
            for token in &self.tokens {
                if token.matches(uri) && self.slot_matches(uri, token.slot)? {
                    found.push(token.clone());
                }
            }
        }
        match self.unclear {
            Some(fault) if found.is_empty() => Err(fault.into()),
            _ => Ok(found),
        }
    }

    /// That there is none.
    pub(super) fn no_token(&self, uri: &Pkcs11Uri) -> Failure {
        Failure::NoToken {
            uri: uri.to_string(),
            any_slot: self.any_slot,
        }
    }

    fn library_matches(&self, uri: &Pkcs11Uri) -> Result<bool, Fault> {
        if uri.library_manufacturer.is_none()
            && uri.library_description.is_none()
            && uri.library_version.is_none()
        {
            return Ok(true);
        }
        let (manufacturer, description, version) = self.module.library_info()?;
        Ok(fits(uri.library_manufacturer.as_deref(), &manufacturer)
            && fits(uri.library_description.as_deref(), &description)
            && uri.library_version.is_none_or(|wanted| wanted == version))
    }

    fn slot_matches(&self, uri: &Pkcs11Uri, slot: sys::CK_SLOT_ID) -> Result<bool, Fault> {
        if uri.slot_manufacturer.is_none() && uri.slot_description.is_none() {
            return Ok(true);
        }
        let (manufacturer, description) = self.module.slot_info(slot)?;
        Ok(fits(uri.slot_manufacturer.as_deref(), &manufacturer)
            && fits(uri.slot_description.as_deref(), &description))
    }

    /// A session on the token in which nobody need be logged in.
    pub(super) fn session(&mut self, token: &TokenInfo) -> Result<Session, Failure> {
        match self.sessions.iter().find(|open| open.slot == token.slot) {
            Some(open) => Ok(open.session),
            None => self.open(token, Module::open_session),
        }
    }

    /// Makes the token's session one that may write. Only before the first other one.
    pub(super) fn open_for_writing(&mut self, token: &TokenInfo) -> Result<Session, Failure> {
        self.open(token, Module::open_writing_session)
    }

    fn open(
        &mut self,
        token: &TokenInfo,
        open: fn(&Module<'a>, sys::CK_SLOT_ID) -> Result<Session, Fault>,
    ) -> Result<Session, Failure> {
        let session = open(&self.module, token.slot).map_err(|fault| fault.on(&token.label))?;
        self.sessions.push(Open {
            slot: token.slot,
            session,
            logged_in: false,
        });
        Ok(session)
    }

    /// A session on the token with the user logged in, where the token wants that. Once per token and process.
    pub(super) fn login(&mut self, token: &TokenInfo, key: &Key<'_>) -> Result<Session, Failure> {
        let session = self.session(token)?;
        let done = |open: &Open| open.slot == token.slot && open.logged_in;
        if token.needs_login() && !self.sessions.iter().any(done) {
            self.log_in(session, token, key)?;
            for open in &mut self.sessions {
                open.logged_in |= open.slot == token.slot;
            }
        }
        self.turn = None;
        Ok(session)
    }

    fn log_in(
        &mut self,
        session: Session,
        token: &TokenInfo,
        key: &Key<'_>,
    ) -> Result<(), Failure> {
        let label = || token.label.clone();
        let pin = match &key.pin {
            KeyPin::Known(pin) => Some(pin),
            KeyPin::None if token.has_pin_pad() => None,
            KeyPin::None => {
                return Err(Failure::PinMissing {
                    token: label(),
                    key: key.file.name.clone(),
                });
            }
            KeyPin::Unreadable => return Err(Failure::PinUnreadable { key: key.number }),
        };
        // The flags were read in this turn, or are read again in a new one: others may have tried meanwhile.
        let flags = if self.turn.is_some() {
            token.clone()
        } else {
            self.take_turn();
            self.module
                .token_info(token.slot)
                .map_err(|fault| fault.on(&token.label))?
        };
        if flags.is_locked() {
            return Err(Failure::Locked { token: label() });
        }
        if flags.is_final_try() && !self.allow_final_try {
            return Err(Failure::FinalTry { token: label() });
        }
        self.reporter.announce(Function::flock);
        let Some(pin) = pin else {
            let _turn = self.lockout.token_turn(token);
            let result = self.module.login(session, None);
            return result.map_err(|fault| fault.on(&token.label));
        };
        let attempt = self
            .lockout
            .attempt(token, pin, key.file)
            .map_err(|RejectedBefore| Failure::PinRejectedBefore {
                token: label(),
                key: key.file.name.clone(),
            })?;
        // A token that counts down, and nothing of ours that remembers: the next try may be one of many.
        if !attempt.is_guarded() && flags.had_wrong_pin() && !self.allow_final_try {
            return Err(Failure::Unguarded { token: label() });
        }
        match self.module.login(session, Some(pin)) {
            Ok(()) => {
                attempt.accepted();
                Ok(())
            }
            Err(fault) => {
                if matches!(
                    fault.code,
                    Ckr::CKR_PIN_INCORRECT | Ckr::CKR_PIN_INVALID | Ckr::CKR_PIN_LEN_RANGE
                ) {
                    attempt.rejected();
                }
                Err(fault.on(&token.label))
            }
        }
    }

    /// A fresh session in place of one in which a decryption failed: tpm2-pkcs11 leaves the operation active. The new
    /// one is opened first, since the login ends with the last session.
    pub(super) fn renew(&mut self, token: &TokenInfo) -> Result<Session, Fault> {
        let session = self.module.open_session(token.slot)?;
        for open in &mut self.sessions {
            if open.slot == token.slot {
                self.module.close_session(open.session);
                open.session = session;
            }
        }
        Ok(session)
    }
}
