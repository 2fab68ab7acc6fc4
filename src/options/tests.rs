use super::*;

fn private() -> PrivateOptions {
    PrivateOptions {
        key: LayerKey::new([7; 32]),
        digest: Some(format!("sha256:{}", "ab".repeat(32))),
        cipher_options: BTreeMap::from([(NONCE.to_owned(), vec![9; 16])]),
    }
}

#[test]
fn private_options_have_the_lengths_that_the_format_states() {
    let mut options = private();
    assert_eq!(options.to_json().expose().len(), 193);
    options.digest = None;
    assert!(options.to_json().expose().len() <= 110);
}

#[test]
fn private_options_survive_a_round_trip() {
    let back = PrivateOptions::parse(&private().to_json()).unwrap();
    assert_eq!(back.key, private().key);
    assert_eq!(back.digest, private().digest);
    assert_eq!(back.cipher_options, private().cipher_options);
}

#[test]
fn null_cipher_options_and_unknown_fields_are_fine() {
    let json =
        br#"{"cipher":"AES_256_CTR_HMAC_SHA256","hmac":"AAEC","cipheroptions":null,"more":1}"#;
    let options = PublicOptions::parse(json).unwrap();
    assert_eq!(options.cipher().unwrap(), CipherName::Aes256CtrHmacSha256);
    assert_eq!(options.hmac.as_deref(), Some(&[0, 1, 2][..]));
}

#[test]
fn gcm_options_have_a_null_hmac() {
    let options = PublicOptions {
        cipher_name: CipherName::Aes256GcmStream.to_string(),
        hmac: None,
        cipher_options: BTreeMap::new(),
    };
    assert_eq!(
        options.to_json(),
        br#"{"cipher":"AES_256_GCM_STREAM","hmac":null,"cipheroptions":{}}"#
    );
}

#[test]
fn broken_private_options_are_not_quoted() {
    let secret = SecretBytes::new(br#"{"symkey":"c2VjcmV0"}"#.to_vec());
    let error = PrivateOptions::parse(&secret).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("c2Vj"));
}

fn public(options: &str) -> PublicOptions {
    let json = format!(r#"{{"cipher":"AES_256_CTR_HMAC_SHA256","hmac":"AAEC",{options}}}"#);
    PublicOptions::parse(json.as_bytes()).unwrap()
}

#[test]
fn a_public_option_chooses_nothing() {
    let nonce = STANDARD.encode([9; 16]);
    let same = public(&format!(r#""cipheroptions":{{"nonce":"{nonce}"}}"#));
    assert_eq!(same.cipher_options(&private()).unwrap()[NONCE], [9; 16]);
    for other in [
        r#""cipheroptions":{"nonce":"AAAAAAAAAAAAAAAAAAAAAA=="}"#,
        r#""CipherOptions":{"nonce":"AAAAAAAAAAAAAAAAAAAAAA=="}"#,
        r#""cipheroption\u017f":{"nonce":""}"#,
        r#""cipheroptions":{"nonce":null}"#,
    ] {
        let error = public(other).cipher_options(&private()).unwrap_err();
        assert!(
            matches!(error, Error::Contradiction { .. }),
            "{other}: {error}"
        );
    }
    let mut without = private();
    without.cipher_options.clear();
    for alone in [
        r#""cipheroptions":{"Nonce":"AAAAAAAAAAAAAAAAAAAAAA=="}"#,
        r#""cipheroptions":{"segment":"AA=="}"#,
    ] {
        for private in [&private(), &without] {
            let error = public(alone).cipher_options(private).unwrap_err();
            assert!(
                matches!(error, Error::Unprotected { .. }),
                "{alone}: {error}"
            );
        }
    }
    assert!(same.cipher_options(&without).is_err());
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    for json in [
        r#"{"cipher":"AES_256_CTR_HMAC_SHA256","Cipher":"AES_256_GCM_STREAM"}"#,
        r#"{"hmac":"AA==","HMAC":"AQ=="}"#,
        r#"{"cipheroptions":{"nonce":"AA==","nonce":"AQ=="}}"#,
        r#"{"cipheroptions":{},"cipheroptions":null}"#,
        r#"{"cipher":"AES_256_GCM_STREAM"}{}"#,
        r#"{"cipher":"AES_256_GCM_STREAM"}x"#,
        r#"{"hmac":"AB=="}"#,
        r#"{"hmac":"AA"}"#,
        r#"{"hmac":[0]}"#,
    ] {
        assert!(PublicOptions::parse(json.as_bytes()).is_err(), "{json}");
    }
    let key = STANDARD.encode([7; 32]);
    for json in [
        format!(r#"{{"symkey":"{key}","SymKey":"{key}"}}"#),
        format!(r#"{{"symkey":"{key}"}}x"#),
        format!(r#"{{"symkey":"{}"}}"#, STANDARD.encode([7; 33])),
        r#"{"symkey":null}"#.to_owned(),
        "{}".to_owned(),
    ] {
        let json = SecretBytes::new(json.into_bytes());
        assert!(PrivateOptions::parse(&json).is_err());
    }
    let json = SecretBytes::new(format!(r#"{{"SYMKEY":"{key}"}}"#).into_bytes());
    assert_eq!(PrivateOptions::parse(&json).unwrap().key, private().key);
}
