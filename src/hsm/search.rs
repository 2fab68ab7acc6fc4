//! The one RSA key on a token that a URI means.

use cryptoki_sys as sys;

use super::device::Device;
use super::failure::{Failure, Fault};
use super::module::{Object, Session, Wanted};
use super::token::TokenInfo;
use crate::keys::uri::Pkcs11Uri;

/// Most keys that are listed when several match.
const MAX_LISTED: usize = 8;

/// Finds it. `type` may be the other half's: a key file names the pair, and what lists keys often shows the public
/// half alone.
pub(super) fn only(
    device: &Device<'_>,
    session: Session,
    token: &TokenInfo,
    uri: &Pkcs11Uri,
    class: sys::CK_OBJECT_CLASS,
) -> Result<Object, Failure> {
    let on_token = |fault: Fault| fault.on(&token.label);
    if !matches!(
        uri.object_type.as_deref(),
        None | Some("private" | "public")
    ) {
        return Err(none(token, uri));
    }
    let found = device
        .module
        .find(session, wanted(class, uri), MAX_LISTED)
        .map_err(on_token)?;
    match found.as_slice() {
        [object] => Ok(*object),
        [] => Err(none(token, uri)),
        several => Err(Failure::SeveralKeys {
            uri: uri.to_string(),
            token: token.label.clone(),
            keys: several
                .iter()
                .map(|&object| describe(device, session, object))
                .collect::<Result<_, _>>()
                .map_err(on_token)?,
        }),
    }
}

/// That there is none.
pub(super) fn none(token: &TokenInfo, uri: &Pkcs11Uri) -> Failure {
    Failure::NoKey {
        uri: uri.to_string(),
        token: token.label.clone(),
    }
}

/// What to look for.
pub(super) fn wanted(class: sys::CK_OBJECT_CLASS, uri: &Pkcs11Uri) -> Wanted<'_> {
    Wanted {
        class,
        id: uri.id.as_deref(),
        label: uri.object.as_deref(),
    }
}

fn describe(device: &Device<'_>, session: Session, object: Object) -> Result<String, Fault> {
    let kinds = [sys::CKA_ID, sys::CKA_LABEL];
    let [id, label] = device.module.attributes(session, object, kinds)?;
    let id: String = (id.unwrap_or_default().iter())
        .map(|byte| format!("%{byte:02X}"))
        .collect();
    let label = label.unwrap_or_default();
    Ok(format!("id={id} {:?}", String::from_utf8_lossy(&label)))
}
