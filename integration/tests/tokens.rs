//! How `ocihsm::hsm` treats a token: finding it, logging in once, finding the key, opening what fits.
//!
//! On SoftHSM, behind a module that counts calls and answers what it is told (`unruly.c`). What other modules make of
//! the same is in `modules.rs`; hangs and crashes are in `unruly_modules.rs`.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use integration::module::library;
use integration::program::Program;
use integration::token::{PIN, SOFTHSM, Token, WRONG_PIN};
use integration::unruly::Unruly;
use integration::unwrapping::{Answer, Unwrapping, wrap};
use integration::vector;
use ocihsm::keys::public::Recipient;
use ocihsm::operation::OaepHash;

/// A token behind the counting module.
struct Stage {
    token: Token,
    unruly: Unruly,
}

impl Stage {
    fn new() -> Self {
        Self {
            token: Token::vectors(),
            unruly: Unruly::new(),
        }
    }

    fn unwrapping(&self, more: &[(&str, &str)]) -> Unwrapping {
        let more = more
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Unwrapping::new().env(
            self.unruly
                .env(Path::new(SOFTHSM))
                .into_iter()
                .chain([self.configuration()])
                .chain(more),
        )
    }

    fn configuration(&self) -> (String, String) {
        let path = self.token.configuration().display().to_string();
        ("SOFTHSM2_CONF".to_owned(), path)
    }

    fn uri(&self, key: &str, pin: &str) -> String {
        format!("{}?pin-value={pin}", self.token.uri(key))
    }

    /// An unwrapping of one blob for `rsa3072`, with that key and this PIN.
    fn simple(&self, pin: &str, more: &[(&str, &str)]) -> Unwrapping {
        self.unwrapping(more)
            .key(&self.uri("rsa3072", pin), &self.unruly.module())
            .envelope(&[sha1("rsa3072")])
    }
}

fn public(key: &str) -> PathBuf {
    vector(format!("keys/{key}.pub.pem"))
}

fn sha1(key: &str) -> Recipient {
    wrap(&public(key), OaepHash::Sha1)
}

fn sha256(key: &str) -> Recipient {
    wrap(&public(key), OaepHash::Sha256)
}

#[test]
fn sha1_is_native_and_sha256_by_raw_rsa() {
    let stage = Stage::new();
    let answer = stage
        .unwrapping(&[])
        .key(&stage.uri("rsa3072", PIN), Path::new(SOFTHSM))
        .envelope(&[sha1("rsa3072")])
        .envelope(&[sha256("rsa3072")])
        .run();
    assert_eq!(answer.opened(), [Some("Native"), Some("RawRsa")]);
}

#[test]
fn two_keys_of_one_token_take_one_login() {
    let stage = Stage::new();
    let module = stage.unruly.module();
    let answer = stage
        .unwrapping(&[])
        .key(&stage.uri("other3072", PIN), &module)
        .key(&stage.uri("rsa3072", PIN), &module)
        .envelope(&[sha256("rsa2048"), sha256("rsa3072")])
        .envelope(&[sha1("other3072")])
        .run();
    assert_eq!(answer.opened(), [Some("RawRsa"), Some("Native")]);
    assert_eq!(answer.by(), (Some(1), Some(1)));
    assert_eq!(stage.unruly.count("C_Login"), 1);
}

#[test]
fn a_blob_of_another_length_is_not_sent() {
    let stage = Stage::new();
    let mut short = sha1("rsa3072");
    short.blob.pop();
    let answer = stage
        .unwrapping(&[])
        .key(&stage.uri("rsa3072", PIN), &stage.unruly.module())
        .envelope(&[sha1("rsa2048"), short])
        .run();
    let refusals = answer.refusals();
    assert!(refusals[0].contains("suits none of them"), "{refusals:?}");
    assert_eq!(stage.unruly.count("C_DecryptInit"), 0);
}

#[test]
fn what_is_for_another_key_or_broken_is_refused_alike() {
    let stage = Stage::new();
    let refusals = |hash| {
        let mut flipped = wrap(&public("rsa3072"), hash);
        flipped.blob[200] ^= 1;
        let zero = Recipient {
            hash,
            blob: vec![0; 384],
        };
        let blobs = [wrap(&public("other3072"), hash), flipped, zero];
        let mut refusals: Vec<_> = blobs.map(|blob| refusal(&stage, blob)).into();
        refusals.dedup();
        refusals
    };
    // The token's word, which it has for a device that failed too.
    let said = "does not open it, or the device failed (C_Decrypt: CKR_GENERAL_ERROR)";
    assert_eq!(refusals(OaepHash::Sha1), [said]);
    // Ours, for a padding that we took off; but what is larger than the modulus never comes so far.
    assert_eq!(refusals(OaepHash::Sha256), ["does not open it"]);
    for hash in [OaepHash::Sha1, OaepHash::Sha256] {
        let large = Recipient {
            hash,
            blob: vec![0xff; 384],
        };
        assert_eq!(refusal(&stage, large), said);
    }
}

/// What `rsa3072` says of a blob, without the name of its file.
fn refusal(stage: &Stage, recipient: Recipient) -> String {
    let answer = stage
        .unwrapping(&[])
        .key(&stage.uri("rsa3072", PIN), &stage.unruly.module())
        .envelope(&[recipient])
        .run();
    assert!(answer.output.status.success(), "{answer:?}");
    let refusal = answer.refusals()[0];
    refusal.split_once(": ").unwrap().1.to_owned()
}

#[test]
fn a_recipient_behind_refused_ones_is_opened_in_the_same_login() {
    let stage = Stage::new();
    let answer = stage
        .unwrapping(&[])
        .key(&stage.uri("rsa3072", PIN), &stage.unruly.module())
        .envelope(&[sha1("other3072"), sha256("other3072"), sha1("rsa3072")])
        .run();
    assert_eq!(answer.by(), (Some(0), Some(2)));
    assert_eq!(stage.unruly.count("C_Login"), 1);
}

#[test]
fn a_wrong_pin_costs_one_try_until_the_file_is_mended() {
    let stage = Stage::new();
    let module = stage.unruly.module();
    let mut unwrapping = stage
        .unwrapping(&[])
        .envelope(&[sha1("rsa3072"), sha256("rsa3072")]);
    let file = unwrapping.add_key(&stage.uri("rsa3072", WRONG_PIN), &module);
    // A second key on the token, whose PIN is good: it is not tried beside the one that was just rejected.
    unwrapping.add_key(&stage.uri("other3072", PIN), &module);

    let first = unwrapping.run();
    assert!(
        first.error().ends_with(
            "token \"ocicrypt-vectors\": login failed: the PIN is wrong (C_Login: CKR_PIN_INCORRECT)"
        ),
        "{first:?}"
    );
    assert_eq!(stage.unruly.count("C_Login"), 1);

    let second = unwrapping.run();
    assert!(
        second
            .error()
            .contains("was rejected before and is not tried again"),
        "{second:?}"
    );
    assert!(
        second
            .output
            .stderr
            .contains("ocihsm keys forget-rejected-pins"),
        "{second:?}"
    );
    // That of the second key. What is on record costs no try, so nothing keeps it back.
    assert_eq!(stage.unruly.count("C_Login"), 1);

    unwrapping.write_key(&file, &stage.uri("rsa3072", PIN));
    assert_eq!(unwrapping.run().opened(), [Some("Native")]);
}

#[test]
fn a_rejected_pin_can_be_forgotten_by_hand() {
    let stage = Stage::new();
    let unwrapping = stage.simple(WRONG_PIN, &[]);
    let _ = unwrapping.run().error();
    let forget = || {
        Program::new(integration::ocihsm())
            .env("OCIHSM_RUNTIME_DIR", unwrapping.runtime_directory())
            .args(["keys", "forget-rejected-pins"])
            .ok()
            .text()
    };
    assert_eq!(
        forget(),
        "forgot the rejected PINs of token \"ocicrypt-vectors\"\n"
    );
    assert_eq!(forget(), "no rejected PIN is remembered\n");
    let _ = stage.unruly.calls();
    let _ = unwrapping.run().error();
    assert_eq!(stage.unruly.count("C_Login"), 1);
}

#[test]
fn forty_decoders_with_a_wrong_pin_cost_one_try() {
    let stage = Stage::new();
    let unwrapping = stage.simple(WRONG_PIN, &[]);
    for _ in 0..2 {
        for answer in together(20, || unwrapping.run()) {
            let _ = answer.error();
        }
    }
    assert_eq!(stage.unruly.count("C_Login"), 1);
}

#[test]
fn sixty_four_decoders_at_once_all_succeed() {
    let stage = Stage::new();
    let unwrapping = stage
        .unwrapping(&[])
        .key(&stage.uri("rsa3072", PIN), Path::new(SOFTHSM))
        .envelope(&[sha256("rsa3072")]);
    let start = Instant::now();
    let answers = together(64, || unwrapping.run());
    println!("64 at once: {} ms", start.elapsed().as_millis());
    for answer in answers {
        assert_eq!(answer.opened(), [Some("RawRsa")], "{answer:?}");
    }
}

#[test]
fn without_a_runtime_directory_work_goes_on_and_says_so() {
    let stage = Stage::new();
    let unwrapping = stage.simple(PIN, &[]);
    std::fs::write(unwrapping.runtime_directory(), "in the way").unwrap();
    let answer = unwrapping.run();
    assert_eq!(answer.opened(), [Some("Native")], "{answer:?}");
    assert!(
        answer.warning().unwrap().contains("not a directory"),
        "{answer:?}"
    );
}

/// SoftHSM empties a token's file before it writes it, at each login: who starts just then finds no token.
#[test]
fn a_start_beside_foreign_logins_is_tried_again() {
    let stage = Stage::new();
    for (fault, starts) in [
        ("C_GetTokenInfo=0xE0*2", 2),
        ("C_Login=0x102", 2),
        ("C_Initialize=5", 2),
        ("C_Initialize=5*3", 4),
    ] {
        let fault = if fault.contains('*') {
            fault.to_owned()
        } else {
            format!("{fault}*1")
        };
        let answer = stage.simple(PIN, &[("UNRULY_FAULTS", &fault)]).run();
        assert_eq!(answer.opened(), [Some("Native")], "{fault}: {answer:?}");
        assert_eq!(stage.unruly.count("C_Initialize"), starts, "{fault}");
    }
}

#[test]
fn a_final_try_and_a_locked_pin_are_not_tried() {
    let stage = Stage::new();
    let locked = stage
        .simple(PIN, &[("UNRULY_FLAGS", "0x40000")])
        .allow_final_try();
    assert!(locked.run().error().contains("its PIN is locked"));
    let last = stage.simple(PIN, &[("UNRULY_FLAGS", "0x20000")]);
    assert!(
        last.run()
            .error()
            .contains("one more wrong PIN would lock it")
    );
    assert_eq!(stage.unruly.count("C_Login"), 0);
    assert_eq!(last.allow_final_try().run().opened(), [Some("Native")]);
}

#[test]
fn a_token_that_needs_no_login_gets_none() {
    let stage = Stage::new();
    let answer = stage.simple(PIN, &[("UNRULY_NO_FLAGS", "4")]).run();
    // SoftHSM hides the key all the same; the point is that nobody logged in.
    assert!(
        answer.refusals()[0].contains("holds no key that matches"),
        "{answer:?}"
    );
    assert_eq!(stage.unruly.count("C_Login"), 0);
}

#[test]
fn without_a_pin_only_a_pin_pad_is_asked() {
    let stage = Stage::new();
    let unwrapping = |more| {
        stage
            .unwrapping(more)
            .key(&stage.token.uri("rsa3072"), &stage.unruly.module())
            .envelope(&[sha1("rsa3072")])
    };
    let answer = unwrapping(&[]).run();
    assert!(answer.refusals()[0].contains("wants a PIN"), "{answer:?}");
    assert_eq!(stage.unruly.count("C_Login"), 0);
    // SoftHSM has no pin pad, so it does not take the NULL that means one.
    let answer = unwrapping(&[("UNRULY_FLAGS", "0x100")]).run();
    assert!(
        answer.error().ends_with("(C_Login: CKR_ARGUMENTS_BAD)"),
        "{answer:?}"
    );
    assert_eq!(stage.unruly.count("C_Login"), 1);
}

#[test]
fn somebody_logged_in_already_is_fine() {
    let stage = Stage::new();
    let answer = stage
        .simple(PIN, &[("UNRULY_FAULTS", "C_Login=0x100")])
        .run();
    // Nobody is, really, so the key stays hidden; but that is no failed login.
    assert!(
        answer.refusals()[0].contains("holds no key that matches"),
        "{answer:?}"
    );
}

#[test]
fn tokens_with_one_label_are_told_apart_by_serial_or_not_used() {
    let token = Token::new("twin");
    let public = token.generate("key", 1, 2048);
    Program::new("softhsm2-util")
        .env("SOFTHSM2_CONF", token.configuration())
        .args([
            "--init-token",
            "--free",
            "--label",
            "twin",
            "--so-pin",
            "security-officer",
            "--pin",
            PIN,
        ])
        .ok();
    let env = [(
        "SOFTHSM2_CONF".to_owned(),
        token.configuration().display().to_string(),
    )];
    let run = |uri: &str| {
        Unwrapping::new()
            .env(env.clone())
            .key(uri, Path::new(SOFTHSM))
            .envelope(&[wrap(&public, OaepHash::Sha1)])
            .run()
    };
    let both = run(&format!("pkcs11:token=twin;object=key?pin-value={PIN}"));
    assert!(both.error().contains("matches several tokens"), "{both:?}");
    let serials: Vec<&str> = both
        .error()
        .split("serial \"")
        .skip(1)
        .map(|rest| &rest[..16])
        .collect();
    assert_eq!(serials.len(), 2, "{both:?}");
    let opened = serials.iter().filter(|serial| {
        let uri = format!("pkcs11:token=twin;serial={serial};object=key?pin-value={PIN}");
        run(&uri).opened() == [Some("Native")]
    });
    assert_eq!(opened.count(), 1);
}

#[test]
fn several_matching_keys_are_tried_in_turn_and_listed_where_one_is_meant() {
    let token = Token::new("many");
    let public = token.generate("key", 1, 2048);
    let other = token.generate("other", 2, 2048);
    Program::new("pkcs11-tool")
        .env("SOFTHSM2_CONF", token.configuration())
        .args([
            "--module",
            SOFTHSM,
            "--login",
            "--pin",
            PIN,
            "--keypairgen",
            "--key-type",
            "rsa:2048",
        ])
        .args(["--label", "key", "--id", "03", "--usage-decrypt"])
        .ok();
    let env = [(
        "SOFTHSM2_CONF".to_owned(),
        token.configuration().display().to_string(),
    )];
    let uri = format!("pkcs11:token=many;object=key?pin-value={PIN}");
    let unwrapping = |uri: &str, public: &Path| {
        Unwrapping::new()
            .env(env.clone())
            .key(uri, Path::new(SOFTHSM))
            .envelope(&[wrap(public, OaepHash::Sha1)])
    };
    let answer = unwrapping(&uri, &public).run();
    assert_eq!(answer.opened(), [Some("Native")], "{answer:?}");
    let answer = unwrapping(&uri, &other).run();
    assert_eq!(answer.refusals().len(), 1);
    let by_id = format!("pkcs11:token=many;object=key;id=%03?pin-value={PIN}");
    assert_eq!(unwrapping(&by_id, &public).run().opened(), [None]);

    let answer = unwrapping(&uri, &public).public_key();
    let error = answer.error();
    assert!(
        error.contains("matches several keys on token \"many\""),
        "{error}"
    );
    assert!(
        error.contains("id=%01 \"key\"") && error.contains("id=%03 \"key\""),
        "{error}"
    );
}

#[test]
fn two_environments_of_one_module_work_in_one_run() {
    let (one, two) = (Token::new("one"), Token::new("two"));
    let (public_one, public_two) = (one.generate("key", 1, 2048), two.generate("key", 1, 2048));
    let mut unwrapping = Unwrapping::new()
        .envelope(&[wrap(&public_two, OaepHash::Sha1)])
        .envelope(&[wrap(&public_one, OaepHash::Sha1)]);
    for token in [&one, &two] {
        let configuration = token.configuration().display().to_string();
        unwrapping = unwrapping.env([("SOFTHSM2_CONF".to_owned(), configuration)]);
        unwrapping.add_key(
            &format!("{}?pin-value={PIN}", token.uri("key")),
            Path::new(SOFTHSM),
        );
    }
    assert_eq!(unwrapping.run().opened(), [Some("Native"), Some("Native")]);
}

#[test]
fn a_node_survives_the_loss_of_one_of_two_modules() {
    let stage = Stage::new();
    let gone = Path::new("/nonexistent/module.so");
    let answer = stage
        .unwrapping(&[])
        .key("pkcs11:token=other;object=key?pin-value=1", gone)
        .key(&stage.uri("rsa3072", PIN), Path::new(SOFTHSM))
        .envelope(&[sha1("rsa3072")])
        .run();
    assert_eq!(answer.by(), (Some(1), Some(0)));
    let answer = stage
        .unwrapping(&[])
        .key("pkcs11:token=other;object=key?pin-value=1", gone)
        .key(&stage.uri("rsa3072", PIN), Path::new(SOFTHSM))
        .envelope(&[sha1("other3072")])
        .run();
    assert!(
        answer
            .error()
            .contains("cannot load the PKCS#11 module /nonexistent/module.so"),
        "{answer:?}"
    );
}

#[test]
fn an_absent_token_is_looked_for_again_but_not_while_another_module_has_the_key() {
    let stage = Stage::new();
    let absent = "pkcs11:token=absent;object=key?pin-value=1";
    let alone = stage
        .unwrapping(&[])
        .key(absent, &stage.unruly.module())
        .envelope(&[sha1("rsa3072")]);
    let answer = alone.run();
    assert!(
        answer.refusals()[0].contains("no token matches pkcs11:token=absent"),
        "{answer:?}"
    );
    assert_eq!(stage.unruly.count("C_Initialize"), 7);

    let answer = stage
        .unwrapping(&[])
        .key(absent, &stage.unruly.module())
        .key(&stage.uri("rsa3072", PIN), Path::new(SOFTHSM))
        .envelope(&[sha1("rsa3072")])
        .run();
    assert_eq!(answer.opened(), [Some("Native")]);
    assert_eq!(stage.unruly.count("C_Initialize"), 1);
}

#[test]
fn the_public_key_is_read_without_a_login() {
    let stage = Stage::new();
    let answer = stage.simple(PIN, &[]).public_key();
    let pem = std::fs::read_to_string(public("rsa3072")).unwrap();
    assert_eq!(answer.pem().map(str::trim), Some(pem.trim()));
    assert_eq!(stage.unruly.count("C_Login"), 0);
}

/// The figure that the documentation states: thirteen calls, and one for each slot (SoftHSM always has a spare one).
#[test]
fn a_decode_makes_no_more_calls_than_it_needs() {
    let spy = &library("pkcs11/pkcs11-spy.so").expect("the package opensc");
    let stage = Stage::new();
    let calls = |hash| {
        let directory = tempfile::tempdir().unwrap();
        let trace = directory.path().join("trace");
        let answer = Unwrapping::new()
            .env([
                stage.configuration(),
                ("PKCS11SPY".to_owned(), SOFTHSM.to_owned()),
                ("PKCS11SPY_OUTPUT".to_owned(), trace.display().to_string()),
            ])
            .key(&stage.uri("rsa3072", PIN), spy)
            .envelope(&[wrap(&public("rsa3072"), hash)])
            .run();
        assert!(answer.opened()[0].is_some(), "{answer:?}");
        let trace = std::fs::read_to_string(trace).unwrap();
        let calls = trace.lines().filter_map(|line| {
            let (number, call) = line.split_once(": ")?;
            number.parse::<u32>().ok()?;
            Some(call.trim().to_owned())
        });
        calls.collect::<Vec<_>>()
    };
    let native = [
        "C_GetFunctionList",
        "C_Initialize",
        "C_GetSlotList",
        "C_GetTokenInfo",
        "C_GetTokenInfo",
        "C_OpenSession",
        "C_Login",
        "C_FindObjectsInit",
        "C_FindObjects",
        // It has given all when it gives none.
        "C_FindObjects",
        "C_FindObjectsFinal",
        "C_GetAttributeValue",
        "C_DecryptInit",
        "C_Decrypt",
        "C_Finalize",
    ];
    assert_eq!(calls(OaepHash::Sha1), native);
    // SoftHSM refuses SHA-256 once.
    assert_eq!(calls(OaepHash::Sha256).len(), native.len() + 1);
}

/// Runs the same at once, that often.
fn together(count: usize, run: impl Fn() -> Answer + Sync) -> Vec<Answer> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(&run)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}
