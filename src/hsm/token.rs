//! What a token says of itself, and whether it is the one that a URI means.

use std::fmt;

use cryptoki_sys as sys;
use serde::{Deserialize, Serialize};

use crate::keys::uri::Pkcs11Uri;

/// What identifies a token, and what its state is (`CK_TOKEN_INFO`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::hsm) struct TokenInfo {
    /// The slot that it is in.
    pub(in crate::hsm) slot: sys::CK_SLOT_ID,
    /// Its label, without the blanks that fill the field; so also below.
    pub(in crate::hsm) label: String,
    /// Who made it.
    pub(in crate::hsm) manufacturer: String,
    /// Its model.
    pub(in crate::hsm) model: String,
    /// Its serial number.
    pub(in crate::hsm) serial: String,
    /// `CKF_` flags.
    pub(in crate::hsm) flags: sys::CK_FLAGS,
}

impl TokenInfo {
    pub(in crate::hsm) fn new(slot: sys::CK_SLOT_ID, info: &sys::CK_TOKEN_INFO) -> Self {
        Self {
            slot,
            label: text(&info.label),
            manufacturer: text(&info.manufacturerID),
            model: text(&info.model),
            serial: text(&info.serialNumber),
            flags: info.flags,
        }
    }

    /// Whether it is the one that a URI means. What the URI does not name does not matter (RFC 7512, section 2.5).
    pub(in crate::hsm) fn matches(&self, uri: &Pkcs11Uri) -> bool {
        fits(uri.token.as_deref(), &self.label)
            && fits(uri.manufacturer.as_deref(), &self.manufacturer)
            && fits(uri.model.as_deref(), &self.model)
            && fits(uri.serial.as_deref(), &self.serial)
            && uri
                .slot_id
                .is_none_or(|slot| slot as sys::CK_SLOT_ID == self.slot)
    }

    /// Whether private keys are hidden until somebody logs in.
    #[must_use]
    pub(in crate::hsm) fn needs_login(&self) -> bool {
        self.has(sys::CKF_LOGIN_REQUIRED)
    }

    /// Whether the PIN is typed at the device.
    #[must_use]
    pub(in crate::hsm) fn has_pin_pad(&self) -> bool {
        self.has(sys::CKF_PROTECTED_AUTHENTICATION_PATH)
    }

    /// Whether the token says that its PIN is locked.
    #[must_use]
    pub(in crate::hsm) fn is_locked(&self) -> bool {
        self.has(sys::CKF_USER_PIN_LOCKED)
    }

    /// Whether the token says that one more wrong PIN locks it.
    #[must_use]
    pub(in crate::hsm) fn is_final_try(&self) -> bool {
        self.has(sys::CKF_USER_PIN_FINAL_TRY)
    }

    /// Whether a wrong PIN was tried since the last right one.
    pub(in crate::hsm) fn had_wrong_pin(&self) -> bool {
        self.has(sys::CKF_USER_PIN_COUNT_LOW)
    }

    pub(in crate::hsm) fn is_initialized(&self) -> bool {
        self.has(sys::CKF_TOKEN_INITIALIZED)
    }

    /// Whether another slot shows the same token: nothing that it says of itself differs.
    pub(in crate::hsm) fn is_same(&self, other: &Self) -> bool {
        self.label == other.label
            && self.serial == other.serial
            && self.model == other.model
            && self.manufacturer == other.manufacturer
    }

    fn has(&self, flag: sys::CK_FLAGS) -> bool {
        self.flags & flag != 0
    }
}

/// What tells tokens apart.
impl fmt::Display for TokenInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} (serial {:?}, model {:?}, slot {})",
            self.label, self.serial, self.model, self.slot
        )
    }
}

/// Whether two URIs may mean one token: nothing that both name differs.
pub(in crate::hsm) fn may_be_one(one: &Pkcs11Uri, other: &Pkcs11Uri) -> bool {
    let same = |one: &Option<String>, other: &Option<String>| match (one, other) {
        (Some(one), Some(other)) => fits(Some(one), other.trim_end_matches([' ', '\0'])),
        _ => true,
    };
    same(&one.token, &other.token)
        && same(&one.manufacturer, &other.manufacturer)
        && same(&one.model, &other.model)
        && same(&one.serial, &other.serial)
        && (one.slot_id.is_none() || other.slot_id.is_none() || one.slot_id == other.slot_id)
}

/// Whether an attribute of a URI, where it is there, is that value. Blanks at the end fill a field of PKCS#11, and NULs
/// do in some modules, whose URIs other tools then write with them; so they never tell two values apart.
pub(in crate::hsm) fn fits(wanted: Option<&str>, actual: &str) -> bool {
    wanted.is_none_or(|wanted| wanted.trim_end_matches([' ', '\0']) == actual)
}

/// A fixed field without the blanks that fill it, and without the NULs with which some modules do.
pub(in crate::hsm) fn text(field: &[u8]) -> String {
    let end = field
        .iter()
        .rposition(|byte| !matches!(byte, b' ' | 0))
        .map_or(0, |last| last + 1);
    String::from_utf8_lossy(&field[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> TokenInfo {
        TokenInfo {
            slot: 3,
            label: "kbs".to_owned(),
            manufacturer: "IBM".to_owned(),
            model: "Soft".to_owned(),
            serial: "123".to_owned(),
            flags: 0,
        }
    }

    fn matches(uri: &str) -> bool {
        token().matches(&uri.parse().unwrap())
    }

    #[test]
    fn every_attribute_of_the_token_takes_part() {
        assert!(matches(
            "pkcs11:token=kbs;model=Soft;serial=123;manufacturer=IBM;slot-id=3;object=x"
        ));
        assert!(matches("pkcs11:token=kbs%20%20;object=x"));
        assert!(matches("pkcs11:token=kbs%00%00;serial=123%00%20;object=x"));
        for wrong in [
            "token=kb",
            "model=soft",
            "serial=1",
            "manufacturer=I",
            "slot-id=0",
        ] {
            assert!(!matches(&format!("pkcs11:{wrong};object=x")), "{wrong}");
        }
    }

    #[test]
    fn two_uris_may_mean_one_token_unless_they_name_two() {
        let may_be_one = |one: &str, other: &str| {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            let both = [may_be_one(&one, &other), may_be_one(&other, &one)];
            assert_eq!(both[0], both[1]);
            both[0]
        };
        let a = "pkcs11:token=a;serial=1;object=x";
        assert!(may_be_one(a, "pkcs11:token=a%00;object=y"));
        assert!(may_be_one(a, "pkcs11:slot-id=3;object=y"));
        assert!(!may_be_one(a, "pkcs11:token=b;object=x"));
        assert!(!may_be_one(a, "pkcs11:serial=2;object=x"));
        assert!(!may_be_one("pkcs11:slot-id=1", "pkcs11:slot-id=2"));
    }

    #[test]
    fn fields_lose_blanks_and_nuls_at_their_end_only() {
        assert_eq!(text(b"two words   "), "two words");
        assert_eq!(text(b"sw\0\0 \0"), "sw");
        assert_eq!(text(b"        "), "");
    }
}
