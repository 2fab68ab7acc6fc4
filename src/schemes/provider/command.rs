//! A provider that is a program: executed for one request, within a time and a length.

use std::io::{Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use zeroize::Zeroizing;

use super::Error;
use super::protocol::MAX_MESSAGE;
use super::words::shown;
use crate::escape::escaped;
use crate::secret::SecretBytes;

/// Most bytes of standard error that are kept.
const MAX_WORDS: usize = 64 << 10;

/// Executes the program with the request on its standard input; gives what it wrote.
pub(super) fn ask(
    name: &str,
    path: &Path,
    args: &[String],
    request: &SecretBytes,
    patience: Duration,
) -> Result<SecretBytes, Error> {
    let name = || escaped(name);
    let deadline = Instant::now() + patience;
    let silent = || Error::Silent {
        name: name(),
        patience,
    };
    let mut running = Running(
        Command::new(path)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that whatever it starts ends with it.
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Start {
                name: name(),
                path: path.to_owned(),
                source,
            })?,
    );
    let output = in_thread(running.0.stdout.take(), MAX_MESSAGE);
    let words = in_thread(running.0.stderr.take(), MAX_WORDS);
    let input = running.0.stdin.take();
    let request = request.clone();
    // A program that does not read all of it says by its status what that means.
    thread::spawn(move || input.map(|mut input| input.write_all(request.expose())));

    let left = || deadline.saturating_duration_since(Instant::now());
    let output = output.recv_timeout(left()).map_err(|_| silent())?;
    let status = loop {
        match running.0.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if left().is_zero() || output.is_none() => break None,
            Ok(None) => thread::sleep(Duration::from_millis(2)),
            Err(_) => break None,
        }
    };
    let Some(output) = output else {
        return Err(Error::TooLong {
            name: name(),
            limit: MAX_MESSAGE,
        });
    };
    let status = status.ok_or_else(silent)?;
    if !status.success() {
        let words = words.recv_timeout(left().min(Duration::from_secs(1)));
        let words = words.ok().flatten().unwrap_or_default();
        return Err(Error::Failed {
            name: name(),
            words: shown(words.expose()),
        });
    }
    Ok(output)
}

/// The process, which does not outlive the question.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.0.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads to the end; `None` comes for more than `limit` bytes.
fn in_thread(
    source: Option<impl Read + Send + 'static>,
    limit: usize,
) -> mpsc::Receiver<Option<SecretBytes>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // Pages that nobody writes to cost nothing; growing would leave copies of a secret behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 64));
        if let Some(source) = source {
            // What was read before a failure is what there is.
            let _ = source.take(limit as u64 + 1).read_to_end(&mut bytes);
        }
        let whole = bytes.len() <= limit;
        let bytes = SecretBytes::new(std::mem::take(&mut bytes));
        let _ = sender.send(whole.then_some(bytes));
    });
    receiver
}
