//! What was altered or made to harm: one verdict, and bounds.

use super::*;

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
