//! Running programs. Whatever one prints is searched for the PIN of the tests' tokens, whatever the test is about.

use std::ffi::OsStr;
use std::fmt;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use crate::{module, token};

/// A program about to run.
#[derive(Debug)]
pub struct Program {
    command: Command,
    stdin: Vec<u8>,
    indiscreet: bool,
}

/// How a program ended and what it printed, which holds no PIN.
pub struct Output {
    /// Its exit status.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: String,
}

impl Program {
    /// A program by its path, or by its name on the search path.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            command: Command::new(program),
            stdin: Vec::new(),
            indiscreet: false,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Takes a variable out of the environment.
    #[must_use]
    pub fn without_env(mut self, name: impl AsRef<OsStr>) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Sets the current directory.
    #[must_use]
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// What the program reads on standard input; nothing if not set.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Expects that another's program prints the PIN of its token; it is blotted out of the output.
    #[must_use]
    pub fn indiscreet(mut self) -> Self {
        self.indiscreet = true;
        self
    }

    /// The command as it stands, for who wants to keep the process running.
    #[must_use]
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Runs it to its end, whatever that is.
    ///
    /// # Panics
    /// If it cannot be started, or printed a PIN.
    #[must_use]
    pub fn run(mut self) -> Output {
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self
            .command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {:?}: {error}", self.command));
        let mut input = child.stdin.take().expect("stdin is a pipe");
        let bytes = std::mem::take(&mut self.stdin);
        let feeder = thread::spawn(move || match input.write_all(&bytes) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                panic!("cannot feed a program: {error}")
            }
            _ => {}
        });
        let output = child
            .wait_with_output()
            .expect("a child that was started can be waited for");
        feeder
            .join()
            .expect("the feeding thread reports by its panic");
        if self.indiscreet {
            let stderr = String::from_utf8_lossy(&output.stderr).replace(token::PIN, "<PIN>");
            return Output::new(output.status, output.stdout, stderr.as_bytes());
        }
        Output::new(output.status, output.stdout, &output.stderr)
    }

    /// Runs it and expects success.
    ///
    /// # Panics
    /// If it failed; with what it wrote to standard error.
    pub fn ok(self) -> Output {
        let name = format!("{:?}", self.command);
        let output = self.run();
        assert!(
            output.status.success(),
            "{name}: {}\n{}{}",
            output.status,
            output.text(),
            output.stderr
        );
        output
    }
}

impl Output {
    /// Checks what a program printed.
    ///
    /// # Panics
    /// If a PIN is in it.
    #[must_use]
    pub fn new(status: ExitStatus, stdout: Vec<u8>, stderr: &[u8]) -> Self {
        for (name, text) in [("stdout", &stdout[..]), ("stderr", stderr)] {
            assert!(!holds_a_pin(text), "a PIN was printed to {name}");
        }
        Self {
            status,
            stdout,
            stderr: String::from_utf8_lossy(stderr).into_owned(),
        }
    }

    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (status, length) = (self.status, self.stdout.len());
        let start = String::from_utf8_lossy(&self.stdout[..length.min(2000)]);
        write!(
            formatter,
            "{status}\n{length} bytes of output: {start:?}\nerrors: {}",
            self.stderr
        )
    }
}

/// Whether a PIN of the tests' tokens, right or wrong, is in these bytes.
#[must_use]
pub fn holds_a_pin(bytes: &[u8]) -> bool {
    let pins = [token::PIN, token::WRONG_PIN, module::PIN, module::WRONG_PIN];
    pins.iter().any(|pin| {
        bytes
            .windows(pin.len())
            .any(|window| window == pin.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "a PIN was printed to stderr")]
    fn a_printed_pin_is_noticed() {
        let _ = Program::new("sh")
            .args(["-c", &format!("echo pin-value={} >&2", token::PIN)])
            .run();
    }
}
