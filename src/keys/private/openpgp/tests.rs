use sha2::{Digest as _, Sha256};

use super::super::{PrivateKey, Secret, is_private_key};
use super::*;
use crate::openpgp::algorithm;
use crate::openpgp::packets::packet;
use crate::openpgp::session::checksum;
use crate::operation::KeyKind;

const RSA: &str = include_str!("../../../../integration/vectors/keys/pgp-rsa.asc");
const X25519: &str = include_str!("../../../../integration/vectors/keys/pgp-x25519.asc");
const LOCKED: &str = include_str!("../../../../integration/vectors/keys/pgp-locked.asc");
/// The first key left out, and two subkeys for encryption.
const DUMMY: &str = include_str!("../samples/pgp-dummy.asc");

fn packets_of(armor: &str) -> Vec<u8> {
    let block = pem::blocks(armor.as_bytes()).next().unwrap();
    block.der.unwrap().expose().to_vec()
}

fn parse(bytes: &[u8], password: Option<&str>) -> Result<KeyKind, Error> {
    let password = password.map(|text| SecretBytes::new(text.as_bytes().to_vec()));
    let key = PrivateKey::parse("k", bytes, password.as_ref())?;
    match key.secret() {
        Secret::OpenPgp(keys) if keys.iter().all(|key| key.secret().is_none()) => {
            Err(Error::WrongPassword)
        }
        _ => Ok(key.kind()),
    }
}

fn count(bytes: &[u8]) -> usize {
    super::read(bytes, None).unwrap().iter().count()
}

#[test]
fn keys_by_their_content_with_their_password() {
    let binary = packets_of(RSA);
    let among = format!("words\n{RSA}words\n");
    let no_sum: String = RSA
        .lines()
        .filter(|line| !line.starts_with('='))
        .fold(String::new(), |text, line| text + line + "\r\n");
    for bytes in [RSA.as_bytes(), &binary, among.as_bytes(), no_sum.as_bytes()] {
        assert_eq!(parse(bytes, None), Ok(KeyKind::OpenPgp));
        assert_eq!(parse(bytes, Some("not needed")), Ok(KeyKind::OpenPgp));
        assert!(is_private_key(bytes));
    }
    assert_eq!(parse(LOCKED.as_bytes(), None), Err(Error::NeedsPassword));
    for wrong in ["", "Secret", "secret\n"] {
        assert_eq!(
            parse(LOCKED.as_bytes(), Some(wrong)),
            Err(Error::WrongPassword)
        );
    }
    assert_eq!(
        parse(LOCKED.as_bytes(), Some("secret")),
        Ok(KeyKind::OpenPgp)
    );
    assert!(is_private_key(LOCKED.as_bytes()));
}

#[test]
fn several_keys_of_a_file_serve_and_those_that_do_not_take_nothing_away() {
    assert_eq!(count(DUMMY.as_bytes()), 2);
    assert_eq!(count(X25519.as_bytes()), 1);
    assert_eq!(count([X25519, DUMMY].concat().as_bytes()), 3);
    assert_eq!(count(&[packets_of(DUMMY), packets_of(X25519)].concat()), 3);
    // Locked, without a password.
    assert_eq!(count([LOCKED, X25519].concat().as_bytes()), 1);
    let many = packets_of(X25519).repeat(MAX_KEYS + 1);
    assert_eq!(count(&many), MAX_KEYS);
    // What follows is broken.
    let cut = &RSA[..RSA.len() / 2];
    assert_eq!(count([X25519, cut].concat().as_bytes()), 1);
    let binary = packets_of(X25519);
    assert_eq!(count(&[&binary[..], &[0x95, 1, 0]].concat()), 1);
}

#[test]
fn a_password_is_tried_when_its_key_is_asked_for() {
    let password = SecretBytes::new(b"secret".to_vec());
    let many = [LOCKED; MAX_KEYS].concat();
    let keys = super::read(many.as_bytes(), Some(&password)).unwrap();
    assert!(keys.iter().all(|key| key.secret.get().is_none()));
    let key = keys.iter().next().unwrap();
    assert!(key.secret().is_some());
    assert!(keys.iter().skip(1).all(|key| key.secret.get().is_none()));
}

/// The secret subkey of `X25519`: its packet up to the secret part, and its number.
fn subkey() -> (Vec<u8>, Vec<u8>) {
    let packets = packets_of(X25519);
    let mut packets = Packets::new(&packets);
    loop {
        let packet = packets.read().unwrap();
        if packet.kind == packets::SECRET_SUBKEY {
            let mut fields = Fields::new(packet.body());
            let public = PublicKey::read(&mut fields).unwrap().body;
            assert_eq!(fields.octet(), Some(0));
            let rest = fields.rest();
            return (public, rest[..rest.len() - 2].to_vec());
        }
    }
}

fn with_secret_part(public: &[u8], secret: &[u8]) -> Vec<u8> {
    packet(packets::SECRET_SUBKEY, &[public, secret].concat())
}

/// Reads it as one that follows a first key.
fn read_subkey(public: &[u8], secret: &[u8], password: Option<&str>) -> Result<KeyKind, Error> {
    let sign = packets_of(X25519);
    let length = 2 + usize::from(sign[1]);
    let all = [&sign[..length], &with_secret_part(public, secret)].concat();
    parse(&all, password)
}

#[test]
fn locks_of_other_programs() {
    let (public, number) = subkey();
    let salt = *b"saltsalt";
    let iv = [5; 16];
    let lock = |usage: u8, kind: &[u8], key: &[u8; 32]| {
        let mut text = number.clone();
        match usage {
            254 => text.extend_from_slice(&algorithm::Hash::Sha1.of([number.as_slice()])),
            _ => text.extend_from_slice(&checksum(&number).to_be_bytes()),
        }
        algorithm::encrypt(key, &iv, &mut text);
        [&[usage, 9], kind, &iv, &text].concat()
    };
    let salted = Sha256::digest([&salt[..], b"secret"].concat()).into();
    let kind = [&[1, 8][..], &salt].concat();
    // 1024 bytes, the least that can be told.
    let mut long = [&salt[..], b"secret"].concat().repeat(80);
    long.truncate(1024);
    let iterated = Sha256::digest(long).into();
    let again = [&[3, 8][..], &salt, &[0]].concat();
    for usage in [254, 255] {
        for (kind, key) in [(&kind, &salted), (&again, &iterated)] {
            let secret = lock(usage, kind, key);
            let read = |password| read_subkey(&public, &secret, password);
            assert_eq!(read(Some("secret")), Ok(KeyKind::OpenPgp), "{usage}");
            assert_eq!(read(Some("other")), Err(Error::WrongPassword));
            assert_eq!(read(None), Err(Error::NeedsPassword));
        }
    }
    let secret = |begin: &[u8]| [begin, &[7; 60]].concat();
    for (begin, error) in [
        (&[254, 3, 3, 2][..], Error::OpenPgpLock),
        (&[254, 9, 0, 2], Error::OpenPgpLock),
        (&[254, 9, 3, 1], Error::OpenPgpLock),
        (&[254, 9, 4, 1], Error::OpenPgpLock),
        (&[253, 9, 2, 4], Error::OpenPgpLock),
        (&[9], Error::OpenPgpLock),
        (&[255, 0, 101, 0, b'G', b'N', b'U', 1], Error::LeftOut),
        (&[255, 0, 101, 0, b'G', b'N', b'U', 2], Error::OnCard),
        (&[0, 0, 8], Error::Broken),
    ] {
        assert_eq!(
            read_subkey(&public, &secret(begin), Some("secret")),
            Err(error)
        );
    }
}

#[test]
fn a_secret_part_of_another_key_is_broken() {
    let (public, mut number) = subkey();
    let plain = |number: &[u8]| [&[0], number, &checksum(number).to_be_bytes()].concat();
    assert_eq!(
        read_subkey(&public, &plain(&number), None),
        Ok(KeyKind::OpenPgp)
    );
    let more = [&number[..], &[0]].concat();
    assert_eq!(
        read_subkey(&public, &plain(&more), None),
        Err(Error::Broken)
    );
    number[10] ^= 1;
    assert_eq!(
        read_subkey(&public, &plain(&number), None),
        Err(Error::Broken)
    );
}

#[test]
fn broken_keys_are_errors_and_no_panic() {
    let binary = packets_of(X25519);
    for cut in 1..binary.len() {
        let read = parse(&binary[..cut], None);
        // Where a packet ends behind the subkey, what is there is a whole key.
        assert!(read.is_err() || cut > binary.len() / 2, "{cut}");
    }
    for at in 0..binary.len() {
        for bits in [1, 0x41, 0xff] {
            let mut altered = binary.clone();
            altered[at] ^= bits;
            let _ = parse(&altered, None);
        }
    }
    let half = &RSA.as_bytes()[..RSA.len() / 2];
    assert_eq!(parse(half, None), Err(Error::BrokenPem));
    let public = include_bytes!("../../../../integration/vectors/keys/pgp-rsa.pub.asc");
    assert_eq!(parse(public, None), Err(Error::NotAPrivateKey));
    let sign = &binary[..2 + usize::from(binary[1])];
    assert_eq!(parse(sign, None), Err(Error::CannotDecrypt));
    assert_eq!(
        parse(&packet(packets::SECRET_KEY, &[6, 0, 0, 0, 0, 25]), None),
        Err(Error::OpenPgpVersion)
    );
}
