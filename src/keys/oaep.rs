//! OAEP unpadding of a raw RSA result, in constant time, with one refusal (RFC 8017, section 7.1.2).
//!
//! For tokens that do raw RSA but not the hash that was asked for. The label is always empty and MGF1 uses the hash
//! of the padding, as a PKCS#11 packet has it. No RSA here: the private key stays in the token.

use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};
use zeroize::{Zeroize as _, Zeroizing};

use crate::operation::OaepHash;
use crate::secret::SecretBytes;

/// Removes the padding from `raw`, what `CKM_RSA_X_509` gave for a modulus of `modulus_len` bytes.
///
/// Modules may strip leading zeros, so a shorter `raw` is filled up on the left. `None` is the one answer to
/// everything that can be wrong: whoever could tell a first octet that is not zero from another failure would
/// decrypt without the key (Manger, *A Chosen Ciphertext Attack on RSA-OAEP*, CRYPTO 2001). So nothing before the
/// single decision branches on the block's content, or picks an address by it.
#[must_use]
pub fn unpad(hash: OaepHash, modulus_len: usize, raw: &[u8]) -> Option<SecretBytes> {
    // Lengths are public: a ciphertext's length and the modulus are known to all.
    if raw.len() > modulus_len {
        return None;
    }
    hash.max_message_len(modulus_len)?;
    let mut block = Zeroizing::new(vec![0; modulus_len]);
    block[modulus_len - raw.len()..].copy_from_slice(raw);
    match hash {
        OaepHash::Sha1 => open::<Sha1>(&mut block),
        OaepHash::Sha256 => open::<Sha256>(&mut block),
    }
}

/// `block` is `first octet (1) || masked seed (hLen) || masked data block`, at least 2 + 2 hLen bytes.
fn open<H: Digest>(block: &mut [u8]) -> Option<SecretBytes> {
    let hash_len = <H as Digest>::output_size();
    let (first, rest) = block.split_at_mut(1);
    let (seed, data) = rest.split_at_mut(hash_len);
    apply_mask::<H>(seed, data);
    apply_mask::<H>(data, seed);

    // The data block is `hash of the label || 00 … 00 || 01 || message`.
    let (label_hash, padded) = data.split_at(hash_len);
    let mut valid = first.ct_eq(&[0]) & label_hash.ct_eq(&H::digest([]));
    let mut before_separator = Choice::from(1);
    let mut separator = 0;
    for (position, octet) in (0_u32..).zip(padded) {
        let is_separator = before_separator & octet.ct_eq(&1);
        separator.conditional_assign(&position, is_separator);
        before_separator &= !is_separator;
        valid &= !before_separator | octet.ct_eq(&0);
    }
    valid &= !before_separator;

    // The one decision. From here on the message's length shows, as it does in any successful answer.
    if !bool::from(valid) {
        return None;
    }
    Some(SecretBytes::new(padded[separator as usize + 1..].to_vec()))
}

/// XORs MGF1 of `seed` onto `target` (RFC 8017, appendix B.2.1).
fn apply_mask<H: Digest>(target: &mut [u8], seed: &[u8]) {
    for (counter, chunk) in (0_u32..).zip(target.chunks_mut(<H as Digest>::output_size())) {
        let mut mask = H::new()
            .chain_update(seed)
            .chain_update(counter.to_be_bytes())
            .finalize();
        for (octet, mask) in chunk.iter_mut().zip(&mask) {
            *octet ^= mask;
        }
        mask.as_mut_slice().zeroize();
    }
}

#[cfg(test)]
mod tests {
    use rsa::hazmat::rsa_decrypt;
    use rsa::pkcs8::DecodePrivateKey as _;
    use rsa::rand_core::TryCryptoRng;
    use rsa::{BoxedUint, PrivateKey};

    use super::*;

    type NoBlinding = dyn TryCryptoRng<Error = std::convert::Infallible>;

    const BOTH: [OaepHash; 2] = [OaepHash::Sha1, OaepHash::Sha256];
    /// Length of a 2048-bit modulus.
    const K: usize = 256;

    fn unpadded(hash: OaepHash, raw: &[u8]) -> Option<Vec<u8>> {
        unpad(hash, K, raw).map(|message| message.expose().to_vec())
    }

    fn lengths(hash: OaepHash) -> [usize; 4] {
        [0, 1, 32, hash.max_message_len(K).unwrap()]
    }

    /// The padding as RFC 8017, section 7.1.1, step 2 makes it, from a data block of any content.
    fn mask(hash: OaepHash, first: u8, data: &[u8]) -> Vec<u8> {
        fn with<H: Digest>(first: u8, data: &[u8]) -> Vec<u8> {
            let mut data = data.to_vec();
            let mut seed: Vec<u8> = (0..<H as Digest>::output_size() as u8).collect();
            apply_mask::<H>(&mut data, &seed);
            apply_mask::<H>(&mut seed, &data);
            [vec![first], seed, data].concat()
        }
        match hash {
            OaepHash::Sha1 => with::<Sha1>(first, data),
            OaepHash::Sha256 => with::<Sha256>(first, data),
        }
    }

    fn data_block(hash: OaepHash, message: &[u8]) -> Vec<u8> {
        let mut data = match hash {
            OaepHash::Sha1 => Sha1::digest([]).to_vec(),
            OaepHash::Sha256 => Sha256::digest([]).to_vec(),
        };
        data.resize(K - 1 - hash.output_len() - 1 - message.len(), 0);
        data.push(1);
        data.extend_from_slice(message);
        data
    }

    #[test]
    fn opens_what_another_library_padded() {
        let pem = include_str!("../../integration/vectors/keys/jwe-rsa.pem");
        let key = PrivateKey::from_pkcs8_pem(pem).unwrap();
        for hash in BOTH {
            for len in lengths(hash) {
                let message = vec![0x5a; len];
                let ciphertext = match hash {
                    OaepHash::Sha1 => key.as_public_key().oaep_encrypt::<Sha1>(&message),
                    OaepHash::Sha256 => key.as_public_key().oaep_encrypt::<Sha256>(&message),
                };
                let number = BoxedUint::from_be_slice(&ciphertext.unwrap(), 2048).unwrap();
                let raw = rsa_decrypt::<NoBlinding>(None, &key, &number).unwrap();
                let raw = raw.to_be_bytes();
                assert_eq!(unpadded(hash, &raw), Some(message.clone()), "{hash} {len}");
                // The leading octet is 00, and a module may have stripped it.
                assert_eq!(unpadded(hash, &raw[1..]), Some(message), "{hash} {len}");
            }
        }
    }

    #[test]
    fn every_flipped_byte_is_refused() {
        for hash in BOTH {
            for len in lengths(hash) {
                let good = mask(hash, 0, &data_block(hash, &vec![7; len]));
                assert_eq!(unpadded(hash, &good), Some(vec![7; len]));
                for position in 0..K {
                    let mut bad = good.clone();
                    bad[position] ^= 0x80;
                    assert_eq!(unpadded(hash, &bad), None, "{hash} {len} {position}");
                }
            }
        }
    }

    #[test]
    fn each_part_of_the_block_is_checked() {
        for hash in BOTH {
            let good = data_block(hash, b"message");
            assert!(unpadded(hash, &mask(hash, 0, &good)).is_some());
            assert_eq!(unpadded(hash, &mask(hash, 1, &good)), None, "first octet");
            let padding = hash.output_len();
            let separator = good.len() - b"message".len() - 1;
            for (position, octet, what) in [
                (0, good[0] ^ 1, "label hash"),
                (padding - 1, good[padding - 1] ^ 1, "label hash"),
                (padding, 2, "padding"),
                (separator - 1, 0xff, "padding"),
                (separator, 0, "separator"),
                (separator, 2, "separator"),
            ] {
                let mut bad = good.clone();
                bad[position] = octet;
                assert_eq!(unpadded(hash, &mask(hash, 0, &bad)), None, "{what}");
            }
            let mut none = good[..padding].to_vec();
            none.resize(good.len(), 0);
            assert_eq!(unpadded(hash, &mask(hash, 0, &none)), None, "no separator");
        }
    }

    #[test]
    fn the_first_01_separates() {
        for hash in BOTH {
            let block = mask(hash, 0, &data_block(hash, &[0, 1, 0, 1]));
            assert_eq!(unpadded(hash, &block), Some(vec![0, 1, 0, 1]));
        }
    }

    #[test]
    fn impossible_lengths_are_refused() {
        let block = mask(OaepHash::Sha256, 0, &data_block(OaepHash::Sha256, b"m"));
        let longer = [&[0], block.as_slice()].concat();
        assert_eq!(unpadded(OaepHash::Sha256, &longer), None);
        assert_eq!(unpadded(OaepHash::Sha256, &[]), None);
        assert!(unpad(OaepHash::Sha256, 65, &[0; 65]).is_none());
        assert!(unpad(OaepHash::Sha256, 66, &[0; 66]).is_none());
    }

    #[test]
    fn the_other_hash_does_not_open() {
        let block = mask(OaepHash::Sha256, 0, &data_block(OaepHash::Sha256, b"m"));
        assert_eq!(unpadded(OaepHash::Sha1, &block), None);
    }
}
