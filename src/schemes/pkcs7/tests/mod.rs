mod altered;

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::*;
use crate::der::{CONTEXT_0_CONSTRUCTED, INTEGER, OCTET_STRING, OID, SEQUENCE, SET, element};
use crate::keys::private::PrivateKey;
use crate::options::PrivateOptions;
use crate::software;

const KEY: &str = include_str!("../../../../integration/vectors/keys/pkcs7-rsa.pem");
const CERTIFICATE: &str = include_str!("../../../../integration/vectors/keys/pkcs7-rsa.cert.pem");
const OTHER: &str = include_str!("../../../../integration/vectors/keys/other3072.cert.pem");

fn certificate(pem: &str) -> Certificate {
    Certificate::all(pem.as_bytes()).remove(0)
}

fn answer(recipient: &Recipient) -> SecretBytes {
    let key = PrivateKey::parse("k", KEY.as_bytes(), None).unwrap();
    software::answer(&key, &recipient.operation).unwrap()
}

fn opened(message: &[u8]) -> Option<Vec<u8>> {
    let certificate = certificate(CERTIFICATE);
    let recipients = parse(message).unwrap();
    let mut own = recipients
        .iter()
        .flatten()
        .filter(|one| one.is_for(&certificate));
    let own = own.next().unwrap();
    own.open(&answer(own)).map(|text| text.expose().to_vec())
}

fn error(message: &[u8]) -> Error {
    match parse(message) {
        Err(error) => error,
        Ok(recipients) => recipients
            .into_iter()
            .find_map(Result::err)
            .expect("an error"),
    }
}

fn blobs() -> Vec<Vec<u8>> {
    #[derive(Deserialize)]
    struct Manifest {
        layers: Vec<Layer>,
    }
    #[derive(Deserialize)]
    struct Layer {
        annotations: BTreeMap<String, String>,
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("integration/vectors/images/pkcs7-rsa/blobs/sha256");
    let files = std::fs::read_dir(directory).unwrap();
    let texts = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
    let manifests = texts.filter_map(|text| serde_json::from_slice::<Manifest>(&text).ok());
    manifests
        .flat_map(|manifest| manifest.layers)
        .map(|layer| layer.annotations["org.opencontainers.image.enc.keys.pkcs7"].clone())
        .map(|blob| STANDARD.decode(blob).unwrap())
        .collect()
}

/// A message with a content of any algorithm, for a key that the recipient's RSA key wraps.
fn message(algorithm: &[u8], parameters: &[u8], content: &[u8], wrapped: &[u8]) -> Vec<u8> {
    let own = certificate(CERTIFICATE);
    let names = element(SEQUENCE, &[&own.issuer, &element(INTEGER, &[&own.serial])]);
    let rsa = element(SEQUENCE, &[&element(OID, &[RSA_ENCRYPTION])]);
    let info = element(
        SEQUENCE,
        &[
            &element(INTEGER, &[&[0]]),
            &names,
            &rsa,
            &element(OCTET_STRING, &[wrapped]),
        ],
    );
    around(&element(SET, &[&info]), algorithm, parameters, content)
}

fn around(recipients: &[u8], algorithm: &[u8], parameters: &[u8], content: &[u8]) -> Vec<u8> {
    let algorithm = element(SEQUENCE, &[&element(OID, &[algorithm]), parameters]);
    let content = element(SEQUENCE, &[&element(OID, &[DATA]), &algorithm, content]);
    let enveloped = element(
        SEQUENCE,
        &[&element(INTEGER, &[&[0]]), recipients, &content],
    );
    let explicit = element(CONTEXT_0_CONSTRUCTED, &[&enveloped]);
    element(SEQUENCE, &[&element(OID, &[ENVELOPED_DATA]), &explicit])
}

fn aes(arc: u8) -> Vec<u8> {
    [
        &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01][..],
        &[arc],
    ]
    .concat()
}

fn wrapped(key: &[u8]) -> Vec<u8> {
    let own = certificate(CERTIFICATE);
    let public: rsa::PublicKey =
        rsa::pkcs8::DecodePublicKey::from_public_key_der(&own.public_key).unwrap();
    public.pkcs1v15_encrypt(key).unwrap()
}

#[test]
fn layers_of_other_tools_open() {
    let blobs = blobs();
    assert_eq!(blobs.len(), 3);
    for blob in blobs {
        let text = SecretBytes::new(opened(&blob).unwrap());
        PrivateOptions::parse(&text).unwrap();
    }
}

#[test]
fn what_is_written_opens_for_the_holder_of_the_certificate() {
    let both = [certificate(OTHER), certificate(CERTIFICATE)];
    for recipients in [&both[1..], &both] {
        let message = seal(b"plain", recipients).unwrap();
        assert_eq!(parse(&message).unwrap().len(), recipients.len());
        assert_eq!(opened(&message).unwrap(), b"plain");
    }
    let elliptic = Certificate {
        public_key: vec![0x30, 0],
        ..certificate(OTHER)
    };
    assert_eq!(seal(b"plain", &[elliptic]), Err(Error::NotRsa));
}

#[test]
fn cbc_content_opens() {
    use ::cbc::Encryptor;
    use ::cbc::cipher::block_padding::Pkcs7;
    use ::cbc::cipher::{BlockModeEncrypt as _, KeyIvInit as _};
    let iv = [9; 16];
    let parameters = element(OCTET_STRING, &[&iv]);
    let text = Encryptor::<::aes::Aes256>::new_from_slices(&[7; 32], &iv)
        .unwrap()
        .encrypt_padded_vec::<Pkcs7>(b"plain");
    let sealed = |content: &[u8]| message(&aes(42), &parameters, content, &wrapped(&[7; 32]));
    for content in [
        element(0x80, &[&text]),
        element(0xa0, &[&element(OCTET_STRING, &[&text])]),
        element(
            0xa0,
            &[
                &element(OCTET_STRING, &[&text[..3]]),
                &element(OCTET_STRING, &[&text[3..]]),
            ],
        ),
    ] {
        assert_eq!(opened(&sealed(&content)).unwrap(), b"plain");
    }
    // A wrong padding shows by nothing but a text that is not the one that went in.
    let mut altered = text.clone();
    altered[15] ^= 1;
    assert!(opened(&sealed(&element(0x80, &[&altered]))).is_some_and(|text| text != b"plain"));
    for content in [&text[1..], &[]] {
        assert_eq!(error(&sealed(&element(0x80, &[content]))), Error::Malformed);
    }
}

#[test]
fn algorithms_that_we_refuse_are_named() {
    let content = element(0x80, &[&[0; 32]]);
    let iv = element(OCTET_STRING, &[&[0; 16]]);
    let with = |oid: &[u8]| error(&message(oid, &iv, &content, &[1; 256]));
    assert_eq!(with(&[0x2b, 0x0e, 0x03, 0x02, 0x07]), Error::Des);
    assert_eq!(
        with(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x03, 0x07]),
        Error::Des
    );
    assert_eq!(
        with(&aes(4)).to_string(),
        "the content's algorithm 2.16.840.1.101.3.4.1.4 is not one that we take"
    );
    assert!(matches!(with(&[]), Error::UnknownAlgorithm { .. }));
    assert!(matches!(with(&[0xff; 400]), Error::UnknownAlgorithm { .. }));

    let own = certificate(CERTIFICATE);
    let names = element(SEQUENCE, &[&own.issuer, &element(INTEGER, &[&own.serial])]);
    let info = |algorithm: &[u8], key: &[u8]| {
        let version = element(INTEGER, &[&[0]]);
        let algorithm = element(SEQUENCE, &[&element(OID, &[algorithm])]);
        let info = element(
            SEQUENCE,
            &[&version, &names, &algorithm, &element(OCTET_STRING, &[key])],
        );
        error(&around(&element(SET, &[&info]), &aes(2), &iv, &content))
    };
    for len in [0, 127, 2049] {
        assert_eq!(
            info(RSA_ENCRYPTION, &vec![1; len]),
            Error::KeyLength { length: len }
        );
    }
    let pss = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
    assert!(matches!(
        info(&pss, &[1; 256]),
        Error::UnknownAlgorithm { .. }
    ));
    let agreement = element(SET, &[&element(0xa1, &[])]);
    assert_eq!(
        error(&around(&agreement, &aes(2), &iv, &content)),
        Error::OtherRecipient
    );
}

#[test]
fn oaep_opens_with_one_hash_and_without_a_label() {
    use crate::operation::OaepHash;

    let own = certificate(CERTIFICATE);
    let public: rsa::PublicKey =
        rsa::pkcs8::DecodePublicKey::from_public_key_der(&own.public_key).unwrap();
    let sha1 = public.oaep_encrypt::<sha1::Sha1>(&[7; 32]).unwrap();
    let sha256 = public.oaep_encrypt::<sha2::Sha256>(&[7; 32]).unwrap();
    let pkcs1 = |arc: u8| {
        let oid = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, arc];
        element(OID, &[&oid])
    };
    let hash = |arcs: &[u8]| element(SEQUENCE, &[&element(OID, &[arcs]), &[5, 0]]);
    let with_sha1 = hash(&[0x2b, 0x0e, 0x03, 0x02, 0x1a]);
    let with_sha256 = hash(&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01]);
    let with_sha512 = hash(&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03]);
    let digest = |hash: &[u8]| element(CONTEXT_0_CONSTRUCTED, &[hash]);
    let mask = |hash: &[u8]| element(0xa1, &[&element(SEQUENCE, &[&pkcs1(8), hash])]);
    let label = |text: &[u8]| {
        let text = element(OCTET_STRING, &[text]);
        element(0xa2, &[&element(SEQUENCE, &[&pkcs1(9), &text])])
    };
    let nonce = element(OCTET_STRING, &[&[9; 12]]);
    let parameters = element(SEQUENCE, &[&nonce, &element(INTEGER, &[&[16]])]);
    let content = element(0x80, &[&gcm(&[7; 32], &[9; 12], b"plain")]);
    let read = |parts: &[&[u8]], wrapped: &[u8]| {
        let names = element(SEQUENCE, &[&own.issuer, &element(INTEGER, &[&own.serial])]);
        let algorithm = element(SEQUENCE, &[&pkcs1(7), &element(SEQUENCE, parts)]);
        let wrapped = element(OCTET_STRING, &[wrapped]);
        let info = element(
            SEQUENCE,
            &[&element(INTEGER, &[&[0]]), &names, &algorithm, &wrapped],
        );
        around(&element(SET, &[&info]), &aes(46), &parameters, &content)
    };
    for (parts, wrapped, expected) in [
        (vec![], &sha1, OaepHash::Sha1),
        (
            vec![digest(&with_sha1), mask(&with_sha1)],
            &sha1,
            OaepHash::Sha1,
        ),
        (vec![label(b"")], &sha1, OaepHash::Sha1),
        (
            vec![digest(&with_sha256), mask(&with_sha256), label(b"")],
            &sha256,
            OaepHash::Sha256,
        ),
    ] {
        let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
        let message = read(&parts, wrapped);
        let recipient = parse(&message).unwrap().remove(0).unwrap();
        let KeyOperation::RsaOaep { hash, .. } = recipient.operation else {
            panic!("{recipient:?}");
        };
        assert_eq!(hash, expected);
        assert_eq!(opened(&message).unwrap(), b"plain");
    }
    for parts in [
        vec![digest(&with_sha256)],
        vec![mask(&with_sha256)],
        vec![digest(&with_sha512), mask(&with_sha512)],
        vec![label(b"label")],
        vec![label(b""), digest(&with_sha1)],
        vec![element(0xa0, &[])],
        vec![vec![5, 0]],
    ] {
        let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
        assert_eq!(error(&read(&parts, &sha256)), Error::Oaep, "{parts:x?}");
    }
}

fn gcm(key: &[u8], nonce: &[u8; 12], text: &[u8]) -> Vec<u8> {
    use aes_gcm::aead::AeadInOut as _;
    use aes_gcm::{Aes256Gcm, KeyInit as _};
    let mut sealed = text.to_vec();
    let cipher = Aes256Gcm::new_from_slice(key).unwrap();
    let tag = cipher
        .encrypt_inout_detached(&(*nonce).into(), &[], sealed.as_mut_slice().into())
        .unwrap();
    sealed.extend_from_slice(&tag);
    sealed
}
