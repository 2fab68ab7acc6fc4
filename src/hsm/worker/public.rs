//! The public half of a key, read from its token: from the public key object, else from the private one.
//!
//! Logs in only where the token shows nothing otherwise.

use cryptoki_sys as sys;

use super::device::{Device, Key};
use super::module::{Object, Session};
use super::search;
use crate::hsm::failure::{Failure, Fault};
use crate::hsm::protocol::Components;
use crate::hsm::token::TokenInfo;

/// Reads the key that the URI means.
pub(super) fn public_key(device: &mut Device<'_>, key: &Key) -> Result<Components, Failure> {
    device.patiently(|device| {
        let token = device.token(&key.file.uri)?;
        let session = device.session(&token)?;
        if let Some(found) = shown(device, session, &token, key)? {
            return Ok(found);
        }
        let session = device.login(&token, key)?;
        if let Some(found) = shown(device, session, &token, key)? {
            return Ok(found);
        }
        let object = search::only(device, session, &token, &key.file.uri, sys::CKO_PRIVATE_KEY)?;
        components(device, session, object)
            .map_err(|fault| fault.on(&token.label))?
            .ok_or_else(|| search::none(&token, &key.file.uri))
    })
}

/// The key as the session shows it; `None` when it shows no public key.
pub(super) fn shown(
    device: &Device<'_>,
    session: Session,
    token: &TokenInfo,
    key: &Key,
) -> Result<Option<Components>, Failure> {
    match search::only(device, session, token, &key.file.uri, sys::CKO_PUBLIC_KEY) {
        Ok(object) => components(device, session, object).map_err(|fault| fault.on(&token.label)),
        Err(Failure::NoKey { .. }) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Modulus and exponent of an object; `None` where it does not show them.
pub(super) fn components(
    device: &Device<'_>,
    session: Session,
    object: Object,
) -> Result<Option<Components>, Fault> {
    let kinds = [sys::CKA_MODULUS, sys::CKA_PUBLIC_EXPONENT];
    let [modulus, exponent] = device.module.attributes(session, object, kinds)?;
    Ok(modulus.zip(exponent).and_then(|(modulus, exponent)| {
        (!modulus.is_empty() && !exponent.is_empty()).then_some(Components { modulus, exponent })
    }))
}
