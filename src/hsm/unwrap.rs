//! Recipients and keys: which wrapped key a token opens, and how.
//!
//! Runs in the module's process. A wrapped key names no recipient, so each key is tried on each blob that is as long
//! as its modulus; no other is sent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cryptoki_sys as sys;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::How;
use super::ckr::Ckr;
use super::device::{Device, Key, Patience};
use super::failure::{Failure, Fault};
use super::function::Function;
use super::module::{Mechanism, Object, Session};
use super::search;
use super::token::TokenInfo;
use crate::keys::oaep;
use crate::keys::packet::{OaepHash, Recipient};
use crate::keys::uri::Pkcs11Uri;
use crate::secret::SecretBytes;

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    /// One for each envelope.
    pub(super) opened: Vec<Option<OpenedBlob>>,
    /// One for each key: what kept it from being tried, or the length of its modulus. `None` where no envelope was
    /// left for it.
    pub(super) keys: Vec<Option<Result<usize, Failure>>>,
}

/// One envelope that was opened.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OpenedBlob {
    /// The key's number among the caller's.
    pub(super) key: usize,
    pub(super) recipient: usize,
    pub(super) how: How,
    #[serde(serialize_with = "write_secret", deserialize_with = "read_secret")]
    pub(super) private_options: SecretBytes,
}

/// Tries the keys on the envelopes that are still closed.
pub(super) fn unwrap(
    device: &mut Device<'_>,
    patience: Patience,
    keys: &[Key<'_>],
    envelopes: &[Vec<Recipient>],
    wanted: &[bool],
) -> Result<Answer, Failure> {
    let mut answer = Answer {
        opened: envelopes.iter().map(|_| None).collect(),
        keys: keys.iter().map(|_| None).collect(),
    };
    let Answer {
        opened,
        keys: states,
    } = &mut answer;
    let result = device.patiently(patience, |device| {
        let mut passing = None;
        for (key, state) in keys.iter().zip(states.iter_mut()) {
            if done(opened, wanted) {
                return Ok(());
            }
            if matches!(state, Some(Ok(_))) {
                continue;
            }
            let result = try_key(device, key, envelopes, wanted, opened);
            match &result {
                // Everything ends with it, so which of the keys it was is to be told.
                Err(failure) if failure.stops() => {
                    return Err(failure.clone().with_key(&key.file.name));
                }
                Err(failure) if failure.is_transient() => passing = Some(failure.clone()),
                _ => {}
            }
            *state = Some(result);
        }
        passing
            .filter(|_| !done(opened, wanted))
            .map_or(Ok(()), Err)
    });
    match result {
        // What passed for none of the attempts stands with its key.
        Err(failure) if failure.stops() || answer.keys.iter().all(Option::is_none) => Err(failure),
        _ => Ok(answer),
    }
}

fn done(opened: &[Option<OpenedBlob>], wanted: &[bool]) -> bool {
    opened
        .iter()
        .zip(wanted)
        .all(|(open, wanted)| open.is_some() || !wanted)
}

/// One key on every envelope; the length of its modulus.
fn try_key(
    device: &mut Device<'_>,
    key: &Key<'_>,
    envelopes: &[Vec<Recipient>],
    wanted: &[bool],
    opened: &mut [Option<OpenedBlob>],
) -> Result<usize, Failure> {
    let uri = &key.file.uri;
    let token = device.token(uri)?;
    let session = device.login(&token, key)?;
    let on_token = |fault: Fault| fault.on(&token.label);
    let object = search::only(device, session, &token, uri, sys::CKO_PRIVATE_KEY)?;
    let modulus_len = modulus_len(device, session, object, uri).map_err(on_token)?;
    let mut opener = Opener {
        device,
        token: &token,
        session,
        stale: false,
        object,
        raw: Vec::new(),
    };
    for ((recipients, slot), &wanted) in envelopes.iter().zip(opened).zip(wanted) {
        if !wanted || slot.is_some() {
            continue;
        }
        for (number, recipient) in recipients.iter().enumerate() {
            // A token that does not tell the modulus has to judge the length itself.
            if recipient.blob.len() != modulus_len.unwrap_or(recipient.blob.len()) {
                continue;
            }
            if let Some((private_options, how)) = opener.open(recipient)? {
                *slot = Some(OpenedBlob {
                    key: key.number,
                    recipient: number,
                    how,
                    private_options,
                });
                break;
            }
        }
    }
    Ok(modulus_len.unwrap_or_default())
}

/// One private key at work.
struct Opener<'a, 'd> {
    device: &'a mut Device<'d>,
    token: &'a TokenInfo,
    session: Session,
    /// A decryption failed in the session.
    stale: bool,
    object: Object,
    /// Hashes with which the token does not do OAEP.
    raw: Vec<OaepHash>,
}

impl Opener<'_, '_> {
    /// Opens one wrapped key; `None` when it is for another key, or broken: nobody can tell, and nobody may.
    fn open(&mut self, recipient: &Recipient) -> Result<Option<(SecretBytes, How)>, Failure> {
        let hash = recipient.hash;
        if !self.raw.contains(&hash) {
            match self.decrypt(Mechanism::Oaep(hash), &recipient.blob) {
                Ok(mut plain) => {
                    let bytes = std::mem::take(&mut *plain);
                    return Ok(Some((SecretBytes::new(bytes), How::Native)));
                }
                Err(fault) if refuses_parameters(fault) => self.raw.push(hash),
                Err(fault) => return self.refused(fault).map(|()| None),
            }
        }
        match self.decrypt(Mechanism::RawRsa, &recipient.blob) {
            Ok(block) => {
                let plain = oaep::unpad(hash, recipient.blob.len(), &block);
                Ok(plain.map(|plain| (plain, How::RawRsa)))
            }
            Err(fault) => self.refused(fault).map(|()| None),
        }
    }

    fn decrypt(&mut self, mechanism: Mechanism, blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fault> {
        match self.decrypt_once(mechanism, blob) {
            // Kryoptic's word for a wrong ciphertext, p11-kit's for a server that is gone, and others' for a device
            // that failed just now: a second time, in a new session, tells.
            Err(fault) if is_device_error(fault) => self.decrypt_once(mechanism, blob),
            result => result,
        }
    }

    fn decrypt_once(
        &mut self,
        mechanism: Mechanism,
        blob: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Fault> {
        if self.stale {
            self.session = self.device.renew(self.token)?;
            self.stale = false;
        }
        let module = &self.device.module;
        let result = module.decrypt(self.session, self.object, mechanism, blob, blob.len());
        self.stale = result
            .as_ref()
            .is_err_and(|fault| fault.function == Function::C_Decrypt);
        result
    }

    /// Tells a refused ciphertext from a device that failed.
    fn refused(&self, fault: Fault) -> Result<(), Failure> {
        if refuses_ciphertext(fault) {
            Ok(())
        } else {
            Err(fault.on(&self.token.label))
        }
    }
}

fn is_device_error(fault: Fault) -> bool {
    fault.function == Function::C_Decrypt && fault.code == Ckr::CKR_DEVICE_ERROR
}

/// What modules answer to OAEP with a hash that they do not have. openCryptoki says so only in `C_Decrypt`.
fn refuses_parameters(fault: Fault) -> bool {
    let mechanism = matches!(
        fault.code,
        Ckr::CKR_MECHANISM_INVALID | Ckr::CKR_MECHANISM_PARAM_INVALID
    );
    match fault.function {
        Function::C_DecryptInit => mechanism || fault.code == Ckr::CKR_ARGUMENTS_BAD,
        Function::C_Decrypt => mechanism,
        _ => false,
    }
}

/// What modules answer to a ciphertext that is for another key, or broken.
fn refuses_ciphertext(fault: Fault) -> bool {
    fault.function == Function::C_Decrypt
        && matches!(
            fault.code,
            Ckr::CKR_ENCRYPTED_DATA_INVALID
                | Ckr::CKR_ENCRYPTED_DATA_LEN_RANGE
                | Ckr::CKR_DATA_INVALID
                | Ckr::CKR_DATA_LEN_RANGE
                | Ckr::CKR_GENERAL_ERROR
                | Ckr::CKR_FUNCTION_FAILED
                | Ckr::CKR_ARGUMENTS_BAD
                | Ckr::CKR_DEVICE_ERROR
        )
}

/// Length of the modulus, from the private key, or else from the public one beside it.
fn modulus_len(
    device: &Device<'_>,
    session: Session,
    object: Object,
    uri: &Pkcs11Uri,
) -> Result<Option<usize>, Fault> {
    let module = &device.module;
    let [modulus] = module.attributes(session, object, [sys::CKA_MODULUS])?;
    let modulus = match modulus.filter(|modulus| !modulus.is_empty()) {
        Some(modulus) => Some(modulus),
        None => match module
            .find(session, search::wanted(sys::CKO_PUBLIC_KEY, uri), 2)?
            .as_slice()
        {
            [public] => {
                let [modulus] = module.attributes(session, *public, [sys::CKA_MODULUS])?;
                modulus
            }
            _ => None,
        },
    };
    Ok(modulus.map(|modulus| modulus.iter().skip_while(|&&byte| byte == 0).count()))
}

fn write_secret<S: Serializer>(secret: &SecretBytes, serializer: S) -> Result<S::Ok, S::Error> {
    let text = Zeroizing::new(STANDARD.encode(secret.expose()));
    serializer.serialize_str(&text)
}

fn read_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretBytes, D::Error> {
    let text = Zeroizing::<String>::deserialize(deserializer)?;
    let bytes = STANDARD
        .decode(text.as_bytes())
        .map_err(serde::de::Error::custom)?;
    Ok(SecretBytes::new(bytes))
}
