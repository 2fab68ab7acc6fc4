//! AES key wrap (RFC 3394), by the length of the key that wraps: 16, 24 or 32 bytes.

use aes_kw::{KeyInit as _, KwAes128, KwAes192, KwAes256};
use zeroize::Zeroizing;

/// Wraps `text`, whose length is a multiple of eight; `None` for another length, of it or of the key.
#[must_use]
pub fn wrap(key: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    let mut wrapped = vec![0; text.len() + 8];
    macro_rules! wrap {
        ($cipher:ty) => {
            (<$cipher>::new_from_slice(key)
                .ok()?
                .wrap_key(text, &mut wrapped))
            .ok()?
        };
    }
    match key.len() {
        16 => wrap!(KwAes128),
        24 => wrap!(KwAes192),
        _ => wrap!(KwAes256),
    };
    Some(wrapped)
}

/// Unwraps it; `None` if it was wrapped with another key, or altered.
#[must_use]
pub fn unwrap(key: &[u8], wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(vec![0; wrapped.len().checked_sub(8)?]);
    macro_rules! unwrap {
        ($cipher:ty) => {
            (<$cipher>::new_from_slice(key)
                .ok()?
                .unwrap_key(wrapped, &mut text))
            .ok()?
        };
    }
    match key.len() {
        16 => unwrap!(KwAes128),
        24 => unwrap!(KwAes192),
        _ => unwrap!(KwAes256),
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3394, section 4.1.
    #[test]
    fn the_example_of_the_standard() {
        let key: Vec<u8> = (0..16).collect();
        let text: Vec<u8> = (0..8)
            .flat_map(|one| [one * 0x22, one * 0x22 + 0x11])
            .collect();
        let wrapped = wrap(&key, &text).unwrap();
        assert_eq!(wrapped[..4], [0x1f, 0xa6, 0x8b, 0x0a]);
        assert_eq!(unwrap(&key, &wrapped).unwrap().as_slice(), text);
        for at in 0..wrapped.len() {
            let mut altered = wrapped.clone();
            altered[at] ^= 1;
            assert!(unwrap(&key, &altered).is_none(), "{at}");
        }
        for length in [0, 7, 8, 15, 17] {
            assert!(unwrap(&key, &wrapped[..length]).is_none(), "{length}");
        }
        assert!(wrap(&key, &text[..15]).is_none());
        assert!(unwrap(&[0; 31], &wrapped).is_none());
    }
}
