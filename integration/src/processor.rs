//! Runs a stream processor the way containerd does: pipes, the media type in the environment, a payload on fd 3 or no
//! fd 3 at all, and the layer's blob held open while it is fed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write, pipe};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt as _, FdMapping};
use serde_json::{Value, json};

use crate::layout::Layout;
use crate::program::Output;
use crate::token::Token;

/// Type of a payload.
pub const TYPE_URL: &str = "io.containerd.ocicrypt.v1.Payload";

/// A processor about to be fed one layer.
#[derive(Debug)]
pub struct Processor {
    argv: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    bytes: Vec<u8>,
    blob: Option<PathBuf>,
    third: Third,
    read_at_most: Option<u64>,
}

/// What the processor finds on file descriptor 3.
#[derive(Debug)]
pub enum Third {
    /// Nothing: it is closed.
    Closed,
    /// A pipe with these bytes.
    Bytes(Vec<u8>),
    /// Whatever this is.
    Is(OwnedFd),
}

/// How the processor ended, and when.
#[derive(Debug)]
pub struct Outcome {
    /// Status and output.
    pub output: Output,
    /// From the start until the process was gone.
    pub until_exit: Duration,
    /// From the start until the end of its standard output.
    pub until_end_of_output: Duration,
}

/// What a decoder said of why it opened nothing.
///
/// # Panics
/// If it opened the layer.
#[must_use]
pub fn refused(outcome: Outcome) -> String {
    let output = outcome.output;
    assert!(!output.status.success(), "{output:?}");
    output.stderr
}

impl Processor {
    /// `ocihsm decode` with these keys, the built-in policy, and a layer of a layout; no payload, no store.
    #[must_use]
    pub fn decode(token: &Token, layout: &Layout, layer: &Value, keys: &Path) -> Self {
        let digest = layer["digest"].as_str().expect("a descriptor has a digest");
        Self::new(crate::ocihsm())
            .arg("decode")
            .arg("--decryption-keys-path")
            .arg(keys)
            .env("OCICRYPT_CONFIG", "internal")
            .env("OCIHSM_RUNTIME_DIR", token.runtime())
            .env(
                "STREAM_PROCESSOR_MEDIATYPE",
                layer["mediaType"].as_str().expect("a layer has a type"),
            )
            .blob(layout.blob(digest))
    }

    /// A processor that is fed nothing.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            argv: vec![program.into()],
            environment: Vec::new(),
            bytes: Vec::new(),
            blob: None,
            third: Third::Closed,
            read_at_most: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.argv.push(arg.into());
        self
    }

    /// Runs the processor through a program that executes its arguments.
    #[must_use]
    pub fn through(mut self, wrapper: &[&str]) -> Self {
        self.argv.splice(0..0, wrapper.iter().map(OsString::from));
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Takes back a variable that was set.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.environment.retain(|(set, _)| set != name);
        self
    }

    /// Feeds this blob, which stays open meanwhile: a processor may look for it among its parent's files.
    ///
    /// # Panics
    /// If there is no such blob.
    #[must_use]
    pub fn blob(mut self, path: PathBuf) -> Self {
        self.bytes = fs::read(&path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        self.blob = Some(path);
        self
    }

    /// Feeds these bytes in the blob's place.
    #[must_use]
    pub fn bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.bytes = bytes.into();
        self
    }

    /// Gives the descriptor as containerd's clients do, with `Parameters` beside it.
    #[must_use]
    pub fn payload(self, descriptor: &Value, parameters: &Value) -> Self {
        let payload =
            json!({"DecryptConfig": {"Parameters": parameters}, "Descriptor": descriptor});
        self.third(Third::Bytes(any(TYPE_URL, payload.to_string().as_bytes())))
    }

    /// Says what file descriptor 3 is.
    #[must_use]
    pub fn third(mut self, third: Third) -> Self {
        self.third = third;
        self
    }

    /// Names a containerd root whose content store may be searched.
    #[must_use]
    pub fn store(self, root: &Path) -> Self {
        self.arg("--content-store").arg(root)
    }

    /// Closes the reading end of standard output after this many bytes.
    #[must_use]
    pub fn read_at_most(mut self, bytes: u64) -> Self {
        self.read_at_most = Some(bytes);
        self
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it cannot be started, or a PIN was printed.
    #[must_use]
    pub fn run(self) -> Outcome {
        let _open = self
            .blob
            .as_ref()
            .map(|path| File::open(path).expect("the blob was there just now"));
        let mut command = command(&self.argv, matches!(self.third, Third::Closed));
        command.envs(self.environment);
        let payload = match self.third {
            Third::Closed => None,
            Third::Is(descriptor) => {
                third(&mut command, descriptor);
                None
            }
            Third::Bytes(bytes) => {
                let (reader, writer) = pipe().expect("few files are open");
                third(&mut command, reader.into());
                Some((writer, bytes))
            }
        };
        let begin = Instant::now();
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        // It holds our copy of the child's end.
        drop(command);
        let stdin = child.stdin.take().expect("stdin is a pipe");
        let mut stdout = child.stdout.take().expect("stdout is a pipe");
        let mut stderr = child.stderr.take().expect("stderr is a pipe");
        thread::scope(|scope| {
            scope.spawn(|| feed(stdin, &self.bytes));
            if let Some((writer, bytes)) = payload {
                scope.spawn(move || feed(writer, &bytes));
            }
            let errors = scope.spawn(move || {
                let mut text = Vec::new();
                stderr.read_to_end(&mut text).expect("a pipe can be read");
                text
            });
            let output = scope.spawn(move || {
                let mut bytes = Vec::new();
                let mut limited = stdout.by_ref().take(self.read_at_most.unwrap_or(u64::MAX));
                limited.read_to_end(&mut bytes).expect("a pipe can be read");
                (bytes, begin.elapsed())
            });
            let status = child
                .wait()
                .expect("a child that was started can be waited for");
            let until_exit = begin.elapsed();
            let (stdout, until_end_of_output) =
                output.join().expect("the reading thread does not panic");
            let stderr = errors.join().expect("the reading thread does not panic");
            Outcome {
                output: Output::new(status, stdout, &stderr),
                until_exit,
                until_end_of_output,
            }
        })
    }
}

/// The bytes of a protobuf `Any`.
#[must_use]
pub fn any(type_url: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (tag, field) in [(0x0a, type_url.as_bytes()), (0x12, value)] {
        bytes.push(tag);
        let mut rest = field.len();
        while rest > 0x7f {
            bytes.push(u8::try_from(rest & 0x7f).expect("seven bits") | 0x80);
            rest >>= 7;
        }
        bytes.push(u8::try_from(rest).expect("seven bits"));
        bytes.extend(field);
    }
    bytes
}

fn command(argv: &[OsString], close_third: bool) -> Command {
    let mut command = if close_third {
        // Whoever runs the tests may have left us a file descriptor 3 that a child inherits.
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"exec "$@" 3<&-"#, "sh"]).args(argv);
        shell
    } else {
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]);
        command
    };
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn third(command: &mut Command, descriptor: OwnedFd) {
    let mapping = FdMapping {
        parent_fd: descriptor,
        child_fd: 3,
    };
    command
        .fd_mappings(vec![mapping])
        .expect("one mapping does not collide");
}

fn feed(mut pipe: impl Write, bytes: &[u8]) {
    match pipe.write_all(bytes) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            panic!("cannot feed a processor: {error}")
        }
        _ => {}
    }
}
