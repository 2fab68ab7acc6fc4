//! The forms in which a public key comes.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::*;
use crate::operation::Curve;

const RSA: &str = include_str!("../../../integration/vectors/keys/jwe-rsa.pub.pem");
const RSA_PRIVATE: &str = include_str!("../../../integration/vectors/keys/jwe-rsa.pem");
const RSA_3072: &str = include_str!("../../../integration/vectors/keys/rsa3072.pub.pem");
const EC: &str = include_str!("../../../integration/vectors/keys/jwe-p256.pub.pem");
const EC_PRIVATE: &str = include_str!("../../../integration/vectors/keys/jwe-p256.pem");
const RSA_CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIICnzCCAYcCFBVaGGcw2NN6YEzYDdxEEu1ggBQLMA0GCSqGSIb3DQEBCwUAMAwx
CjAIBgNVBAMMAW4wHhcNMjYxMTI1MjE1NDU2WhcNMzYxMTIyMjE1NDU2WjAMMQow
CAYDVQQDDAFuMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr8REDFfH
8hPcsRX4YkfNVowUx3gMAnxS2eG7iEQv17tokillPVSYWUKhycBiH7QoConf766f
RyjEmR0WcmBJGbc21Un6ADcGYRgwJ2U84VmwXVLcSo+De9oPNEmE6LhXJajvulxc
kuFRScRlGO5OO0GI1F//yAq2TwOK3lgcaYAi1eEex0BFAlGaLYqnW5ALXj7ULQXe
NOmNbgRwCN/VIooArR5+BP54Bzu+g0vKX/3lE1et3k+3B9hsZYEQyas91bUjfBnF
CDg9kIA1wQX0iKjEVqtYKMNSygBNReSBEiaqpTQ4Cd+hxOMCMeukOQ1nUrPgOoRl
NSZ8kqWYST/n3QIDAQABMA0GCSqGSIb3DQEBCwUAA4IBAQCgHTSmLlfbxeZiIH0J
EDd14UWaARFGcF6t3RKZ9ZN/KuScDKe3iBeg0BUoFb9TbFdZn0AZwOkmIecprOwT
ii29xC5Mdj6HXCrk5E+MuZBuJhapapf7HGWTdvqYB30Jm2ZKFgMwFCUie4JbnAcg
PkSiNt9bw8doULzfsJsyCgGP4CsKq+pRRlD0VBr9GuApFm3EIER0klaKWIk+nwue
JvSfvUpfldASJI3pB3qm4lYdYXoW896yD2IbUEot8iVBnKcuE4Zh7ELW7n1wdjuA
w3UZ0IAd2rWd4BeYnPs4xloKIr8a1yfYN97O5MSUdQ+S80WwIYxZ3/1ZaDj3Lw7V
sIfO
-----END CERTIFICATE-----
";
const EC_CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBdzCCAR2gAwIBAgIUKZDtPqdji8PDjxp8Il5RqZ3pAHQwCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGbm9kZSAxMB4XDTI2MTEyNTIxNTQxNVoXDTM2MTEyMjIxNTQx
NVowETEPMA0GA1UEAwwGbm9kZSAxMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
dP+7QCFKsYkbYRwcd+3Jro3TtwXQ3+3el4erD0mdlOzjwHhRxC3aC+Ni3Qnt9+W/
rf8mNgweTgzI5bup4AqkoaNTMFEwHQYDVR0OBBYEFBUv+wKtE/Ctn2uhKM7Sl0kw
tcjIMB8GA1UdIwQYMBaAFBUv+wKtE/Ctn2uhKM7Sl0kwtcjIMA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIgFcMnJpEkkzu8+VaYaXlI1w1V/1rD7g/3
4tNM+0omiTcCIQDHNyijV9C4sanuvgM1oK1yIiHQwA9Rp0T+CmYH1z5GSA==
-----END CERTIFICATE-----
";

fn parse(bytes: impl AsRef<[u8]>) -> Result<PublicKey> {
    PublicKey::parse("k.pem", bytes.as_ref())
}

fn rsa() -> PublicKey {
    parse(RSA).unwrap()
}

fn ec() -> PublicKey {
    parse(EC).unwrap()
}

fn der(text: &str) -> Vec<u8> {
    let block = pem::blocks(text.as_bytes()).next().unwrap();
    block.der.unwrap().expose().to_vec()
}

fn armored(label: &str, der: &[u8], columns: usize) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(columns).collect();
    let lines = String::from_utf8(lines.join(&b'\n')).unwrap();
    format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
}

fn refused(bytes: impl AsRef<[u8]>) -> String {
    let error = parse(bytes).unwrap_err().to_string();
    assert!(error.contains("k.pem"), "{error}");
    error
}

#[test]
fn one_key_in_every_form() {
    let key = rsa();
    assert_eq!(key.bits(), 2048);
    assert_eq!(key.for_pkcs11("k").unwrap().modulus_len(), 256);
    assert_eq!(key.to_pem(), RSA);
    assert_eq!(key.fingerprint(), "e19f3c441bbcd54a");
    let spki = der(RSA);
    let pkcs1 = SubjectPublicKeyInfoRef::from_der(&spki).unwrap();
    let pkcs1 = pkcs1.subject_public_key.raw_bytes();
    let numbers = key.for_pkcs11("k").unwrap();
    for (number, other) in [
        parse(&spki),
        parse(pkcs1),
        parse(armored("RSA PUBLIC KEY", pkcs1, 64)),
        parse(armored("PUBLIC KEY", &spki, 48)),
        parse(armored("PUBLIC KEY", &spki, 76)),
        parse(armored("PUBLIC KEY", &spki, 10_000)),
        parse(format!("Public key \"k\":\n{RSA}")),
        parse(format!("\u{feff}{RSA}\n\n")),
        parse(RSA.replace('\n', "\r\n")),
        parse(RSA.replace("KEY-----\nM", "KEY-----\nComment: mine\n\nM")),
        parse(RSA_CERTIFICATE),
        parse(der(RSA_CERTIFICATE)),
        PublicKey::from_components("k", &numbers.modulus(), &numbers.exponent()),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(other.unwrap(), key, "{number}");
    }
    assert_eq!(parse(RSA_3072).unwrap().bits(), 3072);
}

#[test]
fn one_ec_key_in_every_form() {
    let key = ec();
    assert_eq!((key.bits(), key.to_pem().as_str()), (256, EC));
    let PublicKey::Ec(point) = &key else {
        panic!("{key:?}")
    };
    assert_eq!((point.curve(), point.point().len()), (Curve::P256, 65));
    let mut compressed = der(EC)[..26].to_vec();
    compressed[1] = 0x39;
    compressed[24] = 0x22;
    compressed.push(2 + (point.point()[64] & 1));
    compressed.extend(&point.point()[1..33]);
    let trusted = [&der(EC_CERTIFICATE)[..], &[0x30, 0x00]].concat();
    for (number, other) in [
        parse(der(EC)),
        parse(compressed),
        parse(EC_CERTIFICATE),
        parse(armored("TRUSTED CERTIFICATE", &trusted, 64)),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(other.unwrap(), key, "{number}");
    }
    let error = key.for_pkcs11("k.pem").unwrap_err().to_string();
    assert!(
        error.contains("k.pem") && error.contains("RSA keys alone"),
        "{error}"
    );
}

#[test]
fn a_jwk_is_a_public_key_too() {
    let numbers = rsa();
    let numbers = numbers.for_pkcs11("k").unwrap();
    let (n, e) = (numbers.modulus(), numbers.exponent());
    let [n, e] = [n, e].map(|number| URL_SAFE_NO_PAD.encode(number));
    let text = format!(
        r#"{{"kty":"RSA","alg":"RSA-OAEP-256","kid":"a","use":"enc","n":"{n}","e":"{e}"}}"#
    );
    let jwk = Jwk::parse("k", text.as_bytes()).unwrap();
    assert_eq!(jwk.key, rsa());
    assert_eq!(jwk.algorithm.as_deref(), Some("RSA-OAEP-256"));
    assert_eq!(parse(format!("\u{feff} {text}\n")).unwrap(), rsa());

    let PublicKey::Ec(point) = ec() else { panic!() };
    let [x, y] = [1..33, 33..65].map(|part| URL_SAFE_NO_PAD.encode(&point.point()[part]));
    let jwk =
        |more: &str, x: &str| format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"{more}}}"#);
    assert_eq!(parse(jwk("", &x)).unwrap(), ec());
    for (text, part) in [
        (jwk(r#","d":"AA""#, &x), "it is a private key"),
        (jwk("", &y), "not on its curve"),
        (jwk("", "AA"), "broken"),
        (jwk("", &x).replace("P-256", "secp256k1"), "none of P-256"),
        (
            r#"{"kty":"oct","k":"AA"}"#.to_owned(),
            "neither an RSA nor an EC key",
        ),
        (format!(r#"{{"keys":[{text}]}}"#), "a set of"),
        ("{}".to_owned(), "not that of a JSON Web Key"),
        ("{".to_owned(), "not that of a JSON Web Key"),
    ] {
        let error = refused(&text);
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn of_several_blocks_the_first_public_one_counts() {
    for text in [
        format!("{RSA_PRIVATE}{RSA}{RSA_3072}"),
        format!("{RSA}{RSA_PRIVATE}"),
        format!(
            "{EC_PRIVATE}\nBag Attributes\n    friendlyName: n: 1\n{RSA_CERTIFICATE}{EC_CERTIFICATE}"
        ),
    ] {
        assert_eq!(parse(&text).unwrap(), rsa(), "{text}");
    }
    // A damaged one is not passed over: what stands behind it is somebody else's key.
    let damaged = EC_CERTIFICATE.replace("MIIB", "M*IB");
    assert!(refused(format!("{damaged}{RSA_CERTIFICATE}")).contains("its PEM is broken"));
}

#[test]
fn what_is_no_public_key_is_said() {
    let ed25519 = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    for (text, part) in [
        (ed25519, "neither an RSA nor an EC key"),
        (RSA_PRIVATE, "it is a private key"),
        (
            &RSA.replace("PUBLIC KEY", "CERTIFICATE"),
            "its content is broken",
        ),
        (
            &EC_CERTIFICATE.replace("CERTIFICATE", "X509 CRL"),
            "it is PEM of another kind",
        ),
        (&RSA[..200], "its PEM is broken"),
        ("", "neither PEM, DER nor JWK"),
        ("pkcs11:\n", "neither PEM, DER nor JWK"),
    ] {
        let error = refused(text);
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn any_cut_or_change_of_der_is_an_error_or_a_key_and_no_panic() {
    for whole in [der(RSA), der(EC), der(RSA_CERTIFICATE), der(EC_CERTIFICATE)] {
        for at in 0..whole.len() {
            assert!(parse(&whole[..at]).is_err(), "{at}");
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            let _ = parse(&changed);
        }
    }
}
