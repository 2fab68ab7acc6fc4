//! Operations of keys in tokens, one at a time, over [`hsm::unwrap`], which forks: no thread may run.

use crate::error::{Error, Result};
use crate::hsm::{self, HsmSettings, Outcome, Why};
use crate::keys::TokenKey;
use crate::keys::public::Recipient;
use crate::operation::{KeyKind, KeyOperation};
use crate::secret::SecretBytes;

pub(super) use crate::hsm::How;

/// What came of one operation with one key.
pub(super) enum Answer {
    /// The answer, and who took the padding off.
    Opened(SecretBytes, How),
    /// The key does not answer it, and why.
    Refused(String),
}

/// Whoever asks tokens.
pub(super) struct Client {
    settings: HsmSettings,
    /// Keys whose tokens refused a PIN.
    barred: Vec<TokenKey>,
}

impl Client {
    pub(super) fn new(settings: HsmSettings) -> Self {
        let barred = Vec::new();
        Self { settings, barred }
    }

    /// Begins the workers of these keys' modules.
    pub(super) fn start(&mut self, _: &[&TokenKey]) {}

    pub(super) fn kind(&mut self, _: &TokenKey) -> Result<KeyKind> {
        Ok(KeyKind::Rsa { modulus_len: None })
    }

    pub(super) fn answer(&mut self, key: &TokenKey, operation: &KeyOperation) -> Result<Answer> {
        let KeyOperation::RsaOaep { hash, ciphertext } = operation else {
            return Ok(Answer::Refused(
                "does not do this kind of operation".to_owned(),
            ));
        };
        let shares = |other: &&TokenKey| may_share_token(other, key);
        if let Some(other) = self.barred.iter().find(shares) {
            return Ok(Answer::Refused(format!(
                "not tried, since a login to what may be the same token was refused ({})",
                other.file.name
            )));
        }
        let recipient = Recipient {
            hash: *hash,
            blob: ciphertext.clone(),
        };
        let outcomes = hsm::unwrap(
            &self.settings,
            std::slice::from_ref(key),
            &[vec![recipient]],
        );
        let outcomes = outcomes.inspect_err(|error| {
            if error.is_about_pin() {
                self.barred.push(key.clone());
            }
        })?;
        match outcomes.into_iter().next() {
            Some(Outcome::Opened(opened)) => Ok(Answer::Opened(opened.private_options, opened.how)),
            Some(Outcome::Refused(why)) => match why.into_iter().next().map(|why| why.why) {
                Some(Why::Unavailable(why)) => Err(Error::Unavailable {
                    message: why.message,
                    hint: why.hint,
                }),
                Some(Why::WrongLength(bits)) => Ok(Answer::Refused(format!(
                    "no wrapped key has the length of this RSA-{bits} key"
                ))),
                _ => Ok(Answer::Refused(
                    "the wrapped keys are for other keys".to_owned(),
                )),
            },
            None => Ok(Answer::Refused("it was not tried".to_owned())),
        }
    }
}

fn may_share_token(one: &TokenKey, other: &TokenKey) -> bool {
    let (a, b) = (&one.file.uri, &other.file.uri);
    one.module == other.module
        && a.token == b.token
        && a.serial == b.serial
        && a.slot_id == b.slot_id
        && one.file.name != other.file.name
}
