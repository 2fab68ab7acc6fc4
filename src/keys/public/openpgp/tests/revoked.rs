//! A revocation counts wherever it stands, and in doubt.

use base64::Engine as _;

use super::made::*;
use super::*;

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
