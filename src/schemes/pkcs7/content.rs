//! The encrypted content of a message: AES in GCM or CBC mode (RFC 5084, RFC 3565).

use aes::cipher::KeyIvInit as _;
use aes::cipher::consts::{U12, U16};
use aes::{Aes128, Aes192, Aes256};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{AesGcm, KeyInit};
use cbc::Decryptor;
use cbc::cipher::BlockModeDecrypt;
use cbc::cipher::block_padding::NoPadding;
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _, ConstantTimeLess as _};
use zeroize::Zeroizing;

use super::{DATA, Error, dotted};
use crate::der::{self, Elements};
use crate::secret::SecretBytes;

/// The branch of AES, 2.16.840.1.101.3.4.1; one more byte says which.
const AES: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01];
/// DES-CBC and DES-EDE3-CBC.
const DES: [&[u8]; 2] = [
    &[0x2b, 0x0e, 0x03, 0x02, 0x07],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x03, 0x07],
];
/// Most parts that an OCTET STRING may come in.
const MAX_PARTS: usize = 64;
const GCM_TAG: usize = 16;
const PRIMITIVE_SEQUENCE: u8 = 0x10;
/// `[4]`, primitive: how the Go library marks a nonce.
pub(super) const GO_NONCE: u8 = 0x84;

/// The content, its lengths checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    mode: Mode,
    key_len: usize,
    /// Nonce or initialisation vector.
    nonce: Vec<u8>,
    /// With the tag at its end, in GCM mode.
    ciphertext: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Gcm,
    Cbc,
}

impl Content {
    /// Reads `EncryptedContentInfo`.
    pub(super) fn read(mut info: Elements<'_>) -> Result<Self, Error> {
        let kind = info.content_of(der::OID).ok_or(Error::Malformed)?;
        if kind != DATA {
            return Err(Error::OtherContent);
        }
        let mut algorithm = info.enter(der::SEQUENCE).ok_or(Error::Malformed)?;
        let oid = algorithm.content_of(der::OID).ok_or(Error::Malformed)?;
        if DES.contains(&oid) {
            return Err(Error::Des);
        }
        let unknown = || Error::UnknownAlgorithm {
            what: "the content's",
            oid: dotted(oid),
        };
        let arc = oid.strip_prefix(AES).ok_or_else(unknown)?;
        let (mode, key_len) = match arc {
            [2] => (Mode::Cbc, 16),
            [22] => (Mode::Cbc, 24),
            [42] => (Mode::Cbc, 32),
            [6] => (Mode::Gcm, 16),
            [26] => (Mode::Gcm, 24),
            [46] => (Mode::Gcm, 32),
            _ => return Err(unknown()),
        };
        let nonce = match mode {
            Mode::Cbc => algorithm
                .content_of(der::OCTET_STRING)
                .filter(|iv| iv.len() == 16),
            Mode::Gcm => gcm_nonce(&mut algorithm),
        };
        let nonce = nonce.ok_or(Error::Parameters)?.to_vec();
        let ciphertext = octets(&mut info).ok_or(Error::Malformed)?;
        let whole = match mode {
            Mode::Cbc => !ciphertext.is_empty() && ciphertext.len() % 16 == 0,
            Mode::Gcm => ciphertext.len() >= GCM_TAG,
        };
        if !whole {
            return Err(Error::Malformed);
        }
        Ok(Self {
            mode,
            key_len,
            nonce,
            ciphertext,
        })
    }

    /// Length of the content key in bytes.
    pub(super) fn key_len(&self) -> usize {
        self.key_len
    }

    /// Opens it. Without a tag there is no failure that could be told from another one: what comes out is not what went
    /// in, then.
    pub(super) fn open(&self, key: &[u8]) -> Option<SecretBytes> {
        if key.len() != self.key_len {
            return None;
        }
        match (self.mode, self.key_len) {
            (Mode::Gcm, 16) => self.open_gcm::<AesGcm<Aes128, U12>>(key),
            (Mode::Gcm, 24) => self.open_gcm::<AesGcm<Aes192, U12>>(key),
            (Mode::Gcm, _) => self.open_gcm::<AesGcm<Aes256, U12>>(key),
            (Mode::Cbc, 16) => {
                self.open_cbc(Decryptor::<Aes128>::new_from_slices(key, &self.nonce).ok()?)
            }
            (Mode::Cbc, 24) => {
                self.open_cbc(Decryptor::<Aes192>::new_from_slices(key, &self.nonce).ok()?)
            }
            (Mode::Cbc, _) => {
                self.open_cbc(Decryptor::<Aes256>::new_from_slices(key, &self.nonce).ok()?)
            }
        }
    }

    fn open_gcm<C>(&self, key: &[u8]) -> Option<SecretBytes>
    where
        C: KeyInit + AeadInOut<NonceSize = U12, TagSize = U16>,
    {
        let (text, tag) = self.ciphertext.split_at(self.ciphertext.len() - GCM_TAG);
        let mut text = Zeroizing::new(text.to_vec());
        let nonce = self.nonce.as_slice().try_into().ok()?;
        C::new_from_slice(key)
            .ok()?
            .decrypt_inout_detached(nonce, &[], text.as_mut_slice().into(), tag.try_into().ok()?)
            .ok()?;
        Some(SecretBytes::new(std::mem::take(&mut text)))
    }

    fn open_cbc(&self, cipher: impl BlockModeDecrypt) -> Option<SecretBytes> {
        let mut text = Zeroizing::new(self.ciphertext.clone());
        cipher.decrypt_padded::<NoPadding>(&mut text).ok()?;
        let len = text.len() - padding(&text);
        text.truncate(len);
        Some(SecretBytes::new(std::mem::take(&mut text)))
    }
}

/// How many bytes of padding there are, 1 to 16; 0 where the padding is wrong. The same work for each text.
fn padding(text: &[u8]) -> usize {
    let len = text.last().copied().unwrap_or_default();
    let mut valid = !len.ct_eq(&0) & len.ct_lt(&17);
    for (distance, octet) in (0_u8..16).zip(text.iter().rev()) {
        valid &= octet.ct_eq(&len) | !distance.ct_lt(&len);
    }
    usize::from(u8::conditional_select(&0, &len, valid))
}

/// `GCMParameters` (RFC 5084, section 3.2): a nonce of 12 bytes, a tag of 16. The Go library has them in one more
/// element, which it calls a sequence and marks as primitive, and the nonce as `[4]`.
fn gcm_nonce<'a>(algorithm: &mut Elements<'a>) -> Option<&'a [u8]> {
    let outer = algorithm.next()?;
    if !matches!(outer.tag, der::SEQUENCE | PRIMITIVE_SEQUENCE) {
        return None;
    }
    let mut parameters = Elements::new(outer.content);
    if let Some(inner) = parameters.enter(der::SEQUENCE) {
        parameters = inner;
    }
    let nonce =
        (parameters.content_of(der::OCTET_STRING)).or_else(|| parameters.content_of(GO_NONCE))?;
    let tag_len = parameters.content_of(der::INTEGER)?;
    (nonce.len() == 12 && tag_len == [GCM_TAG as u8]).then_some(nonce)
}

/// `[0] IMPLICIT OCTET STRING`: whole, or in parts within a constructed one, as the Go library writes it.
fn octets(info: &mut Elements<'_>) -> Option<Vec<u8>> {
    if let Some(whole) = info.content_of(der::CONTEXT_0) {
        return Some(whole.to_vec());
    }
    let mut parts = info.enter(der::CONTEXT_0_CONSTRUCTED)?;
    let mut octets = Vec::new();
    for _ in 0..MAX_PARTS {
        if parts.is_empty() {
            return Some(octets);
        }
        octets.extend_from_slice(parts.content_of(der::OCTET_STRING)?);
    }
    parts.is_empty().then_some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paddings() {
        let text = |end: &[u8]| [&[0xaa; 32][..], end].concat();
        assert_eq!(padding(&text(&[1])), 1);
        assert_eq!(padding(&text(&[2, 2])), 2);
        assert_eq!(padding(&text(&[16; 16])), 16);
        assert_eq!(padding(&[16; 16]), 16);
        for wrong in [
            &[0][..],
            &[1, 2],
            &[17; 17],
            &[0xff],
            &[3, 3, 2, 3],
            &[16; 15],
        ] {
            assert_eq!(padding(&text(wrong)), 0, "{wrong:?}");
        }
    }
}
