//! A process of its own for one module: forked before any thread exists, under a deadline, with nothing of ours open
//! but one pipe.
//!
//! A module may hang, spin, abort, print, leak descriptors or change the environment: none of it reaches the process
//! that streams. What is done in there is the caller's closure; what comes back is one JSON text, and before it the
//! name of each function, so that a hang or a crash can be placed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{self, ForkResult, Pid, getpid, getppid};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::Environment;
use super::failure::Failure;
use super::function::Function;
use crate::error::{Error, Result};

/// Most bytes that a child may answer with. 256 opened keys of 2 KiB, in base64, are under 1 MiB.
const MAX_ANSWER: u32 = 4 << 20;
/// First byte of the answer; every smaller one announces a function.
const ANSWER: u8 = 0xff;
/// Time to finalize the module and end, once the answer is there.
const FAREWELL: Duration = Duration::from_secs(2);
/// How often a child that keeps its pipe open is looked after: another process may have inherited it.
const LOOK: Duration = Duration::from_millis(200);
/// Lowest number of the pipe in the child, where a module's stray descriptors do not meet it.
const PIPE_FD: RawFd = 300;

/// The module that a child is for: its file, and the environment that it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place<'a> {
    pub(super) module: &'a Path,
    pub(super) env: &'a BTreeMap<String, String>,
}

/// The child's end of the pipe.
#[derive(Debug)]
pub(super) struct Reporter {
    pipe: File,
}

impl Reporter {
    /// Says which function is called next. A parent that is gone is found out at the answer.
    pub(super) fn announce(&self, function: Function) {
        let _ = (&self.pipe).write_all(&[function.number()]);
    }

    /// Hands over the answer. The work goes on after it only to tidy up.
    pub(super) fn answer<T: Serialize>(&self, answer: &Result<T, Failure>) -> io::Result<()> {
        let json = Zeroizing::new(serde_json::to_vec(answer)?);
        let length = u32::try_from(json.len()).unwrap_or(u32::MAX);
        let mut pipe = &self.pipe;
        pipe.write_all(&[ANSWER])?;
        pipe.write_all(&length.to_le_bytes())?;
        pipe.write_all(&json)
    }
}

/// Runs `work` in a child of its own. It hands over its answer by itself, since it has to tidy up after that.
///
/// # Errors
/// [`Error::HsmTimeout`], [`Error::HsmCrashed`], and [`Error::Threads`] where a fork would not be safe. What the work
/// itself failed with is the inner result.
pub(super) fn run<T: Serialize + DeserializeOwned>(
    place: Place<'_>,
    environment: &Environment,
    timeout: Duration,
    work: impl FnOnce(&Reporter) -> io::Result<()>,
) -> Result<Result<T, Failure>> {
    alone()?;
    let (reader, writer) = unistd::pipe2(OFlag::O_CLOEXEC).map_err(cannot_start)?;
    let parent = getpid();
    #[allow(unsafe_code)]
    // SAFETY: this process has one thread, as was just checked, so the child is a full copy of it in which
    // everything may be called.
    let fork = unsafe { unistd::fork() }.map_err(cannot_start)?;
    match fork {
        ForkResult::Child => {
            // Nothing may unwind from here into a second life of the parent's own code.
            let status = panic::catch_unwind(AssertUnwindSafe(|| {
                panic::set_hook(Box::new(|_| {}));
                let reporter = settle(parent, writer)?;
                let result = match enter(environment, place.env) {
                    Ok(()) => work(&reporter),
                    Err(failure) => reporter.answer::<T>(&Err(failure)),
                };
                // Not closed before the module's memory is gone, or the parent would have to ask again and again.
                std::mem::forget(reporter);
                result
            }));
            let status = match status {
                Ok(Ok(())) => 0,
                Ok(Err(_)) => 100,
                Err(_) => 101,
            };
            #[allow(unsafe_code)]
            // SAFETY: `_exit` has no preconditions. It is meant: no handler of the module's, and none that the
            // parent registered, runs in this process.
            unsafe {
                nix::libc::_exit(status)
            }
        }
        ForkResult::Parent { child } => {
            drop(writer);
            Guardian {
                child: Some(child),
                place,
                timeout,
                deadline: Instant::now() + timeout,
            }
            .listen(File::from(reader))
        }
    }
}

/// The parent's side. Whatever happens, the child is dead and reaped when this is dropped.
struct Guardian<'a> {
    child: Option<Pid>,
    place: Place<'a>,
    timeout: Duration,
    deadline: Instant,
}

impl Guardian<'_> {
    fn listen<T: DeserializeOwned>(mut self, mut pipe: File) -> Result<Result<T, Failure>> {
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(cannot_start)?;
        let mut function = Function::dlopen;
        let mut byte = [0];
        loop {
            match self.read(&mut pipe, &mut byte)? {
                Came::Nothing => return Err(self.timed_out(function)),
                Came::End => return Err(self.crashed(function)),
                Came::All if byte[0] == ANSWER => break,
                Came::All => match Function::from_number(byte[0]) {
                    Some(next) => function = next,
                    None => return Err(self.crashed(function)),
                },
            }
        }
        let mut length = [0; 4];
        if self.read(&mut pipe, &mut length)? != Came::All {
            return Err(self.crashed(function));
        }
        let length = u32::from_le_bytes(length);
        if length > MAX_ANSWER {
            return Err(Error::TooLarge {
                what: "the answer of the PKCS#11 module's process",
                limit: MAX_ANSWER.into(),
            });
        }
        let mut json = Zeroizing::new(vec![0; length as usize]);
        if self.read(&mut pipe, &mut json)? != Came::All {
            return Err(self.crashed(function));
        }
        let answer = serde_json::from_slice(&json).map_err(|_| self.crashed(function))?;
        self.deadline = Instant::now() + FAREWELL;
        // What it still announces is of no interest; its end closes the pipe.
        self.read(&mut pipe, &mut [0; 64])?;
        self.wait();
        Ok(answer)
    }

    /// Fills the buffer, unless the deadline or the child's end comes first.
    fn read(&self, pipe: &mut File, mut buffer: &mut [u8]) -> Result<Came> {
        while !buffer.is_empty() {
            match pipe.read(buffer) {
                Ok(0) => return Ok(Came::End),
                Ok(read) => buffer = &mut buffer[read..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let Some(left) = self.left() else {
                        return Ok(Came::Nothing);
                    };
                    let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
                    let ready = poll(&mut fds, poll_timeout(left.min(LOOK)));
                    // The pipe is read once more after the child's end, since it may have written just before.
                    if ready == Ok(0) && self.has_ended() && !readable(pipe) {
                        return Ok(Came::End);
                    }
                }
                Err(source) => return Err(cannot_listen(source)),
            }
        }
        Ok(Came::All)
    }

    fn left(&self) -> Option<Duration> {
        self.deadline
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
    }

    /// Whether the child is dead, without reaping it: its status is wanted later.
    fn has_ended(&self) -> bool {
        use nix::sys::wait::{Id, waitid};
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        self.child.is_none_or(|child| {
            !matches!(waitid(Id::Pid(child), flags), Ok(WaitStatus::StillAlive))
        })
    }

    /// Waits for the child's end until the deadline, then kills it. A child that does not die of that (a driver
    /// that hangs in the kernel) is left to the system.
    fn wait(&mut self) -> Option<WaitStatus> {
        let child = self.child.take()?;
        let mut killed = false;
        let mut pause = Duration::from_micros(50);
        loop {
            match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
                Ok(status) => return Some(status),
                Err(_) => return None,
            }
            if self.left().is_none() {
                if killed {
                    return None;
                }
                killed = true;
                let _ = kill(child, Signal::SIGKILL);
                self.deadline = Instant::now() + FAREWELL;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        }
    }

    fn timed_out(&self, function: Function) -> Error {
        let (module, timeout) = (self.place.module.to_owned(), self.timeout);
        match function {
            Function::flock => Error::HsmBusy { module, timeout },
            _ => Error::HsmTimeout {
                module,
                function: function.name(),
                timeout,
            },
        }
    }

    fn crashed(&mut self, function: Function) -> Error {
        self.deadline = self.deadline.min(Instant::now() + FAREWELL);
        let ending = match self.wait() {
            Some(WaitStatus::Signaled(_, Signal::SIGKILL, _)) | None => "it broke off".to_owned(),
            Some(WaitStatus::Signaled(_, signal, _)) => format!("it was ended by {signal}"),
            Some(WaitStatus::Exited(_, status)) => format!("it exited with status {status}"),
            Some(_) => "it stopped".to_owned(),
        };
        Error::HsmCrashed {
            module: self.place.module.to_owned(),
            function: function.name(),
            ending,
        }
    }
}

impl Drop for Guardian<'_> {
    fn drop(&mut self) {
        self.deadline = Instant::now();
        self.wait();
    }
}

/// What a read from the child came to.
#[derive(PartialEq, Eq)]
enum Came {
    All,
    End,
    Nothing,
}

/// Only a process with one thread may fork and go on working in the child.
fn alone() -> Result<()> {
    let threads = std::fs::read_dir("/proc/self/task")
        .map(Iterator::count)
        .map_err(|source| Error::File {
            action: "list",
            path: "/proc/self/task".into(),
            source,
        })?;
    match threads {
        1 => Ok(()),
        _ => Err(Error::Threads { threads }),
    }
}

/// Cuts the child off from what the parent has: descriptors, core dumps, and a life beyond the parent's.
fn settle(parent: Pid, writer: OwnedFd) -> io::Result<Reporter> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != parent {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    // A core pattern that is a pipe ignores the limit, but not this.
    prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;

    let limit = getrlimit(Resource::RLIMIT_NOFILE)?.0;
    let lowest =
        PIPE_FD.min(i32::try_from(limit / 2).unwrap_or(PIPE_FD)) + (getpid().as_raw() & 0x3f);
    let pipe = fcntl(&writer, FcntlArg::F_DUPFD_CLOEXEC(lowest))
        .or_else(|_| fcntl(&writer, FcntlArg::F_DUPFD_CLOEXEC(3)))?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    unistd::dup2_stdin(&null)?;
    unistd::dup2_stdout(&null)?;
    unistd::dup2_stderr(&null)?;
    // Both are closed below, by number.
    std::mem::forget((null, writer));
    close_all_but(pipe)?;
    #[allow(unsafe_code)]
    // SAFETY: the number is the duplicate made above, which nothing else owns.
    let pipe = unsafe { File::from_raw_fd(pipe) };
    Ok(Reporter { pipe })
}

/// Closes every descriptor above 2 except one. The values in this process that own them are never dropped: it ends by
/// `_exit`.
fn close_all_but(kept: RawFd) -> io::Result<()> {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&fd| fd > 2 && fd != kept)
        .collect();
    for fd in open {
        // The directory's own descriptor is among them, and closed already.
        let _ = unistd::close(fd);
    }
    Ok(())
}

/// Sets the module's environment: what it begins with, and what the key file adds.
fn enter(environment: &Environment, env: &BTreeMap<String, String>) -> Result<(), Failure> {
    if let Environment::Only(variables) = environment {
        for (name, _) in std::env::vars_os() {
            #[allow(unsafe_code)]
            // SAFETY: as below.
            unsafe {
                std::env::remove_var(name);
            }
        }
        set(variables)?;
    }
    set(env)
}

fn set(variables: &BTreeMap<String, String>) -> Result<(), Failure> {
    for (name, value) in variables {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(Failure::Environment {
                name: name.chars().take(80).collect(),
            });
        }
        #[allow(unsafe_code)]
        // SAFETY: this process was just forked and has one thread.
        unsafe {
            std::env::set_var(name, value);
        }
    }
    Ok(())
}

fn readable(pipe: &File) -> bool {
    let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

fn poll_timeout(left: Duration) -> PollTimeout {
    // Rounded up, so that the last millisecond is not spent in a loop.
    PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
}

fn cannot_start(errno: Errno) -> Error {
    Error::Stream {
        action: "start a process for the PKCS#11 module",
        source: errno.into(),
    }
}

fn cannot_listen(source: io::Error) -> Error {
    Error::Stream {
        action: "listen to the PKCS#11 module's process",
        source,
    }
}
