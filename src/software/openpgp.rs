//! Session keys of OpenPGP messages, with the keys of one file.
//!
//! A padding of RSA that is wrong, a length, a cipher or a sum in it that is, all give a random session key, chosen without
//! a branch: the content alone tells whether it was the right one. A key that is wrapped by agreement is authentic.

use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};
use zeroize::Zeroizing;

use super::Refusal;
use crate::keys::private::{OpenPgpKeys, OpenPgpSecret};
use crate::openpgp::algorithm::Cipher;
use crate::openpgp::fields::Fields;
use crate::openpgp::session::{self, CANDIDATE, Way, Wrapped};
use crate::secret::SecretBytes;

type Candidate = Zeroizing<[u8; CANDIDATE]>;

/// The candidates of each key that the packet may be for.
pub(super) fn session_keys(keys: &OpenPgpKeys, packet: &[u8]) -> Result<SecretBytes, Refusal> {
    let wrapped = Wrapped::parse(packet).map_err(|_| Refusal::Another)?;
    let named = keys.iter().filter(|key| wrapped.may_be_for(&key.id));
    let mut candidates = Zeroizing::new(Vec::with_capacity(CANDIDATE * keys.iter().count()));
    let mut is_shut = false;
    for key in named {
        let Some(secret) = key.secret() else {
            is_shut = true;
            continue;
        };
        let candidate = match (secret, wrapped.way) {
            (OpenPgpSecret::Rsa(key), Way::Rsa) => rsa(key, wrapped.values)?,
            (OpenPgpSecret::Agreement(public, half), Way::Agreement) => {
                let encoded = public.unwrap(&key.fingerprint, half, wrapped.values);
                encoded.and_then(|encoded| agreed(&encoded))
            }
            _ => None,
        };
        if let Some(candidate) = candidate {
            candidates.extend_from_slice(&*candidate);
        }
    }
    match candidates.is_empty() {
        true if is_shut => Err(Refusal::WrongPassword),
        true => Err(Refusal::Another),
        false => Ok(SecretBytes::new(std::mem::take(&mut candidates))),
    }
}

/// RFC 9580, section 5.1.3. `None` tells nothing but what everybody can see: a number that is none of this key's.
fn rsa(key: &rsa::PrivateKey, values: &[u8]) -> Result<Option<Candidate>, Refusal> {
    let mut candidate: Candidate = Zeroizing::new([0; CANDIDATE]);
    getrandom::fill(&mut *candidate).map_err(|_| Refusal::NoRandomness)?;
    candidate[0] = Cipher::Aes256.number();
    let Some(number) = Fields::new(values).integer() else {
        return Ok(None);
    };
    let length = rsa::traits::PublicKeyParts::size(key);
    let Some(zeros) = length.checked_sub(number.len()) else {
        return Ok(None);
    };
    let ciphertext = [&vec![0; zeros], number].concat();
    // The library answers a wrong padding with a message of its own making.
    let message = match key.pkcs1v15_decrypt(&ciphertext) {
        Ok(message) => Zeroizing::new(message),
        Err(rsa::Error::Rng) => return Err(Refusal::NoRandomness),
        Err(_) => return Ok(None),
    };
    let mut encoded = Zeroizing::new([0; CANDIDATE + 2]);
    for (to, from) in encoded.iter_mut().zip(message.iter()) {
        *to = *from;
    }
    for cipher in Cipher::ALL {
        let end = 1 + cipher.key_len();
        let sum = session::checksum(&encoded[1..end]).to_be_bytes();
        let fits: Choice = (message.len() as u64).ct_eq(&(end as u64 + 2))
            & encoded[0].ct_eq(&cipher.number())
            & encoded[end..end + 2].ct_eq(&sum);
        for (to, from) in candidate.iter_mut().zip(&encoded[..end]) {
            to.conditional_assign(from, fits);
        }
    }
    Ok(Some(candidate))
}

/// Section 5.1.5.
fn agreed(encoded: &SecretBytes) -> Option<Candidate> {
    let mut candidate = Zeroizing::new([0; CANDIDATE]);
    session::decode(encoded.expose(), &mut candidate).then_some(candidate)
}
