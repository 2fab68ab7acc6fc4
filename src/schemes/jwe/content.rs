//! The content of a JWE: the six authenticated ciphers of RFC 7518, section 5.1.

use aes::cipher::consts::U12;
use aes::cipher::{BlockModeDecrypt as _, KeyIvInit as _};
use aes::{Aes128, Aes192, Aes256};
use aes_gcm::aead::AeadInOut as _;
use aes_gcm::{AesGcm, KeyInit};
use hmac::Hmac;
use sha2::{Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::error::Error;
use crate::secret::SecretBytes;

/// A cipher of `enc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// `A128GCM`.
    A128Gcm,
    /// `A192GCM`.
    A192Gcm,
    /// `A256GCM`; what is written.
    A256Gcm,
    /// `A128CBC-HS256`.
    A128CbcHs256,
    /// `A192CBC-HS384`.
    A192CbcHs384,
    /// `A256CBC-HS512`.
    A256CbcHs512,
}

impl Encryption {
    const ALL: [Self; 6] = [
        Self::A128Gcm,
        Self::A192Gcm,
        Self::A256Gcm,
        Self::A128CbcHs256,
        Self::A192CbcHs384,
        Self::A256CbcHs512,
    ];

    /// The cipher of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }

    /// Its name in `enc`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A128Gcm => "A128GCM",
            Self::A192Gcm => "A192GCM",
            Self::A256Gcm => "A256GCM",
            Self::A128CbcHs256 => "A128CBC-HS256",
            Self::A192CbcHs384 => "A192CBC-HS384",
            Self::A256CbcHs512 => "A256CBC-HS512",
        }
    }

    /// Length of the content key in bytes.
    #[must_use]
    pub fn key_len(self) -> usize {
        match self {
            Self::A128Gcm => 16,
            Self::A192Gcm => 24,
            Self::A256Gcm | Self::A128CbcHs256 => 32,
            Self::A192CbcHs384 => 48,
            Self::A256CbcHs512 => 64,
        }
    }

    /// Length of the initialisation vector in bytes.
    pub(super) fn iv_len(self) -> usize {
        if self.is_gcm() { 12 } else { 16 }
    }

    /// Length of the tag in bytes.
    pub(super) fn tag_len(self) -> usize {
        if self.is_gcm() {
            16
        } else {
            self.key_len() / 2
        }
    }

    fn is_gcm(self) -> bool {
        matches!(self, Self::A128Gcm | Self::A192Gcm | Self::A256Gcm)
    }
}

/// The encrypted content, its lengths checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) encryption: Encryption,
    pub(super) aad: Vec<u8>,
    pub(super) iv: Vec<u8>,
    pub(super) ciphertext: Vec<u8>,
    pub(super) tag: Vec<u8>,
}

impl Content {
    /// Opens it. A key of a wrong length, a wrong tag and a wrong padding are one verdict.
    pub(super) fn open(&self, key: &[u8]) -> Result<SecretBytes, Error> {
        if key.len() != self.encryption.key_len() {
            return Err(Error::NotAuthentic);
        }
        match self.encryption {
            Encryption::A128Gcm => self.open_gcm::<AesGcm<Aes128, U12>>(key),
            Encryption::A192Gcm => self.open_gcm::<AesGcm<Aes192, U12>>(key),
            Encryption::A256Gcm => self.open_gcm::<AesGcm<Aes256, U12>>(key),
            Encryption::A128CbcHs256 => self.open_cbc::<Hmac<Sha256>, Aes128>(key),
            Encryption::A192CbcHs384 => self.open_cbc::<Hmac<Sha384>, Aes192>(key),
            Encryption::A256CbcHs512 => self.open_cbc::<Hmac<Sha512>, Aes256>(key),
        }
        .ok_or(Error::NotAuthentic)
    }

    fn open_gcm<C>(&self, key: &[u8]) -> Option<SecretBytes>
    where
        C: KeyInit + aes_gcm::aead::AeadInOut<NonceSize = U12, TagSize = aes::cipher::consts::U16>,
    {
        let cipher = C::new_from_slice(key).ok()?;
        let mut text = Zeroizing::new(self.ciphertext.clone());
        let (nonce, tag) = (
            self.iv.as_slice().try_into().ok()?,
            self.tag.as_slice().try_into().ok()?,
        );
        cipher
            .decrypt_inout_detached(nonce, &self.aad, text.as_mut_slice().into(), tag)
            .ok()?;
        Some(SecretBytes::new(std::mem::take(&mut text)))
    }

    /// RFC 7518, section 5.2.2.2: the MAC over everything first, then the cipher.
    fn open_cbc<M, A>(&self, key: &[u8]) -> Option<SecretBytes>
    where
        M: hmac::Mac + hmac::KeyInit,
        A: aes::cipher::BlockCipherDecrypt + aes::cipher::KeyInit,
        cbc::Decryptor<A>: aes::cipher::KeyIvInit + aes::cipher::BlockModeDecrypt,
    {
        let (mac_key, key) = key.split_at(key.len() / 2);
        let mut mac = <M as hmac::KeyInit>::new_from_slice(mac_key).ok()?;
        mac.update(&self.aad);
        mac.update(&self.iv);
        mac.update(&self.ciphertext);
        mac.update(&(self.aad.len() as u64 * 8).to_be_bytes());
        let computed = mac.finalize().into_bytes();
        let computed = computed.get(..self.encryption.tag_len())?;
        if !bool::from(computed.ct_eq(&self.tag)) {
            return None;
        }
        let cipher = cbc::Decryptor::<A>::new_from_slices(key, &self.iv).ok()?;
        let mut text = Zeroizing::new(self.ciphertext.clone());
        let len = cipher
            .decrypt_padded::<cbc::cipher::block_padding::Pkcs7>(&mut text)
            .ok()?
            .len();
        text.truncate(len);
        Some(SecretBytes::new(std::mem::take(&mut text)))
    }
}

/// Encrypts with A256GCM, in place; gives the tag.
pub(super) fn seal_a256gcm(
    key: &[u8; 32],
    iv: &[u8; 12],
    aad: &[u8],
    text: &mut [u8],
) -> Option<[u8; 16]> {
    let tag = AesGcm::<Aes256, U12>::new(key.into())
        .encrypt_inout_detached(iv.into(), aad, text.into())
        .ok()?;
    Some(tag.into())
}
