//! What opens: layers of other tools, what we write, each form and content.

use super::*;

#[test]
fn layers_of_other_tools_open() {
    let private = |opened: SecretBytes| PrivateOptions::parse(&opened).unwrap();
    for image in ["jwe-rsa", "jwe-and-pkcs11"] {
        let blobs = blobs_of(image, "jwe");
        assert_eq!(blobs.len(), 3, "{image}");
        for blob in blobs {
            let recipient = only(&blob).unwrap();
            private(recipient.open(&rsa_answer(&recipient.operation)).unwrap());
        }
    }
    let pem = include_str!("../../../../integration/vectors/keys/jwe-p256.pem");
    let (_, der) = pkcs8::Document::from_pem(pem).unwrap();
    // The number within SEC 1 within PKCS#8.
    let number = &der.as_bytes()[36..68];
    let key = PrivateScalar::from_bytes(Curve::P256, number).unwrap();
    for blob in blobs_of("jwe-p256", "jwe") {
        let recipient = only(&blob).unwrap();
        private(
            recipient
                .open(&ecdh_answer(&recipient.operation, &key))
                .unwrap(),
        );
    }
}

#[test]
fn one_of_several_recipients_opens_beside_a_key_that_is_repeated_outside() {
    for blob in blobs_of("jwe-several", "jwe") {
        let recipients = parse(&blob).unwrap();
        let shown: Vec<_> = recipients
            .iter()
            .map(|one| one.as_ref().unwrap().management().as_str())
            .collect();
        assert_eq!(shown, ["ECDH-ES+A256KW", "RSA-OAEP", "RSA-OAEP"]);
        let own = recipients
            .iter()
            .flatten()
            .find(|one| matches!(&one.operation, KeyOperation::RsaOaep { ciphertext, .. } if ciphertext.len() == 256))
            .unwrap();
        PrivateOptions::parse(&own.open(&rsa_answer(&own.operation)).unwrap()).unwrap();
    }
}

#[test]
fn what_is_written_opens_by_every_recipient() {
    let pem = include_str!("../../../../integration/vectors/keys/jwe-rsa.pub.pem");
    let PublicKey::Rsa(rsa) = PublicKey::parse("k", pem.as_bytes()).unwrap() else {
        panic!("not RSA");
    };
    let keys = [Curve::P256, Curve::P384, Curve::P521]
        .map(|curve| PrivateScalar::generate(curve).unwrap());
    let public = keys
        .each_ref()
        .map(|key| EcPublicKey::from_point("k", key.curve(), &key.public_point()).unwrap());
    let mut all: Vec<_> = public.iter().map(WrapFor::Ec).collect();
    for hash in [OaepHash::Sha1, OaepHash::Sha256] {
        all.push(WrapFor::Rsa(&rsa, hash));
    }
    let answer = |operation: &KeyOperation| match operation {
        KeyOperation::Ecdh { curve, .. } => ecdh_answer(
            operation,
            keys.iter().find(|key| key.curve() == *curve).unwrap(),
        ),
        _ => rsa_answer(operation),
    };
    for recipients in all.iter().map(std::slice::from_ref).chain([all.as_slice()]) {
        let read = parse(&seal(b"plain", recipients).unwrap()).unwrap();
        assert_eq!(read.len(), recipients.len());
        for recipient in read {
            let recipient = recipient.unwrap();
            let opened = recipient.open(&answer(&recipient.operation)).unwrap();
            assert_eq!(opened.expose(), b"plain");
        }
    }
}

/// RFC 7516, appendix A.1 has RSA-OAEP with A256GCM in the compact form; here the same form with our key.

#[test]
fn the_compact_form_opens() {
    let (jwe, key) = sample(Curve::P256);
    let compact = ["protected", "encrypted_key", "iv", "ciphertext", "tag"]
        .map(|name| jwe[name].as_str().unwrap())
        .join(".");
    let recipient = only(compact.as_bytes()).unwrap();
    let opened = recipient
        .open(&ecdh_answer(&recipient.operation, &key))
        .unwrap();
    assert_eq!(opened.expose(), b"plain");
    for bad in [&compact[1..], "a.b.c.d", "a.b.c.d.e.f", "", "....", "\u{1}"] {
        assert!(
            parse(bad.as_bytes()).is_err() || only(bad.as_bytes()).is_err(),
            "{bad}"
        );
    }
}

/// RFC 7518, appendices B.1 to B.3: the key, the text and the tags of the standard.

#[test]
fn cbc_contents_of_the_standard_open() {
    let text = b"A cipher system must not be required to be secret, and it must be able to fall into the hands of the enemy without inconvenience";
    let key: Vec<u8> = (0..64).collect();
    let iv = [
        0x1a, 0xf3, 0x8c, 0x2d, 0xc2, 0xb9, 0x6f, 0xfd, 0xd8, 0x66, 0x94, 0x09, 0x23, 0x41, 0xbc,
        0x04,
    ];
    let aad = b"The second principle of Auguste Kerckhoffs";
    for (encryption, tag) in [
        (Encryption::A128CbcHs256, "652c3fa36b0a7c5b3219fab3a30bc1c4"),
        (
            Encryption::A192CbcHs384,
            "8490ac0e58949bfe51875d733f93ac2075168039ccc733d7",
        ),
        (
            Encryption::A256CbcHs512,
            "4dd3b4c088a7f45c216839645b2012bf2e6269a8c56a816dbc1b267761955bc5",
        ),
    ] {
        let key = &key[..encryption.key_len()];
        let content = Content {
            encryption,
            aad: aad.to_vec(),
            iv: iv.to_vec(),
            ciphertext: cbc(&key[key.len() / 2..], &iv, text),
            tag: (0..tag.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&tag[at..at + 2], 16).unwrap())
                .collect(),
        };
        assert_eq!(content.open(key).unwrap().expose(), text, "{encryption:?}");
        for change in [0, 1, 2, 3] {
            let mut bad = content.clone();
            let part = match change {
                0 => &mut bad.aad,
                1 => &mut bad.iv,
                2 => &mut bad.ciphertext,
                _ => &mut bad.tag,
            };
            part[0] ^= 1;
            assert_eq!(
                bad.open(key),
                Err(Error::NotAuthentic),
                "{encryption:?} {change}"
            );
        }
    }
}

fn cbc(key: &[u8], iv: &[u8], text: &[u8]) -> Vec<u8> {
    use ::cbc::Encryptor;
    use ::cbc::cipher::block_padding::Pkcs7;
    use ::cbc::cipher::{BlockModeEncrypt as _, KeyIvInit as _};
    match key.len() {
        16 => Encryptor::<aes::Aes128>::new_from_slices(key, iv)
            .unwrap()
            .encrypt_padded_vec::<Pkcs7>(text),
        24 => Encryptor::<aes::Aes192>::new_from_slices(key, iv)
            .unwrap()
            .encrypt_padded_vec::<Pkcs7>(text),
        _ => Encryptor::<aes::Aes256>::new_from_slices(key, iv)
            .unwrap()
            .encrypt_padded_vec::<Pkcs7>(text),
    }
}
