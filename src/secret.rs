//! Types for what must not be seen: the layer key, the PIN, the bytes of the private options.
//!
//! Each wipes itself when dropped and shows nothing in `Debug`. None implements `Display`, so a secret
//! cannot slip into a message by way of a format string.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// The symmetric key of one layer, 32 bytes (`symkey` in the private options).
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct LayerKey([u8; 32]);

impl LayerKey {
    /// Wraps the 32 key bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key bytes, for a cipher alone.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LayerKey(redacted)")
    }
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
