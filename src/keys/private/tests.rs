use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rsa::pkcs1::EncodeRsaPrivateKey as _;
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};
use rsa::traits::{PrivateKeyParts as _, PublicKeyParts as _};

use super::*;

const P256: &str = include_str!("../../../integration/vectors/keys/jwe-p256.pem");
const RSA_PEM: &str = include_str!("../../../integration/vectors/keys/jwe-rsa.pem");
const SEC1: &str = include_str!("samples/sec1.pem");
const PBKDF2: &str = include_str!("samples/pbkdf2.pem");
const TRADITIONAL: &str = include_str!("samples/traditional.pem");

fn parse(text: impl AsRef<[u8]>) -> Result<PrivateKey, Error> {
    PrivateKey::parse("k", text.as_ref(), None)
}

fn with_password(text: &str, password: &str) -> Result<PrivateKey, Error> {
    let password = SecretBytes::new(password.as_bytes().to_vec());
    PrivateKey::parse("k", text.as_bytes(), Some(&password))
}

fn point(key: &PrivateKey) -> Vec<u8> {
    match key.secret() {
        Secret::Elliptic(scalar) => scalar.public_point(),
        _ => panic!("another kind"),
    }
}

fn der(pem: &str) -> Vec<u8> {
    let block = pem::blocks(pem.as_bytes()).next().unwrap();
    block.der.unwrap().expose().to_vec()
}

fn rsa() -> rsa::PrivateKey {
    match parse(RSA_PEM).unwrap().secret() {
        Secret::Rsa(key) => key.as_ref().clone(),
        _ => panic!("another kind"),
    }
}

#[test]
fn one_elliptic_key_in_every_form() {
    let key = parse(P256).unwrap();
    assert_eq!(key.kind(), KeyKind::Ec(Curve::P256));
    let expected = point(&key);
    let with_parameters = format!(
        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{SEC1}"
    );
    for other in [
        parse(SEC1),
        parse(with_parameters),
        parse(der(P256)),
        parse(der(SEC1)),
        parse(P256.replace('\n', "\r\n")),
        parse(format!("Bag Attributes\n{P256}more")),
        parse(
            P256.lines()
                .map(|line| format!("{line}\n\n"))
                .collect::<String>(),
        ),
    ] {
        assert_eq!(point(&other.unwrap()), expected);
    }
    let (x, y) = expected[1..].split_at(32);
    let Secret::Elliptic(PrivateScalar::P256(scalar)) = key.secret() else {
        panic!("another curve");
    };
    let jwk = |d: &[u8], y: &[u8]| {
        let encode = |octets: &[u8]| URL_SAFE_NO_PAD.encode(octets);
        let (d, x, y) = (encode(d), encode(x), encode(y));
        format!(r#" {{"kty":"EC","crv":"P-256","d":"{d}","x":"{x}","y":"{y}","kid":"a"}}"#)
    };
    let number = scalar.to_bytes();
    assert_eq!(point(&parse(jwk(&number, y)).unwrap()), expected);
    assert_eq!(parse(jwk(&number, x)).unwrap_err(), Error::Broken);
    assert_eq!(parse(jwk(&number[1..], y)).unwrap_err(), Error::Broken);
}

#[test]
fn one_rsa_key_in_every_form() {
    let key = rsa();
    let encode = |number: &rsa::BoxedUint| URL_SAFE_NO_PAD.encode(number.to_be_bytes());
    let jwk = format!(
        r#"{{"kty":"RSA","n":"{}","e":"AQAB","d":"{}","p":"{}","q":"{}"}}"#,
        encode(key.n()),
        encode(key.d()),
        encode(&key.primes()[0]),
        encode(&key.primes()[1]),
    );
    for other in [
        parse(RSA_PEM),
        parse(der(RSA_PEM)),
        parse(key.to_pkcs1_der().unwrap().as_bytes()),
        parse(key.to_pkcs1_pem(LineEnding::CRLF).unwrap().as_bytes()),
        parse(key.to_pkcs8_der().unwrap().as_bytes()),
        parse(jwk),
    ] {
        let other = other.unwrap();
        assert_eq!(
            other.kind(),
            KeyKind::Rsa {
                modulus_len: Some(256)
            }
        );
        let Secret::Rsa(other) = other.secret() else {
            panic!("elliptic")
        };
        assert_eq!(other.n(), key.n());
    }
}

#[test]
fn encrypted_keys_open_with_their_password_alone() {
    let expected = point(&parse(P256).unwrap());
    for text in [
        PBKDF2,
        include_str!("samples/scrypt.pem"),
        include_str!("samples/sha1.pem"),
        TRADITIONAL,
        include_str!("samples/traditional-128.pem"),
    ] {
        assert_eq!(point(&with_password(text, "secret").unwrap()), expected);
        for wrong in ["", "Secret", "secret\n"] {
            assert_eq!(
                with_password(text, wrong).unwrap_err(),
                Error::WrongPassword
            );
        }
        assert_eq!(parse(text).unwrap_err(), Error::NeedsPassword);
    }
    let password = Some(SecretBytes::new(b"secret".to_vec()));
    let opened = PrivateKey::parse("k", &der(PBKDF2), password.as_ref());
    assert_eq!(point(&opened.unwrap()), expected);
    // A password for a key that needs none is no mistake.
    assert!(with_password(P256, "secret").is_ok());
}

#[test]
fn what_cannot_be_used_is_told_apart() {
    for (text, error) in [
        (include_str!("samples/des.pem"), Error::UnknownEncryption),
        (
            include_str!("samples/traditional-des.pem"),
            Error::UnknownEncryption,
        ),
        (include_str!("samples/iterations.pem"), Error::TooCostly),
        (include_str!("samples/ed25519.pem"), Error::UnknownAlgorithm),
        (include_str!("samples/secp256k1.pem"), Error::UnknownCurve),
        ("", Error::NotAPrivateKey),
        ("{}", Error::NotAPrivateKey),
        ("pkcs11:\n  uri: x\n", Error::NotAPrivateKey),
        (&P256[..100], Error::BrokenPem),
        (
            include_str!("../../../integration/vectors/keys/jwe-p256.pub.pem"),
            Error::NotAPrivateKey,
        ),
        (
            r#"{"kty":"oct","k":"AAAA","d":"AAAA"}"#,
            Error::UnknownAlgorithm,
        ),
        (
            r#"{"kty":"EC","crv":"P-256K","d":"AAAA"}"#,
            Error::UnknownCurve,
        ),
        (r#"{"kty":"RSA","d":"AAAA"}"#, Error::Broken),
    ] {
        assert_eq!(with_password(text, "secret").unwrap_err(), error, "{text}");
    }
    let mut cut = der(P256);
    cut.truncate(60);
    assert_eq!(parse(&cut).unwrap_err(), Error::NotAPrivateKey);
}

#[test]
fn nothing_of_a_key_is_shown() {
    let key = parse(P256).unwrap();
    assert_eq!(format!("{key:?}"), "PrivateKey(k, redacted)");
}
