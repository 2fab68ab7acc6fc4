//! A worker as its parent sees it: this program, executed anew for one module, under a deadline, behind one socket.
//!
//! A module may hang, spin, abort, print, leak descriptors or flood its socket: none of it reaches the process that
//! streams, and no memory is shared with it. What it is asked and answers stands in `protocol.rs`; what it does with that,
//! in `worker`.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::ckr::Ckr;
use super::error::Error;
use super::failure::Failure;
use super::function::Function;
use super::incoming::Incoming;
use super::protocol::{ANSWER, MAX_ANSWER, RETURNED, Request, Start, framed};
use super::{Environment, HsmSettings, worker};

/// Time to finalize the module and end, once nothing more is asked.
const FAREWELL: Duration = Duration::from_secs(2);
/// How often a worker that keeps its socket open is looked after: another process may have inherited it.
const LOOK: Duration = Duration::from_millis(200);

/// The module that a worker is for: its file, and the environment that it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place<'a> {
    pub(super) module: &'a Path,
    pub(super) env: &'a BTreeMap<String, String>,
}

/// A worker. It is dead and reaped when this is dropped.
///
/// It also dies with the thread that started it (`PR_SET_PDEATHSIG`).
#[derive(Debug)]
pub(super) struct Child {
    process: process::Child,
    status: Option<ExitStatus>,
    socket: UnixStream,
    incoming: Incoming,
    module: PathBuf,
    /// What it was in last.
    function: Function,
    /// Time that it has for an answer.
    timeout: Duration,
    /// When the answer that is waited for has to be there.
    deadline: Instant,
}

/// What a read from the worker came to.
#[derive(PartialEq, Eq)]
enum Came {
    All,
    End,
    Nothing,
}

impl Child {
    /// Executes this program as a worker, and tells it which module to load. Does not wait for that.
    ///
    /// # Errors
    /// [`Error::Worker`]; [`Error::Variable`] for one that no environment can hold.
    pub(super) fn start(
        place: Place<'_>,
        init: Option<&str>,
        settings: &HsmSettings,
    ) -> Result<Self, Error> {
        let (socket, theirs) = UnixStream::pair().map_err(cannot_start)?;
        let process = command(place, &settings.environment)?
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .map_err(cannot_start)?;
        let mut child = Self {
            process,
            status: None,
            socket,
            incoming: Incoming::default(),
            module: place.module.to_owned(),
            function: Function::dlopen,
            timeout: settings.timeout,
            deadline: Instant::now() + settings.timeout,
        };
        child.socket.set_nonblocking(true).map_err(cannot_start)?;
        let start = Start {
            parent: process::id(),
            module: place.module.as_os_str().to_owned(),
            env: place.env.clone(),
            init: init.map(str::to_owned),
            runtime_dir: settings
                .runtime_dir
                .as_deref()
                .map(|path| path.as_os_str().to_owned()),
            allow_final_try: settings.allow_final_try,
        };
        child.send(&framed(&start).map_err(cannot_start)?)?;
        Ok(child)
    }

    /// Whether what it was in last is about one token, so that another may be well.
    pub(super) fn is_about_token(&self) -> bool {
        !matches!(
            self.function,
            Function::dlopen
                | Function::C_GetFunctionList
                | Function::C_Initialize
                | Function::C_GetInfo
                | Function::C_GetSlotList
                | Function::C_GetSlotInfo
                | Function::C_GetTokenInfo
        )
    }

    /// Asks one question, and waits for the answer. After an error there is nobody to be asked.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Busy`], [`Error::Crashed`], [`Error::TooLarge`]. What the worker itself failed with is
    /// the inner result.
    pub(super) fn ask<T: DeserializeOwned>(
        &mut self,
        request: &Request,
    ) -> Result<Result<T, Failure>, Error> {
        let frame = framed(request).map_err(cannot_speak)?;
        self.deadline = Instant::now() + self.timeout;
        self.send(&frame)?;
        self.answer()
    }

    /// Begins its end: it finalizes the module and exits.
    pub(super) fn dismiss(&self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
    }

    fn answer<T: DeserializeOwned>(&mut self) -> Result<Result<T, Failure>, Error> {
        let mut first = [0];
        loop {
            self.require(&mut first)?;
            match first[0] {
                ANSWER => break,
                RETURNED => self.returned()?,
                number => match Function::from_number(number) {
                    Some(next) => self.function = next,
                    None => return Err(self.crashed()),
                },
            }
            // A module that floods its socket must not have more time than one that is silent.
            if self.remaining().is_none() {
                return Err(self.timed_out());
            }
        }
        let mut length = [0; 4];
        self.require(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_ANSWER {
            return Err(Error::TooLarge {
                what: "the answer of the PKCS#11 module's process",
                limit: MAX_ANSWER as u64,
            });
        }
        let mut json = Zeroizing::new(vec![0; length]);
        self.require(&mut json)?;
        serde_json::from_slice(&json).map_err(|_| self.crashed())
    }

    /// What a function returned, for whoever follows what happens. Never with an argument.
    fn returned(&mut self) -> Result<(), Error> {
        let (mut code, mut micros) = ([0; 8], [0; 4]);
        self.require(&mut code)?;
        self.require(&mut micros)?;
        let code = Ckr(u64::from_le_bytes(code) as cryptoki_sys::CK_RV);
        tracing::debug!(
            target: "ocihsm::pkcs11",
            function = self.function.name(),
            rv = %code,
            ms = f64::from(u32::from_le_bytes(micros)) / 1000.0,
        );
        Ok(())
    }

    fn require(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        match self.receive(buffer)? {
            Came::All => Ok(()),
            Came::Nothing => Err(self.timed_out()),
            Came::End => Err(self.crashed()),
        }
    }

    /// Fills the buffer, unless the deadline or the worker's end comes first.
    fn receive(&mut self, mut buffer: &mut [u8]) -> Result<Came, Error> {
        loop {
            let taken = self.incoming.take(buffer);
            buffer = &mut buffer[taken..];
            if buffer.is_empty() {
                return Ok(Came::All);
            }
            match self.incoming.fill(&self.socket) {
                Ok(0) => return Ok(Came::End),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(Came::End);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let Some(left) = self.remaining() else {
                        return Ok(Came::Nothing);
                    };
                    let ready = self.poll(PollFlags::POLLIN, left.min(LOOK));
                    // The socket is read once more after the worker's end, since it may have written just before.
                    if !ready && self.has_ended() && !self.poll(PollFlags::POLLIN, Duration::ZERO) {
                        return Ok(Came::End);
                    }
                }
                Err(source) => return Err(cannot_speak(source)),
            }
        }
    }

    /// Hands a message over. A worker that ends meanwhile is found out by what it leaves unsaid.
    fn send(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            match (&self.socket).write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let Some(left) = self.remaining() else {
                        return Err(self.timed_out());
                    };
                    if !self.poll(PollFlags::POLLOUT, left.min(LOOK)) && self.has_ended() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                Err(source) => return Err(cannot_speak(source)),
            }
        }
        Ok(())
    }

    fn poll(&self, what: PollFlags, left: Duration) -> bool {
        // Rounded up, so that the last millisecond is not spent in a loop.
        let timeout = match left {
            Duration::ZERO => PollTimeout::ZERO,
            left => {
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            }
        };
        poll(&mut [PollFd::new(self.socket.as_fd(), what)], timeout).is_ok_and(|ready| ready > 0)
    }

    fn remaining(&self) -> Option<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        (left > Duration::ZERO).then_some(left)
    }

    fn has_ended(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.process.try_wait().ok().flatten();
        }
        self.status.is_some()
    }

    /// Waits for the worker's end until the deadline, then kills it. One that does not die of that (a driver that hangs
    /// in the kernel) is left to the system.
    fn wait(&mut self) -> Option<ExitStatus> {
        let mut killed = false;
        let mut pause = Duration::from_micros(50);
        while !self.has_ended() {
            if self.remaining().is_none() {
                if killed {
                    return None;
                }
                killed = true;
                let _ = self.process.kill();
                self.deadline = Instant::now() + FAREWELL;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        }
        self.status
    }

    fn timed_out(&self) -> Error {
        let (module, timeout) = (self.module.clone(), self.timeout);
        match self.function {
            Function::flock => Error::Busy { module, timeout },
            function => Error::Timeout {
                module,
                function: function.name(),
                timeout,
            },
        }
    }

    fn crashed(&mut self) -> Error {
        self.deadline = self.deadline.min(Instant::now() + FAREWELL);
        let status = self.wait();
        let signal = status.and_then(|status| status.signal());
        let ending = match signal.map(Signal::try_from) {
            Some(Ok(Signal::SIGKILL)) => "it broke off".to_owned(),
            Some(Ok(signal)) => format!("it was ended by {signal}"),
            Some(Err(_)) => "it was ended by a signal".to_owned(),
            None => match status.and_then(|status| status.code()) {
                Some(code) => format!("it exited with status {code}"),
                None => "it broke off".to_owned(),
            },
        };
        Error::Crashed {
            module: self.module.clone(),
            function: self.function.name(),
            ending,
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.dismiss();
        self.deadline = Instant::now() + FAREWELL;
        // What it still announces is of no interest; its end closes the socket.
        let mut rest = [0; 64];
        while matches!(self.receive(&mut rest), Ok(Came::All)) && self.remaining().is_some() {}
        self.wait();
    }
}

/// This program as a worker, in the module's environment: what it begins with, and what the key file adds. That is set
/// as the program is executed, so that what the loader looks at takes effect.
fn command(place: Place<'_>, environment: &Environment) -> Result<Command, Error> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0(worker::PROGRAM)
        .arg(worker::SUBCOMMAND)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Environment::Only(variables) = environment {
        command.env_clear().current_dir(environment.directory());
        for (name, value) in variables {
            command.env(checked(name, value)?, value);
        }
    }
    for (name, value) in place.env {
        command.env(checked(name, value)?, value);
    }
    Ok(command)
}

fn checked<'a>(name: &'a str, value: &str) -> Result<&'a str, Error> {
    if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
        return Err(Error::Variable {
            name: name.chars().take(80).collect(),
        });
    }
    Ok(name)
}

fn cannot_start(source: io::Error) -> Error {
    Error::Worker {
        action: "start a process for the PKCS#11 module",
        source: Arc::new(source),
    }
}

fn cannot_speak(source: io::Error) -> Error {
    Error::Worker {
        action: "speak to the PKCS#11 module's process",
        source: Arc::new(source),
    }
}
