//! Reasons why a crate is not used (docs/decisions.md), each as a test on the crate itself: when one fails, upstream has
//! mended the reason, and the decision is to be taken anew.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use cryptoki::error::Result;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use integration::module::{self, Module, PIN};
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
    if !skip::programs(&["p11-kit"]) {
        return;
    }
    let Some(module) = Module::up("p11-kit") else {
        return;
    };
    // A second server for a token that is not there: it has no slots.
    let socket = module.directory().join("empty");
    // Its output is a file, since it stays open for as long as the server runs.
    let script = "
        SOFTHSM2_CONF=$1/softhsm2.conf p11-kit server --name $1/empty --provider $2 pkcs11:token=nobodys \
            </dev/null >$1/started 2>&1
        sed -n 's/.*P11_KIT_SERVER_PID=\\([0-9]*\\).*/\\1/p' $1/started";
    let server = Program::new("sh")
        .args(["-c", script, "sh"])
        .arg(module.directory())
        .arg(SOFTHSM)
        .ok()
        .text();
    let mut lister = Program::new(THROUGH_CRYPTOKI)
        .arg("slots")
        .arg(module.library())
        .env(
            "P11_KIT_SERVER_ADDRESS",
            format!("unix:path={}", socket.display()),
        )
        .into_command()
        .spawn()
        .unwrap();
    // Its own time on the processor counts, however busy the machine is: a list takes a hundredth of this.
    while lister.try_wait().unwrap().is_none() && ticks(lister.id()) < 30 {
        thread::sleep(Duration::from_millis(10));
    }
    let ended = lister.try_wait().unwrap();
    lister.kill().unwrap();
    lister.wait().unwrap();
    Program::new("kill").arg(server.trim()).ok();
    assert_eq!(ended, None, "it came to an end");
}

/// Time that a process had on the processor, in hundredths of a second (proc_pid_stat(5), fields 14 and 15).
fn ticks(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let time = fields.split(' ').skip(11).take(2);
    time.map(|time| time.parse::<u64>().unwrap()).sum()
}

#[test]
fn cryptoki_reads_no_token_of_opencryptoki_before_3_23() {
    if !skip::root() {
        return;
    }
    let Some(module) = Module::up("opencryptoki") else {
        return;
    };
    let answer = ask(&module, "token");
    let answers = match module::is_since("opencryptoki", "3.23") {
        true => "token ",
        false => "error ParseInt",
    };
    assert!(answer.text().starts_with(answers), "{answer:?}");
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
    /// Compiles as long as it does.
    type Decrypt = fn(&Session, &Mechanism<'_>, ObjectHandle, &[u8]) -> Result<Vec<u8>>;
    let _: Decrypt = Session::decrypt;
}

#[test]
fn serde_yaml_is_given_up() {
    let locked = fs::read_to_string(repository().join("Cargo.lock")).unwrap();
    let package = locked
        .split("[[package]]")
        .find(|package| package.contains("name = \"serde_yaml\""));
    assert!(package.unwrap().contains("+deprecated"), "{package:?}");
}
