//! The public half of a key, read from its token: from the public key object, else from the private one.
//!
//! Logs in only where the token shows nothing otherwise.

use cryptoki_sys as sys;

use super::curve::curve;
use super::device::{Device, Key};
use super::module::{Object, Session};
use super::search;
use crate::hsm::failure::{Failure, Fault};
use crate::hsm::protocol::Components;
use crate::hsm::token::TokenInfo;
use crate::operation::Curve;

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

/// The public half of an object; `None` where it does not show it.
pub(super) fn components(
    device: &Device<'_>,
    session: Session,
    object: Object,
) -> Result<Option<Components>, Fault> {
    let kinds = [sys::CKA_MODULUS, sys::CKA_PUBLIC_EXPONENT];
    let [modulus, exponent] = device.module.attributes(session, object, kinds)?;
    if let Some((modulus, exponent)) = modulus.zip(exponent)
        && !modulus.is_empty()
        && !exponent.is_empty()
    {
        return Ok(Some(Components::Rsa { modulus, exponent }));
    }
    let kinds = [sys::CKA_EC_PARAMS, sys::CKA_EC_POINT];
    let [parameters, point] = device.module.attributes(session, object, kinds)?;
    Ok(parameters.zip(point).and_then(|(parameters, point)| {
        let curve = curve(&parameters)?;
        Some(Components::Ec {
            curve,
            point: uncompressed(curve, &point)?.to_vec(),
        })
    }))
}

/// The point at the end of `CKA_EC_POINT`: an OCTET STRING by the standard, whose length tpm2-pkcs11 writes wrongly for
/// P-521, and the bare point in some tokens.
fn uncompressed(curve: Curve, attribute: &[u8]) -> Option<&[u8]> {
    let start = attribute.len().checked_sub(1 + 2 * curve.field_len())?;
    Some(&attribute[start..]).filter(|point| point[0] == 4)
}
