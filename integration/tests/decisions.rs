//! Reasons why a crate is not used (docs/decisions.md), each as a test on the crate itself: when one fails, upstream has
//! mended the reason, and the decision is to be taken anew.

use std::fs;
use std::path::Path;

use cryptoki::error::Result;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use integration::module::{Module, PIN};
use integration::program::{Output, Program};
use integration::token::SOFTHSM;
use integration::{repository, skip};

const THROUGH_CRYPTOKI: &str = env!("CARGO_BIN_EXE_through_cryptoki");

/// Its answer about a module.
fn ask(module: &Module, question: &str) -> Output {
    let program = module
        .program(Path::new(THROUGH_CRYPTOKI))
        .arg(question)
        .arg(module.library())
        .env("PIN", PIN);
    let variables = module.env().iter();
    variables
        .fold(program, |program, (name, value)| program.env(name, value))
        .run()
}

#[test]
fn cryptoki_answers_on_softhsm() {
    // So that what fails below does not fail for a mistake of the test's own.
    let Some(module) = Module::up("softhsm") else {
        return;
    };
    assert!(ask(&module, "slots").text().ends_with(" slots\n"));
    assert_eq!(ask(&module, "token").text(), "token kbs\n");
    assert_eq!(ask(&module, "decrypt").text(), "256 bytes\n");
}

#[test]
fn cryptoki_lists_slots_for_ever_where_p11_kit_has_none() {
    if !skip::programs(&["p11-kit", "prlimit"]) {
        return;
    }
    let Some(module) = Module::up("p11-kit") else {
        return;
    };
    // A second server for a token that is not there: it has no slots.
    let socket = module.directory().join("empty");
    let script = "
        SOFTHSM2_CONF=$1/softhsm2.conf p11-kit server --name $1/empty --provider $2 \
            pkcs11:token=nobodys </dev/null 2>/dev/null | sed -n 's/.*P11_KIT_SERVER_PID=\\([0-9]*\\).*/\\1/p'";
    let server = Program::new("sh")
        .args(["-c", script, "sh"])
        .arg(module.directory())
        .arg(SOFTHSM)
        .ok()
        .text();
    // A second of its own time on the processor, however busy the machine is.
    let output = Program::new("prlimit")
        .args(["--cpu=1", THROUGH_CRYPTOKI, "slots"])
        .arg(module.library())
        .env(
            "P11_KIT_SERVER_ADDRESS",
            format!("unix:path={}", socket.display()),
        )
        .run();
    Program::new("kill").arg(server.trim()).ok();
    assert_eq!(output.text(), "", "it came to an end: {output:?}");
    assert!(output.status.to_string().contains("signal"), "{output:?}");
}

#[test]
fn cryptoki_reads_no_token_of_opencryptoki() {
    if !skip::root() {
        return;
    }
    let Some(module) = Module::up("opencryptoki") else {
        return;
    };
    let answer = ask(&module, "token");
    assert!(answer.text().starts_with("error ParseInt"), "{answer:?}");
}

#[test]
fn cryptoki_decrypts_nothing_by_raw_rsa_on_kryoptic() {
    let Some(module) = Module::up("kryoptic") else {
        return;
    };
    let answer = ask(&module, "decrypt");
    assert!(answer.text().starts_with("error Pkcs11("), "{answer:?}");
}

#[test]
fn cryptoki_returns_what_it_decrypted_in_memory_that_is_not_wiped() {
    // Compiles as long as it does.
    let decrypt: fn(&Session, &Mechanism<'_>, ObjectHandle, &[u8]) -> Result<Vec<u8>> =
        Session::decrypt;
    let _ = decrypt;
}

#[test]
fn serde_yaml_is_given_up() {
    let locked = fs::read_to_string(repository().join("Cargo.lock")).unwrap();
    let package = locked
        .split("[[package]]")
        .find(|package| package.contains("name = \"serde_yaml\""));
    assert!(package.unwrap().contains("+deprecated"), "{package:?}");
}
