//! Signals that end the writing of an image: it is taken back, and if something waits for what does not come, left behind.

use std::io::{self, Write as _};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

use crate::commands::{Error, Result};
use crate::image::stop::{self, Named};

/// For how long a second signal is part of the first: `timeout` and shells send one to the process and to its group.
const ECHO: Duration = Duration::from_secs(1);
/// How long it may take to end as after any other error. It includes a chunk on its way (2 s), and giving up its upload.
const PATIENCE: Duration = Duration::from_secs(4);

/// From here on SIGINT, SIGTERM and SIGHUP make us clean up and end; one that comes later ends us as it is. One that
/// whoever started us had ignored (`nohup`) stays so.
///
/// # Errors
/// Where the system refuses.
pub(super) fn stop_on_signals() -> Result<()> {
    let ignored = ignored_signals();
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .filter(|&signal| ignored >> (signal as u32 - 1) & 1 == 0)
        .collect();
    let failed = |source| Error::Stream {
        action: "wait for signals",
        source,
    };
    // Threads begin with the mask of the one that starts them, so the waiting one gets every signal.
    signals
        .thread_block()
        .map_err(|errno| failed(errno.into()))?;
    let wait = move || {
        let mut first: Option<Instant> = None;
        while let Ok(signal) = signals.wait() {
            if first.get_or_insert_with(Instant::now).elapsed() > ECHO {
                process::exit(128 + signal as i32);
            }
            if !stop::is_set() {
                let _ = thread::Builder::new().spawn(leave_behind);
                stop::now();
            }
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .map(drop)
        .map_err(failed)
}

/// Ends us where something hears of no signal: a name that is looked up, a disk that does not answer.
fn leave_behind() {
    thread::sleep(PATIENCE);
    let error = match stop::leave_behind() {
        Named::Yes => return,
        Named::No => Error::Stopped,
        Named::Asked => Error::StoppedWhileNaming,
    };
    let mut stderr = io::stderr();
    let _ = writeln!(stderr, "ocihsm: error: {error}");
    if let Some(hint) = error.hint() {
        let _ = writeln!(stderr, "ocihsm: hint: {hint}");
    }
    process::exit(1);
}

/// The signals that are ignored, the first in the lowest bit. A signal that is waited for is not ignored any more, so
/// this has to be known before (Linux, proc(5)).
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}

/// # Errors
/// [`Error::Stopped`] after a signal.
pub(super) fn not_stopped() -> Result<()> {
    match stop::is_set() {
        true => Err(Error::Stopped),
        false => Ok(()),
    }
}

/// An error once a signal asked us to end. Not `ErrorKind::Interrupted`, after which readers try again.
pub(super) fn go_on() -> io::Result<()> {
    match stop::is_set() {
        true => Err(io::ErrorKind::Other.into()),
        false => Ok(()),
    }
}
