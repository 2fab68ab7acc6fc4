//! Keys that are made here, with whatever signatures a test wants on them: an owner's Ed25519 key, and subkeys.

use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::*;
use crate::openpgp::algorithm::Hash;
use crate::openpgp::key::hashed;

pub(super) const CERTIFICATION: u8 = 0x13;
pub(super) const BINDING: u8 = 0x18;
pub(super) const DIRECT: u8 = 0x1f;
pub(super) const KEY_REVOCATION: u8 = 0x20;
pub(super) const SUBKEY_REVOCATION: u8 = 0x28;
pub(super) const FOR_ENCRYPTION: u8 = 0x0c;
pub(super) const CERTIFIES: u8 = 0x01;
pub(super) const DAY: u32 = 86400;
/// When all keys were made: in 2020.
pub(super) const MADE: u32 = 1_600_000_000;
/// What ends at that time, is over since long.
pub(super) const SHORT: u32 = 1000;
pub(super) const SHA1: u8 = 2;
pub(super) const SHA256: u8 = 8;
pub(super) const RIPEMD160: u8 = 3;

/// A signature before it is made.
#[derive(Clone)]
pub(super) struct Draft {
    kind: u8,
    hash: u8,
    hashed: Vec<u8>,
    unhashed: Vec<u8>,
}

/// One that was made so many seconds after the keys.
pub(super) fn draft(kind: u8, after: u32) -> Draft {
    undated(kind).with(2, &(MADE + after).to_be_bytes())
}

pub(super) fn undated(kind: u8) -> Draft {
    Draft {
        kind,
        hash: SHA256,
        hashed: Vec::new(),
        unhashed: Vec::new(),
    }
}

fn subpacket(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len() + 1).unwrap();
    [&[length, kind], content].concat()
}

impl Draft {
    pub(super) fn hash(self, hash: u8) -> Self {
        Self { hash, ..self }
    }

    pub(super) fn with(mut self, kind: u8, content: &[u8]) -> Self {
        self.hashed.extend(subpacket(kind, content));
        self
    }

    pub(super) fn unhashed(mut self, kind: u8, content: &[u8]) -> Self {
        self.unhashed.extend(subpacket(kind, content));
        self
    }

    pub(super) fn key_lasts(self, seconds: u32) -> Self {
        self.with(9, &seconds.to_be_bytes())
    }

    pub(super) fn flags(self, flags: u8) -> Self {
        self.with(27, &[flags])
    }
}

pub(super) struct Owner {
    pair: Ed25519KeyPair,
    pub(super) body: Vec<u8>,
}

impl Owner {
    pub(super) fn new(created: u32) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let public = pair.public_key().as_ref();
        let body = [&[4][..], &created.to_be_bytes(), &[27], public].concat();
        Self { pair, body }
    }

    pub(super) fn id(&self) -> KeyId {
        key(&self.body).id()
    }

    pub(super) fn packet(&self) -> (u8, Vec<u8>) {
        (packets::PUBLIC_KEY, self.body.clone())
    }

    /// On the key itself.
    pub(super) fn own(&self, draft: Draft) -> (u8, Vec<u8>) {
        self.sign(draft, &[])
    }

    pub(super) fn on_name(&self, name: &str, draft: Draft) -> (u8, Vec<u8>) {
        let length = u32::try_from(name.len()).unwrap().to_be_bytes();
        self.sign(draft, &[&[0xb4], &length[..], name.as_bytes()].concat())
    }

    pub(super) fn on_picture(&self, picture: &[u8], draft: Draft) -> (u8, Vec<u8>) {
        let length = u32::try_from(picture.len()).unwrap().to_be_bytes();
        self.sign(draft, &[&[0xd1], &length[..], picture].concat())
    }

    pub(super) fn on_subkey(&self, subkey: &[u8], draft: Draft) -> (u8, Vec<u8>) {
        self.sign(draft, &hashed(subkey).concat())
    }

    /// With a hash that we do not have, it is never true.
    fn sign(&self, draft: Draft, about: &[u8]) -> (u8, Vec<u8>) {
        let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes();
        let head = [4, draft.kind, 27, draft.hash];
        let signed = [&head[..], &length(&draft.hashed), &draft.hashed].concat();
        let signed_length = u32::try_from(signed.len()).unwrap().to_be_bytes();
        let hash = Hash::numbered(draft.hash).unwrap_or(Hash::Sha256);
        let primary = hashed(&self.body).concat();
        let digest = hash.of([&primary[..], about, &signed, &[4, 0xff], &signed_length]);
        let signature = self.pair.sign(&digest);
        let body = [
            &signed,
            &length(&draft.unhashed)[..],
            &draft.unhashed,
            &digest[..2],
            signature.as_ref(),
        ];
        (packets::SIGNATURE, body.concat())
    }
}

pub(super) fn key(body: &[u8]) -> PublicKey {
    PublicKey::read(&mut crate::openpgp::fields::Fields::new(body)).unwrap()
}

/// A key for encryption, made at that time.
pub(super) fn subkey(created: u32) -> Vec<u8> {
    let mut parts = parts(X25519).into_iter();
    let found = parts.find(|(kind, _)| *kind == packets::PUBLIC_SUBKEY);
    let mut body = found.unwrap().1;
    body[1..5].copy_from_slice(&created.to_be_bytes());
    body
}

pub(super) fn name(name: &str) -> (u8, Vec<u8>) {
    (packets::USER_ID, name.as_bytes().to_vec())
}

pub(super) fn now() -> u32 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    u32::try_from(now.as_secs()).unwrap()
}

/// The owner, a name, and two keys for encryption, the second of which is newer.
pub(super) struct Two {
    pub(super) owner: Owner,
    pub(super) old: Vec<u8>,
    pub(super) new: Vec<u8>,
    pub(super) parts: Parts,
}

impl Two {
    pub(super) fn new() -> Self {
        let owner = Owner::new(MADE);
        let (old, new) = (subkey(MADE), subkey(MADE + 1));
        let binding = draft(BINDING, 1).flags(FOR_ENCRYPTION);
        let parts = vec![
            owner.packet(),
            name("a"),
            owner.on_name("a", draft(CERTIFICATION, 0).flags(CERTIFIES)),
            (packets::PUBLIC_SUBKEY, old.clone()),
            owner.on_subkey(&old, binding.clone()),
            (packets::PUBLIC_SUBKEY, new.clone()),
            owner.on_subkey(&new, binding),
        ];
        let two = Self {
            owner,
            old,
            new,
            parts,
        };
        assert_eq!(two.taken(&two.parts), Some("new"));
        two
    }

    /// Which of the two is taken.
    pub(super) fn taken(&self, parts: &Parts) -> Option<&'static str> {
        let id = parse(joined(parts)).ok()?.id;
        Some(match id {
            id if id == key(&self.old).id() => "old",
            id if id == key(&self.new).id() => "new",
            _ => "another",
        })
    }

    /// With this packet at that place.
    pub(super) fn with(&self, at: usize, packet: &(u8, Vec<u8>)) -> Parts {
        let mut parts = self.parts.clone();
        parts.insert(at, packet.clone());
        parts
    }
}
