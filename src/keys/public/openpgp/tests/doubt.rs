//! What restricts or ends a key counts wherever it stands, and in doubt.

use super::made::*;
use super::*;

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
