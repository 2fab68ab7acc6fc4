//! Runs a program for what comes of it alone, within a time.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::words::reason;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs it in the root directory with this on its standard input: how it ended, or why it did not start or end.
pub(super) fn run(command: &mut Command, input: &[u8]) -> Result<ExitStatus, String> {
    let mut child = input_file(input)
        .and_then(|input| {
            command
                .current_dir("/")
                .stdin(input)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
        })
        .map_err(|error| reason(&error))?;
    match end(&mut child) {
        Some(status) => Ok(status),
        None => {
            let _ = child.kill();
            let _ = child.wait();
            Err(format!("it did not end within {} s", PATIENCE.as_secs()))
        }
    }
}

fn input_file(input: &[u8]) -> io::Result<File> {
    if input.is_empty() {
        return File::open("/dev/null");
    }
    let mut file = File::from(memfd_create("input", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(input)?;
    file.rewind()?;
    Ok(file)
}

fn end(child: &mut Child) -> Option<ExitStatus> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        thread::sleep(Duration::from_millis(2));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_it_ends_is_told_within_the_time() {
        let code = |command: &mut Command, input: &[u8]| run(command, input).unwrap().code();
        assert_eq!(code(&mut Command::new("/bin/true"), &[]), Some(0));
        assert_eq!(code(&mut Command::new("/bin/false"), &[]), Some(1));
        assert_eq!(code(Command::new("/bin/grep").arg("b"), b"abc"), Some(0));
        let why = run(&mut Command::new("/absent"), &[]).unwrap_err();
        assert_eq!(why, "no such file or directory");
        let why = run(Command::new("/bin/sleep").arg("60"), &[]).unwrap_err();
        assert_eq!(why, "it did not end within 5 s");
    }
}
