//! RSA public keys, and wrapping private options for them.
//!
//! Needs no token: a public key from a file or out of a token's attributes is all that encrypting takes.
//! Certificates are not read, since nothing here could say whether one is to be trusted.

use std::fmt;
use std::path::Path;

use rsa::BoxedUint;
use rsa::pkcs1::RsaPublicKeyRef;
use rsa::pkcs8::der::Decode as _;
use rsa::pkcs8::spki::SubjectPublicKeyInfoRef;
use rsa::pkcs8::{Document, EncodePublicKey as _, LineEnding, ObjectIdentifier};
use rsa::traits::PublicKeyParts as _;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::file;
use crate::operation::{KeyOperation, OaepHash};
use crate::options::PrivateOptions;

/// Sizes that we can work with, in bits.
const USABLE_BITS: std::ops::RangeInclusive<u32> = 1024..=16384;
/// The smallest key that a layer is encrypted to, in bits (NIST SP 800-131A: 1024 is disallowed).
const MIN_ENCRYPTION_BITS: u32 = 2048;
/// Most bytes that a file with a public key may have.
const MAX_PUBLIC_KEY_FILE: usize = 64 << 10;
/// `rsaEncryption` (RFC 8017, appendix A.1).
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// An RSA public key of 1024 to 16384 bits.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(rsa::PublicKey);

/// The private options under one recipient's public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// OAEP hash and MGF1 hash.
    pub hash: OaepHash,
    /// RSA ciphertext, as long as the recipient's modulus.
    pub blob: Vec<u8>,
}

impl From<Recipient> for KeyOperation {
    fn from(recipient: Recipient) -> Self {
        Self::RsaOaep {
            hash: recipient.hash,
            ciphertext: recipient.blob,
        }
    }
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo` or an `RSAPublicKey` (PKCS#1), in PEM or DER; `name` is what messages call
    /// it.
    ///
    /// # Errors
    /// [`Error::InvalidPublicKey`] for anything else; [`Error::KeySize`] for a size that we do not take.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        let invalid = |what| invalid(name, what);
        let is_pem = bytes.windows(PEM.len()).position(|window| window == PEM);
        let Some(start) = is_pem else {
            return from_spki(name, bytes).or_else(|error| {
                match RsaPublicKeyRef::from_der(bytes) {
                    Ok(key) => from_pkcs1(name, key),
                    Err(_) => Err(error),
                }
            });
        };
        let pem = std::str::from_utf8(&bytes[start..]).map_err(|_| invalid("its PEM is broken"))?;
        let (label, der) = Document::from_pem(pem).map_err(|_| invalid("its PEM is broken"))?;
        match label {
            "PUBLIC KEY" => from_spki(name, der.as_bytes()),
            "RSA PUBLIC KEY" => {
                let key = RsaPublicKeyRef::from_der(der.as_bytes());
                from_pkcs1(name, key.map_err(|_| invalid("its content is broken"))?)
            }
            "CERTIFICATE" => Err(invalid("it is a certificate")),
            label if label.ends_with("PRIVATE KEY") => Err(invalid("it is a private key")),
            _ => Err(invalid("it is PEM of another kind")),
        }
    }

    /// Reads such a file from disk.
    ///
    /// # Errors
    /// As [`PublicKey::parse`]; [`Error::InFile`] when it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = file::read_secret(path, MAX_PUBLIC_KEY_FILE)?;
        Self::parse(&path.display().to_string(), bytes.expose())
    }

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

    /// `SubjectPublicKeyInfo` in PEM, ending in a line feed.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.0
            .to_public_key_pem(LineEnding::LF)
            .expect("two positive numbers are always DER")
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

    /// What to call the key in a message: the first 16 hexadecimal digits of the SHA-256 of its
    /// `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let der = self
            .0
            .to_public_key_der()
            .expect("two positive numbers are always DER");
        Sha256::digest(der.as_bytes())
            .iter()
            .take(8)
            .map(|octet| format!("{octet:02x}"))
            .collect()
    }

    /// Wraps private options for the holder of the private key: RSA-OAEP with an empty label.
    ///
    /// Where the whole message does not fit (RSA-2048 with SHA-256 takes 190 bytes), the digest is left out, which
    /// no reader checks.
    ///
    /// # Errors
    /// [`Error::KeySize`] for a key below 2048 bits; [`Error::MessageTooLong`] when the options do not fit even
    /// without the digest; [`Error::Wrapping`] when the system has no randomness.
    pub fn wrap(&self, hash: OaepHash, options: &PrivateOptions) -> Result<Recipient> {
        if self.bits() < MIN_ENCRYPTION_BITS {
            return Err(Error::KeySize {
                name: format!("public key {}", self.fingerprint()),
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

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} bits, {})", self.bits(), self.fingerprint())
    }
}

const PEM: &[u8] = b"-----BEGIN ";

fn from_spki(name: &str, der: &[u8]) -> Result<PublicKey> {
    let info = SubjectPublicKeyInfoRef::from_der(der)
        .map_err(|_| invalid(name, "it is neither PEM nor DER of a public key"))?;
    if info.algorithm.oid != RSA_ENCRYPTION {
        return Err(invalid(name, "its algorithm is not rsaEncryption"));
    }
    let key = RsaPublicKeyRef::from_der(info.subject_public_key.raw_bytes())
        .map_err(|_| invalid(name, "its content is broken"))?;
    from_pkcs1(name, key)
}

fn from_pkcs1(name: &str, key: RsaPublicKeyRef<'_>) -> Result<PublicKey> {
    let modulus = key.modulus.as_bytes();
    PublicKey::from_components(name, modulus, key.public_exponent.as_bytes())
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

fn invalid(name: &str, what: &'static str) -> Error {
    Error::InvalidPublicKey {
        name: name.to_owned(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rsa::PrivateKey;
    use rsa::pkcs1::EncodeRsaPublicKey as _;
    use rsa::pkcs8::DecodePrivateKey as _;

    use super::*;
    use crate::options::NONCE;
    use crate::secret::{LayerKey, SecretBytes};

    const RSA: &str = include_str!("../../integration/vectors/keys/jwe-rsa.pub.pem");
    const RSA_PRIVATE: &str = include_str!("../../integration/vectors/keys/jwe-rsa.pem");
    const RSA_3072: &str = include_str!("../../integration/vectors/keys/rsa3072.pub.pem");
    const ELLIPTIC: &str = include_str!("../../integration/vectors/keys/jwe-p256.pub.pem");

    fn parse(bytes: impl AsRef<[u8]>) -> Result<PublicKey> {
        PublicKey::parse("k.pem", bytes.as_ref())
    }

    fn of_bits(bits: usize) -> Result<PublicKey> {
        let mut modulus = vec![0xff; bits / 8];
        modulus.insert(0, 0);
        PublicKey::from_components("k", &modulus, &[0, 1, 0, 1])
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
    fn one_key_in_every_form() {
        let key = parse(RSA).unwrap();
        assert_eq!((key.bits(), key.modulus_len()), (2048, 256));
        assert_eq!(key.to_pem(), RSA);
        assert_eq!(key.fingerprint(), "e19f3c441bbcd54a");
        for other in [
            parse(key.0.to_public_key_der().unwrap()),
            parse(key.0.to_pkcs1_der().unwrap()),
            parse(key.0.to_pkcs1_pem(LineEnding::LF).unwrap()),
            parse(format!("Public key \"k\":\n{RSA}")),
            parse(RSA.replace('\n', "\r\n")),
            PublicKey::from_components("k", &key.0.n_bytes(), &key.0.e_bytes()),
        ] {
            assert_eq!(other.unwrap(), key);
        }
        assert_eq!(parse(RSA_3072).unwrap().bits(), 3072);
    }

    #[test]
    fn what_is_no_rsa_public_key_is_said() {
        let certificate = RSA.replace("PUBLIC KEY", "CERTIFICATE");
        let cut = &RSA[..200];
        for (text, part) in [
            (ELLIPTIC, "its algorithm is not rsaEncryption"),
            (RSA_PRIVATE, "it is a private key"),
            (&certificate, "it is a certificate"),
            (cut, "its PEM is broken"),
            ("", "neither PEM nor DER"),
            ("pkcs11:\n", "neither PEM nor DER"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("k.pem"), "{error}");
        }
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
                    PublicKey::from_components("k", modulus, exponent),
                    Err(Error::InvalidPublicKey { .. })
                ),
                "{exponent:?}"
            );
        }
    }

    #[test]
    fn wrapped_options_open_with_the_private_key() {
        let key = parse(RSA).unwrap();
        let wrapped = key.wrap(OaepHash::Sha1, &options(16)).unwrap();
        assert_eq!(wrapped.blob.len(), key.modulus_len());
        let opened = unwrapped(&wrapped);
        assert_eq!(opened.key, options(16).key);
        assert_eq!(opened.digest, options(16).digest);
        assert_ne!(wrapped, key.wrap(OaepHash::Sha1, &options(16)).unwrap());
    }

    #[test]
    fn digest_is_left_out_where_it_does_not_fit() {
        let key = parse(RSA).unwrap();
        let opened = unwrapped(&key.wrap(OaepHash::Sha256, &options(16)).unwrap());
        assert_eq!(opened.digest, None);
        assert_eq!(opened.key, options(16).key);
        assert_eq!(opened.cipher_options, options(16).cipher_options);
    }

    #[test]
    fn options_that_do_not_fit_at_all() {
        let error = parse(RSA).unwrap().wrap(OaepHash::Sha256, &options(200));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("190") && error.contains("2048"), "{error}");
    }

    #[test]
    fn nothing_is_encrypted_to_a_small_key() {
        let error = of_bits(1024).unwrap().wrap(OaepHash::Sha1, &options(16));
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
        let key = PublicKey::from_components("k", &modulus, &[1, 0, 1]).unwrap();
        assert_eq!((key.bits(), key.modulus_len()), (3065, 384));
        let wrapped = key.wrap(OaepHash::Sha256, &options(16)).unwrap();
        assert_eq!(wrapped.blob.len(), 384);
    }
}
