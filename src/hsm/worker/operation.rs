//! What a private key answers. A wrapped key names no recipient, so most inputs are for other keys: that is a value here,
//! and so is whatever else one input meets.

use subtle::{Choice, ConditionallySelectable as _};
use zeroize::Zeroizing;

use super::device::{Device, Key};
use super::module::{Mechanism, Session};
use super::search::{self, Found, PrivateKey};
use crate::hsm::How;
use crate::hsm::ckr::Ckr;
use crate::hsm::failure::{Failure, Fault};
use crate::hsm::function::Function;
use crate::hsm::protocol::Answered;
use crate::hsm::refusal::Refused;
use crate::keys::oaep;
use crate::operation::{KeyOperation, OaepHash};
use crate::secret::SecretBytes;

/// How often a failure that came twice alike is tried a second time. From then on it is taken as the module's word for an
/// input that is for another key, of which there may be hundreds.
const REPEATS: usize = 4;

/// What the keys that a URI means answer.
pub(super) fn answer(
    device: &mut Device<'_>,
    key: &Key,
    operation: &KeyOperation,
) -> Result<Answered, Failure> {
    device.spare_patience();
    let result = device.patiently(|device| {
        let found = search::found(device, key)?;
        let mut refused = Answered::Refused(Refused::Unsuited);
        for private in &found.keys {
            if !operation.suits(private.kind) {
                continue;
            }
            let mut work = Work {
                device: &mut *device,
                key,
                found: &found,
                private,
            };
            match work.answer(operation)? {
                opened @ Answered::Opened { .. } => return Ok(opened),
                other => refused = other,
            }
        }
        Ok(refused)
    });
    match result {
        // What one input meets is no reason to leave the others untried.
        Err(Failure::Call { fault, .. }) if is_about_input(fault) => {
            device.waited_in_vain();
            Ok(Answered::Refused(Refused::new(fault)))
        }
        result => result,
    }
}

/// One private key at work.
pub(super) struct Work<'a, 'd> {
    pub(super) device: &'a mut Device<'d>,
    pub(super) key: &'a Key,
    pub(super) found: &'a Found,
    pub(super) private: &'a PrivateKey,
}

/// What ends an operation: a function's code, or what a login for it came to.
pub(super) enum Stop {
    Fault(Fault),
    Failure(Failure),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Work<'_, '_> {
    fn answer(&mut self, operation: &KeyOperation) -> Result<Answered, Failure> {
        match operation {
            KeyOperation::RsaOaep { hash, ciphertext } => self.oaep(*hash, ciphertext),
            KeyOperation::RsaPkcs1 { length, ciphertext } => self.pkcs1(*length, ciphertext),
            KeyOperation::Ecdh { curve, point } => self.ecdh(*curve, point),
            // No key in a token has such a name.
            KeyOperation::OpenPgp { .. } => Ok(Answered::Refused(Refused::Unsuited)),
        }
    }

    fn oaep(&mut self, hash: OaepHash, ciphertext: &[u8]) -> Result<Answered, Failure> {
        let private = self.private;
        if private.decrypts == Some(false) && private.unwraps == Some(true) {
            return self.unwrap_key(hash, ciphertext);
        }
        if !private.raw.borrow().contains(&hash) {
            let result = self.twice(|work| work.decrypt(Mechanism::Oaep(hash), ciphertext));
            match result {
                Ok(mut plain) => {
                    let bytes = std::mem::take(&mut *plain);
                    return Ok(opened(SecretBytes::new(bytes), How::Native));
                }
                Err(Stop::Fault(fault)) if refuses_parameters(fault) => {
                    private.raw.borrow_mut().push(hash);
                }
                Err(Stop::Fault(fault)) if refuses_key(fault) && private.unwraps != Some(false) => {
                    return match self.unwrap_key(hash, ciphertext)? {
                        // It was the first call that told what the key lacks.
                        Answered::Refused(Refused::Unable(_)) => self.refused(fault.into()),
                        answered => Ok(answered),
                    };
                }
                // Whatever it means, the other way may be open.
                Err(Stop::Fault(fault))
                    if fault.function == Function::C_DecryptInit && !fault.is_transient() => {}
                Err(stop) => return self.refused(stop),
            }
        }
        match self.twice(|work| work.decrypt(Mechanism::RawRsa, ciphertext)) {
            Ok(block) => Ok(match oaep::unpad(hash, ciphertext.len(), &block) {
                Some(plain) => opened(plain, How::RawRsa),
                None => Answered::Refused(Refused::NotMine),
            }),
            Err(stop) => self.refused(stop),
        }
    }

    /// Whether the padding was right must not show (RFC 3218, section 2.3.2): neither in the answer, nor in what is called
    /// for it. A token that fails in `C_Decrypt` says no more than that.
    fn pkcs1(&mut self, length: usize, ciphertext: &[u8]) -> Result<Answered, Failure> {
        let mut answer = Zeroizing::new(vec![0; length.min(ciphertext.len())]);
        getrandom::fill(&mut answer).map_err(|_| Failure::NoRandomness)?;
        let plain = match self.decrypt(Mechanism::Pkcs1, ciphertext) {
            Ok(plain) => plain,
            Err(Stop::Fault(fault)) if fault.function == Function::C_Decrypt => {
                Zeroizing::default()
            }
            Err(stop) => return self.refused(stop),
        };
        // As after a failure, so that the next operation does not differ.
        let session = self.device.session(&self.found.token)?;
        self.device.wear_out(session);
        let right = Choice::from(u8::from(plain.len() == answer.len()));
        for (at, byte) in answer.iter_mut().enumerate() {
            byte.conditional_assign(&plain.get(at).copied().unwrap_or_default(), right);
        }
        let bytes = std::mem::take(&mut *answer);
        Ok(opened(SecretBytes::new(bytes), How::Native))
    }

    fn decrypt(
        &mut self,
        mechanism: Mechanism,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Stop> {
        let always = &self.private.always_authenticate;
        let result = self.decrypt_once(mechanism, ciphertext);
        match result {
            // Not every token shows the attribute.
            Err(Stop::Fault(Fault {
                function: Function::C_Decrypt,
                code: Ckr::CKR_USER_NOT_LOGGED_IN,
            })) if !always.get() => {
                always.set(true);
                self.decrypt_once(mechanism, ciphertext)
            }
            result => result,
        }
    }

    fn decrypt_once(
        &mut self,
        mechanism: Mechanism,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Stop> {
        let token = &self.found.token;
        let session = self.session()?;
        let module = &self.device.module;
        module.begin_to_decrypt(session, self.private.object, mechanism)?;
        if self.private.always_authenticate.get() {
            let result = self.device.login_for_operation(session, token, self.key);
            if result.is_err() {
                // The operation that was begun is still there.
                self.device.wear_out(session);
            }
            result?;
        }
        let result = self.device.module.decrypt(session, ciphertext);
        if result.is_err() {
            self.device.wear_out(session);
        }
        Ok(result?)
    }

    /// The session with the login that this key takes.
    pub(super) fn session(&mut self) -> Result<Session, Failure> {
        self.device.login(&self.found.token, self.key)
    }

    /// Does it a second time, in a new session, where the device may have failed. Many modules have no other word for an
    /// input that is for another key.
    pub(super) fn twice<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        let first = match attempt(self) {
            Err(Stop::Fault(fault)) if may_be_the_device(fault) => fault,
            result => return result,
        };
        let repeated = &self.private.repeated;
        if repeated.get() >= REPEATS {
            return Err(first.into());
        }
        let result = attempt(self);
        if matches!(result, Err(Stop::Fault(second)) if second == first) {
            repeated.set(repeated.get() + 1);
        }
        result
    }

    /// Tells what one input met from what keeps the key from being used.
    pub(super) fn refused(&self, stop: Stop) -> Result<Answered, Failure> {
        match stop {
            Stop::Fault(fault) if is_about_input(fault) && !fault.is_transient() => {
                Ok(Answered::Refused(Refused::new(fault)))
            }
            Stop::Fault(fault) => Err(fault.on(&self.found.token.label)),
            Stop::Failure(failure) => Err(failure),
        }
    }
}

pub(super) fn opened(secret: SecretBytes, how: How) -> Answered {
    Answered::Opened { secret, how }
}

fn is_about_input(fault: Fault) -> bool {
    matches!(
        fault.function,
        Function::C_DecryptInit
            | Function::C_Decrypt
            | Function::C_UnwrapKey
            | Function::C_DeriveKey
    )
}

fn may_be_the_device(fault: Fault) -> bool {
    let code = matches!(
        fault.code,
        Ckr::CKR_DEVICE_ERROR
            | Ckr::CKR_DEVICE_MEMORY
            | Ckr::CKR_FUNCTION_FAILED
            | Ckr::CKR_GENERAL_ERROR
    );
    code && is_about_input(fault) && fault.function != Function::C_DecryptInit
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

/// What they answer for a key that does not decrypt.
fn refuses_key(fault: Fault) -> bool {
    fault.function == Function::C_DecryptInit
        && matches!(
            fault.code,
            Ckr::CKR_KEY_FUNCTION_NOT_PERMITTED | Ckr::CKR_KEY_TYPE_INCONSISTENT
        )
}
