//! One operation on a layer of 8 MiB, some times over, for `instructions.sh` to count under callgrind.
//!
//! Not a measurement by itself: without arguments it does nothing, so that `cargo bench` passes it by.

use std::hint::black_box;
use std::io;

use aes::Aes256;
use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit as _};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit as _, StreamCipher as _};
use hmac::{Hmac, Mac as _};
use ocihsm::cipher::{self, Parameters};
use ocihsm::options::CipherName;
use sha2::Sha256;

const LAYER: usize = 8 << 20;
const BUFFER: usize = 512 << 10;
const SEGMENT: usize = 64 << 10;

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, operation, name, times] = arguments.as_slice() else {
        return;
    };
    let cipher = match name.as_str() {
        "ctr" => CipherName::Aes256CtrHmacSha256,
        "gcm" => CipherName::Aes256GcmStream,
        _ => return,
    };
    let plain = vec![7; LAYER];
    let mut blob = Vec::with_capacity(LAYER + (LAYER >> 8));
    let sealed = cipher::encrypt(cipher, &plain[..], &mut blob).expect("memory does not fail");
    let parameters = Parameters::new(&sealed.public_options, &sealed.private_options)
        .expect("our own options are good");
    for _ in 0..times.parse().unwrap_or(0) {
        match operation.as_str() {
            "decrypt" => {
                cipher::decrypt(&parameters, &blob[..], io::sink(), None).expect("a good layer");
            }
            "encrypt" => {
                cipher::encrypt(cipher, &plain[..], io::sink()).expect("memory does not fail");
            }
            "raw" => raw(cipher),
            _ => return,
        }
    }
}

/// The primitives of decryption alone, on as many bytes.
fn raw(cipher: CipherName) {
    let mut buffer = vec![7; BUFFER];
    match cipher {
        CipherName::Aes256CtrHmacSha256 => {
            let mut mac = Hmac::<Sha256>::new_from_slice(&[1; 32]).expect("HMAC takes any key");
            let mut keystream = Ctr128BE::<Aes256>::new(&[1; 32].into(), &[2; 16].into());
            for _ in 0..LAYER / BUFFER {
                mac.update(&buffer);
                keystream.apply_keystream(&mut buffer);
            }
            black_box(mac.finalize());
        }
        CipherName::Aes256GcmStream => {
            let aead = Aes256Gcm::new(&[1; 32].into());
            for _ in 0..LAYER / BUFFER {
                for segment in buffer.chunks_mut(SEGMENT) {
                    aead.encrypt_inout_detached(&[2; 12].into(), b"", segment.into())
                        .expect("a segment is not too long");
                }
            }
        }
    }
    black_box(&buffer);
}
