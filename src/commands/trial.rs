//! Operations with a key in a token whose answers are known beforehand, since the other side of each is ours.
//!
//! What is wrapped is of no worth. `doctor` and `keys test` tell what came of it.

use crate::elliptic::PrivateScalar;
use crate::hsm::{self, Answer, Client, How, Refusal};
use crate::keys::TokenKey;
use crate::keys::public::{EcPublicKey, PublicKey, RsaPublicKey};
use crate::operation::{KeyOperation, OaepHash};
use crate::options::PrivateOptions;
use crate::secret::LayerKey;

/// Length of a key that PKCS#7 wraps.
const PKCS7_KEY: usize = 32;

/// What came of an operation.
#[derive(Debug)]
pub(super) enum Tried {
    /// The right answer.
    Works(How),
    /// Another answer than the public half promises.
    Wrong,
    /// None, and why.
    Refused(Refusal),
    /// It could not be asked.
    Failed(hsm::Error),
}

/// Wraps private options with RSA-OAEP, and has them unwrapped.
pub(super) fn oaep(
    client: &mut Client,
    key: &TokenKey,
    public: &PublicKey,
    hash: OaepHash,
) -> Tried {
    let options = PrivateOptions {
        key: LayerKey::new([0x55; 32]),
        digest: None,
        cipher_options: [("nonce".to_owned(), vec![0x55; 16])].into(),
    };
    let ciphertext = match public.wrap(hash, &options) {
        Ok(wrapped) => wrapped.blob,
        Err(error) => return Tried::Failed(error.into()),
    };
    let operation = KeyOperation::RsaOaep { hash, ciphertext };
    compare(client, key, &operation, options.to_json().expose())
}

/// Wraps a key as PKCS#7 does, and has it unwrapped.
pub(super) fn pkcs1(client: &mut Client, key: &TokenKey, public: &RsaPublicKey) -> Tried {
    let secret = [0x55; PKCS7_KEY];
    let Ok(ciphertext) = public.library().pkcs1v15_encrypt(&secret) else {
        return Tried::Wrong;
    };
    let operation = KeyOperation::RsaPkcs1 {
        length: PKCS7_KEY,
        ciphertext,
    };
    compare(client, key, &operation, &secret)
}

/// Agrees on a secret with a key of our own, which then knows what it has to be. `None` where we have no random bytes.
pub(super) fn agree(client: &mut Client, key: &TokenKey, public: &EcPublicKey) -> Option<Tried> {
    let curve = public.curve();
    let own = PrivateScalar::generate(curve)?;
    let expected = own.agree(public.point())?;
    let point = own.public_point();
    let operation = KeyOperation::Ecdh { curve, point };
    Some(compare(client, key, &operation, expected.expose()))
}

fn compare(
    client: &mut Client,
    key: &TokenKey,
    operation: &KeyOperation,
    expected: &[u8],
) -> Tried {
    match client.answer(key, operation) {
        Ok(Answer::Opened(secret, how)) if secret.expose() == expected => Tried::Works(how),
        Ok(Answer::Opened(..)) => Tried::Wrong,
        Ok(Answer::Refused(why)) => Tried::Refused(why),
        Err(error) => Tried::Failed(error),
    }
}
