//! What a token and one of its keys say of themselves: who made it, what state its PIN is in, what the key may do.
//!
//! For `doctor`. Logs in as unwrapping does, once.

use cryptoki_sys as sys;
use serde::{Deserialize, Serialize};

use super::device::{Device, Key};
use super::public;
use super::search::{self, boolean};
use crate::hsm::failure::{Failure, Fault};
use crate::hsm::protocol::Components;
use crate::hsm::token::TokenInfo;

/// What the module's process reports.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::hsm) struct Report {
    pub(in crate::hsm) token: TokenInfo,
    pub(in crate::hsm) components: Components,
    /// What the key may do, and how well it is kept.
    pub(in crate::hsm) usage: Usage,
    /// `CKM_RSA_PKCS_OAEP`, and whether it decrypts.
    pub(in crate::hsm) oaep: bool,
    /// `CKM_RSA_X_509`, likewise.
    pub(in crate::hsm) raw_rsa: bool,
    /// `CKM_ECDH1_DERIVE`.
    pub(in crate::hsm) ecdh: bool,
}

/// Attributes of a private key; `None` where the token does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// `CKA_DECRYPT`.
    pub decrypt: Option<bool>,
    /// `CKA_DERIVE`, of an EC key.
    pub derive: Option<bool>,
    /// `CKA_SENSITIVE`: its value is not shown in the clear.
    pub sensitive: Option<bool>,
    /// `CKA_EXTRACTABLE`: it can leave the token, if wrapped.
    pub extractable: Option<bool>,
}

pub(super) fn probe(device: &mut Device<'_>, key: &Key) -> Result<Report, Failure> {
    device.patiently(|device| {
        let uri = &key.file.uri;
        let token = device.token(uri)?;
        // As the token was before the login, which clears what it remembers of wrong PINs.
        let session = device.login(&token, key)?;
        let private = search::only(device, session, &token, uri, sys::CKO_PRIVATE_KEY)?;
        let module = &device.module;
        let report = || {
            let kinds = [
                sys::CKA_DECRYPT,
                sys::CKA_DERIVE,
                sys::CKA_SENSITIVE,
                sys::CKA_EXTRACTABLE,
            ];
            let [decrypt, derive, sensitive, extractable] =
                module.attributes(session, private, kinds)?;
            Ok((
                Usage {
                    decrypt: boolean(decrypt),
                    derive: boolean(derive),
                    sensitive: boolean(sensitive),
                    extractable: boolean(extractable),
                },
                module.decrypts(token.slot, sys::CKM_RSA_PKCS_OAEP)?,
                module.decrypts(token.slot, sys::CKM_RSA_X_509)?,
                module.has(token.slot, sys::CKM_ECDH1_DERIVE)?,
                public::components(device, session, private)?,
            ))
        };
        let (usage, oaep, raw_rsa, ecdh, components) =
            report().map_err(|fault: Fault| fault.on(&token.label))?;
        let components = match components {
            Some(components) => components,
            // Not every token shows the modulus with the private key.
            None => public::shown(device, session, &token, key)?
                .ok_or_else(|| search::none(&token, uri))?,
        };
        Ok(Report {
            token,
            components,
            usage,
            oaep,
            raw_rsa,
            ecdh,
        })
    })
}
