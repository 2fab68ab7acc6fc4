//! What a module shows: its tokens, and the RSA keys on each. For whoever looks for the URI of a key.
//!
//! Logs in only with a PIN that comes with the URI of one token, never to see what several of them make of it.

use std::fmt;

use cryptoki_sys as sys;
use serde::{Deserialize, Serialize};

use super::device::{Device, Key, KeyPin, Patience};
use super::failure::{Failure, Fault};
use super::module::{Object, Session, Wanted};
use super::token::TokenInfo;
use super::{HsmSettings, ask_about};
use crate::error::Result;
use crate::keys::TokenKey;
use crate::keys::uri::Pkcs11Uri;

/// Most keys of a token that are listed, of each half.
const MAX_KEYS: usize = 1024;

/// A token and what it shows of its keys.
#[derive(Debug)]
pub struct Token {
    /// Its label.
    pub label: String,
    /// Who made it.
    pub manufacturer: String,
    /// Its model.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// The slot that it is in.
    pub slot: u64,
    /// Private keys are hidden until somebody logs in.
    pub needs_login: bool,
    /// The PIN is typed at the device.
    pub has_pin_pad: bool,
    /// The token says that its PIN is locked.
    pub is_locked: bool,
    /// The token says that one more wrong PIN locks it.
    pub is_final_try: bool,
    /// Its RSA keys, or why they cannot be listed.
    pub keys: Result<Vec<RsaKey>>,
}

/// An RSA key, or the half of it that the token shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RsaKey {
    /// `CKA_ID`, empty where it has none.
    pub id: Vec<u8>,
    /// `CKA_LABEL`, empty where it has none or one that is not UTF-8.
    pub label: String,
    /// Size in bits; 0 where the token does not show the modulus.
    pub bits: u32,
    /// The public half was seen.
    pub public: bool,
    /// The private half was seen.
    pub private: bool,
    /// What the halves that were seen may do.
    pub may: Vec<Permission>,
}

/// Something that a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// `CKA_ENCRYPT`: encrypt with the public half.
    Encrypt,
    /// `CKA_VERIFY`: verify signatures.
    Verify,
    /// `CKA_WRAP`: wrap other keys.
    Wrap,
    /// `CKA_DECRYPT`: decrypt with the private half, all that a layer needs.
    Decrypt,
    /// `CKA_SIGN`: sign.
    Sign,
    /// `CKA_UNWRAP`: bring wrapped keys into the token.
    Unwrap,
    /// `CKA_EXTRACTABLE`: leave the token.
    Leave,
}

/// Every token that the URI may mean, with its RSA keys. A URI that names nothing means all of them.
///
/// Private keys are seen after a login: where the URI comes with a PIN, or with `pin-source`. It has to mean one
/// token then.
///
/// # Errors
/// [`Error::TokenNotFound`](crate::Error::TokenNotFound) where the URI names a token and none matches; whatever else
/// keeps the module from listing its tokens; of a login, as [`unwrap`](super::unwrap()).
pub fn tokens(settings: &HsmSettings, key: &TokenKey, patience: Patience) -> Result<Vec<Token>> {
    let listed = ask_about(settings, key, |device, key| list(device, patience, key))?;
    let tokens = listed.into_iter().map(|Listed { info, keys }| Token {
        slot: info.slot,
        needs_login: info.needs_login(),
        has_pin_pad: info.has_pin_pad(),
        is_locked: info.is_locked(),
        is_final_try: info.is_final_try(),
        label: info.label,
        manufacturer: info.manufacturer,
        model: info.model,
        serial: info.serial,
        keys: keys.map_err(|failure| {
            failure.into_error(&key.module, |_| {
                unreachable!(
                    "a token whose PIN is wanted is the only one, and its error was returned above"
                )
            })
        }),
    });
    Ok(tokens.collect())
}

/// The verb.
impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encrypt => "encrypt",
            Self::Verify => "verify",
            Self::Wrap => "wrap",
            Self::Decrypt => "decrypt",
            Self::Sign => "sign",
            Self::Unwrap => "unwrap",
            Self::Leave => "leave",
        })
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Listed {
    info: TokenInfo,
    keys: Result<Vec<RsaKey>, Failure>,
}

fn list(
    device: &mut Device<'_>,
    patience: Patience,
    key: &Key<'_>,
) -> Result<Vec<Listed>, Failure> {
    let uri = &key.file.uri;
    device.patiently(patience, |device| {
        if !matches!(key.pin, KeyPin::None) {
            let info = device.token(uri)?;
            let session = device.login(&info, key)?;
            let keys = keys(device, session).map_err(|failure| failure.on(&info.label))?;
            return Ok(vec![Listed {
                info,
                keys: Ok(keys),
            }]);
        }
        let found = device.tokens(uri)?;
        if found.is_empty() && names_a_token(uri) {
            return Err(device.no_token(uri));
        }
        let listed = found.into_iter().map(|info| {
            let keys = device
                .session(&info)
                .and_then(|session| keys(device, session).map_err(|stop| stop.on(&info.label)));
            Listed { info, keys }
        });
        Ok(listed.collect())
    })
}

fn names_a_token(uri: &Pkcs11Uri) -> bool {
    let texts = [&uri.token, &uri.serial, &uri.model, &uri.manufacturer];
    uri.slot_id.is_some() || texts.into_iter().any(Option::is_some)
}

/// Why a token's keys cannot be listed.
enum Stop {
    Fault(Fault),
    TooMany,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Stop {
    fn on(self, token: &str) -> Failure {
        match self {
            Self::Fault(fault) => fault.on(token),
            Self::TooMany => Failure::TooManyKeys {
                limit: MAX_KEYS as u64,
            },
        }
    }
}

/// The keys that a session shows, the halves of a pair in one.
fn keys(device: &Device<'_>, session: Session) -> Result<Vec<RsaKey>, Stop> {
    let mut halves: Vec<(Vec<u8>, RsaKey)> = Vec::new();
    for class in [sys::CKO_PUBLIC_KEY, sys::CKO_PRIVATE_KEY] {
        let wanted = Wanted {
            class,
            id: None,
            label: None,
        };
        let objects = device.module.find_all(session, wanted, MAX_KEYS + 1)?;
        if objects.len() > MAX_KEYS {
            return Err(Stop::TooMany);
        }
        for object in objects {
            let (modulus, half) = half(device, session, object, class)?;
            let other = halves.iter_mut().find(|(other_modulus, other)| {
                half.private && !other.private && other.id == half.id && *other_modulus == modulus
            });
            match other {
                Some((_, public)) => public.join(half),
                None => halves.push((modulus, half)),
            }
        }
    }
    Ok(halves.into_iter().map(|(_, key)| key).collect())
}

/// One object, with its modulus.
fn half(
    device: &Device<'_>,
    session: Session,
    object: Object,
    class: sys::CK_OBJECT_CLASS,
) -> Result<(Vec<u8>, RsaKey), Fault> {
    let private = class == sys::CKO_PRIVATE_KEY;
    let permissions: &[_] = if private {
        &[
            (sys::CKA_DECRYPT, Permission::Decrypt),
            (sys::CKA_SIGN, Permission::Sign),
            (sys::CKA_UNWRAP, Permission::Unwrap),
            (sys::CKA_EXTRACTABLE, Permission::Leave),
        ]
    } else {
        &[
            (sys::CKA_ENCRYPT, Permission::Encrypt),
            (sys::CKA_VERIFY, Permission::Verify),
            (sys::CKA_WRAP, Permission::Wrap),
        ]
    };
    let module = &device.module;
    let [id, label, modulus] = module.attributes(
        session,
        object,
        [sys::CKA_ID, sys::CKA_LABEL, sys::CKA_MODULUS],
    )?;
    let mut may = Vec::new();
    for &(kind, permission) in permissions {
        let [value] = module.attributes(session, object, [kind])?;
        if value.is_some_and(|value| value.first().is_some_and(|&byte| byte != sys::CK_FALSE)) {
            may.push(permission);
        }
    }
    let mut modulus = modulus.unwrap_or_default();
    let zeros = modulus.iter().take_while(|&&byte| byte == 0).count();
    modulus.drain(..zeros);
    let key = RsaKey {
        id: id.unwrap_or_default(),
        label: label
            .and_then(|label| String::from_utf8(label).ok())
            .unwrap_or_default(),
        bits: bits(&modulus),
        public: !private,
        private,
        may,
    };
    Ok((modulus, key))
}

impl RsaKey {
    /// Adds the private half, whose name is the one that a URI has to give.
    fn join(&mut self, private: Self) {
        self.label = private.label;
        self.private = true;
        self.may.extend(private.may);
    }
}

fn bits(modulus: &[u8]) -> u32 {
    let unused = modulus.first().map_or(0, |byte| byte.leading_zeros());
    u32::try_from(modulus.len() * 8).map_or(0, |bits| bits - unused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_number() {
        assert_eq!(bits(&[]), 0);
        assert_eq!(bits(&[0x80, 0]), 16);
        assert_eq!(bits(&[1, 0]), 9);
    }

    #[test]
    fn only_a_uri_that_names_a_token_misses_one() {
        for (uri, names) in [
            ("pkcs11:", false),
            ("pkcs11:object=a?module-name=m", false),
            ("pkcs11:token=t", true),
            ("pkcs11:slot-id=0", true),
            ("pkcs11:serial=1", true),
        ] {
            assert_eq!(names_a_token(&uri.parse().unwrap()), names, "{uri}");
        }
    }
}
