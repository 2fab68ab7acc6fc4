//! Lanes that change nothing: the length of what passes, and its SHA-256.

use sha2::{Digest as _, Sha256};

use super::buffer::Buffer;
use super::error::{Error, Result};
use super::pipeline::Lane;
use crate::descriptor::Digest;

/// Counts the bytes of the layer, and compares them with what its descriptor says.
pub(super) struct Length {
    taken: u64,
    expected: Option<u64>,
}

impl Length {
    pub(super) fn new(expected: Option<u64>) -> Self {
        Self { taken: 0, expected }
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken
    }
}

impl Lane for Length {
    fn pass(&mut self, buffer: &mut Buffer) -> Result<()> {
        self.taken += buffer.len() as u64;
        match self.expected {
            Some(expected)
                if self.taken > expected || (buffer.is_last() && self.taken < expected) =>
            {
                Err(Error::WrongLength {
                    actual: self.taken,
                    expected,
                })
            }
            _ => Ok(()),
        }
    }
}

/// Computes the digest of what passes.
#[derive(Default)]
pub(super) struct DigestLane(Sha256);

impl DigestLane {
    pub(super) fn finish(self) -> Digest {
        Digest::from_sha256(&self.0.finalize().into())
    }
}

impl Lane for DigestLane {
    fn pass(&mut self, buffer: &mut Buffer) -> Result<()> {
        for piece in buffer.pieces() {
            self.0.update(piece);
        }
        Ok(())
    }
}
