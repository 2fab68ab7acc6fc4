//! What a module shows: its tokens, and the RSA and EC keys on each.
//!
//! Logs in only with a PIN that comes with the URI of one token, never to see what several of them make of it.

use cryptoki_sys as sys;
use serde::{Deserialize, Serialize};

use super::curve::curve;
use super::device::{Device, Key};
use super::module::{Object, Session, Wanted};
use crate::hsm::failure::{Failure, Fault};
use crate::hsm::protocol::KeyPin;
use crate::hsm::token::TokenInfo;
use crate::hsm::{Permission, ShownKey, ShownKind};
use crate::keys::uri::Pkcs11Uri;

/// Most keys of a token that are listed, of each half.
const MAX_KEYS: usize = 1024;

/// A token, and its keys or why they cannot be listed.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::hsm) struct Listed {
    pub(in crate::hsm) info: TokenInfo,
    pub(in crate::hsm) mechanisms: Vec<String>,
    pub(in crate::hsm) keys: Result<Vec<ShownKey>, Failure>,
}

pub(super) fn list(device: &mut Device<'_>, key: &Key) -> Result<Vec<Listed>, Failure> {
    let uri = &key.file.uri;
    device.patiently(|device| {
        if !matches!(key.pin, KeyPin::None) {
            let info = device.token(uri)?;
            let session = device.login(&info, key)?;
            let keys = keys(device, session).map_err(|failure| failure.on(&info.label))?;
            return Ok(vec![Listed {
                mechanisms: mechanisms(device, &info),
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
            Listed {
                mechanisms: mechanisms(device, &info),
                info,
                keys,
            }
        });
        Ok(listed.collect())
    })
}

/// What the token does of what opens layers; nothing where it does not tell.
fn mechanisms(device: &Device<'_>, token: &TokenInfo) -> Vec<String> {
    let module = &device.module;
    let told = [
        (
            "CKM_RSA_PKCS_OAEP",
            module.decrypts(token.slot, sys::CKM_RSA_PKCS_OAEP),
        ),
        (
            "CKM_RSA_X_509",
            module.decrypts(token.slot, sys::CKM_RSA_X_509),
        ),
        (
            "CKM_RSA_PKCS",
            module.decrypts(token.slot, sys::CKM_RSA_PKCS),
        ),
        (
            "CKM_ECDH1_DERIVE",
            module.has(token.slot, sys::CKM_ECDH1_DERIVE),
        ),
    ];
    let does = told
        .into_iter()
        .filter(|(_, does)| matches!(does, Ok(true)));
    does.map(|(name, _)| name.to_owned()).collect()
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
fn keys(device: &Device<'_>, session: Session) -> Result<Vec<ShownKey>, Stop> {
    let mut halves: Vec<(Vec<u8>, ShownKey)> = Vec::new();
    let classes = [sys::CKO_PUBLIC_KEY, sys::CKO_PRIVATE_KEY];
    let wanted = [sys::CKK_RSA, sys::CKK_EC]
        .into_iter()
        .flat_map(|kind| classes.map(|class| (kind, class)));
    for (kind, class) in wanted {
        let wanted = Wanted {
            class,
            kind: Some(kind),
            id: None,
            label: None,
        };
        let objects = device.module.find(session, wanted, MAX_KEYS + 1)?;
        if objects.len() > MAX_KEYS {
            return Err(Stop::TooMany);
        }
        for object in objects {
            let (number, half) = half(device, session, object, class, kind)?;
            let other = halves.iter_mut().find(|(other_number, other)| {
                half.private
                    && !other.private
                    && other.id == half.id
                    && other.kind == half.kind
                    && *other_number == number
            });
            match other {
                Some((_, public)) => public.join(half),
                None => halves.push((number, half)),
            }
        }
    }
    Ok(halves.into_iter().map(|(_, key)| key).collect())
}

/// One object, with what it has in common with its other half: the modulus, or the name of the curve, since private keys on
/// curves show no point; and where the id says nothing, the label has to.
fn half(
    device: &Device<'_>,
    session: Session,
    object: Object,
    class: sys::CK_OBJECT_CLASS,
    kind: sys::CK_KEY_TYPE,
) -> Result<(Vec<u8>, ShownKey), Fault> {
    let private = class == sys::CKO_PRIVATE_KEY;
    let is_rsa = kind == sys::CKK_RSA;
    let permissions: &[_] = match (private, is_rsa) {
        (true, true) => &[
            (sys::CKA_DECRYPT, Permission::Decrypt),
            (sys::CKA_SIGN, Permission::Sign),
            (sys::CKA_UNWRAP, Permission::Unwrap),
            (sys::CKA_EXTRACTABLE, Permission::Leave),
        ],
        (true, false) => &[
            (sys::CKA_DERIVE, Permission::Derive),
            (sys::CKA_SIGN, Permission::Sign),
            (sys::CKA_EXTRACTABLE, Permission::Leave),
        ],
        (false, true) => &[
            (sys::CKA_ENCRYPT, Permission::Encrypt),
            (sys::CKA_VERIFY, Permission::Verify),
            (sys::CKA_WRAP, Permission::Wrap),
        ],
        (false, false) => &[(sys::CKA_VERIFY, Permission::Verify)],
    };
    let module = &device.module;
    let number = match is_rsa {
        true => sys::CKA_MODULUS,
        false => sys::CKA_EC_PARAMS,
    };
    let attributes = [sys::CKA_ID, sys::CKA_LABEL, number];
    let [id, label, number] = module.attributes(session, object, attributes)?;
    let (id, mut number) = (id.unwrap_or_default(), number.unwrap_or_default());
    let label = label
        .and_then(|label| String::from_utf8(label).ok())
        .unwrap_or_default();
    let mut may = Vec::new();
    for &(kind, permission) in permissions {
        let [value] = module.attributes(session, object, [kind])?;
        if value.is_some_and(|value| value.first().is_some_and(|&byte| byte != sys::CK_FALSE)) {
            may.push(permission);
        }
    }
    let kind = if is_rsa {
        let zeros = number.iter().take_while(|&&byte| byte == 0).count();
        number.drain(..zeros);
        let bits = bits(&number);
        ShownKind::Rsa { bits }
    } else {
        let curve = curve(&number);
        if id.is_empty() {
            number.extend_from_slice(label.as_bytes());
        }
        ShownKind::Ec { curve }
    };
    let key = ShownKey {
        id,
        label,
        kind,
        public: !private,
        private,
        may,
    };
    Ok((number, key))
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
