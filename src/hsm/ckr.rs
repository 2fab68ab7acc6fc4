//! The return codes of PKCS#11: each with its name in the standard, a phrase of ours and, where it can be known,
//! what to do about it.
//!
//! Texts alone; what a code means for the work in hand is decided where the function was called. Phrases leave out
//! what failed, since the function's name says it.

use std::fmt;

use cryptoki_sys as sys;
use serde::{Deserialize, Serialize};

use super::function::Function;

/// A `CK_RV` that is not `CKR_OK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ckr(pub(super) sys::CK_RV);

/// Declares the codes that we name: code, phrase.
macro_rules! codes {
    ($($name:ident: $phrase:literal,)*) => {
        #[allow(missing_docs)] // The names are those of the standard, section 5.1.
        impl Ckr {
            $(pub(super) const $name: Self = Self(sys::$name);)*

            fn known(self) -> Option<(&'static str, &'static str)> {
                match self {
                    $(Self::$name => Some((stringify!($name), $phrase)),)*
                    _ => None,
                }
            }
        }

        #[cfg(test)]
        const ALL: &[Ckr] = &[$(Ckr::$name,)*];
    };
}

codes! {
    CKR_CANCEL: "the call was cancelled",
    CKR_HOST_MEMORY: "the module has no memory, or no access to what it needs",
    CKR_SLOT_ID_INVALID: "there is no such slot",
    CKR_GENERAL_ERROR: "the module gives no reason",
    CKR_FUNCTION_FAILED: "the module could not do it",
    CKR_ARGUMENTS_BAD: "the module does not take these arguments",
    CKR_NEED_TO_CREATE_THREADS: "the module must be allowed to create threads",
    CKR_CANT_LOCK: "the module cannot lock",
    CKR_ATTRIBUTE_READ_ONLY: "an attribute cannot be set here",
    CKR_ATTRIBUTE_SENSITIVE: "an attribute may not be read",
    CKR_ATTRIBUTE_TYPE_INVALID: "the object has no such attribute",
    CKR_ATTRIBUTE_VALUE_INVALID: "an attribute's value is not allowed",
    CKR_ACTION_PROHIBITED: "the token's policy forbids it",
    CKR_DATA_INVALID: "the data is not valid",
    CKR_DATA_LEN_RANGE: "the data has the wrong length",
    CKR_DEVICE_ERROR: "the device failed",
    CKR_DEVICE_MEMORY: "the device is out of memory",
    CKR_DEVICE_REMOVED: "the token was removed",
    CKR_ENCRYPTED_DATA_INVALID: "the wrapped key is not valid",
    CKR_ENCRYPTED_DATA_LEN_RANGE: "the wrapped key has the wrong length",
    CKR_FUNCTION_CANCELED: "the call was cancelled",
    CKR_FUNCTION_NOT_SUPPORTED: "the module does not have this function",
    CKR_KEY_HANDLE_INVALID: "the key is gone",
    CKR_KEY_SIZE_RANGE: "the token does not take keys of this size",
    CKR_KEY_TYPE_INCONSISTENT: "the key is of the wrong type",
    CKR_KEY_FUNCTION_NOT_PERMITTED: "the key may not be used for this",
    CKR_MECHANISM_INVALID: "the token does not have this mechanism",
    CKR_MECHANISM_PARAM_INVALID: "the token does not take these mechanism parameters",
    CKR_OBJECT_HANDLE_INVALID: "the object is gone",
    CKR_OPERATION_ACTIVE: "another operation is still active",
    CKR_OPERATION_NOT_INITIALIZED: "the operation was not begun",
    CKR_PIN_INCORRECT: "the PIN is wrong",
    CKR_PIN_INVALID: "the PIN has characters that the token does not take",
    CKR_PIN_LEN_RANGE: "the PIN is too short or too long for the token",
    CKR_PIN_EXPIRED: "the PIN has expired",
    CKR_PIN_LOCKED: "the PIN is locked",
    CKR_SESSION_CLOSED: "the session was closed",
    CKR_SESSION_COUNT: "the token has no session left",
    CKR_SESSION_HANDLE_INVALID: "the session is gone",
    CKR_SESSION_PARALLEL_NOT_SUPPORTED: "the module wants serial sessions",
    CKR_SESSION_READ_ONLY: "the session is read-only",
    CKR_SESSION_EXISTS: "another session is open",
    CKR_SESSION_READ_ONLY_EXISTS: "a read-only session is open",
    CKR_SESSION_READ_WRITE_SO_EXISTS: "the security officer is logged in",
    CKR_TEMPLATE_INCOMPLETE: "the module wants more attributes",
    CKR_TEMPLATE_INCONSISTENT: "the module does not take these attributes together",
    CKR_TOKEN_NOT_PRESENT: "the token is not present",
    CKR_TOKEN_NOT_RECOGNIZED: "the token is not recognized",
    CKR_TOKEN_WRITE_PROTECTED: "the token is write-protected",
    CKR_WRAPPED_KEY_INVALID: "the wrapped key is not valid",
    CKR_WRAPPED_KEY_LEN_RANGE: "the wrapped key has the wrong length",
    CKR_WRAPPING_KEY_HANDLE_INVALID: "the key may not be used for this",
    CKR_USER_ALREADY_LOGGED_IN: "the user is logged in already",
    CKR_USER_NOT_LOGGED_IN: "the user is not logged in",
    CKR_USER_PIN_NOT_INITIALIZED: "the token's user PIN was never set",
    CKR_USER_TYPE_INVALID: "the token does not have this kind of user",
    CKR_USER_ANOTHER_ALREADY_LOGGED_IN: "another user is logged in",
    CKR_USER_TOO_MANY_TYPES: "too many users are logged in",
    CKR_RANDOM_NO_RNG: "the token has no random number generator",
    CKR_BUFFER_TOO_SMALL: "the answer is longer than it may be",
    CKR_CRYPTOKI_NOT_INITIALIZED: "the module says that it is not initialized",
    CKR_CRYPTOKI_ALREADY_INITIALIZED: "the module is initialized already",
    CKR_NEW_PIN_MODE: "the token wants a new PIN",
    CKR_NEXT_OTP: "the token wants the next one-time password",
    CKR_EXCEEDED_MAX_ITERATIONS: "the device gave up",
    CKR_FIPS_SELF_TEST_FAILED: "the device's self-test failed",
    CKR_LIBRARY_LOAD_FAILED: "the module cannot load a library that it needs",
    CKR_PIN_TOO_WEAK: "the PIN is too weak",
    CKR_FUNCTION_REJECTED: "the token's owner rejected it",
    CKR_TOKEN_RESOURCE_EXCEEDED: "the token is out of resources",
    CKR_KEY_EXHAUSTED: "the key has been used as often as it may be",
    CKR_OPERATION_NOT_VALIDATED: "the token's validation forbids it",
    CKR_TOKEN_NOT_INITIALIZED: "the token is not initialized",
}

impl Ckr {
    /// What happened, in lower case.
    #[must_use]
    pub(super) fn phrase(self) -> &'static str {
        match self.known() {
            Some((_, phrase)) => phrase,
            None if self.0 >= Self::VENDOR => "the vendor's own code says why",
            None => "the code is not in the standard",
        }
    }

    /// What to do about it, where function and code tell.
    #[must_use]
    pub(super) fn hint(self, function: Function, no_key_file: bool) -> Option<&'static str> {
        if no_key_file && let Some(hint) = self.hint_without_file(function) {
            return Some(hint);
        }
        let hint = match (function, self) {
            (_, Self::CKR_PIN_INCORRECT | Self::CKR_PIN_INVALID | Self::CKR_PIN_LEN_RANGE) => {
                "correct the PIN in the key file, or in the PIN file that it names"
            }
            (_, Self::CKR_PIN_LOCKED) => {
                "have the token's security officer unlock the PIN, and correct it first wherever it is kept"
            }
            (_, Self::CKR_PIN_EXPIRED | Self::CKR_NEW_PIN_MODE) => {
                "set a new PIN with the token's own tool, then put it into the key file"
            }
            (_, Self::CKR_USER_PIN_NOT_INITIALIZED) => {
                "set the user PIN with the token's own tool (pkcs11-tool --init-pin)"
            }
            (_, Self::CKR_KEY_FUNCTION_NOT_PERMITTED) => {
                "the private key needs CKA_DECRYPT; make one with `ocihsm keys generate`"
            }
            (_, Self::CKR_SESSION_COUNT | Self::CKR_TOKEN_RESOURCE_EXCEEDED) => {
                "other programs hold the token's sessions; close them, or allow more in the HSM"
            }
            (
                Function::C_Initialize,
                Self::CKR_GENERAL_ERROR | Self::CKR_HOST_MEMORY | Self::CKR_FUNCTION_FAILED,
            ) => {
                "check the module's configuration and service, its variables under module.env in the key file, and \
                 that this user may use it"
            }
            (Function::C_Initialize, Self::CKR_ARGUMENTS_BAD) => {
                "check the module's configuration and module.env in the key file; a module that wants a string to be \
                 initialized with (NSS) takes it from module.init"
            }
            (Function::C_Initialize, Self::CKR_TOKEN_NOT_PRESENT | Self::CKR_DEVICE_ERROR) => {
                "check the module's configuration, and its variables under module.env in the key file"
            }
            (Function::C_Initialize, _) => {
                "compare the URI and module.env of the key file with the token"
            }
            (
                _,
                Self::CKR_DEVICE_ERROR | Self::CKR_DEVICE_REMOVED | Self::CKR_TOKEN_NOT_PRESENT,
            ) => "check that the HSM, or the service in front of it, can be reached from this node",
            _ => return None,
        };
        Some(hint)
    }

    /// The same, where no key file has any part in it.
    fn hint_without_file(self, function: Function) -> Option<&'static str> {
        Some(match (function, self) {
            (_, Self::CKR_PIN_INCORRECT | Self::CKR_PIN_INVALID | Self::CKR_PIN_LEN_RANGE) => {
                "give the right PIN"
            }
            (_, Self::CKR_PIN_EXPIRED | Self::CKR_NEW_PIN_MODE) => {
                "set a new PIN with the token's own tool, and give that one"
            }
            (Function::C_Initialize, _) => {
                "check the module's configuration and service, its variables in this shell, and that this user may use it"
            }
            _ => return None,
        })
    }

    const VENDOR: sys::CK_RV = sys::CKR_VENDOR_DEFINED;
}

/// The name in the standard; a code without one in hexadecimal.
impl fmt::Display for Ckr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{:#x}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phrase_is_in_our_style() {
        for code in ALL {
            let phrase = code.phrase();
            assert!(phrase.starts_with(char::is_lowercase), "{code}: {phrase}");
            assert!(!phrase.ends_with('.'), "{code}: {phrase}");
            assert!(code.to_string().starts_with("CKR_"), "{code}");
        }
    }

    #[test]
    fn unknown_codes_are_shown_as_numbers() {
        assert_eq!(Ckr(0x8000_0005).to_string(), "0x80000005");
        assert!(Ckr(0x8000_0005).phrase().contains("vendor"));
        assert!(Ckr(0x7777).phrase().contains("standard"));
    }

    #[test]
    fn a_wrong_pin_has_a_hint() {
        assert!(
            Ckr::CKR_PIN_INCORRECT
                .hint(Function::C_Login, false)
                .is_some()
        );
        assert!(Ckr::CKR_CANCEL.hint(Function::C_Login, false).is_none());
        let given = Ckr::CKR_PIN_INCORRECT
            .hint(Function::C_Login, true)
            .unwrap();
        assert!(!given.contains("key file"), "{given}");
    }
}
