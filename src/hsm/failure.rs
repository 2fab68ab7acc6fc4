//! What goes wrong in a module's process, in the form in which it travels to the parent and becomes an [`Error`].

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ckr::Ckr;
use super::function::Function;
use crate::error::Error;

/// A function that answered with something else than `CKR_OK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fault {
    pub(super) function: Function,
    pub(super) code: Ckr,
}

/// Why a module's process could not do what it was asked. Holds no secret: tokens are named by their labels, keys by
/// their URIs without the query.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Failure {
    /// The library cannot be loaded, or is none of PKCS#11.
    Load { reason: String },
    /// A variable of `module.env` cannot be set.
    Environment { name: String },
    /// A function failed, on a token where it has one.
    Call { token: Option<String>, fault: Fault },
    /// It happened to the key in this file.
    WithKey { key: String, failure: Box<Self> },
    /// The PIN of that key could not be read; the parent knows why.
    PinUnreadable { key: usize },
    /// The token asks for a PIN, and the key's file has none.
    PinMissing { token: String, key: String },
    /// This PIN was rejected by the token before.
    PinRejectedBefore { token: String, key: String },
    /// The token says that one more wrong PIN locks it.
    FinalTry { token: String },
    /// The token says that a wrong PIN was tried, and none can be remembered.
    Unguarded { token: String },
    /// The token says that its PIN is locked.
    Locked { token: String },
    /// Several tokens match one URI.
    SeveralTokens { uri: String, tokens: Vec<String> },
    /// Several keys on one token match one URI.
    SeveralKeys {
        uri: String,
        token: String,
        keys: Vec<String>,
    },
    /// No token matches.
    NoToken { uri: String, any_slot: bool },
    /// The token has no such key.
    NoKey { uri: String, token: String },
    /// The token has a key of that label, or of that id, already.
    KeyExists { token: String, key: String },
    /// The token holds more keys than are listed.
    TooManyKeys { limit: u64 },
    /// The token makes keys of other sizes.
    KeySizes {
        token: String,
        bits: u32,
        min: u64,
        max: u64,
    },
}

impl Fault {
    /// On which token it happened.
    pub(super) fn on(self, token: &str) -> Failure {
        Failure::Call {
            token: Some(token.to_owned()),
            fault: self,
        }
    }

    /// Whether the same may go well a little later: the device, its service, or the token's file was not there just
    /// now. A refusal is never among these, and neither is a login that may have been counted.
    pub(super) fn is_transient(self) -> bool {
        match self.function {
            // SoftHSM and openCryptoki truncate a token's file before they write it: who starts just then sees
            // no PIN, or no token.
            Function::C_Login => matches!(
                self.code,
                Ckr::CKR_USER_PIN_NOT_INITIALIZED
                    | Ckr::CKR_TOKEN_NOT_PRESENT
                    | Ckr::CKR_SESSION_HANDLE_INVALID
            ),
            Function::C_Decrypt => matches!(
                self.code,
                Ckr::CKR_SESSION_HANDLE_INVALID
                    | Ckr::CKR_SESSION_CLOSED
                    | Ckr::CKR_DEVICE_REMOVED
                    | Ckr::CKR_TOKEN_NOT_PRESENT
            ),
            _ => matches!(
                self.code,
                Ckr::CKR_DEVICE_ERROR
                    | Ckr::CKR_DEVICE_REMOVED
                    | Ckr::CKR_GENERAL_ERROR
                    | Ckr::CKR_OBJECT_HANDLE_INVALID
                    | Ckr::CKR_KEY_HANDLE_INVALID
                    | Ckr::CKR_SESSION_CLOSED
                    | Ckr::CKR_SESSION_COUNT
                    | Ckr::CKR_SESSION_HANDLE_INVALID
                    | Ckr::CKR_TOKEN_NOT_PRESENT
            ),
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Call { token: None, fault }
    }
}

impl Failure {
    /// Names the key's file, unless the message does so already.
    pub(super) fn with_key(self, name: &str) -> Self {
        match self {
            Self::PinRejectedBefore { .. } => self,
            _ => Self::WithKey {
                key: name.to_owned(),
                failure: Box::new(self),
            },
        }
    }

    /// Whether everything stops: a PIN that is wrong, locked or about to be is not for another key to try.
    pub(super) fn stops(&self) -> bool {
        match self {
            Self::PinRejectedBefore { .. }
            | Self::FinalTry { .. }
            | Self::Unguarded { .. }
            | Self::Locked { .. } => true,
            Self::WithKey { failure, .. } => failure.stops(),
            Self::Call { fault, .. } => {
                fault.function == Function::C_Login && !fault.is_transient()
            }
            _ => false,
        }
    }

    /// Whether a new start of the module may cure it.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::NoToken { .. } => true,
            Self::WithKey { failure, .. } => failure.is_transient(),
            Self::Call { fault, .. } => fault.is_transient(),
            _ => false,
        }
    }

    /// Whether it is only this key that does not serve: a refusal, no error, while there are others.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::NoToken { .. } | Self::NoKey { .. } | Self::PinMissing { .. }
        )
    }

    /// As the error that the user reads. `pin_errors` are the parent's: why a key's PIN could not be read.
    pub(super) fn into_error(self, module: &Path, pin_error: impl FnOnce(usize) -> Error) -> Error {
        let module = module.to_owned();
        match self {
            Self::Load { reason } => Error::ModuleLoad { module, reason },
            Self::Environment { name } => Error::ModuleEnvironment { name },
            Self::Call { token, fault } => Error::Pkcs11 {
                subject: match token {
                    Some(label) => format!("token {label:?}"),
                    None => format!("module {}", module.display()),
                },
                failed: fault.function.failed(),
                phrase: fault.code.phrase(),
                function: fault.function.name(),
                code: fault.code.to_string(),
                hint: fault.code.hint(fault.function),
            },
            Self::WithKey { key, failure } => Error::InKeyFile {
                name: key,
                source: Box::new(failure.into_error(&module, pin_error)),
            },
            Self::PinUnreadable { key } => pin_error(key),
            Self::PinMissing { token, key } => Error::PinMissing { token, key },
            Self::PinRejectedBefore { token, key } => Error::PinRejectedBefore { token, key },
            Self::FinalTry { token } => Error::PinFinalTry { token },
            Self::Unguarded { token } => Error::PinUnguarded { token },
            Self::Locked { token } => Error::PinLocked { token },
            Self::SeveralTokens { uri, tokens } => Error::SeveralTokens { uri, tokens },
            Self::SeveralKeys { uri, token, keys } => Error::SeveralKeys { uri, token, keys },
            Self::NoToken { uri, any_slot } => Error::TokenNotFound {
                uri,
                module,
                any_slot,
            },
            Self::NoKey { uri, token } => Error::KeyNotFound { uri, token },
            Self::KeyExists { token, key } => Error::KeyExists { token, key },
            Self::TooManyKeys { limit } => Error::TooLarge {
                what: "the number of RSA keys on a token",
                limit,
            },
            Self::KeySizes {
                token,
                bits,
                min,
                max,
            } => Error::NewKeySize {
                token,
                bits,
                min,
                max,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(function: Function, code: Ckr) -> Fault {
        Fault { function, code }
    }

    #[test]
    fn a_wrong_pin_stops_and_is_never_retried() {
        for code in [
            Ckr::CKR_PIN_INCORRECT,
            Ckr::CKR_PIN_LOCKED,
            Ckr::CKR_GENERAL_ERROR,
            Ckr::CKR_DEVICE_ERROR,
        ] {
            let failure = fault(Function::C_Login, code).on("prod");
            assert!(failure.stops() && !failure.is_transient(), "{code}");
        }
    }

    #[test]
    fn a_device_error_at_open_may_pass() {
        let failure = fault(Function::C_OpenSession, Ckr::CKR_DEVICE_ERROR).on("prod");
        assert!(failure.is_transient() && !failure.stops());
    }

    #[test]
    fn the_message_shows_function_and_code() {
        let failure = fault(Function::C_Login, Ckr::CKR_PIN_INCORRECT).on("prod");
        let error = failure.into_error(Path::new("/m.so"), |_| unreachable!());
        assert_eq!(
            error.to_string(),
            "token \"prod\": login failed: the PIN is wrong (C_Login: CKR_PIN_INCORRECT)"
        );
    }
}
