//! `AES_256_CTR_HMAC_SHA256`, the cipher that every tool reads: lanes for its keystream and its MAC.
//!
//! AES-256 in CTR mode, big-endian increment over all 128 bits; HMAC-SHA-256 over the ciphertext under the same
//! key. There are no segments, so only the end of the layer tells whether any of it was right.

use aes::Aes256;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::buffer::{Buffer, Shape};
use super::pipeline::Lane;
use crate::error::{Error, Result};
use crate::options::{NONCE, PrivateOptions, PublicOptions};
use crate::secret::LayerKey;

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
        let invalid = |what| Error::InvalidOptions { what };
        let mac = public.hmac.as_deref().ok_or(invalid(
            "the public options have no HMAC, so the layer cannot be verified",
        ))?;
        let nonce = public
            .cipher_option(private, NONCE)
            .ok_or(invalid("the options have no nonce"))?;
        Ok(Self {
            key: private.key.clone(),
            nonce: nonce
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
            mac: Authenticator::new(&self.key),
            expected: self.mac,
        }
    }
}

/// Turns plaintext into ciphertext and back.
pub(super) struct Keystream(Ctr128BE<Aes256>);

impl Keystream {
    pub(super) fn new(key: &LayerKey, nonce: &[u8; NONCE_LEN]) -> Self {
        Self(Ctr128BE::new(key.expose().into(), nonce.into()))
    }
}

impl Lane for Keystream {
    fn pass(&mut self, buffer: &mut Buffer) -> Result<()> {
        buffer.rewrite(SHAPE.take, |place, len, _| {
            // The counter has 128 bits, so it does not come round within any length that we can count.
            self.0.apply_keystream(&mut place[..len]);
            Ok(len)
        })
    }
}

/// Computes the MAC of what is being written.
pub(super) struct Authenticator(Hmac<Sha256>);

impl Authenticator {
    pub(super) fn new(key: &LayerKey) -> Self {
        // Both lengths fit a key of 32 bytes, so this cannot fail: HMAC takes a key of any length.
        Self(Hmac::new_from_slice(key.expose()).expect("HMAC takes a key of any length"))
    }

    pub(super) fn finish(self) -> [u8; MAC_LEN] {
        self.0.finalize().into_bytes().into()
    }
}

impl Lane for Authenticator {
    fn pass(&mut self, buffer: &mut Buffer) -> Result<()> {
        for piece in buffer.pieces() {
            self.0.update(piece);
        }
        Ok(())
    }
}

/// Computes the MAC of what is being read, and compares it at the last buffer.
pub(super) struct Verifier {
    mac: Authenticator,
    expected: [u8; MAC_LEN],
}

impl Lane for Verifier {
    fn pass(&mut self, buffer: &mut Buffer) -> Result<()> {
        self.mac.pass(buffer)?;
        if buffer.is_last() {
            // In constant time, and the computed value goes nowhere: with it a layer could be forged.
            let mac = self.mac.0.clone();
            mac.verify_slice(&self.expected)
                .map_err(|_| Error::Verification)?;
        }
        Ok(())
    }
}
