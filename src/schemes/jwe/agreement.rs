//! From an agreed secret to the key of the content, or to the one that wraps it: Concat KDF (RFC 7518, section 4.6).

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::header::{Header, KeyManagement};

/// The key that the agreement gives: for the content itself, or to unwrap the content key.
pub(super) fn derive(header: &Header, secret: &[u8]) -> Zeroizing<Vec<u8>> {
    let (algorithm, len) = match header.management {
        KeyManagement::KeyWrap(len) => (header.management.as_str(), len),
        _ => (header.encryption.as_str(), header.encryption.key_len()),
    };
    let [party_u, party_v] = &header.parties;
    concat_kdf(secret, algorithm.as_bytes(), party_u, party_v, len)
}

/// NIST SP 800-56A, section 5.8.2.1, with SHA-256, as RFC 7518, section 4.6.2 uses it. `len` is at most 64.
fn concat_kdf(
    secret: &[u8],
    algorithm: &[u8],
    party_u: &[u8],
    party_v: &[u8],
    len: usize,
) -> Zeroizing<Vec<u8>> {
    // The lengths are those of parts of an annotation, which has a bound far below 2^32.
    let length = |part: &[u8]| u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut key = Zeroizing::new(Vec::with_capacity(96));
    for round in 1_u32.. {
        if key.len() >= len {
            break;
        }
        let mut hash = Sha256::new();
        hash.update(round.to_be_bytes());
        hash.update(secret);
        for part in [algorithm, party_u, party_v] {
            hash.update(length(part));
            hash.update(part);
        }
        hash.update((len as u32 * 8).to_be_bytes());
        let mut block: [u8; 32] = hash.finalize().into();
        key.extend_from_slice(&block);
        zeroize::Zeroize::zeroize(&mut block);
    }
    key.truncate(len);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7518, appendix C.
    #[test]
    fn the_example_of_the_standard() {
        let secret = [
            158, 86, 217, 29, 129, 113, 53, 211, 114, 131, 66, 131, 191, 132, 38, 156, 251, 49,
            110, 163, 218, 128, 106, 72, 246, 218, 167, 121, 140, 254, 144, 196,
        ];
        let key = concat_kdf(&secret, b"A128GCM", b"Alice", b"Bob", 16);
        assert_eq!(
            key.as_slice(),
            [
                86, 170, 141, 234, 248, 35, 109, 32, 92, 34, 40, 205, 113, 167, 16, 26
            ]
        );
    }
}
