//! `AES_256_GCM_STREAM`: the vectors, and segments that are damaged, moved, dropped or added.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::*;

const SEGMENT: usize = 65_536;
const STORED: usize = SEGMENT + 16;

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    key: String,
    nonce: String,
    plaintext_seed: u32,
    plaintext_len: usize,
    plaintext_sha256: String,
    ciphertext_len: u64,
    ciphertext_sha256: String,
    plaintext: Option<String>,
    ciphertext: Option<String>,
}

/// Python's `random.Random(seed).randbytes`, which made the vectors' key, nonce and plaintext, in this order:
/// the Mersenne Twister MT19937 with `init_by_array`. The long vectors have no plaintext, only its seed.
struct Twister([u32; 624], usize);

impl Twister {
    fn new(seed: u32) -> Self {
        let mut mt = [0u32; 624];
        mt[0] = 19_650_218;
        for i in 1..624_u32 {
            let before = mt[i as usize - 1];
            mt[i as usize] = (before ^ (before >> 30))
                .wrapping_mul(1_812_433_253)
                .wrapping_add(i);
        }
        let mut i = 1;
        for step in 0..624 + 623 {
            let before = mt[i - 1] ^ (mt[i - 1] >> 30);
            mt[i] = if step < 624 {
                (mt[i] ^ before.wrapping_mul(1_664_525)).wrapping_add(seed)
            } else {
                (mt[i] ^ before.wrapping_mul(1_566_083_941)).wrapping_sub(i as u32)
            };
            i += 1;
            if i == 624 {
                mt[0] = mt[623];
                i = 1;
            }
        }
        mt[0] = 0x8000_0000;
        Self(mt, 624)
    }

    fn word(&mut self) -> u32 {
        if self.1 == 624 {
            for i in 0..624 {
                let y = (self.0[i] & 0x8000_0000) | (self.0[(i + 1) % 624] & 0x7fff_ffff);
                let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.0[i] = self.0[(i + 397) % 624] ^ (y >> 1) ^ odd;
            }
            self.1 = 0;
        }
        let mut y = self.0[self.1];
        self.1 += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 4);
        while bytes.len() + 4 <= len {
            bytes.extend(self.word().to_le_bytes());
        }
        let rest = len - bytes.len();
        if rest > 0 {
            let word = self.word() >> (32 - 8 * rest);
            bytes.extend(&word.to_le_bytes()[..rest]);
        }
        bytes
    }
}

#[test]
fn all_vectors_in_both_directions() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/integration/vectors/gcm-stream.json"
    );
    let Vectors { vectors } = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(vectors.len(), 8);
    for vector in vectors {
        let name = &vector.name;
        let mut random = Twister::new(vector.plaintext_seed);
        assert_eq!(random.bytes(32), bytes(&vector.key), "{name}");
        assert_eq!(random.bytes(7), bytes(&vector.nonce), "{name}");
        let plain = random.bytes(vector.plaintext_len);
        assert_eq!(digest(&plain).hex(), vector.plaintext_sha256, "{name}");
        if let Some(text) = &vector.plaintext {
            assert_eq!(STANDARD.decode(text).unwrap(), plain, "{name}");
        }

        let fresh = Fresh {
            key: LayerKey::new(bytes(&vector.key).try_into().unwrap()),
            nonce: Nonce::GcmStream(bytes(&vector.nonce).try_into().unwrap()),
        };
        let mut blob = Vec::new();
        let sealed = encrypt_with(fresh, &plain[..], &mut blob).unwrap();
        assert_eq!(blob.len() as u64, vector.ciphertext_len, "{name}");
        assert_eq!(sealed.blob_digest.hex(), vector.ciphertext_sha256, "{name}");
        if let Some(text) = &vector.ciphertext {
            assert!(STANDARD.decode(text).unwrap() == blob, "{name}");
        }

        let (result, written) = open(&parameters(&sealed), &blob);
        assert_eq!(result.unwrap().blob_len, vector.ciphertext_len, "{name}");
        assert!(written == plain, "{name}");
    }
}

/// A layer of 20 segments and a bit, its parts, and what each is to be rebuilt from.
struct Layer {
    parameters: Parameters,
    plain: Vec<u8>,
    segments: Vec<Vec<u8>>,
}

impl Layer {
    fn new(len: usize) -> Self {
        let plain = layer(len);
        let (sealed, blob) = seal(GCM, &plain);
        Self {
            parameters: parameters(&sealed),
            plain,
            segments: blob.chunks(STORED).map(<[u8]>::to_vec).collect(),
        }
    }

    /// Applies a change to the segments; the result must be refused, and only what goes before segment `good` may
    /// have been written.
    #[track_caller]
    fn refused(&self, good: usize, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
        let mut segments = self.segments.clone();
        change(&mut segments);
        let written = open_refused(&self.parameters, &segments.concat());
        assert!(written.len() <= good * SEGMENT, "{}", written.len());
        assert!(self.plain.starts_with(&written));
    }
}

#[test]
fn segments_that_are_moved_dropped_repeated_or_added() {
    for len in [20 * SEGMENT + 100, 20 * SEGMENT, 2 * SEGMENT] {
        let layer = Layer::new(len);
        let count = layer.segments.len();
        let end = count - 1;
        layer.refused(0, |s| s.swap(0, 1));
        layer.refused(end - 1, |s| s.swap(end - 1, end));
        layer.refused(0, |s| drop(s.remove(0)));
        layer.refused(end, |s| drop(s.pop()));
        layer.refused(end - 1, |s| drop(s.remove(end - 1)));
        layer.refused(1, |s| s.insert(0, s[0].clone()));
        layer.refused(end, |s| s.push(s[end].clone()));
        layer.refused(end, |s| s.push(vec![0; 16]));
        layer.refused(end, |s| s.push(vec![0; 1]));
        layer.refused(end, |s| s.push(s[0].clone()));
        layer.refused(0, Vec::clear);
        layer.refused(1, |s| s.truncate(1));
        if count > 17 {
            layer.refused(16, |s| s.truncate(16));
            layer.refused(8, |s| s.swap(8, 16));
            layer.refused(12, |s| drop(s.drain(12..18)));
        }
    }
}

#[test]
fn flipped_bit_in_text_and_tag_of_every_segment() {
    let layer = Layer::new(9 * SEGMENT + 5);
    for at in 0..layer.segments.len() {
        let len = layer.segments[at].len();
        for byte in [0, len - 17, len - 16, len - 1] {
            layer.refused(at, |s| s[at][byte] ^= 0x10);
        }
    }
}

#[test]
fn truncated_anywhere() {
    let layer = Layer::new(2 * SEGMENT + 5);
    for cut in [
        1,
        4,
        5,
        6,
        20,
        21,
        22,
        21 + 16,
        21 + STORED,
        21 + 2 * STORED,
    ] {
        let blob = layer.segments.concat();
        let written = open_refused(&layer.parameters, &blob[..blob.len() - cut]);
        assert_eq!(written, b"");
    }
}

#[test]
fn empty_blob_is_not_the_empty_layer() {
    let (sealed, blob) = seal(GCM, b"");
    assert_eq!(blob.len(), 16);
    let (result, written) = open(&parameters(&sealed), &blob);
    assert_eq!(result.unwrap().plain_len, 0);
    assert_eq!(written, b"");
    assert_eq!(open_refused(&parameters(&sealed), b""), b"");
}

#[test]
fn empty_last_segment_after_a_full_one_is_refused() {
    // The specification has one way to cut a layer: an empty segment stands alone or not at all.
    let (key, prefix) = ([3; 32], [5; 7]);
    let fresh = Fresh {
        key: LayerKey::new(key),
        nonce: Nonce::GcmStream(prefix),
    };
    let parameters = parameters(&encrypt_with(fresh, &b""[..], io::sink()).unwrap());
    let sealed = |number: u8, last: u8, plain: &[u8]| {
        let nonce = [&prefix[..], &[0, 0, 0, number, last]].concat();
        let nonce = aes_gcm::Nonce::try_from(&nonce[..]).unwrap();
        let mut text = plain.to_vec();
        let tag = Aes256Gcm::new(&key.into())
            .encrypt_inout_detached(&nonce, b"", (&mut text[..]).into())
            .unwrap();
        [&text[..], &tag].concat()
    };
    let full = layer(SEGMENT);
    let blob = sealed(0, 1, &full);
    let (result, written) = open(&parameters, &blob);
    result.unwrap();
    assert!(written == full);

    let blob = [sealed(0, 0, &full), sealed(1, 1, b"")].concat();
    assert_eq!(open_refused(&parameters, &blob), b"");
}

#[test]
fn renamed_to_ctr() {
    let (mut sealed, blob) = seal(GCM, &layer(200_000));
    sealed.public_options.cipher_name = CTR.to_string();
    let error = Parameters::new(&sealed.public_options, &sealed.private_options).unwrap_err();
    assert!(error.to_string().contains("no HMAC"), "{error}");
    // An attacker may bring a MAC, but no MAC that is right.
    sealed.public_options.hmac = Some(vec![0; 32]);
    let nonce = BTreeMap::from([(NONCE.to_owned(), vec![0; 16])]);
    sealed.private_options.cipher_options = nonce;
    assert_eq!(open_refused(&parameters(&sealed), &blob), b"");
}
