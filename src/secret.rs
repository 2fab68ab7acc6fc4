//! Types for what must not be seen: the layer key, the PIN, the bytes of the private options.
//!
//! Each wipes itself when dropped and shows nothing in `Debug`. None implements `Display`, so a secret
//! cannot slip into a message by way of a format string.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// The symmetric key of one layer, 32 bytes (`symkey` in the private options).
///
/// On the heap, since a value on the stack leaves a copy behind wherever it is moved from.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct LayerKey(Box<[u8; Self::LEN]>);

impl LayerKey {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// Wraps 32 key bytes that are no secret: their copy stays where they come from.
    #[must_use]
    pub fn new(bytes: [u8; Self::LEN]) -> Self {
        Self(Box::new(bytes))
    }

    /// Copies the bytes; `None` when they are not 32.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut key = Self(Box::default());
        (bytes.len() == Self::LEN).then(|| {
            key.0.copy_from_slice(bytes);
            key
        })
    }

    /// A new key.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut key = Self(Box::default());
        getrandom::fill(key.0.as_mut_slice())?;
        Ok(key)
    }

    /// The key bytes, for a cipher alone.
    #[must_use]
    pub fn expose(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Debug for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LayerKey(redacted)")
    }
}

/// Bytes of stack that a function which works with a key may use.
const SCRUBBED: usize = 32 << 10;

/// Overwrites the stack below the caller's frame: what functions that have returned left there of a key. To be called
/// by whoever called them, with nothing of the key in its own frame but pointers to it.
#[inline(never)]
pub(crate) fn scrub_stack() {
    let mut below = [0_u8; SCRUBBED];
    below.zeroize();
    std::hint::black_box(&mut below);
}

/// A user PIN, UTF-8 as PKCS#11 has it (section 5.1 of the standard). Never empty: an empty PIN is not a PIN.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Pin(String);

impl Pin {
    /// Wraps a PIN; `None` when the text is empty.
    #[must_use]
    pub fn new(text: String) -> Option<Self> {
        (!text.is_empty()).then_some(Self(text))
    }

    /// The PIN's text, for `C_Login` alone.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(redacted)")
    }
}

/// Bytes that hold a secret in some encoding: private options as JSON, the text of a payload.
#[derive(Clone, Default, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes the bytes over; they are wiped with this value.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes themselves.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes, redacted)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!(
            "{:?} {:?} {:?}",
            LayerKey::new([0x41; 32]),
            Pin::new("AAAA".to_owned()).unwrap(),
            SecretBytes::new(b"AAAA".to_vec())
        );
        assert!(!shown.contains("AAAA") && !shown.contains("65"));
    }

    #[test]
    fn empty_pin_is_no_pin() {
        assert!(Pin::new(String::new()).is_none());
    }
}
