//! What goes wrong in a worker, in the form in which it travels to the parent and becomes an [`Error`].

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ckr::Ckr;
use super::error::Error;
use super::function::Function;
use crate::keys;
use crate::keys::TokenKey;
use crate::keys::key_file::COMMAND_LINE;

/// A function that answered with something else than `CKR_OK`. As text, `C_Login: CKR_PIN_INCORRECT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fault {
    pub(super) function: Function,
    pub(super) code: Ckr,
}

/// Why a worker could not do what it was asked. Holds no secret: tokens are named by their labels, keys by their URIs
/// without the query.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Failure {
    /// The library cannot be loaded, or is none of PKCS#11.
    Load { reason: String },
    /// The request is none that we know: the two sides are not of one version.
    Request,
    /// The system has no random bytes.
    NoRandomness,
    /// A function failed, on a token where it has one.
    Call { token: Option<String>, fault: Fault },
    /// A login failed, and may have been counted.
    Login {
        token: String,
        fault: Fault,
        /// Whether the PIN was rejected, and that is on record; `None` where the code does not say so.
        remembered: Option<bool>,
    },
    /// The PIN of the key could not be read; the parent knows why.
    PinUnreadable,
    /// The token asks for a PIN, and the key's file has none.
    PinMissing { token: String },
    /// This PIN was rejected by the token before.
    PinRejectedBefore { token: String },
    /// This PIN was tried before, and the token gave no answer.
    PinUnanswered { token: String },
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
    /// The key is neither RSA nor on a curve that we know.
    KeyType { uri: String, token: String },
    /// The token derives or unwraps a secret, and does not show it.
    Unreadable { token: String },
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
    /// now, or something ran out. A refusal is never among these, and neither is a login that may have been counted.
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
            // What they say of an input that is for another key is tried once more, in a new session, and no oftener.
            Function::C_Decrypt | Function::C_UnwrapKey | Function::C_DeriveKey => matches!(
                self.code,
                Ckr::CKR_SESSION_HANDLE_INVALID
                    | Ckr::CKR_SESSION_CLOSED
                    | Ckr::CKR_DEVICE_REMOVED
                    | Ckr::CKR_TOKEN_NOT_PRESENT
            ),
            // A key that was made is not made twice.
            Function::C_GenerateKeyPair => false,
            // AWS CloudHSM's word for having no session left.
            Function::C_OpenSession if self.code == Ckr::CKR_ARGUMENTS_BAD => true,
            _ => matches!(
                self.code,
                Ckr::CKR_DEVICE_ERROR
                    | Ckr::CKR_DEVICE_MEMORY
                    | Ckr::CKR_DEVICE_REMOVED
                    | Ckr::CKR_FUNCTION_FAILED
                    | Ckr::CKR_GENERAL_ERROR
                    | Ckr::CKR_HOST_MEMORY
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

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.function.name(), self.code)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Call { token: None, fault }
    }
}

impl Failure {
    /// Whether nothing else may be tried on this token: a PIN that is wrong, locked or about to be is not for another
    /// key to try. A PIN that is on record as rejected cost no try, and another key's may be the right one.
    pub(super) fn bars_token(&self) -> bool {
        matches!(
            self,
            Self::Login { .. }
                | Self::FinalTry { .. }
                | Self::Unguarded { .. }
                | Self::Locked { .. }
        )
    }

    /// Whether a new start of the module may cure it.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::NoToken { .. } => true,
            Self::Call { fault, .. } => fault.is_transient(),
            _ => false,
        }
    }

    /// What a worker told, of the module of this key, and of the key; `pin_error` is why its PIN could not be read.
    pub(super) fn into_error(self, key: &TokenKey, pin_error: Option<keys::Error>) -> Error {
        let passing = self.is_transient();
        let module = key.module.clone();
        let file = &key.file;
        let key = match &file.uri.pin_source {
            Some(path) => format!("{} (of {})", path.display(), file.name),
            None => file.pin_name().to_owned(),
        };
        let given = file.pin_place.is_some();
        let (subject, fault, remembered) = match self {
            Self::Call { token, fault } => {
                let subject = match token {
                    Some(label) => format!("token {label:?}"),
                    None => format!("module {}", module.display()),
                };
                (subject, fault, None)
            }
            Self::Login {
                token,
                fault,
                remembered,
            } => (format!("token {token:?}"), fault, remembered),
            Self::Load { reason } => return Error::Load { module, reason },
            Self::NoRandomness => return Error::NoRandomness,
            Self::Request => {
                return Error::Crashed {
                    module,
                    function: "its process",
                    ending: "it does not know the request".to_owned(),
                };
            }
            Self::PinUnreadable => {
                return match pin_error {
                    Some(source) => Error::PinFile {
                        source: Arc::new(source),
                    },
                    None => Error::PinMissing {
                        token: String::new(),
                        key,
                    },
                };
            }
            Self::PinMissing { token } => return Error::PinMissing { token, key },
            Self::PinRejectedBefore { token } => {
                return Error::PinRejectedBefore { token, key, given };
            }
            Self::PinUnanswered { token } => return Error::PinUnanswered { token, key },
            Self::FinalTry { token } => return Error::PinFinalTry { token },
            Self::Unguarded { token } => return Error::PinUnguarded { token },
            Self::Locked { token } => return Error::PinLocked { token },
            Self::SeveralTokens { uri, tokens } => return Error::SeveralTokens { uri, tokens },
            Self::SeveralKeys { uri, token, keys } => {
                return Error::SeveralKeys { uri, token, keys };
            }
            Self::NoToken { uri, any_slot } => {
                return Error::TokenNotFound {
                    uri,
                    module,
                    any_slot,
                };
            }
            Self::NoKey { uri, token } => return Error::KeyNotFound { uri, token },
            Self::KeyType { uri, token } => return Error::KeyType { uri, token },
            Self::Unreadable { token } => return Error::SecretUnreadable { token },
            Self::KeyExists { token, key } => return Error::KeyExists { token, key },
            Self::TooManyKeys { limit } => {
                return Error::TooLarge {
                    what: "the number of RSA keys on a token",
                    limit,
                };
            }
            Self::KeySizes {
                token,
                bits,
                min,
                max,
            } => {
                return Error::NewKeySize {
                    token,
                    bits,
                    min,
                    max,
                };
            }
        };
        Error::Call {
            subject,
            what: format!("{}: {}", fault.function.failed(), fault.code.phrase()).into(),
            function: fault.function.name(),
            code: fault.code.to_string().into(),
            hint: match (remembered, given) {
                (Some(true), false) => Some(REMEMBERED),
                (Some(false), false) => Some(NOT_REMEMBERED),
                (Some(true), true) => Some(GIVEN_REMEMBERED),
                (Some(false), true) => Some(GIVEN_NOT_REMEMBERED),
                (None, _) => fault
                    .code
                    .hint(fault.function, given || file.name == COMMAND_LINE),
            },
            passing,
        }
    }
}

const REMEMBERED: &str = "correct the PIN in the key file, or in the PIN file that it names; the rejected one is not tried again on this node";
const NOT_REMEMBERED: &str = "correct the PIN in the key file, or in the PIN file that it names, and see to a runtime directory (`ocihsm doctor`): \
     without one each decode costs a try";
const GIVEN_REMEMBERED: &str =
    "give the right PIN; the rejected one is not tried again on this node";
const GIVEN_NOT_REMEMBERED: &str = "give the right PIN, and see to a runtime directory (`ocihsm doctor`): \
     without one a wrong PIN is tried each time";

#[cfg(test)]
mod tests;
