//! `AES_256_GCM_STREAM`: the layer in segments of 64 KiB, each with its own tag.
//!
//! The STREAM construction over AES-256-GCM: the nonce of a segment says its place and whether it is the last, so
//! that segments cannot be moved, dropped, repeated or appended. A segment is released only when its tag verified.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};

use super::buffer::{Buffer, Shape};
use super::pipeline::Lane;
use crate::error::{Error, Result};
use crate::options::{NONCE, PrivateOptions, PublicOptions};
use crate::secret::LayerKey;

/// Bytes of the nonce's fixed part.
pub(super) const PREFIX_LEN: usize = 7;
/// Plain bytes of a segment.
const SEGMENT: usize = 64 * 1024;
/// Bytes of a tag.
const TAG: usize = 16;
const SLOTS: usize = 8;

/// Whole segments in, plain segments out.
pub(super) const OPEN: Shape = Shape {
    slots: SLOTS,
    stride: SEGMENT + TAG,
    take: SEGMENT + TAG,
};
/// Plain segments in, with room for the tag behind each.
pub(super) const SEAL: Shape = Shape {
    slots: SLOTS,
    stride: SEGMENT + TAG,
    take: SEGMENT,
};

/// The checked options of a layer under this cipher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameters {
    key: LayerKey,
    prefix: [u8; PREFIX_LEN],
}

impl Parameters {
    pub(super) fn new(public: &PublicOptions, private: &PrivateOptions) -> Result<Self> {
        let invalid = |what| Error::InvalidOptions { what };
        let prefix = public
            .cipher_option(private, NONCE)
            .ok_or(invalid("the options have no nonce"))?;
        Ok(Self {
            key: private.key.clone(),
            prefix: prefix
                .try_into()
                .map_err(|_| invalid("the nonce is not 7 bytes long"))?,
        })
    }

    pub(super) fn opener(&self) -> Opener {
        Opener(Segments::new(&self.key, self.prefix))
    }
}

/// Verifies and decrypts segments in place.
pub(super) struct Opener(Segments);

impl Lane for Opener {
    fn pass(&mut self, buffer: &mut Buffer) -> Result<()> {
        buffer.rewrite(SEGMENT, |place, len, last| {
            let plain = len.checked_sub(TAG).ok_or(Error::Verification)?;
            if plain == 0 && self.0.next != Some(0) {
                // Only the empty layer has an empty segment: one way to cut a layer, so one blob for it.
                return Err(Error::Verification);
            }
            let nonce = self.0.next_nonce(last)?;
            let (text, tag) = place[..len].split_at_mut(plain);
            let tag = Tag::try_from(&*tag).expect("the split leaves 16 bytes");
            self.0
                .aead
                .decrypt_inout_detached(&nonce, b"", text.into(), &tag)
                .map_err(|_| Error::Verification)?;
            Ok(plain)
        })
    }
}

/// Encrypts segments in place and puts the tag behind each.
pub(super) struct Sealer(Segments);

impl Sealer {
    pub(super) fn new(key: &LayerKey, prefix: [u8; PREFIX_LEN]) -> Self {
        Self(Segments::new(key, prefix))
    }
}

impl Lane for Sealer {
    fn pass(&mut self, buffer: &mut Buffer) -> Result<()> {
        buffer.rewrite(SEGMENT + TAG, |place, len, last| {
            let nonce = self.0.next_nonce(last)?;
            let (text, rest) = place.split_at_mut(len);
            let tag = self
                .0
                .aead
                .encrypt_inout_detached(&nonce, b"", text.into())
                .expect("a segment is far below the 64 GiB that one nonce may encrypt");
            rest[..TAG].copy_from_slice(&tag);
            Ok(len + TAG)
        })
    }
}

/// The key, and the place in the layer.
struct Segments {
    aead: Aes256Gcm,
    prefix: [u8; PREFIX_LEN],
    /// Number of the next segment; none is left after 2^32.
    next: Option<u32>,
}

impl Segments {
    fn new(key: &LayerKey, prefix: [u8; PREFIX_LEN]) -> Self {
        Self {
            aead: Aes256Gcm::new(key.expose().into()),
            prefix,
            next: Some(0),
        }
    }

    fn next_nonce(&mut self, last: bool) -> Result<Nonce<aes_gcm::aead::consts::U12>> {
        let number = self.next.ok_or(Error::TooLarge {
            what: "number of segments of the layer",
            limit: 1 << 32,
        })?;
        self.next = number.checked_add(1);
        let mut nonce = [0; 12];
        nonce[..PREFIX_LEN].copy_from_slice(&self.prefix);
        nonce[PREFIX_LEN..11].copy_from_slice(&number.to_be_bytes());
        nonce[11] = u8::from(last);
        Ok(nonce.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_segments_than_a_nonce_can_count() {
        let mut segments = Segments::new(&LayerKey::new([1; 32]), [2; PREFIX_LEN]);
        segments.next = Some(u32::MAX);
        segments.next_nonce(false).unwrap();
        assert!(matches!(
            segments.next_nonce(true),
            Err(Error::TooLarge { .. })
        ));
    }
}
