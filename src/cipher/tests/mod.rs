//! The ciphers as their callers see them: streams in, streams out, and what did not leave.

mod ctr_hmac;
mod gcm_stream;
mod streams;

use super::*;

const CTR: CipherName = CipherName::Aes256CtrHmacSha256;
const GCM: CipherName = CipherName::Aes256GcmStream;
const BOTH: [CipherName; 2] = [CTR, GCM];

/// Bytes that never repeat at a border of anything (xorshift64*).
fn layer(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ len as u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn seal(cipher: CipherName, plain: &[u8]) -> (Sealed, Vec<u8>) {
    let mut blob = Vec::new();
    let sealed = encrypt(cipher, plain, &mut blob).unwrap();
    (sealed, blob)
}

fn parameters(sealed: &Sealed) -> Parameters {
    Parameters::new(&sealed.public_options, &sealed.private_options).unwrap()
}

/// Decrypts; returns also what was written, whether it succeeded or not.
fn open(parameters: &Parameters, blob: &[u8]) -> (Result<Opened, Failed>, Vec<u8>) {
    let mut written = Vec::new();
    let result = decrypt(parameters, blob, &mut written, None);
    (result, written)
}

/// Decrypts what must fail verification; returns what was written before.
#[track_caller]
fn open_refused(parameters: &Parameters, blob: &[u8]) -> Vec<u8> {
    let (result, written) = open(parameters, blob);
    let failed = result.unwrap_err();
    assert!(
        matches!(failed.error, Error::Verification),
        "{:?}",
        failed.error
    );
    assert_eq!(failed.written, written.len() as u64);
    assert!(matches!(
        verify(parameters, blob, None),
        Err(Error::Verification)
    ));
    written
}

/// Lengths around every border: blocks, segments, buffers, the first two buffers, all buffers.
fn lengths() -> impl Iterator<Item = usize> {
    const SEGMENT: usize = 65_536;
    const BUFFER: usize = 524_288;
    let around = [SEGMENT, 2 * SEGMENT, BUFFER, 2 * BUFFER];
    [0, 1, 15, 16, 17, 63, 64, 10_240]
        .into_iter()
        .chain(around.into_iter().flat_map(|n| [n - 1, n, n + 1]))
        .chain([BUFFER + 128, pipeline::BUFFERS * BUFFER + 1])
}

#[test]
fn what_was_encrypted_comes_back() {
    for cipher in BOTH {
        for len in lengths() {
            let plain = layer(len);
            let (sealed, blob) = seal(cipher, &plain);
            let blob_len = blob.len() as u64;
            assert_eq!((sealed.plain_len, sealed.blob_len), (len as u64, blob_len));
            assert_eq!(sealed.plain_digest, digest(&plain));
            assert_eq!(sealed.blob_digest, digest(&blob));
            assert_eq!(
                sealed.private_options.digest.as_deref(),
                Some(sealed.plain_digest.as_str())
            );

            let mut back = Vec::new();
            let parameters = parameters(&sealed);
            let opened = decrypt(&parameters, &blob[..], &mut back, Some(blob_len)).unwrap();
            assert_eq!((opened.plain_len, opened.blob_len), (len as u64, blob_len));
            assert!(back == plain, "{cipher} {len}");
            verify(&parameters, &blob[..], None).unwrap();

            let mut back = Vec::new();
            let (again, digest) =
                decrypt_and_digest(&parameters, &blob[..], &mut back, None).unwrap();
            assert_eq!((again, digest), (opened, sealed.plain_digest));
            assert!(back == plain, "{cipher} {len}");
        }
    }
}

#[test]
fn copy_is_the_same_and_knows_its_digest() {
    for len in lengths() {
        let plain = layer(len);
        let mut written = Vec::new();
        assert_eq!(copy(&plain[..], &mut written).unwrap(), digest(&plain));
        assert!(written == plain, "{len}");
    }
}

#[test]
fn options_survive_their_json() {
    for cipher in BOTH {
        let (sealed, blob) = seal(cipher, b"layer");
        let public = PublicOptions::parse(&sealed.public_options.to_json()).unwrap();
        let private = PrivateOptions::parse(&sealed.private_options.to_json()).unwrap();
        let (result, written) = open(&Parameters::new(&public, &private).unwrap(), &blob);
        result.unwrap();
        assert_eq!(written, b"layer");
    }
}

#[test]
fn every_layer_has_a_key_and_a_nonce_of_its_own() {
    for cipher in BOTH {
        let [one, two] = [seal(cipher, b"same"), seal(cipher, b"same")];
        assert_ne!(one.0.private_options.key, two.0.private_options.key);
        assert_ne!(
            one.0.private_options.cipher_options,
            two.0.private_options.cipher_options
        );
        assert_ne!(one.1, two.1);
    }
}

#[test]
fn wrong_key() {
    for cipher in BOTH {
        for len in [0, 1, 100_000, 2_000_000] {
            let (sealed, blob) = seal(cipher, &layer(len));
            let Sealed {
                public_options: public,
                private_options: mut private,
                ..
            } = sealed;
            private.key = LayerKey::new([7; 32]);
            let written = open_refused(&Parameters::new(&public, &private).unwrap(), &blob);
            assert!(cipher == CTR || written.is_empty());
        }
    }
}

#[test]
fn wrong_length_is_found_beside_the_mac() {
    for cipher in BOTH {
        let (sealed, blob) = seal(cipher, &layer(3_000_000));
        for (expected, most) in [
            (0, 0),
            (blob.len() - 1, 2_500_000),
            (blob.len() + 1, 2_500_000),
        ] {
            let mut written = Vec::new();
            let failed = decrypt(
                &parameters(&sealed),
                &blob[..],
                &mut written,
                Some(expected as u64),
            )
            .unwrap_err();
            assert!(matches!(failed.error, Error::WrongLength { .. }));
            assert_eq!(failed.written, written.len() as u64);
            assert!(written.len() <= most, "{}", written.len());
        }
    }
}

#[test]
fn nothing_leaves_of_a_layer_that_is_verified_whole() {
    for cipher in BOTH {
        let overhead = seal(cipher, &layer(1 << 20)).1.len() - (1 << 20);
        let whole = usize::try_from(VERIFIED_WHOLE).unwrap() - overhead;
        for (len, leaves) in [(whole, false), (whole + (1 << 20), true)] {
            let (sealed, mut blob) = seal(cipher, &layer(len));
            *blob.last_mut().unwrap() ^= 1;
            let (result, written) = open(&parameters(&sealed), &blob);
            assert!(result.is_err());
            assert_eq!(!written.is_empty(), leaves, "{cipher} {len}");
        }
    }
}

#[test]
fn unknown_cipher() {
    let (mut sealed, _) = seal(CTR, b"");
    sealed.public_options.cipher_name = "AES_512_SUPER".to_owned();
    let error = Parameters::new(&sealed.public_options, &sealed.private_options).unwrap_err();
    assert!(error.to_string().contains("AES_512_SUPER"), "{error}");
}

#[test]
fn parameters_show_no_key() {
    for cipher in BOTH {
        let (mut sealed, _) = seal(cipher, b"");
        sealed.private_options.key = LayerKey::new([0x41; 32]);
        let shown = format!("{:?} {sealed:?}", parameters(&sealed));
        assert!(!shown.contains("65, 65"), "{shown}");
    }
}

/// Bytes from their hexadecimal text.
fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn digest(bytes: &[u8]) -> Digest {
    use sha2::Digest as _;
    Digest::from_sha256(&sha2::Sha256::digest(bytes).into())
}
