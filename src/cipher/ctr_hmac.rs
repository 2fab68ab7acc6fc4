//! `AES_256_CTR_HMAC_SHA256`, the cipher that every tool reads: lanes for its keystream and its MAC.
//!
//! AES-256 in CTR mode, big-endian increment over all 128 bits; HMAC-SHA-256 over the ciphertext under the same
//! key. There are no segments, so only the end of the layer tells whether any of it was right.

use aes::Aes256;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::buffer::{Buffer, Shape};
use super::error::{Error, Result};
use super::pipeline::Lane;
use crate::descriptor::Digest;
use crate::options::{self, NONCE, PrivateOptions, PublicOptions};
use crate::secret::{LayerKey, scrub_stack};

/// Bytes of the initial counter block.
pub(super) const NONCE_LEN: usize = 16;
/// Bytes of the MAC.
const MAC_LEN: usize = 32;

/// One slot: neither keystream nor MAC needs a border.
pub(super) const SHAPE: Shape = Shape {
    slots: 1,
    stride: 512 * 1024,
    take: 512 * 1024,
};

/// The checked options of a layer under this cipher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameters {
    key: LayerKey,
    nonce: [u8; NONCE_LEN],
    mac: [u8; MAC_LEN],
}

impl Parameters {
    pub(super) fn new(public: &PublicOptions, private: &PrivateOptions) -> Result<Self> {
        let invalid = |what| options::Error::Invalid { what };
        let mac = public.hmac.as_deref().ok_or(invalid(
            "the public options have no HMAC, so the layer cannot be verified",
        ))?;
        let nonce = public
            .cipher_options(private)?
            .get(NONCE)
            .ok_or(invalid("the options have no nonce"))?;
        Ok(Self {
            key: private.key.clone(),
            nonce: nonce
                .as_slice()
                .try_into()
                .map_err(|_| invalid("the nonce is not 16 bytes long"))?,
            mac: mac
                .try_into()
                .map_err(|_| invalid("the HMAC in the public options is not 32 bytes long"))?,
        })
    }

    pub(super) fn keystream(&self) -> Keystream {
        Keystream::new(&self.key, &self.nonce)
    }

    pub(super) fn verifier(&self) -> Verifier {
        Verifier {
            mac: hmac(&self.key),
            expected: self.mac,
        }
    }
}

/// Turns plaintext into ciphertext and back.
///
/// On the heap: the first round keys of AES-256 are the key itself.
pub(super) struct Keystream(Box<Ctr128BE<Aes256>>);

impl Keystream {
    pub(super) fn new(key: &LayerKey, nonce: &[u8; NONCE_LEN]) -> Self {
        let keystream = Self::boxed(key, nonce);
        scrub_stack();
        keystream
    }

    /// A call of its own, so that what it leaves on the stack is below the caller.
    #[inline(never)]
    fn boxed(key: &LayerKey, nonce: &[u8; NONCE_LEN]) -> Self {
        Self(Box::new(Ctr128BE::new(key.expose().into(), nonce.into())))
    }
}

impl Lane for Keystream {
    fn pass(&mut self, buffer: &mut Buffer) -> Result<()> {
        buffer.rewrite(SHAPE.take, |piece| {
            // The counter has 128 bits, so it does not come round within any length that we can count.
            self.0.apply_keystream(&mut piece.place[..piece.len]);
            Ok(piece.len)
        })
    }
}

/// Computes the MAC of what is being read, and compares it at the last buffer.
pub(super) struct Verifier {
    mac: Hmac<Sha256>,
    expected: [u8; MAC_LEN],
}

impl Lane for Verifier {
    fn pass(&mut self, buffer: &mut Buffer) -> Result<()> {
        for piece in buffer.pieces() {
            self.mac.update(piece);
        }
        if buffer.is_last() {
            // In constant time, and the computed value goes nowhere: with it a layer could be forged.
            let mac = self.mac.clone();
            mac.verify_slice(&self.expected)
                .map_err(|_| Error::Verification)?;
        }
        Ok(())
    }
}

/// Computes the MAC and the digest of what is being written.
pub(super) struct Authenticator {
    mac: Hmac<Sha256>,
    digest: Sha256,
}

impl Authenticator {
    pub(super) fn new(key: &LayerKey) -> Self {
        Self {
            mac: hmac(key),
            digest: Sha256::new(),
        }
    }

    /// The MAC for the public options, and the digest of the blob.
    pub(super) fn finish(self) -> ([u8; MAC_LEN], Digest) {
        (
            self.mac.finalize().into_bytes().into(),
            Digest::from_sha256(&self.digest.finalize().into()),
        )
    }
}

impl Lane for Authenticator {
    fn pass(&mut self, buffer: &mut Buffer) -> Result<()> {
        // Each hash waits for its own last block and leaves the processor half idle; in turns of two blocks, one
        // fills the gaps of the other. A third faster than one after the other.
        const TURN: usize = 128;
        for turn in buffer.pieces().flat_map(|piece| piece.chunks(TURN)) {
            self.mac.update(turn);
            self.digest.update(turn);
        }
        Ok(())
    }
}

fn hmac(key: &LayerKey) -> Hmac<Sha256> {
    let mac = keyed(key);
    scrub_stack();
    mac
}

/// A call of its own, so that what it leaves on the stack is below the caller. What it returns are hash states.
#[inline(never)]
fn keyed(key: &LayerKey) -> Hmac<Sha256> {
    Hmac::new_from_slice(key.expose()).expect("HMAC takes a key of any length")
}
