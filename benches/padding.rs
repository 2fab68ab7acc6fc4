//! Whether it can be told by the time which padding was wrong: RSA PKCS#1 v1.5, RSA-OAEP, the end of AES-CBC content, and
//! what is around an OpenPGP session key.
//!
//! The kinds take turns, so that what else the machine does meets them alike; what is printed of each is the mean, the
//! median and the fastest. Differences between wrong kinds are what counts; a right padding may differ, its success is no
//! secret.
//!
//! Without arguments it does nothing, so that `cargo bench` passes it by.
//!
//! usage: padding PRIVATE-KEY.pem CERTIFICATE.pem [COUNT [OPENPGP-KEY.asc]]
//! (RSA-2048, of OpenPGP the first subkey; COUNT of each kind, 10000 if not given)

use std::error::Error;
use std::time::{Duration, Instant};

use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockModeEncrypt as _, KeyIvInit as _};
use ocihsm::der::{
    CONTEXT_0, CONTEXT_0_CONSTRUCTED, INTEGER, OCTET_STRING, OID, SEQUENCE, SET, element,
};
use ocihsm::keys::certificate::Certificate;
use ocihsm::keys::pem;
use ocihsm::keys::private::PrivateKey;
use ocihsm::openpgp::fields::{Fields, integer};
use ocihsm::openpgp::key::{Material, PublicKey};
use ocihsm::openpgp::packets::{Packets, SECRET_SUBKEY};
use ocihsm::openpgp::session::{Way, Wrapped, checksum};
use ocihsm::operation::{KeyOperation, OaepHash};
use ocihsm::schemes::pkcs7;
use ocihsm::secret::SecretBytes;
use ocihsm::software;
use rsa::BoxedUint;
use rsa::hazmat::rsa_encrypt;
use rsa::pkcs8::DecodePublicKey as _;
use rsa::traits::PublicKeyParts as _;
use sha1::{Digest as _, Sha1};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const LENGTH: usize = 32;

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args()
        .filter(|argument| argument != "--bench")
        .collect();
    let [_, key, certificate, rest @ ..] = arguments.as_slice() else {
        return Ok(());
    };
    let count: usize = rest.first().map_or(Ok(10_000), |text| text.parse())?;
    let certificate = Certificate::all(&std::fs::read(certificate)?)
        .into_iter()
        .next();
    let certificate = certificate.ok_or("there is no certificate")?;
    let key = PrivateKey::parse("key", &std::fs::read(key)?, None)?;
    let public = rsa::PublicKey::from_public_key_der(&certificate.public_key)?;

    let mut kinds: Vec<(String, Box<dyn Fn()>)> = Vec::new();
    for (name, message) in pkcs1_messages(public.size()) {
        let operation = KeyOperation::RsaPkcs1 {
            length: LENGTH,
            ciphertext: encrypt(&public, &message)?,
        };
        let key = key.clone();
        kinds.push((
            format!("PKCS#1 v1.5: {name}"),
            Box::new(move || drop(software::answer(&key, &operation))),
        ));
    }
    for (name, message) in oaep_messages(public.size()) {
        let operation = KeyOperation::RsaOaep {
            hash: OaepHash::Sha1,
            ciphertext: encrypt(&public, &message)?,
        };
        let key = key.clone();
        kinds.push((
            format!("OAEP: {name}"),
            Box::new(move || drop(software::answer(&key, &operation))),
        ));
    }
    measure(&kinds, count);
    let mut contents: Vec<(String, Box<dyn Fn()>)> = Vec::new();
    for (name, end) in [
        ("right", &[4, 4, 4, 4][..]),
        ("one byte wrong", &[4, 3, 4, 4]),
        ("zero", &[0, 0, 0, 0]),
        ("too long", &[17, 17, 17, 17]),
        ("of a whole block, wrong", &[16, 16, 16, 16]),
    ] {
        let message = cbc_message(&certificate, end)?;
        let recipient = pkcs7::parse(&message)?.remove(0)?;
        let answer = SecretBytes::new(vec![7; LENGTH]);
        contents.push((
            format!("AES-CBC: {name}"),
            Box::new(move || drop(recipient.open(&answer))),
        ));
    }
    measure(&contents, count);
    if let Some(path) = rest.get(1) {
        measure(&openpgp_kinds(&std::fs::read(path)?)?, count);
    }
    Ok(())
}

/// Session keys for the first subkey of a file: blocks of PKCS#1 v1.5 with a cipher, its key and a sum.
fn openpgp_kinds(armor: &[u8]) -> Result<Vec<Kind>> {
    let key = PrivateKey::parse("key", armor, None)?;
    let block = pem::blocks(armor).next().and_then(|block| block.der);
    let block = block.ok_or("there is no OpenPGP key")?;
    let mut packets = Packets::new(block.expose());
    let subkey = loop {
        let packet = packets.read().ok_or("there is no subkey")?;
        if packet.kind == SECRET_SUBKEY {
            let subkey = PublicKey::read(&mut Fields::new(packet.body()));
            break subkey.map_err(|_| "the subkey is broken")?;
        }
    };
    let Material::Rsa { n, e, .. } = &subkey.material else {
        return Err("the subkey is not RSA".into());
    };
    let number = BoxedUint::from_be_slice_vartime;
    let public = rsa::PublicKey::new(number(n), number(e))?;
    let mut right = vec![0x5a; n.len()];
    right[..2].copy_from_slice(&[0, 2]);
    let begin = n.len() - 36;
    right[begin..begin + 2].copy_from_slice(&[0, 9]);
    right[begin + 2..begin + 34].fill(7);
    right[begin + 34..].copy_from_slice(&checksum(&[7; 32]).to_be_bytes());
    let with = |at: usize, octet: u8| {
        let mut wrong = right.clone();
        wrong[at] = octet;
        wrong
    };
    let blocks = [
        ("wrong second byte", with(1, 1)),
        ("a zero too early", with(5, 0)),
        ("no separator", with(begin, 0x5a)),
        ("a shorter message", {
            let mut wrong = with(begin, 0x5a);
            wrong[begin + 16] = 0;
            wrong
        }),
        ("another cipher", with(begin + 1, 3)),
        ("a cipher of another length", with(begin + 1, 7)),
        ("a wrong sum", with(n.len() - 1, 0)),
        ("right", right.clone()),
    ];
    let kind = |(name, block): (&str, Vec<u8>)| -> Result<Kind> {
        let wrapped = Wrapped {
            id: subkey.id(),
            way: Way::Rsa,
            values: &integer(&encrypt(&public, &block)?),
        };
        let packet = wrapped.to_body();
        let operation = KeyOperation::OpenPgp { packet };
        let key = key.clone();
        let work = move || drop(software::answer(&key, &operation));
        Ok((format!("OpenPGP: {name}"), Box::new(work)))
    };
    blocks.into_iter().map(kind).collect()
}

/// What is measured, by its name.
type Kind = (String, Box<dyn Fn()>);

fn measure(kinds: &[Kind], count: usize) {
    let mut times: Vec<Vec<Duration>> = vec![Vec::with_capacity(count); kinds.len()];
    for _ in 0..count {
        for ((_, work), times) in kinds.iter().zip(&mut times) {
            let start = Instant::now();
            work();
            times.push(start.elapsed());
        }
    }
    for ((name, _), times) in kinds.iter().zip(&mut times) {
        times.sort();
        let mean = times.iter().sum::<Duration>().as_secs_f64() * 1e6 / count as f64;
        let median = times[count / 2].as_secs_f64() * 1e6;
        let fastest = times[0].as_secs_f64() * 1e6;
        println!("{name:40} mean {mean:9.2} us  median {median:9.2} us  fastest {fastest:9.2} us");
    }
}

/// Blocks of the modulus's length, as RFC 8017, section 7.2.1 has them, and as it has not.
fn pkcs1_messages(len: usize) -> Vec<(&'static str, Vec<u8>)> {
    let mut right = vec![0x5a; len];
    right[..2].copy_from_slice(&[0, 2]);
    right[len - LENGTH - 1] = 0;
    let with = |at: usize, octet: u8| {
        let mut wrong = right.clone();
        wrong[at] = octet;
        wrong
    };
    vec![
        ("wrong first byte", with(0, 1)),
        ("wrong second byte", with(1, 1)),
        ("a zero too early", with(5, 0)),
        ("no separator", with(len - LENGTH - 1, 0x5a)),
        ("a shorter message", with(len - LENGTH, 0)),
        ("another length", {
            let mut wrong = with(len - LENGTH - 1, 0x5a);
            wrong[len - 17] = 0;
            wrong
        }),
        ("right", right),
    ]
}

/// Likewise of section 7.1.1.
fn oaep_messages(len: usize) -> Vec<(&'static str, Vec<u8>)> {
    let mut data = Sha1::digest([]).to_vec();
    data.resize(len - 1 - 20 - 1 - LENGTH, 0);
    data.push(1);
    data.extend([7; LENGTH]);
    let separator = data.len() - LENGTH - 1;
    let with = |at: usize, octet: u8| {
        let mut wrong = data.clone();
        wrong[at] = octet;
        masked(0, &wrong)
    };
    vec![
        ("wrong first byte", masked(1, &data)),
        ("wrong hash of the label", with(0, data[0] ^ 1)),
        ("wrong padding", with(30, 2)),
        ("no separator", with(separator, 0)),
        ("right", masked(0, &data)),
    ]
}

fn masked(first: u8, data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    let mut seed = vec![0x33; 20];
    mask(&mut data, &seed);
    mask(&mut seed, &data);
    [vec![first], seed, data].concat()
}

fn mask(target: &mut [u8], seed: &[u8]) {
    for (counter, chunk) in (0_u32..).zip(target.chunks_mut(20)) {
        let mask = Sha1::new()
            .chain_update(seed)
            .chain_update(counter.to_be_bytes());
        for (octet, mask) in chunk.iter_mut().zip(mask.finalize()) {
            *octet ^= mask;
        }
    }
}

fn encrypt(public: &rsa::PublicKey, block: &[u8]) -> Result<Vec<u8>> {
    let bits = public.n().bits_precision();
    let number = BoxedUint::from_be_slice(block, bits)?;
    let encrypted = rsa_encrypt(public, &number)?.to_be_bytes();
    Ok(encrypted[encrypted.len() - public.size()..].to_vec())
}

/// A message of AES-256-CBC whose last block ends so.
fn cbc_message(certificate: &Certificate, end: &[u8]) -> Result<Vec<u8>> {
    let oid = |arcs: &[u8]| element(OID, &[arcs]);
    let mut text = vec![0x5a; 208];
    let at = text.len() - end.len();
    text[at..].copy_from_slice(end);
    let iv = [9; 16];
    let cipher = cbc::Encryptor::<aes::Aes256>::new(&[7; LENGTH].into(), &iv.into());
    let text = cipher.encrypt_padded_vec::<NoPadding>(&text);
    let names = element(
        SEQUENCE,
        &[
            &certificate.issuer,
            &element(INTEGER, &[&certificate.serial]),
        ],
    );
    let rsa = element(
        SEQUENCE,
        &[&oid(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1])],
    );
    let version = element(INTEGER, &[&[0]]);
    let info = element(
        SEQUENCE,
        &[&version, &names, &rsa, &element(OCTET_STRING, &[&[1; 256]])],
    );
    let aes = oid(&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 42]);
    let algorithm = element(SEQUENCE, &[&aes, &element(OCTET_STRING, &[&iv])]);
    let data = oid(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1]);
    let content = element(
        SEQUENCE,
        &[&data, &algorithm, &element(CONTEXT_0, &[&text])],
    );
    let enveloped = element(SEQUENCE, &[&version, &element(SET, &[&info]), &content]);
    let kind = oid(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 3]);
    Ok(element(
        SEQUENCE,
        &[&kind, &element(CONTEXT_0_CONSTRUCTED, &[&enveloped])],
    ))
}
