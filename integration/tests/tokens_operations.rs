//! Each private-key operation, on a token: held against what OpenSSL makes of the same.

use std::fs;
use std::path::{Path, PathBuf};

use integration::module::{is_since, library};
use integration::program::Program;
use integration::skip;
use integration::token::{PIN, SOFTHSM, Token};
use integration::unruly::Unruly;
use integration::unwrapping::{Unwrapping, wrap};
use ocihsm::operation::OaepHash;
use ocihsm::operation::{Curve, KeyOperation};
use serde_json::Value;

/// A token behind the counting module.
struct Stage {
    token: Token,
    unruly: Unruly,
}

impl Stage {
    fn new() -> Self {
        Self {
            token: Token::new("operations"),
            unruly: Unruly::new(),
        }
    }

    fn unwrapping(&self, key: &str, more: &[(&str, &str)]) -> Unwrapping {
        let more = more
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let configuration = self.token.configuration().display().to_string();
        let env = self.unruly.env(Path::new(SOFTHSM)).into_iter();
        Unwrapping::new()
            .env(
                env.chain([("SOFTHSM2_CONF".to_owned(), configuration)])
                    .chain(more),
            )
            .key(
                &format!("{}?pin-value={PIN}", self.token.uri(key)),
                &self.unruly.module(),
            )
    }

    fn file(&self, name: &str) -> PathBuf {
        self.token.path().join(name)
    }

    /// A pair on a curve, made by OpenSSL and written to the token; its public half.
    fn ec_pair(&self, group: &str) -> PathBuf {
        let (private, public) = (self.file("own.pem"), self.file("own.pub.pem"));
        Program::new("openssl")
            .args(["genpkey", "-algorithm", "EC", "-pkeyopt"])
            .arg(format!("ec_paramgen_curve:{group}"))
            .arg("-out")
            .arg(&private)
            .ok();
        Program::new("openssl")
            .args(["pkey", "-pubout", "-in"])
            .arg(&private)
            .arg("-out")
            .arg(&public)
            .ok();
        Program::new("pkcs11-tool")
            .env("SOFTHSM2_CONF", self.token.configuration())
            .args(["--module", SOFTHSM, "--login", "--pin", PIN])
            .arg("--write-object")
            .arg(&private)
            .args(["--type", "privkey", "--label", group, "--id", "01"])
            .arg("--usage-derive")
            .ok();
        public
    }

    /// Another party's key, the point of its public half, and the secret that it shares with the token's key.
    fn peer(&self, group: &str, public: &Path) -> (Vec<u8>, Vec<u8>) {
        let (private, der) = (self.file("peer.pem"), self.file("peer.der"));
        Program::new("openssl")
            .args(["genpkey", "-algorithm", "EC", "-pkeyopt"])
            .arg(format!("ec_paramgen_curve:{group}"))
            .arg("-out")
            .arg(&private)
            .ok();
        Program::new("openssl")
            .args(["pkey", "-pubout", "-outform", "DER", "-in"])
            .arg(&private)
            .arg("-out")
            .arg(&der)
            .ok();
        let secret = Program::new("openssl")
            .args(["pkeyutl", "-derive", "-inkey"])
            .arg(&private)
            .arg("-peerkey")
            .arg(public)
            .ok();
        let der = fs::read(der).unwrap();
        let length = 1 + 2 * secret.stdout.len();
        (der[der.len() - length..].to_vec(), secret.stdout)
    }

    /// PKCS#1 v1.5, by OpenSSL.
    fn pkcs1(&self, public: &Path, message: &[u8]) -> Vec<u8> {
        Program::new("openssl")
            .args(["pkeyutl", "-encrypt", "-pubin", "-inkey"])
            .arg(public)
            .args(["-pkeyopt", "rsa_padding_mode:pkcs1"])
            .stdin(message)
            .ok()
            .stdout
    }
}

fn bytes(answer: &Value) -> Vec<u8> {
    let bytes = answer["opened"].as_array();
    let bytes = bytes.unwrap_or_else(|| panic!("{answer}")).iter();
    bytes.map(|byte| byte.as_u64().unwrap() as u8).collect()
}

#[test]
fn ecdh_gives_what_openssl_gives_on_each_curve() {
    let stage = Stage::new();
    for (curve, group) in [
        (Curve::P256, "P-256"),
        (Curve::P384, "P-384"),
        (Curve::P521, "P-521"),
    ] {
        let public = stage.ec_pair(group);
        let (point, secret) = stage.peer(group, &public);
        let _ = stage.unruly.calls();
        let operation = KeyOperation::Ecdh { curve, point };
        let answer = stage
            .unwrapping(group, &[])
            .operate(&[(0, operation.clone())]);
        let answer = &answer.answers()[0];
        assert_eq!(bytes(answer), secret, "{answer}");
        assert_eq!(answer["kind"], format!("Ec({curve:?})"));
        let calls = stage.unruly.calls();
        let count = |name| calls.iter().filter(|call| *call == name).count();
        assert_eq!((count("C_DeriveKey"), count("C_DestroyObject")), (1, 1));

        // tpm2-pkcs11 derives in a session that may write alone.
        let answer = stage
            .unwrapping(group, &[("UNRULY_FAULTS", "C_DeriveKey=0xB5*1")])
            .operate(&[(0, operation.clone())]);
        assert_eq!(bytes(&answer.answers()[0]), secret, "{answer:?}");
        // A device that failed just now.
        let answer = stage
            .unwrapping(group, &[("UNRULY_FAULTS", "C_DeriveKey=0x30*1")])
            .operate(&[(0, operation.clone())]);
        assert_eq!(bytes(&answer.answers()[0]), secret, "{answer:?}");
        // What a token under FIPS 140 says to a readable secret.
        let answer = stage
            .unwrapping(group, &[("UNRULY_FAULTS", "C_DeriveKey=0x13")])
            .operate(&[(0, operation)]);
        let error = &answer.answers()[0]["error"];
        assert_eq!(*error, "token \"operations\" refuses a readable secret");
    }
}

#[test]
fn a_point_of_another_curve_is_not_sent() {
    let stage = Stage::new();
    let _ = stage.ec_pair("P-256");
    let operation = KeyOperation::Ecdh {
        curve: Curve::P384,
        point: vec![4; 97],
    };
    let answer = stage.unwrapping("P-256", &[]).operate(&[(0, operation)]);
    assert_eq!(answer.answers()[0]["refused"], "is of another kind or size");
    assert_eq!(stage.unruly.count("C_DeriveKey"), 0);
}

#[test]
fn pkcs1_opens_what_openssl_wrapped_and_gives_no_oracle() {
    let stage = Stage::new();
    let public = stage.token.generate("key", 1, 2048);
    let message = [0x5a; 32];
    let right = stage.pkcs1(&public, &message);
    let of_another_length = stage.pkcs1(&public, &message[..16]);
    let mut flipped = right.clone();
    flipped[77] ^= 1;
    let operation = |ciphertext: &[u8]| {
        let operation = KeyOperation::RsaPkcs1 {
            length: 32,
            ciphertext: ciphertext.to_vec(),
        };
        (0, operation)
    };
    let answer = stage.unwrapping("key", &[]).operate(&[
        operation(&right),
        operation(&flipped),
        operation(&flipped),
        operation(&of_another_length),
        operation(&[0xff; 256]),
        operation(&right),
    ]);
    let answers: Vec<_> = answer.answers().iter().map(bytes).collect();
    assert_eq!(
        (&answers[0], &answers[5]),
        (&message.to_vec(), &message.to_vec())
    );
    for wrong in &answers[1..5] {
        assert_eq!(wrong.len(), 32);
        assert_ne!(wrong, &message);
    }
    // Random ones, and the same calls for each.
    assert_ne!(answers[1], answers[2]);
    let calls = stage.unruly.calls().join(" ");
    let each = "C_DecryptInit C_Decrypt C_OpenSession C_CloseSession";
    assert_eq!(calls.matches(each).count(), 5, "{calls}");
    assert_eq!(calls.matches("C_Decrypt ").count(), 6, "{calls}");
}

#[test]
fn a_key_that_always_authenticates_has_a_login_for_each_operation() {
    let stage = Stage::new();
    let public = stage.token.generate_with(
        "key",
        "rsa:2048",
        &["--usage-decrypt", "--id", "01", "--always-auth"],
    );
    let blob = wrap(&public, OaepHash::Sha1);
    let unwrapping = stage
        .unwrapping("key", &[])
        .envelope(std::slice::from_ref(&blob))
        .envelope(std::slice::from_ref(&blob));
    let answer = unwrapping.run();
    assert_eq!(
        answer.opened(),
        [Some("Native"), Some("Native")],
        "{answer:?}"
    );
    // The user's, and one for each.
    assert_eq!(stage.unruly.count("C_Login"), 3);

    // Modules that know no such user, or say that somebody is logged in, do without.
    for code in ["0x103", "0x100"] {
        let answer = stage
            .unwrapping("key", &[("UNRULY_FAULTS", &format!("C_Login={code}@2"))])
            .envelope(std::slice::from_ref(&blob))
            .run();
        // This one does not.
        assert!(
            answer.refusals()[0].contains("(C_Decrypt: CKR_USER_NOT_LOGGED_IN)"),
            "{answer:?}"
        );
    }
}

#[test]
fn a_pin_that_is_rejected_at_an_operation_is_tried_no_second_time() {
    let stage = Stage::new();
    let public = stage.token.generate_with(
        "key",
        "rsa:2048",
        &["--usage-decrypt", "--id", "01", "--always-auth"],
    );
    let blobs = [OaepHash::Sha1, OaepHash::Sha1].map(|hash| wrap(&public, hash));
    let unwrapping = stage
        .unwrapping("key", &[("UNRULY_FAULTS", "C_Login=0xA0@2")])
        .envelope(&blobs);
    let answer = unwrapping.run();
    assert!(
        answer.error().contains("(C_Login: CKR_PIN_INCORRECT)"),
        "{answer:?}"
    );
    assert_eq!(stage.unruly.count("C_Login"), 2);
    let answer = unwrapping.run();
    assert!(answer.error().contains("was rejected before"), "{answer:?}");
    assert_eq!(stage.unruly.count("C_Login"), 0);
}

#[test]
fn a_key_that_may_only_unwrap_opens_a_layer() {
    let stage = Stage::new();
    let public = stage
        .token
        .generate_with("key", "rsa:2048", &["--usage-wrap", "--id", "01"]);
    let run = |more: &[(&str, &str)], hash| {
        let unwrapping = stage.unwrapping("key", more);
        unwrapping.envelope(&[wrap(&public, hash)]).run()
    };
    // KEY_FUNCTION_NOT_PERMITTED, and an attribute that says so before.
    let refused = ("UNRULY_FAULTS", "C_DecryptInit=0x68");
    let told = ("UNRULY_NO_DECRYPT", "1");
    for (more, attempts) in [(refused, 1), (told, 0)] {
        let answer = run(&[more], OaepHash::Sha1);
        assert_eq!(answer.opened(), [Some("Native")], "{answer:?}");
        let calls = stage.unruly.calls();
        let count = |name| calls.iter().filter(|call| *call == name).count();
        assert_eq!((count("C_UnwrapKey"), count("C_DestroyObject")), (1, 1));
        assert_eq!(count("C_DecryptInit"), attempts);
    }

    // openCryptoki refuses to be told what it sets by itself; SoftHSM shows nothing then.
    let answer = run(
        &[told, ("UNRULY_FAULTS", "C_UnwrapKey=0x10*1")],
        OaepHash::Sha1,
    );
    assert!(
        answer
            .error()
            .ends_with("token \"operations\" refuses a readable secret"),
        "{answer:?}"
    );
    // SoftHSM does no other hash, and raw RSA is no way round.
    let answer = run(&[told], OaepHash::Sha256);
    assert!(
        answer.refusals()[0].contains("(C_UnwrapKey: CKR_ARGUMENTS_BAD)"),
        "{answer:?}"
    );
}

#[test]
fn nss_is_initialized_with_the_string_of_the_key_file() {
    if !skip::programs(&["certutil"]) {
        return;
    }
    let Some(module) = &library("libsoftokn3.so") else {
        return skip::skipped("libsoftokn3.so is not installed");
    };
    let directory = tempfile::tempdir().unwrap();
    let (database, pin) = (directory.path().join("db"), directory.path().join("pin"));
    fs::create_dir(&database).unwrap();
    fs::write(&pin, PIN).unwrap();
    Program::new("certutil")
        .args(["-N", "-d"])
        .arg(format!("sql:{}", database.display()))
        .arg("-f")
        .arg(&pin)
        .ok();
    let init = format!(
        "configdir='sql:{}' certPrefix='' keyPrefix='' secmod='secmod.db' flags= dbTokenDescription='nss-keys'",
        database.display()
    );
    let uri = format!("pkcs11:token=nss-keys;object=layers?pin-value={PIN}");
    let unwrapping = || Unwrapping::new().init(&init).key(&uri, module);
    let answer = unwrapping().generate("layers");
    let public = directory.path().join("public.pem");
    fs::write(
        &public,
        answer.pem().unwrap_or_else(|| panic!("{answer:?}")),
    )
    .unwrap();
    for hash in [OaepHash::Sha1, OaepHash::Sha256] {
        let answer = unwrapping().envelope(&[wrap(&public, hash)]).run();
        assert_eq!(answer.opened(), [Some("Native")], "{answer:?}");
    }

    let without = Unwrapping::new()
        .key(&uri, module)
        .envelope(&[wrap(&public, OaepHash::Sha1)])
        .run();
    // Debian 13's NSS starts without it as well, and has no token then.
    if is_since("libnss3", "2:3.110") {
        let refusals = without.refusals();
        return assert!(refusals[0].contains("no token matches"), "{without:?}");
    }
    assert!(
        without
            .error()
            .ends_with("(C_Initialize: CKR_ARGUMENTS_BAD)")
            && without.output.stderr.contains("module.init"),
        "{without:?}"
    );
}
