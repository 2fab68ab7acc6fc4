//! Operations that make a secret object, read it, and remove it: ECDH, and unwrapping with a key that may do no more.

use zeroize::Zeroizing;

use super::module::{Object, Readable, Session};
use super::operation::{Stop, Work, opened};
use crate::hsm::How;
use crate::hsm::ckr::Ckr;
use crate::hsm::failure::{Failure, Fault};
use crate::hsm::function::Function;
use crate::hsm::protocol::Answered;
use crate::operation::{Curve, OaepHash};
use crate::secret::SecretBytes;

impl Work<'_, '_> {
    /// The x-coordinate, filled up to the length of the field.
    pub(super) fn ecdh(&mut self, curve: Curve, point: &[u8]) -> Result<Answered, Failure> {
        let length = curve.field_len();
        let object = self.private.object;
        let result = self.twice(|work| {
            work.make_and_read(length, |work, session| {
                work.device.module.derive(session, object, point, length)
            })
        });
        match result {
            Ok(value) => {
                let mut x = vec![0; length - value.len()];
                x.reserve_exact(value.len());
                x.extend_from_slice(&value);
                Ok(opened(SecretBytes::new(x), How::Native))
            }
            Err(Stop::Fault(fault)) if hides_secrets(fault) => Err(self.unreadable()),
            Err(stop) => self.refused(stop),
        }
    }

    /// The message that was wrapped, as the value of a secret key.
    pub(super) fn unwrap_key(
        &mut self,
        hash: OaepHash,
        wrapped: &[u8],
    ) -> Result<Answered, Failure> {
        let object = self.private.object;
        let attempt = |work: &mut Self, readable| {
            work.make_and_read(wrapped.len(), |work, session| {
                let module = &work.device.module;
                module.unwrap_key(session, object, hash, wrapped, readable)
            })
        };
        let mut result = self.twice(|work| attempt(work, Readable::Asked));
        if let Err(Stop::Fault(fault)) = &result
            && fault.function == Function::C_UnwrapKey
            && matches!(
                fault.code,
                Ckr::CKR_ATTRIBUTE_READ_ONLY | Ckr::CKR_TEMPLATE_INCONSISTENT
            )
        {
            result = self.twice(|work| attempt(work, Readable::Unsaid));
        }
        match result {
            Ok(mut value) => {
                let bytes = std::mem::take(&mut *value);
                Ok(opened(SecretBytes::new(bytes), How::Native))
            }
            Err(Stop::Fault(fault)) if hides_secrets(fault) => Err(self.unreadable()),
            Err(stop) => self.refused(stop),
        }
    }

    /// Makes a secret object, in a session that may write where the token wants that, and takes its value.
    fn make_and_read(
        &mut self,
        limit: usize,
        make: impl Fn(&mut Self, Session) -> Result<Object, Fault>,
    ) -> Result<Zeroizing<Vec<u8>>, Stop> {
        let mut session = self.session()?;
        let mut made = make(self, session);
        if matches!(made, Err(fault) if fault.code == Ckr::CKR_SESSION_READ_ONLY) {
            session = self.device.writing_session(&self.found.token)?;
            made = make(self, session);
        }
        if made.is_err() {
            self.device.wear_out(session);
        }
        let secret = made?;
        let value = self.device.module.secret(session, secret, limit);
        self.device.module.destroy(session, secret);
        value?.ok_or_else(|| self.unreadable().into())
    }

    fn unreadable(&self) -> Failure {
        Failure::Unreadable {
            token: self.found.token.label.clone(),
        }
    }
}

/// What tokens answer that keep every secret to themselves, as under FIPS 140.
fn hides_secrets(fault: Fault) -> bool {
    matches!(
        fault.code,
        Ckr::CKR_ATTRIBUTE_VALUE_INVALID
            | Ckr::CKR_ATTRIBUTE_READ_ONLY
            | Ckr::CKR_TEMPLATE_INCONSISTENT
    )
}
