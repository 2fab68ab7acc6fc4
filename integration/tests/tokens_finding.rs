//! Which token and which key a URI means where modules show them in ways of their own.

use std::path::Path;

use integration::program::Program;
use integration::token::{PIN, SOFTHSM, Token};
use integration::unruly::Unruly;
use integration::unwrapping::{Answer, Unwrapping, wrap};
use integration::vector;
use ocihsm::operation::OaepHash;

/// Runs an unwrapping of a blob for `rsa3072` behind the unruly module.
fn run(uri: &str, more: &[(&str, &str)]) -> Answer {
    let (token, unruly) = (Token::vectors(), Unruly::new());
    let configuration = token.configuration().display().to_string();
    let more = more
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let env = unruly.env(Path::new(SOFTHSM));
    Unwrapping::new()
        .env(
            env.into_iter()
                .chain([("SOFTHSM2_CONF".to_owned(), configuration)])
                .chain(more),
        )
        .key(uri, &unruly.module())
        .envelope(&[wrap(&vector("keys/rsa3072.pub.pem"), OaepHash::Sha1)])
        .run()
}

fn assert_opened(uri: &str, more: &[(&str, &str)]) {
    let answer = run(uri, more);
    assert_eq!(answer.opened(), [Some("Native")], "{answer:?}");
}

fn uri() -> String {
    format!("pkcs11:token=ocicrypt-vectors;object=rsa3072?pin-value={PIN}")
}

#[test]
fn a_value_that_a_tool_wrote_with_the_nuls_that_fill_it_matches() {
    assert_opened(
        &format!(
            "pkcs11:token=ocicrypt-vectors%00%00%00;model=SoftHSM%20v2%00;object=rsa3072?pin-value={PIN}"
        ),
        &[],
    );
}

#[test]
fn a_token_that_is_shown_twice_is_one_token() {
    assert_opened(&uri(), &[("UNRULY_TWICE", "1")]);
}

#[test]
fn a_token_that_does_not_say_that_it_is_initialized_is_used_by_its_label() {
    // CKF_TOKEN_INITIALIZED
    let flags = [("UNRULY_NO_FLAGS", "0x400")];
    assert_opened(&uri(), &flags);
    let unnamed = run(
        &format!("pkcs11:slot-id=77;object=rsa3072?pin-value={PIN}"),
        &flags,
    );
    assert!(
        unnamed.refusals()[0].contains("no token matches"),
        "{unnamed:?}"
    );
}

#[test]
fn a_module_that_gives_objects_one_at_a_time_gives_all_of_them() {
    assert_opened(&uri(), &[("UNRULY_ONE", "1")]);
    let token = Token::new("many");
    let unruly = Unruly::new();
    let _ = token.generate("key", 1, 2048);
    let public = token.generate("key", 2, 2048);
    let configuration = token.configuration().display().to_string();
    let env = unruly.env(Path::new(SOFTHSM));
    // The public key that was exported is the first's or the second's; both are tried.
    let answer = Unwrapping::new()
        .env(env.into_iter().chain([
            ("SOFTHSM2_CONF".to_owned(), configuration),
            ("UNRULY_ONE".to_owned(), "1".to_owned()),
        ]))
        .key(
            &format!("pkcs11:token=many;object=key?pin-value={PIN}"),
            &unruly.module(),
        )
        .envelope(&[wrap(&public, OaepHash::Sha1)])
        .run();
    assert_eq!(answer.opened(), [Some("Native")], "{answer:?}");
    assert!(unruly.count("C_FindObjects") >= 3);
}

#[test]
fn two_objects_with_one_modulus_are_one_key() {
    let token = Token::new("doubled");
    let private = token.path().join("private.pem");
    let public = token.path().join("public.pem");
    Program::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-out"])
        .arg(&private)
        .args(["-pkeyopt", "rsa_keygen_bits:2048"])
        .ok();
    Program::new("openssl")
        .args(["pkey", "-pubout", "-in"])
        .arg(&private)
        .arg("-out")
        .arg(&public)
        .ok();
    for (kind, file) in [
        ("privkey", &private),
        ("privkey", &private),
        ("pubkey", &public),
    ] {
        Program::new("pkcs11-tool")
            .env("SOFTHSM2_CONF", token.configuration())
            .args(["--module", SOFTHSM, "--login", "--pin", PIN])
            .args(["--write-object"])
            .arg(file)
            .args([
                "--type",
                kind,
                "--label",
                "key",
                "--id",
                "07",
                "--usage-decrypt",
            ])
            .ok();
    }
    let configuration = token.configuration().display().to_string();
    let unwrapping = Unwrapping::new()
        .env([("SOFTHSM2_CONF".to_owned(), configuration)])
        .key(
            &format!("pkcs11:token=doubled;object=key?pin-value={PIN}"),
            Path::new(SOFTHSM),
        )
        .envelope(&[wrap(&public, OaepHash::Sha1)]);
    assert_eq!(unwrapping.run().opened(), [Some("Native")]);
    assert!(unwrapping.public_key().pem().is_some());
}
