//! Trouble that is somebody else's, or that passes: another token's PIN, another key's blob, a device that is busy just
//! now. What some key at hand opens, opens; what is wrong is told as what it is.

use std::path::{Path, PathBuf};

use integration::token::{PIN, SOFTHSM, Token, WRONG_PIN};
use integration::unruly::Unruly;
use integration::unwrapping::{Unwrapping, wrap};
use integration::vector;
use ocihsm::keys::public::Recipient;
use ocihsm::operation::OaepHash;

/// A token behind the unruly module.
struct Stage {
    token: Token,
    unruly: Unruly,
}

impl Stage {
    fn new(token: Token) -> Self {
        Self {
            token,
            unruly: Unruly::new(),
        }
    }

    fn vectors() -> Self {
        Self::new(Token::vectors())
    }

    /// An environment in which the module misbehaves.
    fn env(&self, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let more = more
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let configuration = self.token.configuration().display().to_string();
        let mut env = self.unruly.env(Path::new(SOFTHSM));
        env.push(("SOFTHSM2_CONF".to_owned(), configuration));
        env.extend(more);
        env
    }

    fn uri(&self, key: &str, pin: &str) -> String {
        format!("{}?pin-value={pin}", self.token.uri(key))
    }

    /// An unwrapping with `rsa3072`.
    fn simple(&self, faults: &str) -> Unwrapping {
        self.with(&[("UNRULY_FAULTS", faults)])
    }

    fn with(&self, env: &[(&str, &str)]) -> Unwrapping {
        Unwrapping::new()
            .env(self.env(env))
            .key(&self.uri("rsa3072", PIN), &self.unruly.module())
    }
}

fn public(key: &str) -> PathBuf {
    vector(format!("keys/{key}.pub.pem"))
}

fn mine(hash: OaepHash) -> Recipient {
    wrap(&public("rsa3072"), hash)
}

fn others(hash: OaepHash) -> Recipient {
    wrap(&public("other3072"), hash)
}

/// GENERAL_ERROR, FUNCTION_FAILED, DEVICE_ERROR, PIN_INCORRECT, PIN_LOCKED and a vendor's.
const LOGIN_CODES: [u64; 6] = [0x5, 0x6, 0x30, 0xA0, 0xA4, 0x8000_001A];

#[test]
fn a_login_that_fails_on_another_module_takes_no_layer_away() {
    let stage = Stage::vectors();
    let other = Token::new("other");
    let _ = other.generate("key", 1, 2048);
    for code in LOGIN_CODES {
        for good_first in [false, true] {
            let troubled = Stage {
                token: Token::new("stale"),
                unruly: Unruly::new(),
            };
            let bad = |unwrapping: Unwrapping| {
                unwrapping
                    .env(troubled.env(&[("UNRULY_FAULTS", &format!("C_Login={code:#x}"))]))
                    .key(&troubled.uri("key", PIN), &troubled.unruly.module())
                    .key(&troubled.uri("second", PIN), &troubled.unruly.module())
            };
            let good = |unwrapping: Unwrapping| {
                unwrapping
                    .env(stage.env(&[]))
                    .key(&stage.uri("rsa3072", PIN), Path::new(SOFTHSM))
            };
            let unwrapping = Unwrapping::new().envelope(&[mine(OaepHash::Sha1)]);
            let (unwrapping, number) = match good_first {
                true => (bad(good(unwrapping)), 0),
                false => (good(bad(unwrapping)), 2),
            };
            let answer = unwrapping.run();
            assert_eq!(
                answer.by(),
                (Some(number), Some(0)),
                "{code:#x}: {answer:?}"
            );
            assert!(troubled.unruly.count("C_Login") <= 1, "{code:#x}");
        }
    }
}

#[test]
fn a_login_that_fails_bars_its_token_and_no_other_one_of_the_module() {
    let stage = Stage::vectors();
    let second = Token::new("stale");
    // Both tokens in one directory.
    integration::token::copy_directory(
        &second.path().join("tokens"),
        &stage.token.path().join("tokens"),
    );
    for code in LOGIN_CODES {
        let answer = Unwrapping::new()
            .env(stage.env(&[
                ("UNRULY_FAULTS", &format!("C_Login={code:#x}")),
                ("UNRULY_TOKEN", "stale"),
            ]))
            .key(&stage.uri_of("stale", "a"), &stage.unruly.module())
            .key(&stage.uri_of("stale", "b"), &stage.unruly.module())
            .key(&stage.uri("rsa3072", PIN), &stage.unruly.module())
            .envelope(&[mine(OaepHash::Sha1)])
            .run();
        assert_eq!(answer.by(), (Some(2), Some(0)), "{code:#x}: {answer:?}");
        // One at each token.
        assert_eq!(stage.unruly.count("C_Login"), 2, "{code:#x}");
    }
}

impl Stage {
    fn uri_of(&self, token: &str, key: &str) -> String {
        format!("pkcs11:token={token};object={key}?pin-value={PIN}")
    }
}

#[test]
fn a_pin_that_is_on_record_as_rejected_keeps_no_other_key_of_the_token_back() {
    let stage = Stage::vectors();
    let mut unwrapping = Unwrapping::new()
        .env(stage.env(&[]))
        .envelope(&[mine(OaepHash::Sha1)]);
    let module = stage.unruly.module();
    unwrapping.add_key(&stage.uri("rsa3072", WRONG_PIN), &module);
    assert!(unwrapping.run().error().contains("CKR_PIN_INCORRECT"));
    unwrapping.add_key(&stage.uri("rsa3072", PIN), &module);
    assert_eq!(unwrapping.run().by(), (Some(1), Some(0)));
}

#[test]
fn that_a_rejected_pin_is_not_tried_again_is_said_only_where_it_is_on_record() {
    // A token each: one that says that a wrong PIN was tried is left alone where none can be remembered.
    let stages = [Stage::vectors(), Stage::vectors()];
    let unwrapping = |stage: &Stage| {
        Unwrapping::new()
            .env(stage.env(&[]))
            .key(&stage.uri("rsa3072", WRONG_PIN), &stage.unruly.module())
            .envelope(&[mine(OaepHash::Sha1)])
    };
    let remembered = unwrapping(&stages[0]).run();
    assert!(
        remembered
            .output
            .stderr
            .contains("is not tried again on this node"),
        "{remembered:?}"
    );
    let forgotten = unwrapping(&stages[1]);
    std::fs::write(forgotten.runtime_directory(), "in the way").unwrap();
    let forgotten = forgotten.run();
    assert!(
        forgotten.error().contains("CKR_PIN_INCORRECT")
            && !forgotten.output.stderr.contains("not tried again"),
        "{forgotten:?}"
    );
}

#[test]
fn a_hash_that_one_key_does_not_do_is_no_end_of_the_search() {
    let stage = Stage::new(Token::new("oaep"));
    let public = stage.token.generate_with(
        "key",
        "rsa:2048",
        &["--usage-decrypt", "--allowed-mechanisms", "RSA-PKCS-OAEP"],
    );
    let answer = Unwrapping::new()
        .env(stage.env(&[]))
        .key(&stage.uri("key", PIN), &stage.unruly.module())
        .envelope(&[
            wrap(&public, OaepHash::Sha256),
            wrap(&public, OaepHash::Sha1),
        ])
        .run();
    assert_eq!(answer.by(), (Some(0), Some(1)), "{answer:?}");
    let alone = Unwrapping::new()
        .env(stage.env(&[]))
        .key(&stage.uri("key", PIN), &stage.unruly.module())
        .envelope(&[wrap(&public, OaepHash::Sha256)])
        .run();
    assert!(
        alone.refusals()[0].ends_with(
            "the token does not have this mechanism (C_DecryptInit: CKR_MECHANISM_INVALID)"
        ),
        "{alone:?}"
    );
}

/// MECHANISM_INVALID, MECHANISM_PARAM_INVALID, ARGUMENTS_BAD, KEY_FUNCTION_NOT_PERMITTED, KEY_TYPE_INCONSISTENT and a
/// vendor's, for the first blob: by the native way and by raw RSA.
#[test]
fn what_one_blob_meets_as_decryption_begins_bars_that_blob() {
    let stage = Stage::vectors();
    for code in [0x70, 0x71, 0x7, 0x68, 0x63, 0x8000_001A_u64] {
        let answer = stage
            .simple(&format!("C_DecryptInit={code:#x}*2"))
            .envelope(&[others(OaepHash::Sha256), mine(OaepHash::Sha1)])
            .run();
        assert_eq!(answer.by().1, Some(1), "{code:#x}: {answer:?}");
    }
}

#[test]
fn whatever_is_answered_to_a_foreign_blob_the_next_one_is_tried() {
    let stage = Stage::vectors();
    for code in [
        0x5,
        0x6,
        0x7,
        0x20,
        0x21,
        0x30,
        0x31,
        0x40,
        0x41,
        0x54,
        0x60,
        0x91,
        0x101,
        0x150,
        0x8000_001A_u64,
    ] {
        let answer = stage
            .simple(&format!("C_Decrypt={code:#x}*2"))
            .envelope(&[
                others(OaepHash::Sha1),
                others(OaepHash::Sha1),
                mine(OaepHash::Sha1),
            ])
            .run();
        assert_eq!(answer.by(), (Some(0), Some(2)), "{code:#x}: {answer:?}");
    }
}

#[test]
fn a_device_that_fails_once_with_the_right_key_is_asked_again() {
    let stage = Stage::vectors();
    for code in [0x5, 0x6, 0x30, 0x31] {
        let answer = stage
            .simple(&format!("C_Decrypt={code:#x}*1"))
            .envelope(&[mine(OaepHash::Sha1)])
            .run();
        assert_eq!(answer.opened(), [Some("Native")], "{code:#x}: {answer:?}");
        assert_eq!(stage.unruly.count("C_Login"), 1, "{code:#x}");
    }
}

#[test]
fn a_device_that_fails_on_every_blob_is_told_with_function_and_code() {
    let stage = Stage::vectors();
    for (code, name) in [
        (0x5, "CKR_GENERAL_ERROR"),
        (0x6, "CKR_FUNCTION_FAILED"),
        (0x30, "CKR_DEVICE_ERROR"),
        (0x31, "CKR_DEVICE_MEMORY"),
    ] {
        let blobs = [others(OaepHash::Sha1), mine(OaepHash::Sha1)];
        let answer = stage
            .simple(&format!("C_Decrypt={code:#x}"))
            .envelope(&blobs)
            .run();
        let said = format!("or the device failed (C_Decrypt: {name})");
        assert!(answer.refusals()[0].ends_with(&said), "{answer:?}");
    }
}

#[test]
fn what_passes_is_tried_again_in_every_function_before_the_operation() {
    let stage = Stage::vectors();
    let functions = [
        "C_Initialize",
        "C_GetSlotList",
        "C_GetTokenInfo",
        "C_OpenSession",
        "C_FindObjectsInit",
        "C_FindObjects",
        "C_FindObjectsFinal",
        "C_GetAttributeValue",
        "C_DecryptInit",
    ];
    // HOST_MEMORY, GENERAL_ERROR, FUNCTION_FAILED, DEVICE_ERROR, DEVICE_MEMORY, SESSION_COUNT.
    let everywhere = functions
        .iter()
        .flat_map(|function| [0x2, 0x5, 0x6, 0x30, 0x31, 0xB1].map(|code| (*function, code)));
    // ARGUMENTS_BAD is what CloudHSM says when it has no session left.
    for (function, code) in everywhere.chain([("C_OpenSession", 0x7)]) {
        let answer = stage
            .simple(&format!("{function}={code:#x}*2"))
            .envelope(&[mine(OaepHash::Sha1)])
            .run();
        assert_eq!(
            answer.opened(),
            [Some("Native")],
            "{function} {code:#x}: {answer:?}"
        );
    }
}

#[test]
fn what_passes_is_not_tried_again_beyond_the_deadline() {
    let stage = Stage::vectors();
    // All pauses together take longer. How far a busy machine comes within the time is open; not to the end, though.
    let answer = stage
        .simple("C_OpenSession=0x31")
        .envelope(&[mine(OaepHash::Sha1)])
        .run_within(400);
    assert!(!answer.output.status.success(), "{answer:?}");
    assert!(stage.unruly.count("C_Initialize") < 7);
}

#[test]
fn what_fails_before_the_token_names_the_key_file_and_says_what_to_do() {
    let stage = Stage::vectors();
    let missing = stage.token.path().join("no-such-pin");
    let uri = format!(
        "{}?pin-source={}",
        stage.token.uri("rsa3072"),
        missing.display()
    );
    let nowhere = Path::new("/nonexistent/module.so");
    let module = stage.unruly.module();
    for (uri, module, faults, said, hint) in [
        (
            stage.uri("rsa3072", PIN),
            nowhere,
            "",
            "cannot load",
            "install the module",
        ),
        (
            stage.uri("rsa3072", PIN),
            module.as_path(),
            "C_Initialize=0x8000001A",
            "(C_Initialize: 0x8000001a)",
            "compare the URI and module.env",
        ),
        (
            uri,
            module.as_path(),
            "",
            "no such file or directory",
            "write the PIN alone, on one line, into",
        ),
    ] {
        let unwrapping = Unwrapping::new()
            .env(stage.env(&[("UNRULY_FAULTS", faults)]))
            .key(&uri, module)
            .envelope(&[mine(OaepHash::Sha1)]);
        let answer = unwrapping.run();
        let name = unwrapping.key_file().display().to_string();
        assert!(
            answer.error().contains(&name) && answer.error().contains(said),
            "{answer:?}"
        );
        assert!(answer.output.stderr.contains(hint), "{answer:?}");
    }
}

#[test]
fn a_module_that_floods_its_socket_has_no_more_time_than_another() {
    let stage = Stage::vectors();
    let start = std::time::Instant::now();
    let answer = stage
        .simple("C_Login=flood")
        .envelope(&[mine(OaepHash::Sha1)])
        .run_within(2000);
    assert!(
        answer.error().contains("did not answer within 2 s"),
        "{answer:?}"
    );
    assert!(start.elapsed() < std::time::Duration::from_secs(20));
}

#[test]
fn an_answer_of_any_length_costs_no_memory() {
    let stage = Stage::vectors();
    let answer = stage
        .simple("C_Login=lie")
        .envelope(&[mine(OaepHash::Sha1)])
        .run();
    assert!(
        answer.error().contains("is over the limit of"),
        "{answer:?}"
    );
}

#[test]
fn children_of_a_module_inherit_no_socket_of_ours() {
    let stage = Stage::vectors();
    let answer = stage
        .simple("C_Login=child*1")
        .envelope(&[mine(OaepHash::Sha1)])
        .run();
    assert_eq!(answer.opened(), [Some("Native")], "{answer:?}");
    let (_, log) = stage
        .env(&[])
        .into_iter()
        .find(|(name, _)| name == "UNRULY_LOG")
        .unwrap();
    let inherited = std::fs::read_to_string(format!("{log}.inherited")).unwrap();
    assert!(
        inherited.contains("/dev/null") && !inherited.contains("socket:"),
        "{inherited}"
    );
}

#[test]
fn a_loader_variable_of_a_key_file_takes_effect() {
    let stage = Stage::vectors();
    let library = Path::new(SOFTHSM);
    let directory = library.parent().unwrap().display().to_string();
    let run = |more: &[(&str, &str)]| {
        let mut env = stage.env(more);
        // By its name alone, so that the loader has to look for it.
        let name = library.file_name().unwrap().to_str().unwrap();
        env.retain(|(variable, _)| variable != "UNRULY_MODULE");
        env.push(("UNRULY_MODULE".to_owned(), name.to_owned()));
        Unwrapping::new()
            .env(env)
            .key(&stage.uri("rsa3072", PIN), &stage.unruly.module())
            .envelope(&[mine(OaepHash::Sha1)])
            .run()
    };
    assert!(run(&[]).error().contains("C_GetFunctionList"));
    let answer = run(&[("LD_LIBRARY_PATH", &directory)]);
    assert_eq!(answer.opened(), [Some("Native")], "{answer:?}");
}
