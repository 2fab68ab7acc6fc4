//! The process that loads a module: this program, executed anew with a hidden subcommand.
//!
//! ```text
//!   main ──► settle (descriptors, no core dump, dies with its parent)
//!     └► serve ──► device   (tokens, one session and one login for each)
//!                    ├ search     which key a URI means
//!                    ├ operation  what a private key answers
//!                    └ public, probe, list, generate, delete
//!                  module   (the functions of PKCS#11, made safe to call)
//! ```
//!
//! One thread, one request after the other, until the parent closes its end; then the module is finalized. Nothing of
//! what stands here is ever called in the process that streams.

mod curve;
mod delete;
mod derive;
mod device;
mod generate;
mod list;
mod login;
mod module;
mod operation;
mod probe;
mod public;
mod reporter;
mod search;
mod settle;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

pub(super) use self::list::Listed;
pub(super) use self::probe::Report;
pub use self::probe::Usage;

use self::device::{Device, Key};
use self::reporter::Reporter;
use super::child::Place;
use super::failure::Failure;
use super::lockout::Lockout;
use super::protocol::{Question, Request, Start};
use crate::keys::key_file::KeyFile;

/// Name that a worker is executed under, whatever the program is called.
pub(super) const PROGRAM: &str = "ocihsm";

/// The hidden subcommand.
pub(super) const SUBCOMMAND: &str = "hsm-worker";

/// Serves as a worker, if that is what this process was started for; `None` if it was not. The first thing that a program
/// does which uses this library's tokens: whoever asks one executes the program anew.
#[must_use]
pub fn main() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    let is_worker = arguments.next().is_some_and(|name| name == PROGRAM)
        && arguments.next().is_some_and(|word| word == SUBCOMMAND)
        && arguments.next().is_none();
    is_worker.then(|| {
        std::panic::set_hook(Box::new(|_| {}));
        let status = match settle::settle().and_then(serve) {
            Ok(()) => 0,
            Err(_) => 100,
        };
        #[allow(unsafe_code)]
        // SAFETY: `_exit` has no preconditions. It is meant: no handler of the module's runs in this process.
        unsafe {
            nix::libc::_exit(status)
        }
    })
}

/// What a worker knows from its start.
struct Here {
    module: PathBuf,
    env: BTreeMap<String, String>,
    init: Option<String>,
    lockout: Lockout,
    allow_final_try: bool,
}

impl Here {
    fn new(start: Start) -> Self {
        let runtime_dir = start.runtime_dir.as_deref().map(Path::new);
        Self {
            lockout: Lockout::open(runtime_dir),
            module: start.module.into(),
            env: start.env,
            init: start.init,
            allow_final_try: start.allow_final_try,
        }
    }

    fn place(&self) -> Place<'_> {
        Place {
            module: &self.module,
            env: &self.env,
        }
    }
}

/// Loads the module, and answers until nothing more is asked.
fn serve(reporter: Reporter) -> io::Result<()> {
    let Some(start) = reporter.read::<Start>()? else {
        return Ok(());
    };
    settle::with_parent(start.parent)?;
    let here = Here::new(start);
    let mut device = Device::load(&here, &reporter);
    while let Some(request) = reporter.read::<Request>()? {
        let deadline = Instant::now() + Duration::from_millis(request.left);
        match &mut device {
            Ok(device) => answer(device, &reporter, request, deadline)?,
            Err(failure) => reporter.answer::<()>(&Err(failure.clone()))?,
        }
    }
    if let Ok(device) = &mut device {
        device.stop();
    }
    Ok(())
}

fn answer(
    device: &mut Device<'_>,
    reporter: &Reporter,
    request: Request,
    deadline: Instant,
) -> io::Result<()> {
    let Ok(uri) = request.uri.parse() else {
        return reporter.answer::<()>(&Err(Failure::Request));
    };
    let key = Key {
        file: KeyFile {
            name: request.name,
            uri,
            pin_place: None,
            env: device.here.env.clone(),
            init: device.here.init.clone(),
        },
        pin: request.pin,
    };
    device.begin(request.patient, deadline);
    match request.question {
        Question::Kind => reporter.answer(&search::kind(device, &key)),
        Question::Operation(operation) => {
            reporter.answer(&operation::answer(device, &key, &operation))
        }
        Question::PublicKey => reporter.answer(&public::public_key(device, &key)),
        Question::Probe => reporter.answer(&probe::probe(device, &key)),
        Question::Tokens => reporter.answer(&list::list(device, &key)),
        Question::Generate(new) => reporter.answer(&generate::make(device, &key, &new)),
        Question::Pair => reporter.answer(&delete::pair(device, &key)),
        Question::Delete => reporter.answer(&delete::delete(device, &key)),
    }
}
