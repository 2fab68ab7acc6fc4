//! Ciphers and hashes by their numbers (RFC 9580, section 9): those that are used, and names of those that are not.

use aes::cipher::KeyIvInit as _;
use aes::{Aes128, Aes192, Aes256};
use cfb_mode::{Decryptor, Encryptor};
use sha1::Sha1;
use sha2::{Digest as _, Sha224, Sha256, Sha384, Sha512};
use zeroize::{Zeroize as _, Zeroizing};

/// Length of a block of every cipher that we use.
pub const BLOCK: usize = 16;

/// AES with one of its lengths of keys. All other ciphers are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// With 16 bytes.
    Aes128,
    /// With 24 bytes.
    Aes192,
    /// With 32 bytes.
    Aes256,
}

impl Cipher {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Aes128, Self::Aes192, Self::Aes256];

    /// The one with that number.
    #[must_use]
    pub fn numbered(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.number() == number)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Aes128 => 7,
            Self::Aes192 => 8,
            Self::Aes256 => 9,
        }
    }

    /// Length of its keys in bytes.
    #[must_use]
    pub fn key_len(self) -> usize {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }

    /// Decrypts in place: cipher feedback, as section 12.9 has it for protected data and for secret keys. `false` for a key
    /// of another length.
    #[must_use]
    pub fn decrypt(self, key: &[u8], iv: &[u8; BLOCK], text: &mut [u8]) -> bool {
        macro_rules! decrypt {
            ($cipher:ty) => {
                Decryptor::<$cipher>::new_from_slices(key, iv).map(|cipher| cipher.decrypt(text))
            };
        }
        match self {
            Self::Aes128 => decrypt!(Aes128),
            Self::Aes192 => decrypt!(Aes192),
            Self::Aes256 => decrypt!(Aes256),
        }
        .is_ok()
    }
}

/// Encrypts in place, with AES-256.
pub fn encrypt(key: &[u8; 32], iv: &[u8; BLOCK], text: &mut [u8]) {
    Encryptor::<Aes256>::new(key.into(), iv.into()).encrypt(text);
}

/// What to call a cipher that is refused.
#[must_use]
pub fn cipher_name(number: u8) -> &'static str {
    match number {
        1 => "IDEA",
        2 => "3DES",
        3 => "CAST5",
        4 => "Blowfish",
        10 => "Twofish",
        11..=13 => "Camellia",
        _ => "a cipher that we do not know",
    }
}

/// What to call an algorithm of a recipient's key that is refused.
#[must_use]
pub fn recipient_name(number: u8) -> &'static str {
    match number {
        16 | 20 => "ElGamal",
        25 => "X25519 in the form of RFC 9580",
        26 => "X448",
        _ => "an algorithm that we do not know",
    }
}

/// A hash. Whether it is good enough is the matter of whoever uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-1.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// The one with that number; `None` also for MD5 and RIPEMD-160.
    #[must_use]
    pub fn numbered(number: u8) -> Option<Self> {
        match number {
            2 => Some(Self::Sha1),
            8 => Some(Self::Sha256),
            9 => Some(Self::Sha384),
            10 => Some(Self::Sha512),
            11 => Some(Self::Sha224),
            _ => None,
        }
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Sha1 => 2,
            Self::Sha256 => 8,
            Self::Sha384 => 9,
            Self::Sha512 => 10,
            Self::Sha224 => 11,
        }
    }

    /// The hash of these, one after the other.
    #[must_use]
    pub fn of<'a>(self, parts: impl IntoIterator<Item = &'a [u8]>) -> Zeroizing<Vec<u8>> {
        macro_rules! of {
            ($hash:ty) => {{
                let mut hash = <$hash>::new();
                parts.into_iter().for_each(|part| hash.update(part));
                let mut digest = hash.finalize();
                let kept = digest.to_vec();
                digest.as_mut_slice().zeroize();
                kept
            }};
        }
        Zeroizing::new(match self {
            Self::Sha1 => of!(Sha1),
            Self::Sha224 => of!(Sha224),
            Self::Sha256 => of!(Sha256),
            Self::Sha384 => of!(Sha384),
            Self::Sha512 => of!(Sha512),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back() {
        for cipher in Cipher::ALL {
            assert_eq!(Cipher::numbered(cipher.number()), Some(cipher));
        }
        for number in 0..=255 {
            assert!(Hash::numbered(number).is_none_or(|hash| hash.number() == number));
        }
        assert!(
            [0, 2, 3, 10]
                .map(Cipher::numbered)
                .iter()
                .all(Option::is_none)
        );
    }

    /// NIST SP 800-38A, F.3.17, whose last block is cut short here.
    #[test]
    fn cipher_feedback_as_its_standard_has_it() {
        let key: [u8; 32] = std::array::from_fn(|at| {
            u8::from_str_radix(
                &"603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"[2 * at..][..2],
                16,
            )
            .unwrap()
        });
        let iv = std::array::from_fn(|at| at as u8);
        let mut text = [
            0x6b, 0xc1, 0xbe, 0xe2, 0x2e, 0x40, 0x9f, 0x96, 0xe9, 0x3d, 0x7e, 0x11, 0x73, 0x93,
            0x17, 0x2a, 0xae, 0x2d,
        ];
        let plain = text;
        encrypt(&key, &iv, &mut text);
        assert_eq!(text[..4], [0xdc, 0x7e, 0x84, 0xbf]);
        assert_eq!(text[16..], [0x39, 0xff]);
        assert!(Cipher::Aes256.decrypt(&key, &iv, &mut text));
        assert_eq!(text, plain);
        assert!(!Cipher::Aes128.decrypt(&key, &iv, &mut text));
    }
}
