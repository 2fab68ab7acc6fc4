//! A new pair, made in a token, RSA or elliptic: it decrypts, or agrees on secrets, and never leaves.
//!
//! Work that changes a token, as only this and `delete` do. It logs in as unwrapping does. What failed is not tried again, since
//! a key may have been made all the same; only a request that was refused is made in another way.

use cryptoki_sys as sys;

use super::curve::parameters;
use super::device::{Device, Key};
use super::module::{NewEllipticPair, NewPair, Object, Session, Wanted};
use super::public;
use crate::hsm::NewKey;
use crate::hsm::ckr::Ckr;
use crate::hsm::failure::{Failure, Fault};
use crate::hsm::protocol::Components;
use crate::hsm::token::TokenInfo;
use crate::operation::Curve;

pub(super) fn make(
    device: &mut Device<'_>,
    key: &Key,
    new: &NewKey,
) -> Result<Components, Failure> {
    let (token, session) = device.patiently(|device| {
        let token = device.token(&key.file.uri)?;
        let session = device.writing_session(&token)?;
        device.login(&token, key)?;
        Ok((token, session))
    })?;
    let on_token = |fault: Fault| fault.on(&token.label);
    refuse_known(device, session, &token, new)?;
    let (public_key, private_key) = pair(device, session, &token, new)?;
    let read = |object| public::components(device, session, object).map_err(on_token);
    match read(public_key)? {
        Some(components) => Ok(components),
        None => read(private_key)?.ok_or_else(|| Failure::NoKey {
            uri: key.file.uri.to_string(),
            token: token.label.clone(),
        }),
    }
}

/// A second key of one name could be told from the first by nobody who decrypts.
fn refuse_known(
    device: &Device<'_>,
    session: Session,
    token: &TokenInfo,
    new: &NewKey,
) -> Result<(), Failure> {
    for class in [sys::CKO_PRIVATE_KEY, sys::CKO_PUBLIC_KEY] {
        let by = |id, label| {
            let wanted = Wanted {
                class,
                // Whoever decrypts looks for keys of every kind.
                kind: None,
                id,
                label,
            };
            let found = device.module.find(session, wanted, 1);
            found.map_err(|fault| fault.on(&token.label))
        };
        let key = if !by(None, Some(&new.label))?.is_empty() {
            format!("the label {:?}", new.label)
        } else if !by(Some(&new.id), None)?.is_empty() {
            let id: String = new.id.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("the id {id}")
        } else {
            continue;
        };
        return Err(Failure::KeyExists {
            token: token.label.clone(),
            key,
        });
    }
    Ok(())
}

fn pair(
    device: &Device<'_>,
    session: Session,
    token: &TokenInfo,
    new: &NewKey,
) -> Result<(Object, Object), Failure> {
    let module = &device.module;
    if let Some(curve) = new.curve {
        let made = elliptic_pair(device, session, new, curve);
        return made.map_err(|fault| fault.on(&token.label));
    }
    let mut pair = NewPair {
        mechanism: sys::CKM_RSA_PKCS_KEY_PAIR_GEN,
        id: &new.id,
        label: &new.label,
        bits: new.bits,
        no_signing: !breaks_when_refusing(device).map_err(|fault| fault.on(&token.label))?,
    };
    let mut made = module.generate_pair(session, pair);
    if matches!(made, Err(fault) if fault.code == Ckr::CKR_MECHANISM_INVALID) {
        // HSMs under FIPS 140 have this one alone.
        pair.mechanism = sys::CKM_RSA_X9_31_KEY_PAIR_GEN;
        made = module.generate_pair(session, pair);
    }
    let Err(fault) = made else {
        return made.map_err(|fault| fault.on(&token.label));
    };
    // Modules have many words for a size that they do not make.
    if let Ok((min, max)) = module.key_sizes(token.slot, pair.mechanism)
        && !(min..=max).contains(&new.bits.into())
    {
        return Err(Failure::KeySizes {
            token: token.label.clone(),
            bits: new.bits,
            min,
            max,
        });
    }
    if refuses_template(fault) {
        pair.no_signing = false;
        made = module.generate_pair(session, pair);
    }
    made.map_err(|fault| fault.on(&token.label))
}

fn elliptic_pair(
    device: &Device<'_>,
    session: Session,
    new: &NewKey,
    curve: Curve,
) -> Result<(Object, Object), Fault> {
    let is_tpm = breaks_when_refusing(device)?;
    let mut pair = NewEllipticPair {
        id: &new.id,
        label: &new.label,
        parameters: parameters(curve),
        // A TPM derives with a key alone that may decrypt as well; NSS makes none that may.
        decrypts: is_tpm,
        no_signing: !is_tpm,
    };
    match device.module.generate_elliptic_pair(session, pair) {
        Err(fault) if refuses_template(fault) && pair.no_signing => {
            pair.no_signing = false;
            device.module.generate_elliptic_pair(session, pair)
        }
        made => made,
    }
}

/// Whether the module must not be asked for a key that does not sign: tpm2-pkcs11 makes none, and leaves objects in the
/// TPM when it fails, until there is no room for another login.
fn breaks_when_refusing(device: &Device<'_>) -> Result<bool, Fault> {
    let (_, description, _) = device.module.library_info()?;
    Ok(description.starts_with("TPM2"))
}

/// What modules answer to attributes that they cannot give to a key; then no key was made.
fn refuses_template(fault: Fault) -> bool {
    matches!(
        fault.code,
        Ckr::CKR_TEMPLATE_INCONSISTENT
            | Ckr::CKR_ATTRIBUTE_VALUE_INVALID
            | Ckr::CKR_ATTRIBUTE_TYPE_INVALID
            | Ckr::CKR_ATTRIBUTE_READ_ONLY
    )
}
