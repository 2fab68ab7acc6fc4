//! `AES_256_CTR_HMAC_SHA256`: known answers, and every way a layer can be damaged.

use std::collections::BTreeMap;

use super::*;

/// Key of NIST SP 800-38A, F.5.5.
const KEY: &str = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";

fn known(nonce: &str, mac: &str) -> Parameters {
    let public = PublicOptions {
        cipher_name: CTR.to_string(),
        hmac: Some(bytes(mac)),
        cipher_options: BTreeMap::new(),
    };
    let private = PrivateOptions {
        key: LayerKey::new(bytes(KEY).try_into().unwrap()),
        digest: None,
        cipher_options: BTreeMap::from([(NONCE.to_owned(), bytes(nonce))]),
    };
    Parameters::new(&public, &private).unwrap()
}

#[test]
fn known_answer_of_sp_800_38a() {
    // The MAC is from `openssl dgst -sha256 -mac HMAC`.
    let parameters = known(
        "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
        "c24f1318ee1ab5f6e6468f7bc85f05eafcc5abeb16d46b2955f7c22e32a73161",
    );
    let blob = bytes(concat!(
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5",
        "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
    ));
    let (result, written) = open(&parameters, &blob);
    result.unwrap();
    assert_eq!(
        written,
        bytes(concat!(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51",
            "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
        ))
    );
}

#[test]
fn counter_goes_round_over_all_128_bits() {
    // Both from openssl.
    let parameters = known(
        "ffffffffffffffffffffffffffffffff",
        "c2cf3a9c7bd350d86f4ed681caf3bfa1195de8726a36457407e3c03fdd949532",
    );
    let blob = bytes(concat!(
        "3b3c2921c85a24de9ac606ce6d1d60cce568f68194cf76d6174d4cc04310a854",
        "91151e5d0b7a1f1bc0d7acd0ae3e51e4"
    ));
    let (result, written) = open(&parameters, &blob);
    result.unwrap();
    assert_eq!(written, [0; 48]);
}

#[test]
fn damage_anywhere_keeps_the_end_back() {
    let plain = layer(2_000_000);
    let (sealed, blob) = seal(CTR, &plain);
    let parameters = parameters(&sealed);
    let flipped = |at: usize| {
        let mut blob = blob.clone();
        blob[at] ^= 1;
        blob
    };
    let damaged = [
        flipped(0),
        flipped(1_000_000),
        flipped(blob.len() - 1),
        blob[..blob.len() - 1].to_vec(),
        blob[..1_048_576].to_vec(),
        [&blob[..], &[0]].concat(),
        [&blob[..], &blob[..]].concat(),
        blob[1..].to_vec(),
    ];
    for blob in damaged {
        let written = open_refused(&parameters, &blob);
        // Far more than the 10 KiB that the reference holds back.
        assert!(
            written.len() + 512 * 1024 <= blob.len(),
            "{}",
            written.len()
        );
    }
}

#[test]
fn nothing_of_a_bad_small_layer_leaves() {
    for len in [1, 10_000, 100_000, 524_288, 1_048_576] {
        let (sealed, mut blob) = seal(CTR, &layer(len));
        *blob.last_mut().unwrap() ^= 0x80;
        assert_eq!(open_refused(&parameters(&sealed), &blob), b"");
    }
}

#[test]
fn empty_layer_needs_its_mac_too() {
    let (mut sealed, blob) = seal(CTR, b"");
    assert_eq!(blob, b"");
    let (result, written) = open(&parameters(&sealed), b"");
    assert_eq!(result.unwrap().plain_len, 0);
    assert_eq!(written, b"");

    sealed.public_options.hmac.as_mut().unwrap()[31] ^= 1;
    open_refused(&parameters(&sealed), b"");
}

#[test]
fn empty_in_place_of_a_layer() {
    let (sealed, _) = seal(CTR, b"something");
    assert_eq!(open_refused(&parameters(&sealed), b""), b"");
}

#[test]
fn every_byte_of_the_mac_counts() {
    let (sealed, blob) = seal(CTR, &layer(1000));
    for at in 0..32 {
        let mut public = sealed.public_options.clone();
        public.hmac.as_mut().unwrap()[at] ^= 1;
        let parameters = Parameters::new(&public, &sealed.private_options).unwrap();
        assert_eq!(open_refused(&parameters, &blob), b"");
    }
}

#[test]
fn missing_mac_or_bad_lengths_are_told_before_anything_is_read() {
    let (sealed, _) = seal(CTR, b"x");
    let error = |change: fn(&mut PublicOptions, &mut PrivateOptions)| {
        let mut public = sealed.public_options.clone();
        let mut private = sealed.private_options.clone();
        change(&mut public, &mut private);
        Parameters::new(&public, &private).unwrap_err().to_string()
    };
    assert!(error(|public, _| public.hmac = None).contains("no HMAC"));
    assert!(error(|public, _| public.hmac = Some(vec![0; 31])).contains("32 bytes"));
    assert!(error(|_, private| private.cipher_options.clear()).contains("no nonce"));
    assert!(
        error(|_, private| {
            private.cipher_options.insert(NONCE.to_owned(), vec![0; 12]);
        })
        .contains("16 bytes")
    );
}

#[test]
fn a_public_nonce_gives_no_other_plaintext() {
    let (mut sealed, blob) = seal(CTR, b"layer");
    let public = &mut sealed.public_options.cipher_options;
    public.insert(NONCE.to_owned(), vec![0; 16]);
    // The MAC is over the ciphertext alone, so it would accept any nonce.
    let error = Parameters::new(&sealed.public_options, &sealed.private_options).unwrap_err();
    assert!(error.to_string().contains("contradicts"), "{error}");
    let private = &mut sealed.private_options.cipher_options;
    let nonce = private[NONCE].clone();
    let public = &mut sealed.public_options.cipher_options;
    public.insert(NONCE.to_owned(), nonce);
    let (result, written) = open(&parameters(&sealed), &blob);
    result.unwrap();
    assert_eq!(written, b"layer");
    sealed.private_options.cipher_options.clear();
    let error = Parameters::new(&sealed.public_options, &sealed.private_options).unwrap_err();
    assert!(error.to_string().contains("public alone"), "{error}");
}

#[test]
fn renamed_to_gcm() {
    let (mut sealed, blob) = seal(CTR, &layer(200_000));
    sealed.public_options.cipher_name = GCM.to_string();
    let refused = |sealed: &Sealed| {
        let parameters = Parameters::new(&sealed.public_options, &sealed.private_options);
        parameters.unwrap_err().to_string()
    };
    assert!(refused(&sealed).contains("have an HMAC"));
    sealed.public_options.hmac = None;
    assert!(refused(&sealed).contains("7 bytes"));
    let nonce = BTreeMap::from([(NONCE.to_owned(), vec![0; 7])]);
    sealed.public_options.cipher_options = nonce.clone();
    assert!(refused(&sealed).contains("contradicts"));
    // Nor would it help to have a nonce that fits.
    sealed.private_options.cipher_options = nonce;
    assert_eq!(open_refused(&parameters(&sealed), &blob), b"");
}
