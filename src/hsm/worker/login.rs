//! Logging in: once per token, never with a PIN that was rejected, and never again where a login failed.

use super::device::{Device, Key};
use super::module::{Session, User};
use super::settle;
use crate::hsm::ckr::Ckr;
use crate::hsm::failure::{Failure, Fault};
use crate::hsm::function::Function;
use crate::hsm::protocol::KeyPin;
use crate::hsm::rejected::Before;
use crate::hsm::token::TokenInfo;

/// How often a login is repeated that fails as if the token were not there yet, over all that a worker does. SoftHSM and
/// openCryptoki need three at most, with 20 processes at once.
const MAX_LOGINS: u32 = 4;

impl Device<'_> {
    /// A session on the token with the user logged in, where the token wants that. Once per token and start.
    pub(super) fn login(&mut self, token: &TokenInfo, key: &Key) -> Result<Session, Failure> {
        let session = self.session(token)?;
        if token.needs_login() && !self.is_logged_in(token) {
            self.log_in(session, token, key, User::Normal)?;
            for open in &mut self.sessions {
                open.logged_in |= open.slot == token.slot;
            }
        }
        self.turn = None;
        Ok(session)
    }

    /// Logs in for the one operation that was begun in the session (`CKA_ALWAYS_AUTHENTICATE`).
    pub(super) fn login_for_operation(
        &mut self,
        session: Session,
        token: &TokenInfo,
        key: &Key,
    ) -> Result<(), Failure> {
        self.log_in(session, token, key, User::ContextSpecific)
    }

    /// The same guard for both: it is the same PIN, and the same counter.
    fn log_in(
        &mut self,
        session: Session,
        token: &TokenInfo,
        key: &Key,
        user: User,
    ) -> Result<(), Failure> {
        let barred = self.barred.iter().find(|(known, _)| known.is_same(token));
        if let Some((_, failure)) = barred {
            return Err(failure.clone());
        }
        let result = self.try_to_log_in(session, token, key, user);
        if let Err(failure) = &result
            && failure.bars_token()
        {
            self.barred.push((token.clone(), failure.clone()));
        }
        result
    }

    fn try_to_log_in(
        &mut self,
        session: Session,
        token: &TokenInfo,
        key: &Key,
        user: User,
    ) -> Result<(), Failure> {
        let label = || token.label.clone();
        let pin = match &key.pin {
            KeyPin::Known(pin) => Some(pin),
            KeyPin::None if token.has_pin_pad() => None,
            KeyPin::None => return Err(Failure::PinMissing { token: label() }),
            KeyPin::Unreadable => return Err(Failure::PinUnreadable),
        };
        let lockout = &self.here.lockout;
        let marks = pin.and_then(|pin| lockout.marks(token, pin, &key.file));
        let turn = lockout.token_turn_now(token).unwrap_or_else(|| {
            // Whoever has it may hang: nobody but those who want this token must wait for that.
            self.turn = None;
            self.reporter.announce(Function::flock);
            lockout.token_turn(token)
        });
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
        if flags.is_final_try() && !self.here.allow_final_try {
            return Err(Failure::FinalTry { token: label() });
        }
        let passes = self.logins < MAX_LOGINS;
        let failed = |fault: Fault, remembered| match passes && fault.is_transient() {
            true => fault.on(&token.label),
            false => Failure::Login {
                token: label(),
                fault,
                remembered,
            },
        };
        let Some(pin) = pin else {
            let result = self.module.login(session, user, None);
            return result.map_err(|fault| failed(fault, None));
        };
        let attempt = lockout
            .attempt(token, turn, pin, &key.file, marks)
            .map_err(|before| match before {
                Before::Rejected => Failure::PinRejectedBefore { token: label() },
                Before::Unanswered => Failure::PinUnanswered { token: label() },
            })?;
        // A token that counts down, and nothing of ours that remembers: the next try may be one of many.
        if !attempt.is_guarded() && flags.had_wrong_pin() && !self.here.allow_final_try {
            return Err(Failure::Unguarded { token: label() });
        }
        let login = || self.module.login(session, user, Some(pin));
        match attempt.during(|| settle::to_its_end(self.left(), login)) {
            Ok(()) => {
                attempt.accepted();
                Ok(())
            }
            Err(fault) => {
                self.logins += u32::from(fault.is_transient());
                let remembered = is_rejection(fault).then(|| attempt.rejected());
                Err(failed(fault, remembered))
            }
        }
    }
}

fn is_rejection(fault: Fault) -> bool {
    matches!(
        fault.code,
        Ckr::CKR_PIN_INCORRECT | Ckr::CKR_PIN_INVALID | Ckr::CKR_PIN_LEN_RANGE
    )
}
