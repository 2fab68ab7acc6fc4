use super::*;

#[test]
fn a_wrapped_key_that_is_altered_or_of_another_length_is_one_verdict() {
    let good = seal(b"plain", &[certificate(CERTIFICATE)]).unwrap();
    let at = memchr::memmem::find(&good, &[0x04, 0x82, 1, 0]).unwrap() + 4;
    let mut bad = good.clone();
    bad[at + 100] ^= 1;
    assert_eq!(opened(&bad), None);
    let gcm = element(
        SEQUENCE,
        &[
            &element(OCTET_STRING, &[&[1; 12]]),
            &element(INTEGER, &[&[16]]),
        ],
    );
    for len in [0, 1, 15, 17, 32, 100] {
        let short = message(
            &aes(6),
            &gcm,
            &element(0x80, &[&[0; 40]]),
            &wrapped(&vec![1; len]),
        );
        assert_eq!(opened(&short), None, "{len}");
    }
    for position in [good.len() - 1, good.len() - 20] {
        let mut bad = good.clone();
        bad[position] ^= 1;
        assert_eq!(opened(&bad), None);
    }
}

#[test]
fn wrong_nonces_and_tags_are_refused() {
    let content = element(0x80, &[&[0; 32]]);
    let gcm = |nonce: usize, tag: &[u8]| {
        let nonce = element(OCTET_STRING, &[&vec![0; nonce]]);
        element(SEQUENCE, &[&nonce, &element(INTEGER, &[tag])])
    };
    for parameters in [
        gcm(11, &[16]),
        gcm(16, &[16]),
        gcm(12, &[4]),
        gcm(12, &[1, 0, 16]),
        vec![5, 0],
        vec![],
    ] {
        let message = message(&aes(46), &parameters, &content, &[1; 256]);
        assert_eq!(error(&message), Error::Parameters);
    }
    let short = message(
        &aes(46),
        &gcm(12, &[16]),
        &element(0x80, &[&[0; 15]]),
        &[1; 256],
    );
    assert_eq!(error(&short), Error::Malformed);
}

#[test]
fn indefinite_lengths_nested_sets_and_cut_messages_are_errors() {
    let good = seal(b"plain", &[certificate(CERTIFICATE)]).unwrap();
    for len in 0..good.len() {
        assert!(parse(&good[..len]).is_err(), "{len}");
    }
    assert!(parse(&[&good[..], &[0]].concat()).is_err());
    let mut indefinite = good.clone();
    indefinite[1] = 0x80;
    assert_eq!(error(&indefinite), Error::Malformed);
    let nested = (0..10_000).fold(vec![5, 0], |inner, _| element(SET, &[&inner]));
    let iv = element(OCTET_STRING, &[&[0; 16]]);
    let content = element(0x80, &[&[0; 32]]);
    assert_eq!(
        error(&around(&nested, &aes(2), &iv, &content)),
        Error::OtherRecipient
    );
    assert_eq!(error(&nested), Error::Malformed);
    let signed = element(SEQUENCE, &[&element(OID, &[DATA])]);
    assert_eq!(error(&signed), Error::OtherContent);
}

#[test]
fn recipients_have_a_bound() {
    let iv = element(OCTET_STRING, &[&[0; 16]]);
    let content = element(0x80, &[&[0; 32]]);
    let of = |count: usize| {
        let infos = vec![element(0xa1, &[]); count];
        let infos: Vec<&[u8]> = infos.iter().map(Vec::as_slice).collect();
        parse(&around(&element(SET, &infos), &aes(2), &iv, &content))
    };
    assert_eq!(of(0), Err(Error::NoRecipients));
    assert_eq!(of(256).unwrap().len(), 256);
    assert_eq!(of(300), Err(Error::TooManyRecipients { limit: 256 }));
}

/// Every byte of a message, lengths and tags among them, with other values.
#[test]
fn no_altered_message_opens_with_another_content() {
    let message = blobs().remove(0);
    let own = certificate(CERTIFICATE);
    let read = |message: &[u8]| {
        let recipients = parse(message).unwrap_or_default();
        recipients
            .into_iter()
            .flatten()
            .find(|one| one.is_for(&own))
    };
    let original = read(&message).unwrap();
    let answer = answer(&original);
    let text = original.open(&answer).unwrap();
    let (mut read_again, mut opened_again) = (0, 0);
    for position in 0..message.len() {
        for change in [0x01, 0x02, 0x04, 0x40, 0x80, 0xff] {
            let mut altered = message.clone();
            altered[position] ^= change;
            let Some(recipient) = read(&altered) else {
                continue;
            };
            read_again += 1;
            if recipient.operation != original.operation {
                continue;
            }
            if let Some(opened) = recipient.open(&answer) {
                opened_again += 1;
                assert_eq!(opened.expose(), text.expose(), "{position} {change:02x}");
            }
        }
    }
    // It is the wrapped key and the content that are read when altered, and a version that opens again.
    assert!(read_again > 2_000, "{read_again}");
    assert!((1..100).contains(&opened_again), "{opened_again}");
}
