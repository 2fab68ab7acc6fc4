//! `AES_256_GCM_STREAM`: the layer in segments of 64 KiB, each with its own tag.
//!
//! The STREAM construction over AES-256-GCM: the nonce of a segment says its place and whether it is the last, so
//! that segments cannot be moved, dropped, repeated or appended. A segment is released only when its tag verified.

use std::sync::Arc;

use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};

use super::buffer::{Buffer, Piece, Shape};
use super::error::{Error, Result};
use super::pipeline::Lane;
use crate::options::{self, NONCE, PrivateOptions, PublicOptions};
use crate::secret::{LayerKey, scrub_stack};

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
        let invalid = |what| options::Error::Invalid { what };
        if public.hmac.is_some() {
            return Err(invalid("the public options have an HMAC, and the cipher has none").into());
        }
        let prefix = public
            .cipher_options(private)?
            .get(NONCE)
            .ok_or(invalid("the options have no nonce"))?;
        Ok(Self {
            key: private.key.clone(),
            prefix: prefix
                .as_slice()
                .try_into()
                .map_err(|_| invalid("the nonce is not 7 bytes long"))?,
        })
    }

    pub(super) fn opener(&self) -> Opener {
        Opener(Segments::new(&self.key, self.prefix))
    }
}

/// Verifies and decrypts segments in place.
///
/// They do not depend on one another, so two openers can share a buffer: one helps before, the other does the rest.
#[derive(Clone)]
pub(super) struct Opener(Segments);

impl Opener {
    /// The same opener in the place before the other, where it works on what nobody else has time for.
    pub(super) fn helper(&self) -> Helper {
        Helper(self.clone())
    }

    fn open(&self, segment: Piece<'_>) -> Result<usize> {
        let plain = segment.len.checked_sub(TAG).ok_or(Error::Verification)?;
        if plain == 0 && segment.number > 0 {
            // Only the empty layer has an empty segment: one way to cut a layer, so one blob for it.
            return Err(Error::Verification);
        }
        let nonce = self.0.nonce(segment.number, segment.last)?;
        let (text, tag) = segment.place[..segment.len].split_at_mut(plain);
        let tag = Tag::try_from(&*tag).expect("the split leaves 16 bytes");
        self.0
            .aead
            .decrypt_inout_detached(&nonce, b"", text.into(), &tag)
            .map_err(|_| Error::Verification)?;
        Ok(plain)
    }
}

impl Lane for Opener {
    fn pass(&mut self, buffer: &mut Buffer) -> Result<()> {
        buffer.rewrite(SEGMENT, |segment| self.open(segment))
    }
}

/// An [`Opener`] that does nothing but help.
pub(super) struct Helper(Opener);

impl Lane for Helper {
    fn pass(&mut self, _: &mut Buffer) -> Result<()> {
        Ok(())
    }

    fn help(&mut self, buffer: &mut Buffer) -> Result<bool> {
        buffer.rewrite_early(|segment| self.0.open(segment))
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
        buffer.rewrite(SEGMENT + TAG, |segment| {
            let nonce = self.0.nonce(segment.number, segment.last)?;
            let (text, rest) = segment.place.split_at_mut(segment.len);
            let tag = self
                .0
                .aead
                .encrypt_inout_detached(&nonce, b"", text.into())
                .expect("a segment is far below the 64 GiB that one nonce may encrypt");
            rest[..TAG].copy_from_slice(&tag);
            Ok(segment.len + TAG)
        })
    }
}

/// The key, expanded, and the nonce's fixed part.
///
/// On the heap: the first round keys of AES-256 are the key itself.
#[derive(Clone)]
struct Segments {
    aead: Arc<Aes256Gcm>,
    prefix: [u8; PREFIX_LEN],
}

impl Segments {
    fn new(key: &LayerKey, prefix: [u8; PREFIX_LEN]) -> Self {
        let aead = Self::keyed(key);
        scrub_stack();
        Self { aead, prefix }
    }

    /// A call of its own, so that what it leaves on the stack is below the caller.
    #[inline(never)]
    fn keyed(key: &LayerKey) -> Arc<Aes256Gcm> {
        Arc::new(Aes256Gcm::new(key.expose().into()))
    }

    /// The nonce of a segment: no two segments of a layer have the same, and no two layers the same key.
    fn nonce(&self, number: u64, last: bool) -> Result<Nonce<U12>> {
        let number = u32::try_from(number).map_err(|_| Error::TooLarge {
            what: "number of segments of the layer",
            limit: 1 << 32,
        })?;
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
        let segments = Segments::new(&LayerKey::new([1; 32]), [2; PREFIX_LEN]);
        let nonce = segments.nonce(u64::from(u32::MAX), true).unwrap();
        assert_eq!(nonce[..], [2, 2, 2, 2, 2, 2, 2, 255, 255, 255, 255, 1]);
        assert!(matches!(
            segments.nonce(1 << 32, true),
            Err(Error::TooLarge { .. })
        ));
    }
}
