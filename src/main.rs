//! The only place that knows argv, file descriptors and the exit status; prints one error.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd};
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap::error::ErrorKind;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use ocihsm::cli::{self, Cli, Command};
use ocihsm::commands::{
    completions, config, decode, decrypt, doctor, encrypt, inspect, keyprovider, keys, man, rekey,
};
use ocihsm::error::{catch, watch_panics};
use ocihsm::escape::escaped;
use ocihsm::telemetry::{self, Audience, LayerRecord, Verbosity};
use ocihsm::{Error, hsm, payload, settings, spoil};
use tracing::info_span;

/// Where a payload comes, if one comes.
const PAYLOAD: i32 = 3;

fn main() -> ExitCode {
    // Before all else: a layer waits for a worker to be ready.
    if let Some(status) = hsm::worker_main() {
        return status;
    }
    // Before anything here opens a file, which would get the first free number.
    let inherited = inherited_payload();
    forbid_core_dumps();
    watch_panics();
    let argv: Vec<_> = std::env::args_os().collect();
    let cli = match Cli::parse_from(&argv) {
        Ok(cli) => cli,
        Err(error) => {
            refuse(&error, &argv);
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    telemetry::install(cli.verbose.verbosity(), audience(&cli.command));
    match catch(|| run(&cli.command, inherited)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::ReaderGone) => ExitCode::FAILURE,
        Err(error) => {
            report(&error);
            match error.is_about_usage() {
                true => ExitCode::from(2),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// Runs one subcommand. `inherited` is what came as file descriptor 3, if it may carry a payload.
fn run(command: &Command, inherited: Option<File>) -> Result<(), Error> {
    match command {
        Command::Completions(args) => completions::run(args, Cli::command()),
        Command::Man(args) => man::run(args, Cli::command()),
        Command::Config(args) => info_span!("config").in_scope(|| config::run(args)),
        Command::Decode(args) => info_span!("decode").in_scope(|| decode::run(args, inherited)),
        Command::Doctor(args) => info_span!("doctor").in_scope(|| doctor::run(args)),
        Command::Keyprovider(args) => info_span!("keyprovider").in_scope(|| keyprovider::run(args)),
        Command::Keys(args) => info_span!("keys").in_scope(|| keys::run(args)),
        Command::Decrypt(args) => info_span!("decrypt").in_scope(|| decrypt::run(args)),
        Command::Rekey(args) => info_span!("rekey").in_scope(|| rekey::run(args)),
        Command::Encrypt(args) => info_span!("encrypt").in_scope(|| encrypt::run(args)),
        Command::Inspect(args) => info_span!("inspect").in_scope(|| inspect::run(args)),
    }
}

/// What a decoder says on standard error becomes the text of containerd's error, so it tells its log.
fn audience(command: &Command) -> Audience {
    match command {
        Command::Decode(args) => Audience::Log(args.log.log.clone()),
        _ => Audience::Stderr,
    }
}

/// Says what is wrong with the arguments, or prints the help that they ask for.
fn refuse(error: &clap::Error, argv: &[OsString]) {
    if error.use_stderr() && is_stream_processor() {
        let complaint = cli::complaint(error, argv);
        let record = LayerRecord {
            error: Some(complaint.to_string()),
            ..LayerRecord::default()
        };
        let log = decode::log_in_spite_of_mistakes(argv);
        telemetry::install(Verbosity::Quiet, Audience::Log(log));
        record.emit();
        spoil::hold();
        report(&complaint);
    } else if matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        let _ = error.print();
    } else {
        let (message, hints) = cli::usage_error(error, argv);
        tell(&message, hints);
    }
}

/// Keys and plaintext must not end up in a core file, nor be read by a debugger of the same user. Where the system
/// refuses, there is nothing better to do than go on.
fn forbid_core_dumps() {
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let _ = prctl::set_dumpable(false);
}

/// File descriptor 3, if it is open and can carry a payload. Otherwise it is somebody else's, and stays as it is.
#[allow(unsafe_code)]
fn inherited_payload() -> Option<File> {
    // SAFETY: the borrow ends with this statement, and `fcntl` fails if nothing has this number.
    fcntl(
        unsafe { BorrowedFd::borrow_raw(PAYLOAD) },
        FcntlArg::F_GETFD,
    )
    .ok()?;
    // SAFETY: it is open, and it was so before our first statement, so nothing of ours owns it.
    let file = unsafe { File::from_raw_fd(PAYLOAD) };
    if payload::may_carry(&file) {
        Some(file)
    } else {
        let _ = file.into_raw_fd();
        None
    }
}

/// A stream processor's error becomes the middle of containerd's own, and that an event of Kubernetes: one line, without
/// an end of its own.
fn report(error: &Error) {
    if is_stream_processor() {
        // A closed stderr is no reason to fail in another way.
        let _ = io::stderr().write_all(error.event_line().as_bytes());
    } else {
        tell(&error.to_string(), error.hint());
    }
}

/// An error and its hints, each on a line of its own. Names of files and what modules say may hold anything.
fn tell(message: &str, hints: impl IntoIterator<Item = String>) {
    let mut stderr = io::stderr().lock();
    let _ = writeln!(stderr, "ocihsm: error: {}", escaped(message));
    for hint in hints {
        let _ = writeln!(stderr, "ocihsm: hint: {}", escaped(&hint));
    }
}

/// containerd says what it feeds in this variable.
fn is_stream_processor() -> bool {
    settings::variable("STREAM_PROCESSOR_MEDIATYPE").is_some_and(|said| !said.is_empty())
}
