use std::collections::BTreeMap;
use std::path::Path;

use base64::engine::general_purpose::STANDARD;
use rsa::PrivateKey;
use rsa::pkcs8::DecodePrivateKey as _;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sha1::Sha1;

use super::*;
use crate::elliptic::PrivateScalar;
use crate::keys::public::{EcPublicKey, PublicKey};
use crate::operation::{Curve, OaepHash};
use crate::options::PrivateOptions;

const RSA: &str = include_str!("../../../integration/vectors/keys/jwe-rsa.pem");

/// The wrapped keys of an image's layers.
fn blobs_of(image: &str, scheme: &str) -> Vec<Vec<u8>> {
    #[derive(Deserialize)]
    struct Manifest {
        layers: Vec<Layer>,
    }
    #[derive(Deserialize)]
    struct Layer {
        annotations: BTreeMap<String, String>,
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("integration/vectors/images")
        .join(image)
        .join("blobs/sha256");
    let mut blobs = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else {
            continue;
        };
        for layer in manifest.layers {
            let name = format!("org.opencontainers.image.enc.keys.{scheme}");
            blobs.extend(
                layer.annotations[&name]
                    .split(',')
                    .map(|blob| STANDARD.decode(blob).unwrap()),
            );
        }
    }
    blobs
}

fn rsa_answer(operation: &KeyOperation) -> SecretBytes {
    let KeyOperation::RsaOaep { hash, ciphertext } = operation else {
        panic!("{operation:?}");
    };
    let key = PrivateKey::from_pkcs8_pem(RSA).unwrap();
    SecretBytes::new(
        match hash {
            OaepHash::Sha1 => key.oaep_decrypt::<Sha1>(ciphertext),
            OaepHash::Sha256 => key.oaep_decrypt::<sha2::Sha256>(ciphertext),
        }
        .unwrap(),
    )
}

fn ecdh_answer(operation: &KeyOperation, key: &PrivateScalar) -> SecretBytes {
    let KeyOperation::Ecdh { point, .. } = operation else {
        panic!("{operation:?}");
    };
    key.agree(point).unwrap()
}

fn only(jwe: &[u8]) -> Result<Recipient, Error> {
    let mut recipients = parse(jwe)?;
    assert_eq!(recipients.len(), 1);
    recipients.remove(0)
}

/// A JWE of ours for one new key, as JSON, with that key.
fn sample(curve: Curve) -> (Json, PrivateScalar) {
    let key = PrivateScalar::generate(curve).unwrap();
    let point = key.public_point();
    let public = EcPublicKey::from_point("k", curve, &point).unwrap();
    let jwe = seal(b"plain", &[WrapFor::Ec(&public)]).unwrap();
    (serde_json::from_slice(&jwe).unwrap(), key)
}

fn protected(jwe: &Json) -> Json {
    serde_json::from_slice(&base64url(jwe["protected"].as_str().unwrap()).unwrap()).unwrap()
}

/// The same JWE with other members in its protected header.
fn with_header(jwe: &Json, change: impl Fn(&mut Json)) -> Vec<u8> {
    let mut header = protected(jwe);
    change(&mut header);
    let mut jwe = jwe.clone();
    jwe["protected"] = URL_SAFE_NO_PAD.encode(header.to_string()).into();
    jwe.to_string().into_bytes()
}

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
    let pem = include_str!("../../../integration/vectors/keys/jwe-p256.pem");
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
    let pem = include_str!("../../../integration/vectors/keys/jwe-rsa.pub.pem");
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

#[test]
fn algorithms_that_we_do_not_know_or_refuse_are_named() {
    let (jwe, _) = sample(Curve::P256);
    for (member, name) in [
        ("alg", "RSA1_5"),
        ("alg", "dir"),
        ("alg", "none"),
        ("alg", "PBES2-HS256+A128KW"),
        ("alg", "A256GCMKW"),
        ("alg", "RSA-OAEP-512"),
        ("alg", "rsa-oaep"),
        ("enc", "A256CTR"),
        ("enc", "none"),
    ] {
        let error = only(&with_header(&jwe, |header| header[member] = name.into())).unwrap_err();
        assert_eq!(
            error,
            Error::UnknownAlgorithm {
                member: if member == "alg" { "alg" } else { "enc" },
                name: name.to_owned()
            }
        );
    }
}

#[test]
fn another_algorithm_of_ours_does_not_open_it() {
    let (jwe, key) = sample(Curve::P256);
    let opened = |jwe: &[u8]| {
        let recipient = only(jwe)?;
        recipient.open(&ecdh_answer(&recipient.operation, &key))
    };
    for alg in ["ECDH-ES+A128KW", "ECDH-ES+A192KW"] {
        let bad = with_header(&jwe, |header| header["alg"] = alg.into());
        assert_eq!(opened(&bad), Err(Error::NotAuthentic), "{alg}");
    }
    for enc in ["A128GCM", "A192GCM", "A128CBC-HS256", "A256CBC-HS512"] {
        let bad = with_header(&jwe, |header| header["enc"] = enc.into());
        assert!(opened(&bad).is_err(), "{enc}");
    }
    for alg in ["ECDH-ES", "RSA-OAEP"] {
        let bad = with_header(&jwe, |header| header["alg"] = alg.into());
        assert!(matches!(only(&bad), Err(Error::Malformed { .. })), "{alg}");
    }
}

#[test]
fn what_may_not_be_ignored_is_refused() {
    let (jwe, _) = sample(Curve::P256);
    for (member, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("crit", json!("x")),
        ("zip", json!("DEF")),
        ("p2c", json!(2_000_000_000)),
        ("p2s", json!("AAAA")),
        ("b64", json!(false)),
    ] {
        let bad = with_header(&jwe, |header| header[member] = value.clone());
        assert!(
            matches!(only(&bad), Err(Error::UnknownMember { .. })),
            "{member}"
        );
    }
    let mut outside = jwe.clone();
    outside["header"] = json!({ "crit": ["exp"] });
    assert!(only(outside.to_string().as_bytes()).is_err());
    // What has no meaning here is ignored, as RFC 7516, section 4 says.
    assert!(only(&with_header(&jwe, |header| header["kid"] = "a".into())).is_ok());
}

#[test]
fn a_member_that_stands_twice_is_refused() {
    let (jwe, _) = sample(Curve::P256);
    let header = protected(&jwe).to_string();
    let double = [
        header.replacen('{', r#"{"alg":"ECDH-ES+A256KW","#, 1),
        header.replacen('{', r#"{"kid":1,"kid":2,"#, 1),
        header.replacen(r#""kty""#, r#""kty":"EC","kty""#, 1),
    ];
    for header in double {
        let mut bad = jwe.clone();
        bad["protected"] = URL_SAFE_NO_PAD.encode(&header).into();
        let error = only(bad.to_string().as_bytes()).unwrap_err();
        assert!(matches!(error, Error::Duplicate { .. }), "{header} {error}");
    }
    let text = jwe.to_string().replacen('{', r#"{"tag":"AAAA","#, 1);
    let error = only(text.as_bytes()).unwrap_err();
    assert_eq!(
        error,
        Error::Duplicate {
            member: "tag".to_owned()
        }
    );
    for place in ["unprotected", "header"] {
        let mut bad = jwe.clone();
        bad[place] = json!({ "alg": "ECDH-ES+A256KW" });
        let error = only(bad.to_string().as_bytes()).unwrap_err();
        assert_eq!(
            error,
            Error::Duplicate {
                member: "alg".to_owned()
            }
        );
    }
}

#[test]
fn headers_of_all_three_places_count() {
    let (jwe, key) = sample(Curve::P384);
    let header = protected(&jwe);
    let mut spread = jwe.clone();
    spread.as_object_mut().unwrap().remove("protected");
    spread["unprotected"] = json!({ "alg": header["alg"] });
    spread["header"] = json!({ "enc": header["enc"], "epk": header["epk"] });
    let recipient = only(spread.to_string().as_bytes()).unwrap();
    // All the same, the content was sealed with the protected header beside it.
    let answer = ecdh_answer(&recipient.operation, &key);
    assert_eq!(recipient.open(&answer), Err(Error::NotAuthentic));
}

#[test]
fn an_ephemeral_key_that_is_no_point_of_the_curve_never_reaches_a_key() {
    let (jwe, _) = sample(Curve::P256);
    let epk = protected(&jwe)["epk"].clone();
    let coordinate = |len: usize, octet: u8| Json::from(URL_SAFE_NO_PAD.encode(vec![octet; len]));
    let (other, _) = sample(Curve::P384);
    let other = protected(&other)["epk"].clone();
    let change = |name: &str, value: Json| {
        let mut key = epk.clone();
        key[name] = value;
        key
    };
    let mut renamed = other.clone();
    renamed["crv"] = "P-256".into();
    let zero =
        json!({ "kty": "EC", "crv": "P-256", "x": coordinate(32, 0), "y": coordinate(32, 0) });
    for (bad, what) in [
        (change("x", epk["y"].clone()), "off the curve"),
        (change("y", coordinate(32, 0xff)), "not a field element"),
        (change("y", coordinate(31, 1)), "short"),
        (change("y", coordinate(33, 0)), "long"),
        (change("y", "".into()), "compressed"),
        (zero, "infinity"),
        (renamed, "other curve"),
        (change("crv", "P-521".into()), "other curve"),
    ] {
        let error = only(&with_header(&jwe, |header| header["epk"] = bad.clone())).unwrap_err();
        assert!(matches!(error, Error::BadPoint { .. }), "{what}: {error}");
    }
    for (bad, what) in [
        (change("crv", "secp256k1".into()), "curve"),
        (change("crv", "X25519".into()), "curve"),
        (change("kty", "OKP".into()), "kind"),
        (change("d", coordinate(32, 1)), "private"),
        (change("x", "+/==".into()), "base64"),
        (Json::from("x"), "no object"),
        (Json::Null, "null"),
    ] {
        assert!(
            only(&with_header(&jwe, |header| header["epk"] = bad.clone())).is_err(),
            "{what}"
        );
    }
    let without = with_header(&jwe, |header| {
        header.as_object_mut().unwrap().remove("epk");
    });
    assert!(only(&without).is_err());
}

#[test]
fn every_altered_part_is_one_verdict() {
    let (jwe, key) = sample(Curve::P256);
    for name in ["iv", "ciphertext", "tag", "encrypted_key"] {
        let mut octets = base64url(jwe[name].as_str().unwrap()).unwrap();
        octets[0] ^= 1;
        let mut bad = jwe.clone();
        bad[name] = URL_SAFE_NO_PAD.encode(&octets).into();
        let recipient = only(bad.to_string().as_bytes()).unwrap();
        let opened = recipient.open(&ecdh_answer(&recipient.operation, &key));
        assert_eq!(opened, Err(Error::NotAuthentic), "{name}");

        octets.pop();
        bad[name] = URL_SAFE_NO_PAD.encode(&octets).into();
        let shorter = only(bad.to_string().as_bytes());
        if name != "ciphertext" {
            assert!(matches!(shorter, Err(Error::Malformed { .. })), "{name}");
        }
        bad[name] = format!("{}=", jwe[name].as_str().unwrap()).into();
        assert!(
            only(bad.to_string().as_bytes()).is_err(),
            "{name} with padding"
        );
        bad[name] = 1.into();
        assert!(
            only(bad.to_string().as_bytes()).is_err(),
            "{name} as a number"
        );
    }
    // Parties go into the agreement.
    let bad = with_header(&jwe, |header| header["apu"] = "QWxpY2U".into());
    let recipient = only(&bad).unwrap();
    let opened = recipient.open(&ecdh_answer(&recipient.operation, &key));
    assert_eq!(opened, Err(Error::NotAuthentic));
    // An answer of any other length is no more than a wrong one.
    let recipient = only(jwe.to_string().as_bytes()).unwrap();
    for len in [0, 1, 31, 33, 64] {
        let answer = SecretBytes::new(vec![1; len]);
        assert_eq!(recipient.open(&answer), Err(Error::NotAuthentic));
    }
}

#[test]
fn recipients_have_a_bound_and_one_of_them_hides_no_other() {
    let (jwe, key) = sample(Curve::P256);
    let header = protected(&jwe);
    let general = |count: usize, bad: Json| {
        let own = json!({
            "header": { "alg": header["alg"], "epk": header["epk"] },
            "encrypted_key": jwe["encrypted_key"],
        });
        let mut recipients = vec![bad; count - 1];
        recipients.push(own);
        json!({
            "protected": URL_SAFE_NO_PAD.encode(json!({ "enc": "A256GCM" }).to_string()),
            "recipients": recipients,
            "iv": jwe["iv"], "ciphertext": jwe["ciphertext"], "tag": jwe["tag"],
        })
        .to_string()
    };
    let error = parse(general(300, json!({})).as_bytes()).unwrap_err();
    assert_eq!(error, Error::TooManyRecipients { limit: 256 });
    for bad in [
        json!({}),
        json!({ "header": { "alg": "X" } }),
        json!({ "header": 1 }),
    ] {
        let recipients = parse(general(256, bad).as_bytes()).unwrap();
        assert_eq!(recipients.iter().filter(|one| one.is_ok()).count(), 1);
        let own = recipients.last().unwrap().as_ref().unwrap();
        // Its content has another header beside it, so it opens no more than this far.
        let answer = ecdh_answer(&own.operation, &key);
        assert_eq!(own.open(&answer), Err(Error::NotAuthentic));
    }
    let direct = json!({ "header": { "alg": "ECDH-ES", "epk": header["epk"] } });
    let recipients = parse(general(2, direct).as_bytes()).unwrap();
    assert!(recipients[0].is_err() && recipients[1].is_ok());
    for bad in [
        r#"{"recipients":[]}"#,
        r#"{"recipients":[1]}"#,
        r#"{"recipients":{}}"#,
        "{}",
        "[]",
        "{",
    ] {
        let read = parse(bad.as_bytes());
        assert!(
            read.is_err() || read.is_ok_and(|all| all.iter().all(Result::is_err)),
            "{bad}"
        );
    }
}

#[test]
fn deep_json_is_an_error_and_no_overflow() {
    let deep = format!("{{\"a\":{}", "[".repeat(500_000));
    assert!(matches!(
        parse(deep.as_bytes()),
        Err(Error::Malformed { .. })
    ));
}

#[test]
fn a_name_from_outside_is_shown_escaped_and_short() {
    let (jwe, _) = sample(Curve::P256);
    let name = "\u{1b}[2J".repeat(1000);
    let bad = with_header(&jwe, |header| header["alg"] = name.clone().into());
    let error = only(&bad).unwrap_err().to_string();
    assert!(!error.contains('\u{1b}') && error.len() < 300, "{error}");
}
