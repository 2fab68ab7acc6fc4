//! What revokes, restricts or ends a key counts wherever it stands, and in doubt.

use base64::Engine as _;

use super::made::*;
use super::*;

const CERTIFICATION: u8 = 0x13;
const BINDING: u8 = 0x18;
const DIRECT: u8 = 0x1f;
const KEY_REVOCATION: u8 = 0x20;
const SUBKEY_REVOCATION: u8 = 0x28;
const FOR_ENCRYPTION: u8 = 0x0c;
const CERTIFIES: u8 = 0x01;
const DAY: u32 = 86400;

/// The owner, a name, and two keys for encryption, the second of which is newer.
struct Two {
    owner: Owner,
    old: Vec<u8>,
    new: Vec<u8>,
    parts: Parts,
}

impl Two {
    fn new() -> Self {
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
    fn taken(&self, parts: &Parts) -> Option<&'static str> {
        let id = parse(joined(parts)).ok()?.id;
        Some(match id {
            id if id == key(&self.old).id() => "old",
            id if id == key(&self.new).id() => "new",
            _ => "another",
        })
    }

    /// With this packet at that place.
    fn with(&self, at: usize, packet: &(u8, Vec<u8>)) -> Parts {
        let mut parts = self.parts.clone();
        parts.insert(at, packet.clone());
        parts
    }
}

fn armor(parts: &Parts) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(joined(parts));
    format!("-----BEGIN {PUBLIC_KEY_LABEL}-----\n\n{text}\n-----END {PUBLIC_KEY_LABEL}-----\n")
}

#[test]
fn a_revocation_counts_wherever_it_stands() {
    let two = Two::new();
    let whole = two.owner.own(draft(KEY_REVOCATION, 2));
    let one = two.owner.on_subkey(&two.new, draft(SUBKEY_REVOCATION, 2));
    for at in 1..=two.parts.len() {
        let message = refused(joined(&two.with(at, &whole)));
        assert!(message.contains("key is revoked"), "{at}: {message}");
        assert_eq!(two.taken(&two.with(at, &one)), Some("old"), "{at}");
    }
    // Behind something that we do not know.
    let unknown = (60, vec![1, 2, 3]);
    let behind = [&two.parts[..], &[unknown, one.clone()]].concat();
    assert_eq!(two.taken(&behind), Some("old"));
    // In a block of its own, behind the key.
    let armored = |more: &(u8, Vec<u8>)| armor(&two.parts) + &armor(&vec![more.clone()]);
    assert!(refused(armored(&whole)).contains("key is revoked"));
    assert_eq!(parse(armored(&one)).unwrap().id, key(&two.old).id());
    let relabelled = armored(&whole).replacen("PUBLIC KEY BLOCK", "SIGNATURE", 4);
    let relabelled = relabelled.replacen("SIGNATURE", "PUBLIC KEY BLOCK", 2);
    assert!(refused(relabelled).contains("key is revoked"));
    // Nothing else goes on in another block.
    let torn = armor(&two.parts[..3].to_vec()) + &armor(&two.parts[3..].to_vec());
    assert!(refused(torn).contains("packets are broken"));
    // As GnuPG writes it.
    let message = refused(include_str!("../samples/revoked-in-a-second-block.asc"));
    assert!(message.contains("key is revoked"), "{message}");
}

/// The owner says who else may revoke the key; whether it was he who did, only his key would tell.
#[test]
fn a_revocation_in_the_name_of_a_revoker_counts() {
    let two = Two::new();
    let revoker = [[9; 12].as_slice(), b"revoker!"].concat();
    let said = draft(DIRECT, 0).with(12, &[&[0x80, 22][..], &revoker].concat());
    let said = two.owner.own(said);
    let by = |kind, id: &[u8]| draft(kind, 2).hash(SHA256).unhashed(16, id);
    let broken = |mut packet: (u8, Vec<u8>)| {
        *packet.1.last_mut().unwrap() ^= 1;
        packet
    };
    let whole = |id| broken(two.owner.own(by(KEY_REVOCATION, id)));
    let one = |id| broken(two.owner.on_subkey(&two.new, by(SUBKEY_REVOCATION, id)));
    for at in [1, 3, 7] {
        let mut parts = two.with(1, &said);
        assert_eq!(two.taken(&parts), Some("new"));
        parts.insert(at, whole(b"somebody"));
        assert_eq!(two.taken(&parts), Some("new"), "{at}");
        parts.insert(at, whole(b"revoker!"));
        assert!(refused(joined(&parts)).contains("cannot be judged"), "{at}");
    }
    // Of one subkey alone, behind which it stands.
    let mut parts = two.with(1, &said);
    parts.push(one(b"revoker!"));
    assert_eq!(two.taken(&parts), Some("old"));
    // Where nobody can tell which, it is of each.
    let mut parts = two.with(1, &said);
    parts.insert(1, one(b"revoker!"));
    assert!(refused(joined(&parts)).contains("cannot be judged"));
    // Without the owner's word he is somebody.
    assert_eq!(two.taken(&two.with(1, &whole(b"revoker!"))), Some("new"));
}

#[test]
fn of_two_ends_the_earlier_counts() {
    let two = Two::new();
    for (one, other) in [(SHORT, 0), (0, SHORT), (SHORT, u32::MAX), (u32::MAX, SHORT)] {
        let draft = draft(BINDING, 5).flags(FOR_ENCRYPTION);
        let draft = draft.key_lasts(one).key_lasts(other);
        let packet = two.owner.on_subkey(&two.new, draft);
        let at = two.parts.len();
        assert_eq!(
            two.taken(&two.with(at, &packet)),
            Some("old"),
            "{one} {other}"
        );
        // Of a signature itself: without it the key is not signed.
        let [one, other] = [one, other].map(u32::to_be_bytes);
        let draft = super::made::draft(BINDING, 1).flags(FOR_ENCRYPTION);
        let draft = draft.with(3, &one).with(3, &other);
        let mut parts = two.parts.clone();
        parts[6] = two.owner.on_subkey(&two.new, draft);
        assert_eq!(two.taken(&parts), Some("old"));
    }
}

#[test]
fn a_revocation_that_cannot_be_judged_counts() {
    let two = Two::new();
    let id = two.owner.id();
    let fingerprint = [&[4][..], &key(&two.owner.body).fingerprint].concat();
    let dated = |kind| draft(kind, 2);
    let unjudged = |kind: u8| {
        [
            dated(kind).hash(RIPEMD160),
            dated(kind).hash(RIPEMD160).unhashed(16, &id),
            dated(kind).hash(1).with(16, &id),
            dated(kind).hash(12).with(33, &fingerprint),
            // Short, and without a time.
            dated(kind).with(3, &[1]).with(33, &fingerprint),
            undated(kind).unhashed(33, &fingerprint),
            undated(kind),
        ]
    };
    let part = "has a revocation that cannot be judged";
    for (number, draft) in unjudged(KEY_REVOCATION).into_iter().enumerate() {
        let packet = two.owner.own(draft);
        for at in [1, 3, 7] {
            let message = refused(joined(&two.with(at, &packet)));
            assert!(message.contains(part), "{number}, {at}: {message}");
        }
    }
    for (number, draft) in unjudged(SUBKEY_REVOCATION).into_iter().enumerate() {
        let packet = two.owner.on_subkey(&two.new, draft);
        for at in [6, 7] {
            assert_eq!(two.taken(&two.with(at, &packet)), Some("old"), "{number}");
        }
        assert_eq!(two.taken(&two.with(4, &packet)), Some("new"), "{number}");
        let message = refused(joined(&two.with(1, &packet)));
        assert!(message.contains(part), "{number}: {message}");
    }
    // Of version 3, which has its issuer at a place of its own.
    let old = |issuer: KeyId| {
        let head = [3, 5, KEY_REVOCATION, 0x60, 0, 0, 0];
        let body = [&head[..], &issuer, &[1, 1, 0, 0, 0, 1, 1]].concat();
        (packets::SIGNATURE, body)
    };
    assert!(refused(joined(&two.with(1, &old(id)))).contains(part));
    assert_eq!(two.taken(&two.with(1, &old([9; 8]))), Some("new"));
}

#[test]
fn a_revocation_that_is_not_the_owners_counts_for_nothing() {
    let two = Two::new();
    let others = [9; 8];
    for draft in [
        draft(KEY_REVOCATION, 2).hash(RIPEMD160).with(16, &others),
        undated(KEY_REVOCATION).unhashed(16, &others),
    ] {
        let packet = two.owner.own(draft);
        assert_eq!(two.taken(&two.with(1, &packet)), Some("new"));
    }
    // One that can be judged and is false, whoever it says made it.
    let mut false_one = two
        .owner
        .own(draft(KEY_REVOCATION, 2).with(16, &two.owner.id()));
    *false_one.1.last_mut().unwrap() ^= 1;
    assert_eq!(two.taken(&two.with(1, &false_one)), Some("new"));
    let mut false_one = two.owner.on_subkey(&two.new, draft(SUBKEY_REVOCATION, 2));
    *false_one.1.last_mut().unwrap() ^= 1;
    assert_eq!(two.taken(&two.with(7, &false_one)), Some("new"));
}

/// A key with these packets behind its own, and one for encryption.
fn with_own(packets: impl FnOnce(&Owner) -> Parts) -> Parts {
    let owner = Owner::new(MADE);
    let subkey = subkey(MADE);
    let binding = owner.on_subkey(&subkey, draft(BINDING, 1).flags(FOR_ENCRYPTION));
    let parts = [vec![owner.packet()], packets(&owner)].concat();
    [parts, vec![(packets::PUBLIC_SUBKEY, subkey), binding]].concat()
}

#[test]
fn the_end_of_a_key_is_that_of_either_word_on_it() {
    let certification = |after: u32| draft(CERTIFICATION, after).flags(CERTIFIES);
    let ended = |draft: Draft| draft.key_lasts(SHORT);
    let expired: [(&str, Parts); 6] = [
        (
            "the direct signature has flags only",
            with_own(|owner| {
                vec![
                    owner.own(draft(DIRECT, 9).flags(CERTIFIES)),
                    name("a"),
                    owner.on_name("a", ended(certification(0))),
                ]
            }),
        ),
        (
            "the name has no end and is newer",
            with_own(|owner| {
                vec![
                    owner.own(ended(draft(DIRECT, 0).flags(CERTIFIES))),
                    name("a"),
                    owner.on_name("a", certification(9)),
                ]
            }),
        ),
        (
            "another name is newer",
            with_own(|owner| {
                vec![
                    name("a"),
                    owner.on_name("a", ended(certification(0)).with(25, &[1])),
                    name("b"),
                    owner.on_name("b", certification(9)),
                ]
            }),
        ),
        (
            "a picture is newer",
            with_own(|owner| {
                vec![
                    name("a"),
                    owner.on_name("a", ended(certification(0))),
                    (packets::USER_ATTRIBUTE, vec![2, 100, 1]),
                    owner.on_picture(&[2, 100, 1], certification(9).with(25, &[1])),
                ]
            }),
        ),
        (
            "the newest word is weak",
            with_own(|owner| {
                vec![
                    name("a"),
                    owner.on_name("a", certification(0)),
                    owner.on_name("a", ended(certification(9)).hash(SHA1)),
                ]
            }),
        ),
        (
            "a weak word names another first",
            with_own(|owner| {
                vec![
                    name("a"),
                    owner.on_name("a", ended(certification(0)).with(25, &[1])),
                    name("b"),
                    owner.on_name("b", certification(1)),
                    owner.on_name("b", certification(9).hash(SHA1).with(25, &[1])),
                ]
            }),
        ),
    ];
    for (what, parts) in expired {
        let message = refused(joined(&parts));
        assert!(message.contains("key is expired"), "{what}: {message}");
    }
    // What was made longer is longer; and a name that is not the first one ends nothing.
    for parts in [
        with_own(|owner| {
            vec![
                name("a"),
                owner.on_name("a", ended(certification(0))),
                owner.on_name("a", certification(9)),
            ]
        }),
        with_own(|owner| {
            vec![
                owner.own(ended(draft(DIRECT, 0).flags(CERTIFIES))),
                owner.own(draft(DIRECT, 9).flags(CERTIFIES)),
                name("a"),
                owner.on_name("a", certification(9).with(25, &[1])),
                name("b"),
                owner.on_name("b", ended(certification(10))),
            ]
        }),
    ] {
        parse(joined(&parts)).unwrap();
    }
}

#[test]
fn a_weak_binding_restricts_and_does_not_extend() {
    let two = Two::new();
    let weak = |draft: Draft| two.owner.on_subkey(&two.new, draft.hash(SHA1));
    let ended = weak(draft(BINDING, 9).flags(FOR_ENCRYPTION).key_lasts(SHORT));
    assert_eq!(two.taken(&two.with(7, &ended)), Some("old"));
    let signs = weak(draft(BINDING, 9).flags(2));
    assert_eq!(two.taken(&two.with(7, &signs)), Some("old"));
    // Older than the one that counts, it says nothing any more.
    let older = weak(draft(BINDING, 0).flags(FOR_ENCRYPTION).key_lasts(SHORT));
    assert_eq!(two.taken(&two.with(7, &older)), Some("new"));
    let longer = weak(draft(BINDING, 9).flags(FOR_ENCRYPTION));
    let mut parts = two.with(7, &longer);
    parts[6] = (two.owner).on_subkey(
        &two.new,
        draft(BINDING, 1).flags(FOR_ENCRYPTION).key_lasts(SHORT),
    );
    assert_eq!(two.taken(&parts), Some("old"));
}

#[test]
fn a_packet_that_comes_twice_is_one_key() {
    let two = Two::new();
    let ended = draft(BINDING, 9).flags(FOR_ENCRYPTION).key_lasts(SHORT);
    let again = [
        (packets::PUBLIC_SUBKEY, two.new.clone()),
        two.owner.on_subkey(&two.new, ended),
    ];
    for parts in [
        [&two.parts[..], &again].concat(),
        [&two.parts[..3], &again, &two.parts[3..]].concat(),
    ] {
        assert_eq!(two.taken(&parts), Some("old"));
    }
}

#[test]
fn a_key_that_is_not_yet_made_is_not_taken() {
    let two = Two::new();
    let later = subkey(now() + 30 * DAY);
    let binding = two.owner.on_subkey(&later, draft(BINDING, 1));
    let more = [(packets::PUBLIC_SUBKEY, later), binding];
    assert_eq!(
        two.taken(&[&two.parts[..], &more].concat()),
        Some("new"),
        "the others serve"
    );
    let alone = [&two.parts[..3], &more].concat();
    assert!(refused(joined(&alone)).contains("for encryption is dated in the future"));
    let owner = Owner::new(now() + 30 * DAY);
    let parts = vec![
        owner.packet(),
        name("a"),
        owner.on_name("a", draft(CERTIFICATION, 0)),
        (packets::PUBLIC_SUBKEY, two.new.clone()),
        owner.on_subkey(&two.new, draft(BINDING, 1)),
    ];
    assert!(refused(joined(&parts)).contains("key is dated in the future"));
}

#[test]
fn what_is_critical_and_not_understood_does_not_count() {
    let two = Two::new();
    let notation = [&[0x80, 0, 0, 0, 0, 1, 0, 1][..], b"ab"].concat();
    let bound = |kind: u8, content: &[u8]| {
        let binding = draft(BINDING, 1).flags(FOR_ENCRYPTION);
        let mut parts = two.parts.clone();
        parts[6] = (two.owner).on_subkey(&two.new, binding.with(kind, content));
        two.taken(&parts)
    };
    for (kind, content) in [
        (20, &notation[..]),
        (26, b"https://example.org"),
        (12, &[0x80; 22]),
        (6, b"<.*>\0"),
        (5, &[1, 60]),
        (31, &[1; 34]),
        (99, b""),
    ] {
        assert_eq!(bound(kind | 0x80, content), Some("old"), "{kind}");
        assert_eq!(bound(kind, content), Some("new"), "{kind}");
    }
    // Preferences say nothing about whether the key may be used.
    for (kind, content) in [(11, &[9][..]), (21, &[8]), (23, &[0x80]), (30, &[1])] {
        assert_eq!(bound(kind | 0x80, content), Some("new"), "{kind}");
    }
}
