//! Which private key on a token a URI means, and what it may do.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use cryptoki_sys as sys;

use super::curve::curve;
use super::device::{Device, Key};
use super::module::{Object, Session, Wanted};
use crate::hsm::failure::{Failure, Fault};
use crate::hsm::token::TokenInfo;
use crate::keys::uri::Pkcs11Uri;
use crate::operation::{KeyKind, OaepHash};

/// Most keys that one URI may mean.
const MAX_KEYS: usize = 64;

/// The private keys that a URI means, on a token that somebody is logged in to.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) token: TokenInfo,
    /// One, as a rule. Which of several is meant is found out by trying.
    pub(super) keys: Vec<PrivateKey>,
}

/// A private key, and what is known of it.
#[derive(Debug)]
pub(super) struct PrivateKey {
    pub(super) object: Object,
    pub(super) kind: KeyKind,
    /// Without leading zeros; `None` for a key on a curve, and where the token does not show it.
    modulus: Option<Vec<u8>>,
    /// `CKA_ALWAYS_AUTHENTICATE`, or what the token does.
    pub(super) always_authenticate: Cell<bool>,
    /// `CKA_DECRYPT`, where the token tells.
    pub(super) decrypts: Option<bool>,
    /// `CKA_UNWRAP`, likewise.
    pub(super) unwraps: Option<bool>,
    /// Hashes with which the token does not do OAEP.
    pub(super) raw: RefCell<Vec<OaepHash>>,
    /// How often an operation failed twice alike.
    pub(super) repeated: Cell<usize>,
}

/// What the private key is.
pub(super) fn kind(device: &mut Device<'_>, key: &Key) -> Result<KeyKind, Failure> {
    device.patiently(|device| {
        let found = found(device, key)?;
        let kinds: Vec<_> = found.keys.iter().map(|private| private.kind).collect();
        match kinds[..] {
            [kind, ref others @ ..] if others.iter().all(|other| *other == kind) => {
                match (kind, others) {
                    // Each would give an answer, and only one the right one.
                    (KeyKind::Ec(_), [_, ..]) => Err(several(device, key, &found)?),
                    _ => Ok(kind),
                }
            }
            ref sizes if sizes.iter().all(|kind| matches!(kind, KeyKind::Rsa { .. })) => {
                Ok(KeyKind::Rsa { modulus_len: None })
            }
            _ => Err(several(device, key, &found)?),
        }
    })
}

/// Logs in, and finds the private keys that the URI means. `type` may be the other half's: a key file names the pair, and
/// what lists keys often shows the public half alone.
pub(super) fn found(device: &mut Device<'_>, key: &Key) -> Result<Rc<Found>, Failure> {
    let uri = &key.file.uri;
    let name = uri.to_string();
    if let Some((_, found)) = device.found.iter().find(|(known, _)| *known == name) {
        return Ok(Rc::clone(found));
    }
    let token = device.token(uri)?;
    let session = device.login(&token, key)?;
    let on_token = |fault: Fault| fault.on(&token.label);
    let wanted = wanted(sys::CKO_PRIVATE_KEY, None, uri);
    let objects = find(device, session, &token, uri, wanted)?;
    let mut keys: Vec<PrivateKey> = Vec::new();
    for object in &objects {
        let described = describe(device, session, *object, uri).map_err(on_token)?;
        // Two objects with one modulus are one key.
        let is_known = |private: &PrivateKey| {
            private.modulus.is_some() && keys.iter().any(|key| key.modulus == private.modulus)
        };
        if let Some(private) = described.filter(|private| !is_known(private)) {
            keys.push(private);
        }
    }
    if keys.is_empty() {
        let (uri, token) = (uri.to_string(), token.label);
        return Err(match objects.is_empty() {
            true => Failure::NoKey { uri, token },
            false => Failure::KeyType { uri, token },
        });
    }
    let found = Rc::new(Found { token, keys });
    device.found.push((name, Rc::clone(&found)));
    Ok(found)
}

/// The object that an RSA key has in a class.
pub(super) fn only(
    device: &Device<'_>,
    session: Session,
    token: &TokenInfo,
    uri: &Pkcs11Uri,
    class: sys::CK_OBJECT_CLASS,
) -> Result<Object, Failure> {
    let on_token = |fault: Fault| fault.on(&token.label);
    let mut objects = Vec::new();
    for kind in [sys::CKK_RSA, sys::CKK_EC] {
        if objects.is_empty() {
            let wanted = wanted(class, Some(kind), uri);
            objects = find(device, session, token, uri, wanted)?;
        }
    }
    let (Some(&first), many) = (objects.first(), objects.len() > 1) else {
        return Err(none(token, uri));
    };
    if many {
        let modulus = |object: &Object| modulus(device, session, *object);
        let moduli = objects.iter().map(modulus).collect::<Result<Vec<_>, _>>();
        let moduli = moduli.map_err(on_token)?;
        if moduli[0].is_none() || moduli.iter().any(|other| *other != moduli[0]) {
            return Err(named(device, session, token, uri, &objects).map_err(on_token)?);
        }
    }
    Ok(first)
}

/// That there is none.
pub(super) fn none(token: &TokenInfo, uri: &Pkcs11Uri) -> Failure {
    Failure::NoKey {
        uri: uri.to_string(),
        token: token.label.clone(),
    }
}

pub(super) fn find(
    device: &Device<'_>,
    session: Session,
    token: &TokenInfo,
    uri: &Pkcs11Uri,
    wanted: Wanted<'_>,
) -> Result<Vec<Object>, Failure> {
    if !matches!(
        uri.object_type.as_deref(),
        None | Some("private" | "public")
    ) {
        return Err(none(token, uri));
    }
    let found = device.module.find(session, wanted, MAX_KEYS);
    found.map_err(|fault| fault.on(&token.label))
}

pub(super) fn wanted(
    class: sys::CK_OBJECT_CLASS,
    kind: Option<sys::CK_KEY_TYPE>,
    uri: &Pkcs11Uri,
) -> Wanted<'_> {
    Wanted {
        class,
        kind,
        id: uri.id.as_deref(),
        label: uri.object.as_deref(),
    }
}

/// A private key; `None` for one of a kind that we do not use.
fn describe(
    device: &Device<'_>,
    session: Session,
    object: Object,
    uri: &Pkcs11Uri,
) -> Result<Option<PrivateKey>, Fault> {
    // In one call. A module that stops at the first attribute which the key has not got as far as the modulus.
    let kinds = [
        sys::CKA_KEY_TYPE,
        sys::CKA_MODULUS,
        sys::CKA_ALWAYS_AUTHENTICATE,
        sys::CKA_DECRYPT,
        sys::CKA_UNWRAP,
        sys::CKA_EC_PARAMS,
    ];
    let [key_type, modulus, always, decrypts, unwraps, parameters] =
        device.module.attributes(session, object, kinds)?;
    let key_type = key_type
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(sys::CKK_RSA, sys::CK_KEY_TYPE::from_ne_bytes);
    let (kind, modulus) = match key_type {
        sys::CKK_RSA => {
            let modulus = match modulus.filter(|modulus| !modulus.is_empty()) {
                Some(modulus) => Some(stripped(modulus)),
                None => self::modulus(device, session, object)?.or(of_public(
                    device,
                    session,
                    uri,
                    sys::CKA_MODULUS,
                )?
                .map(stripped)),
            };
            let modulus_len = modulus.as_ref().map(Vec::len);
            (KeyKind::Rsa { modulus_len }, modulus)
        }
        sys::CKK_EC => {
            let parameters = match parameters.filter(|parameters| !parameters.is_empty()) {
                Some(parameters) => Some(parameters),
                None => match device
                    .module
                    .attributes(session, object, [sys::CKA_EC_PARAMS])?
                {
                    [Some(parameters)] if !parameters.is_empty() => Some(parameters),
                    _ => of_public(device, session, uri, sys::CKA_EC_PARAMS)?,
                },
            };
            match parameters.as_deref().and_then(curve) {
                Some(curve) => (KeyKind::Ec(curve), None),
                None => return Ok(None),
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(PrivateKey {
        object,
        kind,
        modulus,
        always_authenticate: Cell::new(boolean(always) == Some(true)),
        decrypts: boolean(decrypts),
        unwraps: boolean(unwraps),
        raw: RefCell::default(),
        repeated: Cell::default(),
    }))
}

/// An attribute of the public half, where there is one and the private half does not show it.
fn of_public(
    device: &Device<'_>,
    session: Session,
    uri: &Pkcs11Uri,
    kind: sys::CK_ATTRIBUTE_TYPE,
) -> Result<Option<Vec<u8>>, Fault> {
    let wanted = wanted(sys::CKO_PUBLIC_KEY, None, uri);
    match device.module.find(session, wanted, 2)?.as_slice() {
        [public] => {
            let [value] = device.module.attributes(session, *public, [kind])?;
            Ok(value.filter(|value| !value.is_empty()))
        }
        _ => Ok(None),
    }
}

/// The modulus of an object, without leading zeros.
fn modulus(
    device: &Device<'_>,
    session: Session,
    object: Object,
) -> Result<Option<Vec<u8>>, Fault> {
    let [modulus] = device
        .module
        .attributes(session, object, [sys::CKA_MODULUS])?;
    Ok(modulus.filter(|modulus| !modulus.is_empty()).map(stripped))
}

pub(super) fn stripped(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    number.drain(..zeros);
    number
}

/// A `CK_BBOOL`.
pub(super) fn boolean(value: Option<Vec<u8>>) -> Option<bool> {
    match value.as_deref() {
        Some([byte]) => Some(*byte != sys::CK_FALSE),
        _ => None,
    }
}

fn several(device: &mut Device<'_>, key: &Key, found: &Found) -> Result<Failure, Failure> {
    let session = device.session(&found.token)?;
    let objects: Vec<_> = found.keys.iter().map(|private| private.object).collect();
    named(device, session, &found.token, &key.file.uri, &objects)
        .map_err(|fault| fault.on(&found.token.label))
}

pub(super) fn named(
    device: &Device<'_>,
    session: Session,
    token: &TokenInfo,
    uri: &Pkcs11Uri,
    objects: &[Object],
) -> Result<Failure, Fault> {
    let name = |&object: &Object| {
        let kinds = [sys::CKA_ID, sys::CKA_LABEL];
        let [id, label] = device.module.attributes(session, object, kinds)?;
        let id: String = (id.unwrap_or_default().iter())
            .map(|byte| format!("%{byte:02X}"))
            .collect();
        let label = label.unwrap_or_default();
        Ok(format!("id={id} {:?}", String::from_utf8_lossy(&label)))
    };
    Ok(Failure::SeveralKeys {
        uri: uri.to_string(),
        token: token.label.clone(),
        keys: objects.iter().map(name).collect::<Result<_, Fault>>()?,
    })
}
