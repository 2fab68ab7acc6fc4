//! A new RSA pair, made in a token: it decrypts, and never leaves.
//!
//! The only work here that changes a token. It logs in as unwrapping does, and is never repeated: who asks twice
//! would have two keys.

use cryptoki_sys as sys;

use super::ckr::Ckr;
use super::device::{Device, Key, Patience};
use super::failure::{Failure, Fault};
use super::function::Function;
use super::module::{NewPair, Object, Session, Wanted};
use super::public::{self, Components};
use super::token::TokenInfo;
use super::{HsmSettings, ask_about};
use crate::error::Result;
use crate::keys::TokenKey;
use crate::keys::public::PublicKey;

/// A pair to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// `CKA_LABEL` of both halves.
    pub label: String,
    /// `CKA_ID` of both halves.
    pub id: Vec<u8>,
    /// Size of the modulus in bits.
    pub bits: u32,
}

/// Makes a pair in the one token that the URI means, with the PIN that comes with it. Returns the public half.
///
/// # Errors
/// [`Error::KeyExists`](crate::Error::KeyExists) when the token holds a key of that label or id;
/// [`Error::NewKeySize`](crate::Error::NewKeySize) when it makes none of that size; of the token and the login, as
/// [`unwrap`](super::unwrap()).
pub fn generate(settings: &HsmSettings, token: &TokenKey, new: &NewKey) -> Result<PublicKey> {
    let Components { modulus, exponent } =
        ask_about(settings, token, |device, key| make(device, key, new))?;
    PublicKey::from_components(&new.label, &modulus, &exponent)
}

fn make(device: &mut Device<'_>, key: &Key<'_>, new: &NewKey) -> Result<Components, Failure> {
    let (token, session) = device.patiently(Patience::Some, |device| {
        let token = device.token(&key.file.uri)?;
        device.open_for_writing(&token)?;
        let session = device.login(&token, key)?;
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
            let wanted = Wanted { class, id, label };
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
    let make = |mechanism| {
        let pair = NewPair {
            mechanism,
            id: &new.id,
            label: &new.label,
            bits: new.bits,
        };
        (mechanism, module.generate_pair(session, pair))
    };
    // HSMs under FIPS 140 have the second alone.
    let (mechanism, made) = match make(sys::CKM_RSA_PKCS_KEY_PAIR_GEN) {
        (_, Err(fault)) if fault.code == Ckr::CKR_MECHANISM_INVALID => {
            make(sys::CKM_RSA_X9_31_KEY_PAIR_GEN)
        }
        made => made,
    };
    made.map_err(|fault| {
        // Modules have many words for a size that they do not make.
        match module.key_sizes(token.slot, mechanism) {
            Ok((min, max))
                if fault.function == Function::C_GenerateKeyPair
                    && !(min..=max).contains(&new.bits.into()) =>
            {
                Failure::KeySizes {
                    token: token.label.clone(),
                    bits: new.bits,
                    min,
                    max,
                }
            }
            _ => fault.on(&token.label),
        }
    })
}
