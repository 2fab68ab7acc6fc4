//! Operations with private keys from files.
//!
//! RSA and the curves are RustCrypto's. RSA is blinded; a wrong PKCS#1 v1.5 padding answers random bytes, and takes the
//! way that a right one takes.

mod openpgp;

use sha1::Sha1;
use sha2::Sha256;
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};
use zeroize::Zeroizing;

use crate::keys::private::{PrivateKey, Secret};
use crate::operation::{KeyOperation, OaepHash};
use crate::secret::SecretBytes;

/// Why a key did not answer. Nothing about a padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The operation is for keys of another kind or size.
    #[error("it is a key of another kind or size")]
    Unsuitable,
    /// What the operation holds was wrapped for another key, or altered.
    #[error("it does not open the wrapped key")]
    Another,
    /// It is locked, with another password than the one that was given.
    #[error("the password does not open its private key")]
    WrongPassword,
    /// The system gave no randomness to blind with.
    #[error("the system gives no randomness")]
    NoRandomness,
}

/// Does one operation with a key from a file.
///
/// # Errors
/// Why the key does not answer; another one may.
pub fn answer(key: &PrivateKey, operation: &KeyOperation) -> Result<SecretBytes, Refusal> {
    if !operation.suits(key.kind()) {
        return Err(Refusal::Unsuitable);
    }
    match (key.secret(), operation) {
        (Secret::Rsa(key), KeyOperation::RsaOaep { hash, ciphertext }) => match hash {
            OaepHash::Sha1 => key.oaep_decrypt::<Sha1>(ciphertext),
            OaepHash::Sha256 => key.oaep_decrypt::<Sha256>(ciphertext),
        }
        .map(SecretBytes::new)
        .map_err(|error| match error {
            rsa::Error::Rng => Refusal::NoRandomness,
            _ => Refusal::Another,
        }),
        (Secret::Rsa(key), KeyOperation::RsaPkcs1 { length, ciphertext }) => {
            pkcs1(key, *length, ciphertext)
        }
        (Secret::Elliptic(key), KeyOperation::Ecdh { point, .. }) => {
            key.agree(point).ok_or(Refusal::Another)
        }
        (Secret::OpenPgp(keys), KeyOperation::OpenPgp { packet }) => {
            openpgp::session_keys(keys, packet)
        }
        _ => Err(Refusal::Unsuitable),
    }
}

/// The message if it has that length, else as many random bytes (RFC 3218, section 2.3.2): made in any case, and chosen
/// without a branch.
fn pkcs1(key: &rsa::PrivateKey, length: usize, ciphertext: &[u8]) -> Result<SecretBytes, Refusal> {
    let mut answer = Zeroizing::new(vec![0; length]);
    getrandom::fill(&mut answer).map_err(|_| Refusal::NoRandomness)?;
    // The library answers a wrong padding with a message of its own making, which has any length. Its errors are those
    // of the ciphertext's length and size, which everybody can see.
    let mut message = match key.pkcs1v15_decrypt(ciphertext) {
        Ok(message) => Zeroizing::new(message),
        Err(rsa::Error::Rng) => return Err(Refusal::NoRandomness),
        Err(_) => Zeroizing::new(Vec::new()),
    };
    let fits = (message.len() as u64).ct_eq(&(length as u64));
    message.resize(length, 0);
    for (octet, message) in answer.iter_mut().zip(message.iter()) {
        octet.conditional_assign(message, fits);
    }
    Ok(SecretBytes::new(std::mem::take(&mut answer)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elliptic::PrivateScalar;
    use crate::operation::Curve;

    const RSA: &str = include_str!("../integration/vectors/keys/jwe-rsa.pem");
    const P256: &str = include_str!("../integration/vectors/keys/jwe-p256.pem");

    fn key(pem: &str) -> PrivateKey {
        PrivateKey::parse("k.pem", pem.as_bytes(), None).unwrap()
    }

    fn public() -> rsa::PublicKey {
        let Secret::Rsa(rsa) = key(RSA).secret().clone() else {
            panic!("not RSA");
        };
        rsa.to_public_key()
    }

    #[test]
    fn oaep_with_both_hashes() {
        for hash in [OaepHash::Sha1, OaepHash::Sha256] {
            let ciphertext = match hash {
                OaepHash::Sha1 => public().oaep_encrypt::<Sha1>(b"message"),
                OaepHash::Sha256 => public().oaep_encrypt::<Sha256>(b"message"),
            }
            .unwrap();
            let mut operation = KeyOperation::RsaOaep { hash, ciphertext };
            let opened = answer(&key(RSA), &operation).unwrap();
            assert_eq!(opened.expose(), b"message");
            let KeyOperation::RsaOaep { ciphertext, .. } = &mut operation else {
                unreachable!()
            };
            ciphertext[100] ^= 1;
            assert_eq!(answer(&key(RSA), &operation), Err(Refusal::Another));
            assert_eq!(answer(&key(P256), &operation), Err(Refusal::Unsuitable));
        }
    }

    #[test]
    fn a_wrong_pkcs1_padding_is_answered_with_random_bytes() {
        let ciphertext = public().pkcs1v15_encrypt(&[7; 16]).unwrap();
        let operation = |length, ciphertext: &[u8]| KeyOperation::RsaPkcs1 {
            length,
            ciphertext: ciphertext.to_vec(),
        };
        let key = key(RSA);
        let opened = answer(&key, &operation(16, &ciphertext)).unwrap();
        assert_eq!(opened.expose(), [7; 16]);
        let altered = |at: usize| {
            let mut altered = ciphertext.clone();
            altered[at] ^= 1;
            altered
        };
        let twice = |length, ciphertext: &[u8]| {
            let bad = operation(length, ciphertext);
            let (one, two) = (answer(&key, &bad).unwrap(), answer(&key, &bad).unwrap());
            assert_eq!(one.expose().len(), length);
            assert!(!one.expose().starts_with(&[7; 15]));
            one == two
        };
        for length in [32, 15] {
            assert!(!twice(length, &ciphertext), "random each time");
        }
        assert!(!twice(24, &[0xff; 256]));
        // The library's own answer to a wrong padding is one message for one ciphertext. Now and then it has the length
        // that was asked for, and then it is ours as well; but hardly three times.
        assert!(!(200..203).all(|at| twice(16, &altered(at))));
        assert_eq!(
            answer(&key, &operation(16, &ciphertext[1..])),
            Err(Refusal::Unsuitable)
        );
    }

    #[test]
    fn agreement() {
        let ours = PrivateScalar::generate(Curve::P256).unwrap();
        let operation = KeyOperation::Ecdh {
            curve: Curve::P256,
            point: ours.public_point(),
        };
        let Secret::Elliptic(theirs) = key(P256).secret().clone() else {
            panic!("not elliptic");
        };
        assert_eq!(
            answer(&key(P256), &operation).ok(),
            ours.agree(&theirs.public_point())
        );
        let off = KeyOperation::Ecdh {
            curve: Curve::P256,
            point: [vec![4], vec![1; 64]].concat(),
        };
        assert_eq!(answer(&key(P256), &off), Err(Refusal::Another));
        assert_eq!(answer(&key(RSA), &operation), Err(Refusal::Unsuitable));
    }
}
