//! The ciphers in process, from memory to nowhere, against the raw primitives that they are made of.
//!
//! `cargo bench --bench cipher`. A decoder on two cores cannot be faster than the HMAC alone; how near it comes is
//! what this shows. Whole processes are measured by `compare.py`, instructions by `instructions.sh`.

use std::io;

use aes::Aes256;
use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit as _};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit as _, StreamCipher as _};
use divan::Bencher;
use divan::counter::BytesCount;
use hmac::{Hmac, Mac as _};
use ocihsm::cipher::{self, Parameters};
use ocihsm::options::CipherName;
use sha2::{Digest as _, Sha256};

const LAYER: usize = 64 << 20;
const SMALL: usize = 256 << 10;
const CIPHERS: [CipherName; 2] = [CipherName::Aes256CtrHmacSha256, CipherName::Aes256GcmStream];

fn main() {
    divan::Divan::from_args().sample_count(20).main();
}

fn sealed(cipher: CipherName, len: usize) -> (Parameters, Vec<u8>) {
    let mut blob = Vec::new();
    let sealed =
        cipher::encrypt(cipher, &vec![7; len][..], &mut blob).expect("memory does not fail");
    let parameters = Parameters::new(&sealed.public_options, &sealed.private_options);
    (parameters.expect("our own options"), blob)
}

#[divan::bench(args = CIPHERS)]
fn decrypt(bencher: Bencher<'_, '_>, cipher: CipherName) {
    let (parameters, blob) = sealed(cipher, LAYER);
    bencher
        .counter(BytesCount::new(LAYER))
        .bench(|| cipher::decrypt(&parameters, &blob[..], io::sink(), None).expect("a good layer"));
}

#[divan::bench(args = CIPHERS)]
fn decrypt_and_digest(bencher: Bencher<'_, '_>, cipher: CipherName) {
    let (parameters, blob) = sealed(cipher, LAYER);
    bencher.counter(BytesCount::new(LAYER)).bench(|| {
        cipher::decrypt_and_digest(&parameters, &blob[..], io::sink(), None).expect("a good layer")
    });
}

#[divan::bench(args = CIPHERS)]
fn verify(bencher: Bencher<'_, '_>, cipher: CipherName) {
    let (parameters, blob) = sealed(cipher, LAYER);
    bencher
        .counter(BytesCount::new(LAYER))
        .bench(|| cipher::verify(&parameters, &blob[..], None).expect("a good layer"));
}

#[divan::bench(args = CIPHERS)]
fn encrypt(bencher: Bencher<'_, '_>, cipher: CipherName) {
    let plain = vec![7; LAYER];
    bencher
        .counter(BytesCount::new(LAYER))
        .bench(|| cipher::encrypt(cipher, &plain[..], io::sink()).expect("memory does not fail"));
}

/// A layer in one buffer: no second thread.
#[divan::bench(args = CIPHERS)]
fn decrypt_small(bencher: Bencher<'_, '_>, cipher: CipherName) {
    let (parameters, blob) = sealed(cipher, SMALL);
    bencher
        .counter(BytesCount::new(SMALL))
        .bench(|| cipher::decrypt(&parameters, &blob[..], io::sink(), None).expect("a good layer"));
}

mod raw {
    use super::*;

    /// As much as a buffer of the pipeline holds.
    const BUFFER: usize = 512 << 10;
    const SEGMENT: usize = 64 << 10;

    /// Works on a buffer as often as makes a layer.
    fn bench(bencher: Bencher<'_, '_>, mut work: impl FnMut(&mut [u8])) {
        let mut buffer = vec![7; BUFFER];
        bencher.counter(BytesCount::new(LAYER)).bench_local(|| {
            for _ in 0..LAYER / BUFFER {
                work(&mut buffer);
            }
        });
    }

    #[divan::bench]
    fn hmac_sha256(bencher: Bencher<'_, '_>) {
        let mut mac = Hmac::<Sha256>::new_from_slice(&[1; 32]).expect("HMAC takes any key");
        bench(bencher, |buffer| mac.update(buffer));
    }

    #[divan::bench]
    fn sha256(bencher: Bencher<'_, '_>) {
        let mut hash = Sha256::new();
        bench(bencher, |buffer| hash.update(buffer));
    }

    #[divan::bench]
    fn aes_256_ctr(bencher: Bencher<'_, '_>) {
        let mut keystream = Ctr128BE::<Aes256>::new(&[1; 32].into(), &[2; 16].into());
        bench(bencher, |buffer| keystream.apply_keystream(buffer));
    }

    #[divan::bench]
    fn aes_256_gcm(bencher: Bencher<'_, '_>) {
        let aead = Aes256Gcm::new(&[1; 32].into());
        bench(bencher, |buffer| {
            for segment in buffer.chunks_mut(SEGMENT) {
                aead.encrypt_inout_detached(&[2; 12].into(), b"", segment.into())
                    .expect("a segment is not too long");
            }
        });
    }
}
