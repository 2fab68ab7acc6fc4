//! RSA public keys: their numbers, and wrapping private options for them.

use std::fmt;

use rsa::BoxedUint;
use rsa::pkcs8::{EncodePublicKey as _, ObjectIdentifier};
use rsa::traits::PublicKeyParts as _;
use sha1::Sha1;
use sha2::Sha256;

use super::{Recipient, invalid};
use crate::keys::error::{Error, Result};
use crate::operation::OaepHash;
use crate::options::PrivateOptions;

/// Sizes that we can work with, in bits.
const USABLE_BITS: std::ops::RangeInclusive<u32> = 1024..=16384;
/// The smallest key that a layer is encrypted to, in bits (NIST SP 800-131A: 1024 is disallowed).
const MIN_ENCRYPTION_BITS: u32 = 2048;
/// `rsaEncryption` (RFC 8017, appendix A.1).
pub(super) const RSA_ENCRYPTION: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// An RSA public key of 1024 to 16384 bits.
#[derive(Clone, PartialEq, Eq)]
pub struct RsaPublicKey(rsa::PublicKey);

impl RsaPublicKey {
    /// The key of that modulus and public exponent (`CKA_MODULUS`, `CKA_PUBLIC_EXPONENT`), both big-endian.
    ///
    /// # Errors
    /// [`Error::KeySize`] for a size that we do not take; [`Error::InvalidPublicKey`] for an even modulus or an
    /// exponent that is even, below 3 or above 2^33.
    pub fn from_components(name: &str, modulus: &[u8], exponent: &[u8]) -> Result<Self> {
        let bits = bit_len(modulus);
        if !USABLE_BITS.contains(&bits) {
            return Err(Error::KeySize {
                name: name.to_owned(),
                bits,
                min: *USABLE_BITS.start(),
                max: *USABLE_BITS.end(),
            });
        }
        if bit_len(exponent) > 64 {
            return Err(invalid(name, "its public exponent is too large"));
        }
        let key = rsa::PublicKey::new_with_size_limits(
            number(modulus),
            number(exponent),
            *USABLE_BITS.start() as usize..=*USABLE_BITS.end() as usize,
        );
        key.map(Self)
            .map_err(|_| invalid(name, "its modulus or public exponent is not one of RSA"))
    }

    pub(super) fn to_der(&self) -> Vec<u8> {
        let der = self.0.to_public_key_der();
        der.expect("two positive numbers are always DER").into_vec()
    }

    /// The library's own form, for schemes that wrap something else than private options.
    pub(crate) fn library(&self) -> &rsa::PublicKey {
        &self.0
    }

    /// Length of the modulus, and of every ciphertext, in bytes.
    #[must_use]
    pub fn modulus_len(&self) -> usize {
        self.0.size()
    }

    /// Size of the key in bits.
    #[must_use]
    pub fn bits(&self) -> u32 {
        self.0.n().bit_width_vartime()
    }

    /// The modulus, big-endian, without zeros before it.
    #[must_use]
    pub fn modulus(&self) -> Vec<u8> {
        self.0.n_bytes().into_vec()
    }

    /// The public exponent, likewise.
    #[must_use]
    pub fn exponent(&self) -> Vec<u8> {
        self.0.e_bytes().into_vec()
    }

    /// Wraps private options for the holder of the private key, which messages call `name`: RSA-OAEP with an empty label.
    ///
    /// Where the whole message does not fit (RSA-2048 with SHA-256 takes 190 bytes), the digest is left out, which
    /// no reader checks.
    ///
    /// # Errors
    /// [`Error::KeySize`] for a key below 2048 bits; [`Error::MessageTooLong`] when the options do not fit even
    /// without the digest; [`Error::Wrapping`] when the system has no randomness.
    pub fn wrap(&self, name: &str, hash: OaepHash, options: &PrivateOptions) -> Result<Recipient> {
        if self.bits() < MIN_ENCRYPTION_BITS {
            return Err(Error::KeySize {
                name: name.to_owned(),
                bits: self.bits(),
                min: MIN_ENCRYPTION_BITS,
                max: *USABLE_BITS.end(),
            });
        }
        let limit = hash.max_message_len(self.modulus_len()).unwrap_or_default();
        let mut message = options.to_json();
        if message.expose().len() > limit {
            message = PrivateOptions {
                digest: None,
                ..options.clone()
            }
            .to_json();
        }
        if message.expose().len() > limit {
            return Err(Error::MessageTooLong {
                len: message.expose().len(),
                bits: self.bits(),
                hash: hash.as_str(),
                limit,
            });
        }
        let blob = match hash {
            OaepHash::Sha1 => self.0.oaep_encrypt::<Sha1>(message.expose()),
            OaepHash::Sha256 => self.0.oaep_encrypt::<Sha256>(message.expose()),
        }
        .map_err(|source| Error::Wrapping { source })?;
        Ok(Recipient { hash, blob })
    }
}

impl fmt::Debug for RsaPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RsaPublicKey({} bits)", self.bits())
    }
}

fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|octet| **octet == 0).count();
    &number[zeros..]
}

fn bit_len(number: &[u8]) -> u32 {
    let number = significant(number);
    let unused = number.first().map_or(0, |octet| octet.leading_zeros());
    u32::try_from(number.len() * 8).map_or(u32::MAX, |bits| bits - unused)
}

fn number(bytes: &[u8]) -> BoxedUint {
    BoxedUint::from_be_slice_vartime(significant(bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rsa::PrivateKey;
    use rsa::pkcs8::DecodePrivateKey as _;

    use super::*;
    use crate::keys::public::PublicKey;
    use crate::options::NONCE;
    use crate::secret::{LayerKey, SecretBytes};

    const RSA: &[u8] = include_bytes!("../../../integration/vectors/keys/jwe-rsa.pub.pem");
    const RSA_PRIVATE: &str = include_str!("../../../integration/vectors/keys/jwe-rsa.pem");

    fn key() -> RsaPublicKey {
        let key = PublicKey::parse("k.pem", RSA).unwrap();
        key.for_pkcs11("k.pem").unwrap().clone()
    }

    fn of_bits(bits: usize) -> Result<RsaPublicKey> {
        let mut modulus = vec![0xff; bits / 8];
        modulus.insert(0, 0);
        RsaPublicKey::from_components("k", &modulus, &[0, 1, 0, 1])
    }

    fn options(nonce_len: usize) -> PrivateOptions {
        PrivateOptions {
            key: LayerKey::new([7; 32]),
            digest: Some(format!("sha256:{}", "ab".repeat(32))),
            cipher_options: BTreeMap::from([(NONCE.to_owned(), vec![9; nonce_len])]),
        }
    }

    fn unwrapped(recipient: &Recipient) -> PrivateOptions {
        let key = PrivateKey::from_pkcs8_pem(RSA_PRIVATE).unwrap();
        let message = match recipient.hash {
            OaepHash::Sha1 => key.oaep_decrypt::<Sha1>(&recipient.blob),
            OaepHash::Sha256 => key.oaep_decrypt::<Sha256>(&recipient.blob),
        };
        PrivateOptions::parse(&SecretBytes::new(message.unwrap())).unwrap()
    }

    #[test]
    fn sizes_have_bounds() {
        assert_eq!(of_bits(1024).unwrap().bits(), 1024);
        assert_eq!(of_bits(16384).unwrap().bits(), 16384);
        for bits in [0, 512, 1016, 16392] {
            assert!(
                matches!(of_bits(bits), Err(Error::KeySize { .. })),
                "{bits}"
            );
        }
    }

    #[test]
    fn numbers_that_are_not_of_rsa_are_refused() {
        let odd = vec![0xff; 256];
        let mut even = odd.clone();
        even[255] = 0xfe;
        for (modulus, exponent) in [
            (&even, &[1, 0, 1][..]),
            (&odd, &[]),
            (&odd, &[1]),
            (&odd, &[4]),
            (&odd, &[0xff; 8]),
            (&odd, &[0xff; 9]),
        ] {
            assert!(
                matches!(
                    RsaPublicKey::from_components("k", modulus, exponent),
                    Err(Error::InvalidPublicKey { .. })
                ),
                "{exponent:?}"
            );
        }
    }

    #[test]
    fn wrapped_options_open_with_the_private_key() {
        let key = key();
        let wrapped = key.wrap("k", OaepHash::Sha1, &options(16)).unwrap();
        assert_eq!(wrapped.blob.len(), key.modulus_len());
        let opened = unwrapped(&wrapped);
        assert_eq!(opened.key, options(16).key);
        assert_eq!(opened.digest, options(16).digest);
        assert_ne!(
            wrapped,
            key.wrap("k", OaepHash::Sha1, &options(16)).unwrap()
        );
    }

    #[test]
    fn digest_is_left_out_where_it_does_not_fit() {
        let key = key();
        let opened = unwrapped(&key.wrap("k", OaepHash::Sha256, &options(16)).unwrap());
        assert_eq!(opened.digest, None);
        assert_eq!(opened.key, options(16).key);
        assert_eq!(opened.cipher_options, options(16).cipher_options);
    }

    #[test]
    fn options_that_do_not_fit_at_all() {
        let error = key().wrap("k", OaepHash::Sha256, &options(200));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("190") && error.contains("2048"), "{error}");
    }

    #[test]
    fn nothing_is_encrypted_to_a_small_key() {
        let error = of_bits(1024)
            .unwrap()
            .wrap("k", OaepHash::Sha1, &options(16));
        assert!(matches!(
            error,
            Err(Error::KeySize {
                bits: 1024,
                min: 2048,
                ..
            })
        ));
    }

    #[test]
    fn keys_of_uneven_size_wrap() {
        let mut modulus = vec![0xff; 384];
        modulus[0] = 0x01;
        let key = RsaPublicKey::from_components("k", &modulus, &[1, 0, 1]).unwrap();
        assert_eq!((key.bits(), key.modulus_len()), (3065, 384));
        let wrapped = key.wrap("k", OaepHash::Sha256, &options(16)).unwrap();
        assert_eq!(wrapped.blob.len(), 384);
    }
}
