use std::io::Write as _;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::{DeflateEncoder, ZlibEncoder};

use super::*;

fn candidate(cipher: u8) -> Vec<u8> {
    [&[cipher][..], &KEY].concat()
}

/// The content of such a body, if `KEY` opens it.
fn content(body: &[u8]) -> Result<Vec<u8>, Error> {
    assert_eq!(body[0], 1);
    super::super::content::open(&body[1..], &candidate(9)).map(|text| text.expose().to_vec())
}

fn deflated(packets: &[u8]) -> Vec<u8> {
    let mut writer = DeflateEncoder::new(vec![1], Compression::best());
    writer.write_all(packets).unwrap();
    packet(COMPRESSED, &writer.finish().unwrap())
}

fn zlib(packets: &[u8]) -> Vec<u8> {
    let mut writer = ZlibEncoder::new(vec![2], Compression::best());
    writer.write_all(packets).unwrap();
    packet(COMPRESSED, &writer.finish().unwrap())
}

#[test]
fn content_that_anybody_could_have_altered_is_refused() {
    let message = seal(b"text", &[public(1)]).unwrap();
    let wrapped = packet(PUBLIC_KEY_SESSION_KEY, &body(&parse(&message).unwrap()[0]));
    for (end, error) in [
        (packet(UNPROTECTED, &[9; 64]), Error::Unprotected),
        (packet(GNUPG_AEAD, &[1; 64]), Error::GnupgAead),
        (
            packet(PROTECTED, &[2; 64]),
            Error::ContentVersion { version: 2 },
        ),
        (packet(PROTECTED, &[]), Error::Malformed),
        (packet(LITERAL, &[9; 64]), Error::Malformed),
        (packet(COMPRESSED, &[9; 64]), Error::Malformed),
    ] {
        assert_eq!(parse(&[wrapped.clone(), end].concat()), Err(error));
    }
    // Nor does a protected packet become one by its name alone: what is in it has to end in its hash.
    let mut plain = protected(&literal(b"text"));
    assert_eq!(content(&plain), Ok(b"text".to_vec()));
    plain.truncate(plain.len() - 22);
    assert_eq!(content(&plain), Err(Error::NotAuthentic));
}

#[test]
fn every_altered_byte_of_the_content_is_one_verdict() {
    let body = protected(&literal(b"text"));
    for at in 1..body.len() {
        let mut altered = body.clone();
        altered[at] ^= 1;
        assert_eq!(content(&altered), Err(Error::NotAuthentic), "{at}");
        assert_eq!(content(&body[..at]), Err(Error::NotAuthentic), "{at}");
    }
    assert!(content(&[body, vec![0]].concat()).is_err());
}

#[test]
fn ciphers_that_are_refused_have_names() {
    let body = protected(&literal(b"text"));
    for (number, name) in [
        (1, "IDEA"),
        (2, "3DES"),
        (3, "CAST5"),
        (4, "Blowfish"),
        (10, "Twofish"),
    ] {
        let opened = super::super::content::open(&body[1..], &candidate(number));
        assert_eq!(opened, Err(Error::Cipher { name }));
    }
    for number in [7, 8] {
        let opened = super::super::content::open(&body[1..], &candidate(number));
        assert_eq!(opened, Err(Error::NotAuthentic));
    }
    assert_eq!(
        super::super::content::open(&body[1..], &[]),
        Err(Error::NotAuthentic)
    );
    // Another candidate that opens it counts.
    let both = [candidate(3), candidate(9)].concat();
    assert!(super::super::content::open(&body[1..], &both).is_ok());
}

#[test]
fn junk_around_and_instead_of_the_text_is_refused() {
    let text = literal(b"text");
    let signature = packet(SIGNATURE, &[4; 20]);
    let one_pass = packet(ONE_PASS_SIGNATURE, &[3; 13]);
    for good in [
        [packet(MARKER, b"PGP"), text.clone()].concat(),
        [one_pass.clone(), text.clone(), signature.clone()].concat(),
        [signature.clone(), text.clone()].concat(),
        [&[0xcb, 0xe0, b'b', 9][..], b"\0\0\0\0\0text"].concat(),
    ] {
        assert_eq!(content(&protected(&good)), Ok(b"text".to_vec()));
    }
    for bad in [
        vec![],
        vec![0],
        [text.clone(), text.clone()].concat(),
        [text.clone(), packet(USER_ID, b"a")].concat(),
        [text.clone(), vec![0]].concat(),
        [text.clone(), signature.repeat(MAX_OTHERS)].concat(),
        packet(PROTECTED, &protected(&text)),
        one_pass,
        packet(LITERAL, b"b"),
        packet(LITERAL, b"b\x09abc"),
        text[..text.len() - 1].to_vec(),
    ] {
        assert_eq!(content(&protected(&bad)), Err(Error::NoText), "{bad:x?}");
    }
}

#[test]
fn compressed_content_opens_and_a_bomb_does_not_go_off() {
    let text = literal(b"text");
    for packed in [
        deflated(&text),
        zlib(&text),
        packet(COMPRESSED, &[&[0][..], &text].concat()),
        zlib(&deflated(&text)),
    ] {
        assert_eq!(content(&protected(&packed)), Ok(b"text".to_vec()));
    }
    let start = Instant::now();
    let zeros = vec![0; 32 << 20];
    let hidden = [literal(b"text"), literal(&zeros)].concat();
    let mut deep = literal(b"text");
    for _ in 0..10 {
        deep = deflated(&deep);
    }
    let bomb = Err(Error::Bomb { limit: MAX_CONTENT });
    let mut trailing = zlib(&text);
    trailing.push(0);
    trailing = packet(COMPRESSED, &trailing[6..]);
    let cut = zlib(&text);
    let cases = [
        (deflated(&literal(&zeros)), bomb.clone()),
        (zlib(&literal(&zeros)), bomb.clone()),
        (zlib(&hidden), bomb.clone()),
        (deflated(&deflated(&deflated(&literal(&zeros)))), bomb),
        (deep, Err(Error::TooDeep)),
        (packet(COMPRESSED, &[3, 1, 2, 3]), Err(Error::BZip2)),
        (packet(COMPRESSED, &[4, 1, 2, 3]), Err(Error::Compression)),
        (packet(COMPRESSED, &[]), Err(Error::NoText)),
        (packet(COMPRESSED, &[1, 0xff, 0xff]), Err(Error::NoText)),
        (trailing, Err(Error::NoText)),
        (
            packet(COMPRESSED, &cut[6..cut.len() - 6]),
            Err(Error::NoText),
        ),
    ];
    let made = start.elapsed();
    for (packed, error) in cases {
        assert_eq!(content(&protected(&packed)), error);
    }
    // To unpack even one of them takes longer.
    assert!(start.elapsed() - made < made.max(Duration::from_secs(1)));
}
