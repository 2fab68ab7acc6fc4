//! Modules that hang, crash, print, and fail: each is an error that names the function, in time, and nothing else.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use integration::token::{PIN, SOFTHSM, Token};
use integration::unruly::Unruly;
use integration::unwrapping::{Answer, Unwrapping, wrap};
use integration::vector;
use ocihsm::operation::OaepHash;

/// What a decode calls before it has its answer.
const FUNCTIONS: [&str; 12] = [
    "C_GetFunctionList",
    "C_Initialize",
    "C_GetSlotList",
    "C_GetTokenInfo",
    "C_OpenSession",
    "C_Login",
    "C_FindObjectsInit",
    "C_FindObjects",
    "C_FindObjectsFinal",
    "C_GetAttributeValue",
    "C_DecryptInit",
    "C_Decrypt",
];

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

    fn unwrapping(&self, faults: &str) -> Unwrapping {
        let configuration = self.token.configuration().display().to_string();
        let more = [
            ("SOFTHSM2_CONF".to_owned(), configuration),
            ("UNRULY_FAULTS".to_owned(), faults.to_owned()),
        ];
        let public = vector("keys/rsa3072.pub.pem");
        Unwrapping::new()
            .env(self.unruly.env(Path::new(SOFTHSM)).into_iter().chain(more))
            .key(
                &format!("{}?pin-value={PIN}", self.token.uri("rsa3072")),
                &self.unruly.module(),
            )
            .envelope(&[wrap(&public, OaepHash::Sha1)])
    }
}

#[test]
fn a_hang_ends_in_time_and_the_message_says_where() {
    thread::scope(|scope| {
        for function in FUNCTIONS {
            scope.spawn(move || {
                // A token of its own, since its logins take no turns with the others'.
                let stage = Stage::new();
                let how = if function == "C_GetSlotList" {
                    "spin"
                } else {
                    "hang"
                };
                let unwrapping = stage.unwrapping(&format!("{function}={how}")).timeout(3000);
                let start = Instant::now();
                let answer = unwrapping.run();
                assert!(start.elapsed() < Duration::from_secs(10), "{function}");
                let error = answer.error();
                assert!(
                    error.ends_with(&format!("did not answer within 3 s, in {function}")),
                    "{function}: {error}"
                );
                assert!(error.contains("unruly.so"), "{error}");
                assert!(answer.output.stderr.contains("--hsm-timeout"), "{answer:?}");
            });
        }
    });
}

#[test]
fn a_module_that_hung_leaves_no_process_and_no_lock_behind() {
    let stage = Stage::new();
    let unwrapping = stage.unwrapping("C_Login=hang").timeout(1500);
    let _ = unwrapping.run().error();
    let module = stage.unruly.module();
    let mut left = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("maps")).ok());
    assert!(!left.any(|maps| maps.contains(module.to_str().unwrap())));
    // A lock that was left would keep this one from the record.
    assert!(unwrapping.run().error().contains("without an answer"));
}

#[test]
fn a_crash_is_an_error_and_the_message_says_where() {
    let stage = Stage::new();
    for (number, function) in FUNCTIONS.into_iter().enumerate() {
        let (how, ending) = [
            ("abort", "it was ended by SIGABRT"),
            ("segv", "it was ended by SIGSEGV"),
            ("exit", "it exited with status 0"),
        ][number % 3];
        let answer = stage.unwrapping(&format!("{function}={how}")).run();
        let error = answer.error();
        assert!(
            error.ends_with(&format!("crashed in {function}: {ending}")),
            "{function}: {error}"
        );
    }
}

#[test]
fn a_crash_or_a_hang_while_tidying_up_costs_nothing() {
    let stage = Stage::new();
    for how in ["abort", "hang"] {
        let start = Instant::now();
        let answer = stage.unwrapping(&format!("C_Finalize={how}")).run();
        assert_eq!(answer.opened(), [Some("Native")], "{how}");
        assert!(start.elapsed() < Duration::from_secs(8), "{how}");
    }
}

#[test]
fn noise_reaches_nobody() {
    let stage = Stage::new();
    for function in ["C_Initialize", "C_Login", "C_Decrypt"] {
        let answer = stage.unwrapping(&format!("{function}=noise")).run();
        assert_eq!(answer.opened(), [Some("Native")], "{function}: {answer:?}");
        assert!(answer.output.stderr.is_empty(), "{answer:?}");
        assert!(!answer.output.text().contains("noise"), "{answer:?}");
    }
}

#[test]
fn a_module_that_closes_our_pipe_is_a_crash() {
    let stage = Stage::new();
    let answer = stage.unwrapping("C_Login=close").run();
    assert!(answer.error().contains("crashed in C_Login"), "{answer:?}");
}

#[test]
fn a_device_error_at_a_decryption_is_tried_once_more_in_a_new_session() {
    let stage = Stage::new();
    let answer = stage.unwrapping("C_Decrypt=0x30*1").run();
    assert_eq!(answer.opened(), [Some("Native")], "{answer:?}");
    let _ = stage.unruly.calls();
    let answer = stage.unwrapping("C_Decrypt=0x30").run();
    assert!(
        answer.refusals()[0].contains("does not open it"),
        "{answer:?}"
    );
    assert_eq!(stage.unruly.count("C_Decrypt"), 2);
    let answer = stage
        .unwrapping("C_Decrypt=0x30,C_OpenSession=0*1,C_OpenSession=0x30")
        .run();
    assert!(
        answer
            .error()
            .ends_with("(C_OpenSession: CKR_DEVICE_ERROR)"),
        "{answer:?}"
    );
}

#[test]
fn who_waits_for_another_that_hangs_is_told_so() {
    let stage = Stage::new();
    let hung = stage.unwrapping("C_Initialize=hang").timeout(4000);
    thread::scope(|scope| {
        let first = scope.spawn(|| hung.run());
        while stage.unruly.count("C_Initialize") == 0 {
            thread::sleep(Duration::from_millis(20));
        }
        let second = hung.run_within(1000);
        let error = second.error();
        assert!(error.contains("waited 1 s for other processes"), "{error}");
        assert!(first.join().unwrap().error().ends_with("in C_Initialize"));
    });
}

/// Every code of the standard at the login, where none may lead to a second try.
#[test]
fn no_code_leads_to_a_second_login_of_a_pin_that_may_have_been_counted() {
    let stage = Stage::new();
    // What cannot have compared the PIN is tried again; see below.
    let before = [0xE0, 0xB3, 0x102];
    for code in CODES.iter().filter(|code| !before.contains(*code)) {
        let answer = stage.unwrapping(&format!("C_Login={code:#x}")).run();
        assert_eq!(stage.unruly.count("C_Login"), 1, "{code:#x}");
        if *code != 0x100 {
            let error = answer.error();
            assert!(
                error.contains("token \"ocicrypt-vectors\": login failed: "),
                "{error}"
            );
            assert!(error.contains("(C_Login: "), "{error}");
        }
    }
    let answer = stage.unwrapping("C_Login=0x102").run();
    assert!(
        answer
            .error()
            .ends_with("(C_Login: CKR_USER_PIN_NOT_INITIALIZED)"),
        "{answer:?}"
    );
}

#[test]
fn each_code_of_each_function_is_an_error_or_a_refusal() {
    let stage = Stage::new();
    for function in FUNCTIONS.iter().filter(|function| **function != "C_Login") {
        for code in [
            0x2,
            0x6,
            0x7,
            0x31,
            0x54,
            0x90,
            0x101,
            0x150,
            0x190,
            0x8000_0005_u64,
        ] {
            let answer = stage.unwrapping(&format!("{function}={code:#x}")).run();
            shown_or_served(function, code, &answer);
        }
    }
}

#[test]
fn a_failure_that_passes_is_tried_again_and_one_that_stays_is_an_error() {
    let stage = Stage::new();
    for (function, code) in [
        ("C_OpenSession", 0x30),
        ("C_OpenSession", 0xB1),
        ("C_Initialize", 0x5),
        ("C_GetTokenInfo", 0x30),
    ] {
        let answer = stage.unwrapping(&format!("{function}={code:#x}*2")).run();
        assert_eq!(
            answer.opened(),
            [Some("Native")],
            "{function} {code:#x}: {answer:?}"
        );
        let _ = stage.unruly.calls();
        let answer = stage.unwrapping(&format!("{function}={code:#x}")).run();
        assert!(
            answer.error().contains(&format!("({function}: CKR_")),
            "{answer:?}"
        );
        assert_eq!(stage.unruly.count("C_Initialize"), 7, "{function}");
    }
}

/// An error that shows function and code; or the key is refused, or opened, where the code means that or nothing.
fn shown_or_served(function: &str, code: u64, answer: &Answer) {
    if answer.output.status.success() {
        let harmless = match function {
            // The value is asked for elsewhere.
            "C_GetAttributeValue" => code == 0x150,
            // What one wrapped key meets is a refusal, whatever it is.
            "C_DecryptInit" | "C_Decrypt" => {
                answer.refusals()[0].contains(&format!("({function}: "))
            }
            _ => false,
        };
        assert!(harmless, "{function} {code:#x}: {answer:?}");
        return;
    }
    let error = answer.error();
    assert!(
        error.contains(&format!("({function}: ")),
        "{function} {code:#x}: {error}"
    );
    assert!(error.len() < 400, "{error}");
}

/// The codes of the standard, section 5.1, and one of a vendor.
const CODES: [u64; 60] = [
    0x1,
    0x2,
    0x3,
    0x5,
    0x6,
    0x7,
    0x8,
    0x9,
    0xA,
    0x10,
    0x11,
    0x12,
    0x13,
    0x1B,
    0x20,
    0x21,
    0x30,
    0x31,
    0x32,
    0x40,
    0x41,
    0x50,
    0x51,
    0x54,
    0x60,
    0x62,
    0x63,
    0x68,
    0x70,
    0x71,
    0x82,
    0x90,
    0x91,
    0xA0,
    0xA1,
    0xA2,
    0xA3,
    0xA4,
    0xB0,
    0xB1,
    0xB3,
    0xB4,
    0xB5,
    0xB6,
    0xB7,
    0xB8,
    0xD0,
    0xD1,
    0xE0,
    0xE1,
    0xE2,
    0x100,
    0x101,
    0x102,
    0x103,
    0x104,
    0x150,
    0x190,
    0x1B0,
    0x8000_0005,
];
