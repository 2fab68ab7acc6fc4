//! Files that somebody else names: opened without waiting, read within a bound.
//!
//! A path in a key file, in an image or on a command line may lead to a pipe that nobody writes to, to a device or to a
//! directory. Opening such a one can wait for ever, and opening a device can do things; so only regular files are opened.
//! What a file may hold is for the caller to say.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zeroize::Zeroizing;

use crate::secret::SecretBytes;
use crate::words::reason;

/// How long the other end of a pipe may take, all in all.
const PIPE_PATIENCE: Duration = Duration::from_secs(30);

/// Room beyond the bound, so that the read that finds the end needs no more.
const SPARE: usize = 64;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}: {}", path.display(), reason(source))]
    Failed {
        /// What we tried, a verb: `read`, `create`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Not a regular file.
    #[error("cannot read {}: it is {kind}, not a regular file", path.display())]
    NotRegular {
        /// What is there.
        path: PathBuf,
        /// What it is: `a pipe`.
        kind: &'static str,
    },
    /// It has more bytes than its bound.
    #[error("{} is over the limit of {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound in bytes.
        limit: u64,
    },
    /// A pipe whose other end did not come to an end.
    #[error("cannot read {}: it is a pipe, and its other end did not finish within {} s", path.display(), patience.as_secs())]
    Silent {
        /// The pipe.
        path: PathBuf,
        /// The time that it had.
        patience: Duration,
    },
}

/// Result with this room's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Of an action, a verb, on a file: for `map_err`.
    pub fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Failed {
            action,
            path,
            source,
        }
    }

    /// Whether nothing is there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Failed { source, .. }
            if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
    }

    /// Whether we may not.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Failed { source, .. } if source.kind() == ErrorKind::PermissionDenied)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Failed { path, .. }
            | Self::NotRegular { path, .. }
            | Self::TooLarge { path, .. }
            | Self::Silent { path, .. } => path,
        }
    }

    /// One sentence on what to do about it, where we can know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        None
    }
}

/// Opens a regular file for reading. Links are followed.
///
/// # Errors
/// [`Error::Failed`]; [`Error::NotRegular`] for a pipe, a socket, a device or a directory, which is not waited for.
pub fn open(path: &Path) -> Result<File> {
    let failed = || Error::failed("read", path);
    // Before it is opened, since opening a device can do things; and after, since another may be there by then.
    regular(path, &path.metadata().map_err(failed())?)?;
    let file = open_at_once(path).map_err(failed())?;
    regular(path, &file.metadata().map_err(failed())?)?;
    Ok(file)
}

/// A regular file's bytes.
///
/// # Errors
/// As [`open`]; [`Error::TooLarge`] over the limit, in bytes.
pub fn read(path: &Path, limit: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fill(path, open(path)?, limit, &mut bytes)?;
    Ok(bytes)
}

/// The bytes of a regular file, each of which may be secret.
///
/// # Errors
/// As [`read`].
pub fn read_secret(path: &Path, limit: usize) -> Result<SecretBytes> {
    let mut bytes = room(limit);
    fill(path, open(path)?, limit, &mut bytes)?;
    Ok(SecretBytes::new(std::mem::take(&mut bytes)))
}

/// As [`read_secret`], but a pipe will do, whose other end is waited for 30 s: what somebody names on a command line
/// may be `<(pass show hsm)`. Not for what a key file names, which nobody sits in front of.
///
/// # Errors
/// As [`read`]; [`Error::Silent`] for a pipe that does not come to its end.
pub fn read_secret_or_pipe(path: &Path, limit: usize) -> Result<SecretBytes> {
    read_or_wait(path, limit, PIPE_PATIENCE)
}

fn read_or_wait(path: &Path, limit: usize, patience: Duration) -> Result<SecretBytes> {
    let failed = || Error::failed("read", path);
    if !path.metadata().map_err(failed())?.file_type().is_fifo() {
        return read_secret(path, limit);
    }
    let file = open_at_once(path).map_err(failed())?;
    if !file.metadata().map_err(failed())?.file_type().is_fifo() {
        return read_secret(path, limit);
    }
    let mut bytes = room(limit);
    let pipe = Pipe {
        file,
        deadline: Instant::now() + patience,
    };
    match fill(path, pipe, limit, &mut bytes) {
        Err(Error::Failed { source, .. }) if source.kind() == ErrorKind::TimedOut => {
            let path = path.to_owned();
            Err(Error::Silent { path, patience })
        }
        result => result.map(|()| SecretBytes::new(std::mem::take(&mut bytes))),
    }
}

/// All of it at once, since a vector that grows leaves copies behind.
fn room(limit: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(limit + SPARE))
}

fn fill(path: &Path, input: impl Read, limit: usize, bytes: &mut Vec<u8>) -> Result<()> {
    let read = input.take(limit as u64 + 1).read_to_end(bytes);
    read.map_err(Error::failed("read", path))?;
    if bytes.len() > limit {
        return Err(Error::TooLarge {
            path: path.to_owned(),
            limit: limit as u64,
        });
    }
    Ok(())
}

fn open_at_once(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

fn regular(path: &Path, metadata: &Metadata) -> Result<()> {
    let kind = metadata.file_type();
    let kind = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(Error::NotRegular {
        path: path.to_owned(),
        kind,
    })
}

/// A pipe that was opened without waiting, read until a deadline.
struct Pipe {
    file: File,
    deadline: Instant,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            // Rounded up, so that the last millisecond is not spent in a loop.
            let left = PollTimeout::try_from(left + Duration::from_millis(1));
            let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, left.unwrap_or(PollTimeout::MAX)) {
                Ok(0) => return Err(ErrorKind::TimedOut.into()),
                Ok(_) => match (&self.file).read(buffer) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    result => return result,
                },
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn pipe(directory: &tempfile::TempDir) -> PathBuf {
        let path = directory.path().join("pipe");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        path
    }

    #[test]
    fn what_is_no_regular_file_is_refused_and_not_waited_for() {
        let directory = directory();
        let socket = directory.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        let link = directory.path().join("link");
        symlink("pipe", &link).unwrap();
        for (path, kind) in [
            (pipe(&directory), "a pipe"),
            (link, "a pipe"),
            (socket, "a socket"),
            (directory.path().to_owned(), "a directory"),
            ("/dev/zero".into(), "a device"),
        ] {
            for error in [
                open(&path).unwrap_err(),
                read(&path, 10).unwrap_err(),
                read_secret(&path, 10).unwrap_err(),
            ] {
                let shown = error.to_string();
                let expected = format!("cannot read {}: it is {kind}, not", path.display());
                assert!(shown.starts_with(&expected), "{shown}");
            }
        }
    }

    #[test]
    fn a_file_has_a_bound() {
        let directory = directory();
        let path = directory.path().join("file");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert_eq!(read_secret(&path, 5).unwrap().expose(), b"12345");
        for error in [read(&path, 4).err(), read_secret(&path, 4).err()] {
            let shown = error.unwrap().to_string();
            assert!(shown.ends_with("file is over the limit of 4 bytes"));
        }
        let absent = open(&directory.path().join("none")).unwrap_err();
        assert!(absent.is_absent(), "{absent}");
        assert!(open(&path.join("below")).unwrap_err().is_absent());
        assert!(absent.to_string().ends_with("no such file or directory"));
    }

    #[test]
    fn secret_bytes_never_move_while_they_are_read() {
        let directory = directory();
        let path = directory.path().join("file");
        fs::write(&path, [b'1'; 1000]).unwrap();
        let mut bytes = room(1000);
        let before = bytes.as_ptr();
        fill(&path, open(&path).unwrap(), 1000, &mut bytes).unwrap();
        assert_eq!((bytes.as_ptr(), bytes.len()), (before, 1000));
    }

    #[test]
    fn a_pipe_on_a_command_line_is_read_to_its_end() {
        let directory = directory();
        let path = pipe(&directory);
        let writer = thread::spawn({
            let path = path.clone();
            move || {
                let mut pipe = File::options().write(true).open(path).unwrap();
                for part in ["12", "34\n"] {
                    pipe.write_all(part.as_bytes()).unwrap();
                    thread::sleep(Duration::from_millis(20));
                }
            }
        });
        let bytes = read_secret_or_pipe(&path, 10).unwrap();
        writer.join().unwrap();
        assert_eq!(bytes.expose(), b"1234\n");
    }

    #[test]
    fn a_pipe_without_another_end_is_given_up() {
        let directory = directory();
        let path = pipe(&directory);
        let error = read_or_wait(&path, 10, Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, Error::Silent { .. }), "{error}");
        // Nor does one that begins and never ends hold us up.
        let writer = File::options().read(true).write(true).open(&path).unwrap();
        (&writer).write_all(b"12").unwrap();
        let error = read_or_wait(&path, 10, Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, Error::Silent { .. }), "{error}");
    }
}
