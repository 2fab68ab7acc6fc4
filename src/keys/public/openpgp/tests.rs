mod doubt;
mod made;
mod revoked;

use super::*;
use crate::openpgp::packets::{self, Packets, packet};

macro_rules! vector {
    ($name:literal) => {
        include_str!(concat!("../../../../integration/vectors/keys/", $name))
    };
}

const RSA: &str = vector!("pgp-rsa.pub.asc");
const X25519: &str = vector!("pgp-x25519.pub.asc");
const TWO: &str = include_str!("samples/two-subkeys.asc");

type Parts = Vec<(u8, Vec<u8>)>;

fn parts(armor: &str) -> Parts {
    let block = pem::blocks(armor.as_bytes()).next().unwrap();
    let bytes = block.der.unwrap();
    let mut packets = Packets::new(bytes.expose());
    let mut parts = Vec::new();
    while !packets.is_empty() {
        let packet = packets.read().unwrap();
        parts.push((packet.kind, packet.body().to_vec()));
    }
    parts
}

fn joined(parts: &Parts) -> Vec<u8> {
    (parts.iter())
        .flat_map(|(kind, body)| packet(*kind, body))
        .collect()
}

fn parse(bytes: impl AsRef<[u8]>) -> Result<OpenPgpPublicKey> {
    OpenPgpPublicKey::parse("k", bytes.as_ref())
}

fn refused(bytes: impl AsRef<[u8]>) -> String {
    parse(bytes).unwrap_err().to_string()
}

/// The names of the subkeys of a file.
fn subkeys(armor: &str) -> Vec<KeyId> {
    let subkeys = parts(armor).into_iter();
    let subkeys = subkeys.filter(|(kind, _)| *kind == packets::PUBLIC_SUBKEY);
    subkeys
        .map(|(_, body)| {
            let mut fields = crate::openpgp::fields::Fields::new(&body);
            PublicKey::read(&mut fields).unwrap().id()
        })
        .collect()
}

#[test]
fn the_newest_subkey_for_encryption_is_taken() {
    for armor in [
        RSA,
        X25519,
        TWO,
        vector!("pgp-p256.pub.asc"),
        vector!("pgp-p384.pub.asc"),
        vector!("pgp-p521.pub.asc"),
    ] {
        let key = parse(armor).unwrap();
        assert_eq!(Some(&key.id), subkeys(armor).last());
        assert_eq!(parse(joined(&parts(armor))).unwrap(), key, "binary");
        assert!(is_one(armor.as_bytes()));
    }
    // Their order in the file does not matter.
    let parts = parts(TWO);
    let turned = [&parts[..3], &parts[5..], &parts[3..5]].concat();
    assert_eq!(parse(joined(&turned)).unwrap(), parse(TWO).unwrap());
    let whole = parse(include_str!("samples/rsa-whole.asc")).unwrap();
    assert!(matches!(whole.material, Wrapping::Rsa(_)));
}

#[test]
fn what_does_not_serve_says_why() {
    for (bytes, part) in [
        (
            vector!("pgp-sign.pub.asc").as_bytes().to_vec(),
            "no OpenPGP key for encryption",
        ),
        (
            vector!("pgp-rsa.asc").as_bytes().to_vec(),
            "it is an OpenPGP secret key",
        ),
        (joined(&[parts(RSA), parts(X25519)].concat()), "several"),
        ([RSA, X25519].concat().into_bytes(), "several"),
        (b"-----BEGIN PUBLIC KEY-----".to_vec(), "not an OpenPGP key"),
        (b"".to_vec(), "not an OpenPGP key"),
        (RSA.as_bytes()[..400].to_vec(), "armor is broken"),
        (joined(&parts(RSA))[..400].to_vec(), "packets are broken"),
        (
            include_bytes!("samples/expired.asc").to_vec(),
            "key is expired",
        ),
        (
            include_bytes!("samples/expired-subkey.asc").to_vec(),
            "for encryption is expired",
        ),
        (
            include_bytes!("samples/revoked.asc").to_vec(),
            "key is revoked",
        ),
        (
            include_bytes!("samples/revoked-subkey.asc").to_vec(),
            "for encryption is revoked",
        ),
        (
            include_bytes!("samples/sha1.asc").to_vec(),
            "key is signed with SHA-1",
        ),
        (
            include_bytes!("samples/sha1-subkey.asc").to_vec(),
            "for encryption is signed with SHA-1",
        ),
        (
            include_bytes!("samples/future-subkey.asc").to_vec(),
            "dated in the future",
        ),
    ] {
        let message = refused(&bytes);
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn a_subkey_that_the_first_key_did_not_sign_is_not_taken() {
    let ours = parts(X25519);
    let others = parts(TWO);
    assert_eq!(others[3].0, packets::PUBLIC_SUBKEY);
    let glued = [&ours[..3], &others[3..]].concat();
    assert!(refused(joined(&glued)).contains("not signed by the first key"));
    // Beside its own, which is older.
    let beside = [&ours[..], &others[3..]].concat();
    assert_eq!(parse(joined(&beside)).unwrap(), parse(X25519).unwrap());
    // With the signature of its own subkey.
    let mut taken = ours.clone();
    taken[3] = others[3].clone();
    assert!(refused(joined(&taken)).contains("not signed by the first key"));
    // Without any.
    assert!(refused(joined(&ours[..4].to_vec())).contains("not signed by the first key"));
    // The first key has to have signed itself.
    let unnamed = [&ours[..1], &ours[3..]].concat();
    assert!(refused(joined(&unnamed)).contains("no valid signature of its own"));
    let mut renamed = ours;
    renamed[1].1[0] ^= 1;
    assert!(refused(joined(&renamed)).contains("no valid signature of its own"));
}

#[test]
fn signatures_with_each_algorithm_are_verified_to_the_last_byte() {
    for armor in [
        RSA,
        X25519,
        vector!("pgp-p256.pub.asc"),
        vector!("pgp-p384.pub.asc"),
        vector!("pgp-p521.pub.asc"),
    ] {
        let parts = parts(armor);
        let (kind, binding) = parts.last().unwrap();
        assert_eq!(*kind, packets::SIGNATURE);
        let length = binding.len();
        for at in [2, 5, 8, length - 40, length - 1] {
            let mut altered = parts.clone();
            altered.last_mut().unwrap().1[at] ^= 1;
            assert!(parse(joined(&altered)).is_err(), "{at}");
        }
        let mut longer = parts.clone();
        longer.last_mut().unwrap().1.push(0);
        assert!(parse(joined(&longer)).is_err());
    }
}

#[test]
fn altered_files_never_lead_to_another_key() {
    let good = parse(X25519).unwrap();
    let bytes = joined(&parts(X25519));
    for at in 0..bytes.len() {
        for bits in [1, 0x80] {
            let mut altered = bytes.clone();
            altered[at] ^= bits;
            if let Ok(key) = parse(&altered) {
                assert_eq!(key, good, "{at}");
            }
        }
        if let Ok(key) = parse(&bytes[..at]) {
            assert_eq!(key, good, "{at}");
        }
    }
}
