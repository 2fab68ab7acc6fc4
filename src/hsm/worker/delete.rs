//! A key removed from its token, both halves. What the URI means has to be one key, or nothing is removed.
//!
//! Certificates stay. What failed is not tried again; asked once more, the half that is left goes.

use cryptoki_sys as sys;

use super::device::{Device, Key};
use super::module::{Object, Session};
use super::search;
use crate::hsm::Pair;
use crate::hsm::failure::{Failure, Fault};
use crate::hsm::token::TokenInfo;

/// What tells one key from another.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    kind: Option<Vec<u8>>,
    id: Option<Vec<u8>>,
    /// Of an RSA key, where the object shows it.
    modulus: Option<Vec<u8>>,
}

/// The objects of one key, the private ones first: what they open is what matters.
struct Found {
    token: TokenInfo,
    session: Session,
    objects: Vec<Object>,
    pair: Pair,
}

/// What would be removed.
pub(super) fn pair(device: &mut Device<'_>, key: &Key) -> Result<Pair, Failure> {
    found(device, key).map(|found| found.pair)
}

pub(super) fn delete(device: &mut Device<'_>, key: &Key) -> Result<Pair, Failure> {
    let found = found(device, key)?;
    for &object in &found.objects {
        let removed = device.module.remove(found.session, object);
        removed.map_err(|fault| fault.on(&found.token.label))?;
    }
    device.found.clear();
    Ok(found.pair)
}

fn found(device: &mut Device<'_>, key: &Key) -> Result<Found, Failure> {
    let (token, session) = device.patiently(|device| {
        let token = device.token(&key.file.uri)?;
        let session = device.writing_session(&token)?;
        device.login(&token, key)?;
        Ok((token, session))
    })?;
    let private = objects(device, session, &token, key, sys::CKO_PRIVATE_KEY)?;
    let public = objects(device, session, &token, key, sys::CKO_PUBLIC_KEY)?;
    let all: Vec<Object> = private.iter().chain(&public).copied().collect();
    let Some(&first) = all.first() else {
        return Err(search::none(&token, &key.file.uri));
    };
    let on_token = |fault: Fault| fault.on(&token.label);
    // Halves that do not show what they hold may be of two keys with one id.
    let few = private.len() <= 1 && public.len() <= 1;
    if !are_one(device, session, &all, few).map_err(on_token)? {
        // Each is told once, by one of its halves.
        let told = if private.is_empty() {
            &public
        } else {
            &private
        };
        let named = search::named(device, session, &token, &key.file.uri, told);
        return Err(named.map_err(on_token)?);
    }
    let names = [sys::CKA_ID, sys::CKA_LABEL];
    let names = device.module.attributes(session, first, names);
    let [id, label] = names.map_err(on_token)?.map(Option::unwrap_or_default);
    let pair = Pair {
        id,
        label: String::from_utf8_lossy(&label).into_owned(),
        private: private.len(),
        public: public.len(),
    };
    Ok(Found {
        token,
        session,
        objects: all,
        pair,
    })
}

fn objects(
    device: &Device<'_>,
    session: Session,
    token: &TokenInfo,
    key: &Key,
    class: sys::CK_OBJECT_CLASS,
) -> Result<Vec<Object>, Failure> {
    let uri = &key.file.uri;
    search::find(
        device,
        session,
        token,
        uri,
        search::wanted(class, None, uri),
    )
}

/// Whether all of these are halves of one key, as far as they tell; where there are not `few`, each has to tell.
fn are_one(
    device: &Device<'_>,
    session: Session,
    objects: &[Object],
    few: bool,
) -> Result<bool, Fault> {
    let identity = |&object: &Object| {
        let kinds = [sys::CKA_KEY_TYPE, sys::CKA_ID];
        let [kind, id] = device.module.attributes(session, object, kinds)?;
        let [modulus] = device
            .module
            .attributes(session, object, [sys::CKA_MODULUS])?;
        let modulus = modulus.filter(|modulus| !modulus.is_empty());
        Ok(Identity {
            kind,
            id,
            modulus: modulus.map(search::stripped),
        })
    };
    let all: Vec<Identity> = objects.iter().map(identity).collect::<Result<_, Fault>>()?;
    let moduli: Vec<_> = all.iter().filter_map(|one| one.modulus.as_ref()).collect();
    Ok((few || moduli.len() == all.len())
        && all
            .iter()
            .all(|one| (&one.kind, &one.id) == (&all[0].kind, &all[0].id))
        && moduli.iter().all(|one| *one == moduli[0]))
}
