//! What comes of an operation: the secret, or why this key does not answer it.
//!
//! "Not mine" is a value, no error: a wrapped key names no recipient, so most keys say it of most wrapped keys. Which
//! padding fault a token found must not show, so what a token says is passed on as it stands, function and code, and
//! never made finer.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ckr::Ckr;
use super::failure::Fault;
use super::function::Function;
use crate::secret::SecretBytes;

/// What came of one operation with one key.
#[derive(Debug)]
pub enum Answer {
    /// The answer, and who took the padding off.
    Opened(SecretBytes, How),
    /// The key does not answer it, and why.
    Refused(Refusal),
}

/// Who takes the OAEP padding off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// The token.
    Native,
    /// We: the token did the raw RSA operation, since it does not know the padding's hash.
    RawRsa,
}

/// As it is told of what was opened.
impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "by the token",
            Self::RawRsa => "by raw RSA, with the padding removed here",
        })
    }
}

/// Why a key does not answer an operation. As text, what to say of the key: `does not open it`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The input is not for a key of its kind or size.
    Unsuited,
    /// The input is for another key, or broken: nobody can tell, and nobody may.
    NotMine,
    /// The same, or the device failed: the module has one word for both.
    NotMineOrFailed {
        /// What it said: `C_Decrypt: CKR_GENERAL_ERROR`.
        said: String,
    },
    /// The token does not do this with this key.
    Unable {
        /// What it said: `cannot begin to decrypt: … (C_DecryptInit: CKR_MECHANISM_INVALID)`.
        said: String,
    },
}

/// A refusal as it comes from the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Refused {
    Unsuited,
    NotMine,
    NotMineOrFailed(Fault),
    Unable(Fault),
}

impl Refusal {
    /// Whether it may be that nothing is wrong with the input, and the device failed.
    #[must_use]
    pub fn may_be_the_device(&self) -> bool {
        matches!(self, Self::NotMineOrFailed { .. })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsuited => f.write_str("is of another kind or size"),
            Self::NotMine => f.write_str("does not open it"),
            Self::NotMineOrFailed { said } => {
                write!(f, "does not open it, or the device failed ({said})")
            }
            Self::Unable { said } => f.write_str(said),
        }
    }
}

impl Refused {
    /// What a function's failure says of an input that may be for another key. Modules use most of the standard's codes,
    /// and their own, for a wrong one.
    pub(super) fn new(fault: Fault) -> Self {
        let begins = fault.function == Function::C_DecryptInit;
        match fault.code {
            Ckr::CKR_ENCRYPTED_DATA_INVALID
            | Ckr::CKR_ENCRYPTED_DATA_LEN_RANGE
            | Ckr::CKR_DATA_INVALID
            | Ckr::CKR_DATA_LEN_RANGE
            | Ckr::CKR_WRAPPED_KEY_INVALID
            | Ckr::CKR_WRAPPED_KEY_LEN_RANGE
                if !begins =>
            {
                Self::NotMine
            }
            Ckr::CKR_MECHANISM_INVALID
            | Ckr::CKR_MECHANISM_PARAM_INVALID
            | Ckr::CKR_FUNCTION_NOT_SUPPORTED
            | Ckr::CKR_KEY_FUNCTION_NOT_PERMITTED
            | Ckr::CKR_KEY_TYPE_INCONSISTENT
            | Ckr::CKR_WRAPPING_KEY_HANDLE_INVALID => Self::Unable(fault),
            _ if begins => Self::Unable(fault),
            _ => Self::NotMineOrFailed(fault),
        }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unsuited => Self::Unsuited,
            Refused::NotMine => Self::NotMine,
            Refused::NotMineOrFailed(fault) => Self::NotMineOrFailed {
                said: fault.to_string(),
            },
            Refused::Unable(fault) => Self::Unable {
                said: format!(
                    "{}: {} ({fault})",
                    fault.function.failed(),
                    fault.code.phrase()
                ),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(function: Function, code: Ckr) -> Refusal {
        Refused::new(Fault { function, code }).into()
    }

    #[test]
    fn a_refusal_keeps_function_and_code() {
        let refusal = refusal(Function::C_Decrypt, Ckr(0x8000_001A));
        assert!(refusal.may_be_the_device());
        assert_eq!(
            refusal.to_string(),
            "does not open it, or the device failed (C_Decrypt: 0x8000001a)"
        );
    }

    #[test]
    fn what_the_token_does_not_do_is_told_as_that() {
        assert_eq!(
            refusal(Function::C_DecryptInit, Ckr::CKR_MECHANISM_INVALID).to_string(),
            "cannot begin to decrypt: the token does not have this mechanism (C_DecryptInit: CKR_MECHANISM_INVALID)"
        );
        let wrong = refusal(Function::C_Decrypt, Ckr::CKR_ENCRYPTED_DATA_INVALID);
        assert_eq!(wrong, Refusal::NotMine);
    }
}
