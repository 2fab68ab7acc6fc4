//! Members of the headers: unknown, refused, twice, in each place.

use super::*;

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
fn a_name_from_outside_is_shown_escaped_and_short() {
    let (jwe, _) = sample(Curve::P256);
    let name = "\u{1b}[2J".repeat(1000);
    let bad = with_header(&jwe, |header| header["alg"] = name.clone().into());
    let error = only(&bad).unwrap_err().to_string();
    assert!(!error.contains('\u{1b}') && error.len() < 300, "{error}");
}
