mod content;

use super::write::protected as body_of;
use super::*;
use crate::keys::private::PrivateKey;
use crate::keys::public::openpgp::OpenPgpPublicKey;
use crate::openpgp::packets::*;
use crate::openpgp::session::CANDIDATE;
use crate::software;

macro_rules! pair {
    ($name:literal) => {
        (
            include_str!(concat!(
                "../../../../integration/vectors/keys/",
                $name,
                ".asc"
            )),
            include_str!(concat!(
                "../../../../integration/vectors/keys/",
                $name,
                ".pub.asc"
            )),
        )
    };
}

/// Each key pair, secret and public half.
const PAIRS: [(&str, &str); 6] = [
    pair!("pgp-rsa"),
    pair!("pgp-x25519"),
    pair!("pgp-p256"),
    pair!("pgp-p384"),
    pair!("pgp-p521"),
    pair!("pgp-locked"),
];
const KEY: [u8; 32] = [7; 32];

fn secret(number: usize) -> PrivateKey {
    let password = SecretBytes::new(b"secret".to_vec());
    PrivateKey::parse("k", PAIRS[number].0.as_bytes(), Some(&password)).unwrap()
}

fn public(number: usize) -> OpenPgpPublicKey {
    OpenPgpPublicKey::parse("k", PAIRS[number].1.as_bytes()).unwrap()
}

fn body(recipient: &Result<Recipient, Error>) -> Vec<u8> {
    match recipient {
        Ok(Recipient {
            operation: KeyOperation::OpenPgp { packet },
            ..
        }) => packet.clone(),
        other => panic!("{other:?}"),
    }
}

/// What that key makes of a message: the first text that one of its recipients gives.
fn opened(key: &PrivateKey, message: &[u8]) -> Option<Vec<u8>> {
    let recipients = parse(message).ok()?.into_iter().flatten();
    recipients
        .filter_map(|recipient| {
            let answer = software::answer(key, &recipient.operation).ok()?;
            Some(recipient.open(&answer).ok()?.expose().to_vec())
        })
        .next()
}

/// The body of a protected packet around these packets, under `KEY`.
fn protected(packets: &[u8]) -> Vec<u8> {
    body_of(&KEY, packets).unwrap()
}

fn literal(text: &[u8]) -> Vec<u8> {
    packet(LITERAL, &[b"b\x01n\0\0\0\0", text].concat())
}

#[test]
fn what_is_written_opens_with_the_key_of_each_recipient_and_no_other() {
    let everybody: Vec<_> = (0..PAIRS.len()).map(public).collect();
    let message = seal(b"text", &everybody).unwrap();
    let recipients = parse(&message).unwrap();
    assert_eq!(recipients.len(), PAIRS.len());
    let keys: Vec<_> = (0..PAIRS.len()).map(secret).collect();
    for (owner, recipient) in recipients.iter().flatten().enumerate() {
        for (number, key) in keys.iter().enumerate() {
            let answer = software::answer(key, &recipient.operation);
            match number == owner {
                true => assert_eq!(recipient.open(&answer.unwrap()).unwrap().expose(), b"text"),
                false => assert_eq!(answer, Err(software::Refusal::Another)),
            }
        }
    }
}

#[test]
fn a_recipient_without_a_name_is_tried_with_every_key() {
    let keys: Vec<_> = (0..4).map(secret).collect();
    let both = [PAIRS[1].0, PAIRS[0].0, PAIRS[2].0].concat();
    let both = PrivateKey::parse("k", both.as_bytes(), None).unwrap();
    for number in 0..keys.len() {
        let message = seal(b"text", &[public(number)]).unwrap();
        let mut wrapped = body(&parse(&message).unwrap()[0]);
        let length = 6 + wrapped.len();
        wrapped[1..9].fill(0);
        let end = &message[length..];
        let message = [&packet(PUBLIC_KEY_SESSION_KEY, &wrapped), end].concat();
        for (other, key) in keys.iter().enumerate() {
            assert_eq!(opened(key, &message).is_some(), other == number);
        }
        // Keys of other kinds and sizes beside it, in one file.
        assert_eq!(opened(&both, &message).is_some(), number < 3);
        let hidden = |count: usize| {
            let wrapped = packet(PUBLIC_KEY_SESSION_KEY, &wrapped).repeat(count);
            parse(&[&wrapped, end].concat()).map(|found| found.len())
        };
        assert_eq!(hidden(MAX_HIDDEN), Ok(MAX_HIDDEN));
        let limit = MAX_HIDDEN;
        assert_eq!(hidden(limit + 1), Err(Error::TooManyHidden { limit }));
    }
}

#[test]
fn an_altered_message_never_gives_another_text() {
    for number in [1, 0] {
        let key = secret(number);
        let message = seal(b"text", &[public(number)]).unwrap();
        let all = [1, 0x80, 0xff];
        for at in 0..message.len() {
            for bits in &all[..if number == 0 { 1 } else { 3 }] {
                let mut altered = message.clone();
                altered[at] ^= bits;
                let text = opened(&key, &altered);
                // Some bits carry nothing: the length of a number in bits, two names of RSA.
                assert!(text.is_none_or(|text| text == b"text"), "{number} {at}");
            }
            assert_eq!(opened(&key, &message[..at]), None, "{number} {at}");
        }
        for more in [packet(MARKER, b"PGP"), packet(PROTECTED, &[1; 64]), vec![0]] {
            let longer = [message.clone(), more].concat();
            assert_eq!(parse(&longer), Err(Error::Malformed));
        }
    }
}

#[test]
fn a_wrong_padding_and_a_wrong_sum_are_answered_with_random_keys() {
    let key = secret(0);
    let message = seal(b"text", &[public(0)]).unwrap();
    let recipient = parse(&message).unwrap().remove(0);
    let good = body(&recipient);
    let recipient = recipient.unwrap();
    let mut answers = Vec::new();
    for at in [20, 100, 200] {
        let mut packet = good.clone();
        packet[at] ^= 1;
        let operation = KeyOperation::OpenPgp { packet };
        for _ in 0..2 {
            let answer = software::answer(&key, &operation).unwrap();
            assert_eq!(answer.expose().len(), CANDIDATE);
            assert_eq!(answer.expose()[0], 9);
            assert_eq!(recipient.open(&answer), Err(Error::NotAuthentic));
            answers.push(answer.expose().to_vec());
        }
    }
    let library = rsa_of(PAIRS[0].1);
    for encoded in [
        &[9; 35][..],
        &[&[9][..], &KEY, &[0, 1]].concat(),
        &[&[3][..], &[7; 16], &[0, 112]].concat(),
        &[&[7][..], &KEY, &[0, 224]].concat(),
        &[9],
        &[],
        &[9; 200],
    ] {
        let wrapped = library.pkcs1v15_encrypt(encoded).unwrap();
        let values = crate::openpgp::fields::integer(&wrapped);
        let packet = [&good[..10], &values].concat();
        let operation = KeyOperation::OpenPgp { packet };
        let answer = software::answer(&key, &operation).unwrap();
        assert_eq!(answer.expose().len(), CANDIDATE);
        assert_eq!(recipient.open(&answer), Err(Error::NotAuthentic));
        answers.push(answer.expose().to_vec());
    }
    for (at, answer) in answers.iter().enumerate() {
        assert!(!answers[..at].contains(answer), "random each time");
    }
}

/// The RSA key that is encrypted to.
fn rsa_of(armor: &str) -> rsa::PublicKey {
    use crate::openpgp::key::{Material, PublicKey};
    let block = crate::keys::pem::blocks(armor.as_bytes()).next().unwrap();
    let packets = block.der.unwrap();
    let mut packets = Packets::new(packets.expose());
    loop {
        let packet = packets.read().unwrap();
        if packet.kind == PUBLIC_SUBKEY {
            let mut fields = crate::openpgp::fields::Fields::new(packet.body());
            let Material::Rsa { n, e, .. } = PublicKey::read(&mut fields).unwrap().material else {
                panic!("not RSA");
            };
            let number = rsa::BoxedUint::from_be_slice_vartime;
            return rsa::PublicKey::new(number(&n), number(&e)).unwrap();
        }
    }
}

#[test]
fn recipients_and_content_have_bounds() {
    let message = seal(b"text", &[public(1)]).unwrap();
    let one = packet(PUBLIC_KEY_SESSION_KEY, &body(&parse(&message).unwrap()[0]));
    let end = packet(PROTECTED, &protected(&literal(b"text")));
    let with = |count: usize, end: &[u8]| parse(&[&one.repeat(count)[..], end].concat());
    assert_eq!(with(256, &end).unwrap().len(), 256);
    let limit = MAX_RECIPIENTS;
    assert_eq!(with(300, &end), Err(Error::TooManyRecipients { limit }));
    assert_eq!(with(0, &end), Err(Error::NoRecipients));
    let long = packet(PROTECTED, &vec![1; MAX_CONTENT + 2]);
    assert_eq!(with(1, &long), Err(Error::TooLong { limit: MAX_CONTENT }));
    let padding = packet(PADDING, &[]).repeat(MAX_OTHERS + 1);
    assert_eq!(parse(&[padding, end].concat()), Err(Error::Malformed));
    for cut in 0..message.len() {
        assert_eq!(parse(&message[..cut]), Err(Error::Malformed), "{cut}");
    }
}

#[test]
fn a_recipient_that_we_cannot_open_hides_no_other() {
    let message = seal(b"text", &[public(1)]).unwrap();
    let good = body(&parse(&message).unwrap()[0]);
    let with = |at: usize, octet: u8| {
        let mut other = good.clone();
        other[at] = octet;
        let message = [packet(PUBLIC_KEY_SESSION_KEY, &other), message.clone()].concat();
        let found = parse(&message).unwrap();
        assert_eq!(opened(&secret(1), &message), Some(b"text".to_vec()));
        found[0].clone().unwrap_err()
    };
    assert_eq!(with(0, 6), Error::RecipientVersion { version: 6 });
    assert_eq!(with(9, 16), Error::RecipientAlgorithm { name: "ElGamal" });
    assert_eq!(with(10, 0xff), Error::RecipientBroken);
}
