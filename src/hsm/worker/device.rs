//! A module that was started, its tokens, and the sessions on each token that is used.

use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use cryptoki_sys as sys;

use super::Here;
use super::module::{Module, Session};
use super::reporter::Reporter;
use super::search::Found;
use crate::hsm::ckr::Ckr;
use crate::hsm::failure::{Failure, Fault};
use crate::hsm::function::Function;
use crate::hsm::lockout::Turn;
use crate::hsm::protocol::KeyPin;
use crate::hsm::token::{TokenInfo, fits};
use crate::keys::key_file::KeyFile;
use crate::keys::uri::Pkcs11Uri;

/// A key as a request names it.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) file: KeyFile,
    pub(super) pin: KeyPin,
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
    pub(super) here: &'a Here,
    pub(super) reporter: &'a Reporter,
    started: bool,
    /// Whether a failure that may pass is waited for in this request.
    patient: bool,
    /// An operation failed however long it was waited for. There may be hundreds more.
    in_vain: bool,
    /// When nobody waits any more.
    deadline: Instant,
    /// Held from the start to the first login: a login rewrites the token's file under whoever starts just then.
    pub(super) turn: Option<Turn>,
    tokens: Vec<TokenInfo>,
    any_slot: bool,
    /// Why a slot could not be described.
    unclear: Option<Fault>,
    pub(super) sessions: Vec<Open>,
    /// Logins that failed in a way that may pass.
    pub(super) logins: u32,
    /// Tokens that nobody may log in to any more, and why.
    pub(super) barred: Vec<(TokenInfo, Failure)>,
    /// Keys that were found since the start, by their URIs.
    pub(super) found: Vec<(String, Rc<Found>)>,
}

/// A session on a token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub(super) slot: sys::CK_SLOT_ID,
    pub(super) session: Session,
    writes: bool,
    /// An operation failed in it, and may still be active.
    worn_out: bool,
    pub(super) logged_in: bool,
}

impl<'a> Device<'a> {
    /// Loads the module; nothing is started yet.
    pub(super) fn load(here: &'a Here, reporter: &'a Reporter) -> Result<Self, Failure> {
        Ok(Self {
            module: Module::load(&here.module, reporter)?,
            here,
            reporter,
            started: false,
            patient: false,
            in_vain: false,
            deadline: Instant::now(),
            turn: None,
            tokens: Vec::new(),
            any_slot: false,
            unclear: None,
            sessions: Vec::new(),
            logins: 0,
            barred: Vec::new(),
            found: Vec::new(),
        })
    }

    /// Says what the next request expects.
    pub(super) fn begin(&mut self, patient: bool, deadline: Instant) {
        (self.patient, self.deadline) = (patient, deadline);
    }

    /// Time until nobody waits any more.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Does not wait for a device in this request, where that was in vain in an earlier one.
    pub(super) fn spare_patience(&mut self) {
        self.patient &= !self.in_vain;
    }

    /// Says that the patience of this request was in vain.
    pub(super) fn waited_in_vain(&mut self) {
        self.in_vain |= self.patient;
    }

    /// Starts the module, if it is not, and does the work; where a failure may pass, stops it, waits, and does it again,
    /// as long as it may come to an end in time.
    pub(super) fn patiently<T>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut pauses = if self.patient { &PAUSES[..] } else { &[] }.iter();
        loop {
            let begin = Instant::now();
            let result = self.start().and_then(|()| work(self));
            self.turn = None;
            match (result, pauses.next()) {
                (Err(failure), Some(&pause)) if failure.is_transient() => {
                    let next = begin.elapsed() + pause;
                    if next > self.left() {
                        return Err(failure);
                    }
                    self.stop();
                    thread::sleep(pause);
                }
                (result, _) => {
                    if result.as_ref().is_err_and(Failure::is_transient) {
                        self.stop();
                    }
                    return result;
                }
            }
        }
    }

    /// Finalizes the module, which closes the sessions and logs out.
    pub(super) fn stop(&mut self) {
        self.sessions.clear();
        self.found.clear();
        self.turn = None;
        if std::mem::take(&mut self.started) {
            self.module.finalize();
        }
    }

    fn start(&mut self) -> Result<(), Failure> {
        if self.started {
            return Ok(());
        }
        self.take_turn();
        self.module.initialize(self.here.init.as_deref())?;
        self.started = true;
        self.list()?;
        Ok(())
    }

    pub(super) fn take_turn(&mut self) {
        if self.turn.is_none() {
            self.reporter.announce(Function::flock);
            self.turn = Some(self.here.lockout.turn(self.here.place()));
        }
    }

    /// Finds the tokens; a slot whose token is absent is passed over.
    fn list(&mut self) -> Result<(), Fault> {
        self.tokens.clear();
        self.unclear = None;
        let slots = self.module.slots()?;
        self.any_slot = !slots.is_empty();
        for slot in slots {
            match self.module.token_info(slot) {
                Ok(token) => self.tokens.push(token),
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

    /// The one token that a URI means. One that several slots show alike (p11-kit's proxy does) is one.
    pub(super) fn token(&self, uri: &Pkcs11Uri) -> Result<TokenInfo, Failure> {
        let mut found = self.tokens(uri)?;
        let mut different: Vec<TokenInfo> = Vec::new();
        for token in found.drain(..) {
            if !different.iter().any(|known| known.is_same(&token)) {
                different.push(token);
            }
        }
        match different.as_slice() {
            [token] => Ok(token.clone()),
            [] => Err(self.no_token(uri)),
            tokens => Err(Failure::SeveralTokens {
                uri: uri.to_string(),
                tokens: tokens.iter().map(ToString::to_string).collect(),
            }),
        }
    }

    /// All tokens that a URI may mean. One that says it was never initialized is among them only where the URI names its
    /// label: some modules never say that one was, and others list one that is empty.
    pub(super) fn tokens(&self, uri: &Pkcs11Uri) -> Result<Vec<TokenInfo>, Failure> {
        let mut found = Vec::new();
        if self.library_matches(uri)? {
            for token in &self.tokens {
                let exists =
                    token.is_initialized() || (uri.token.is_some() && !token.label.is_empty());
                if exists && token.matches(uri) && self.slot_matches(uri, token.slot)? {
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
        let open = |open: &Open| open.slot == token.slot;
        match self.sessions.iter().position(open) {
            Some(at) => self.fresh(token, at),
            None => self.open(token, false),
        }
    }

    /// One that may write. Whoever is logged in to the token is so in it as well.
    pub(super) fn writing_session(&mut self, token: &TokenInfo) -> Result<Session, Failure> {
        let open = |open: &Open| open.slot == token.slot && open.writes;
        match self.sessions.iter().position(open) {
            Some(at) => self.fresh(token, at),
            None => self.open(token, true),
        }
    }

    /// Says that an operation failed in the session: tpm2-pkcs11 leaves it active.
    pub(super) fn wear_out(&mut self, session: Session) {
        for open in &mut self.sessions {
            open.worn_out |= open.session == session;
        }
    }

    /// The session, or a new one in its place. That is opened first, since the login ends with the last session.
    fn fresh(&mut self, token: &TokenInfo, at: usize) -> Result<Session, Failure> {
        let Open {
            session: old,
            writes,
            worn_out,
            ..
        } = self.sessions[at];
        if !worn_out {
            return Ok(old);
        }
        let session = self
            .module
            .open_session(token.slot, writes)
            .map_err(|fault| fault.on(&token.label))?;
        self.module.close_session(old);
        self.sessions[at].session = session;
        self.sessions[at].worn_out = false;
        Ok(session)
    }

    fn open(&mut self, token: &TokenInfo, writes: bool) -> Result<Session, Failure> {
        let session = self
            .module
            .open_session(token.slot, writes)
            .map_err(|fault| fault.on(&token.label))?;
        let logged_in = self.is_logged_in(token);
        self.sessions.push(Open {
            slot: token.slot,
            session,
            writes,
            worn_out: false,
            logged_in,
        });
        Ok(session)
    }

    pub(super) fn is_logged_in(&self, token: &TokenInfo) -> bool {
        let on_it = |open: &Open| open.slot == token.slot && open.logged_in;
        self.sessions.iter().any(on_it)
    }
}
