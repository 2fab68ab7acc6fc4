//! Questions at the terminal: a PIN, which it does not show, and whether to do what cannot be undone.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};

use nix::sys::termios::{
    LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};
use zeroize::Zeroizing;

use crate::commands::{Error, Result};
use crate::secret::Pin;

/// Longest line that is read; a terminal hands over 4095 bytes at most.
const MAX_LINE: usize = 4096;
/// What Ctrl-C sends.
const INTERRUPT: u8 = 3;

/// Whether there is one to ask at.
pub(super) fn has_terminal() -> bool {
    terminal().is_some()
}

fn terminal() -> Option<File> {
    let mut options = File::options();
    options.read(true).write(true).open("/dev/tty").ok()
}

/// Asks a question that is answered with yes or no. `None` when there is no terminal.
pub(super) fn confirm(question: &str) -> Result<Option<bool>> {
    let Some(terminal) = terminal() else {
        return Ok(None);
    };
    let line = write!(&terminal, "{question} [yes/no] ").and_then(|()| line(&terminal));
    let line = line.map_err(|source| Error::Stream {
        action: "ask",
        source,
    })?;
    let answer = line.trim_ascii();
    Ok(Some(
        answer.eq_ignore_ascii_case(b"yes") || answer.eq_ignore_ascii_case(b"y"),
    ))
}

/// Asks for a PIN. `None` when there is no terminal, or nothing was typed.
pub(super) fn ask(question: &str) -> Result<Option<Pin>> {
    let Some(terminal) = terminal() else {
        return Ok(None);
    };
    let failed = |source| Error::Stream {
        action: "ask for the PIN",
        source,
    };
    let silent = Silent::new(&terminal).map_err(failed)?;
    let line = write!(&terminal, "{question}").and_then(|()| line(&terminal));
    drop(silent);
    // The line end that was typed was not shown either.
    let _ = writeln!(&terminal);
    let line = line.map_err(failed)?;
    if line.contains(&INTERRUPT) {
        // An error and not the signal, so that what was begun is cleared away.
        return Err(failed(ErrorKind::Interrupted.into()));
    }
    let end = line.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
    let text = std::str::from_utf8(&line[..end.unwrap_or(line.len())])
        .map_err(|_| failed(ErrorKind::InvalidData.into()))?;
    Ok(Pin::new(text.to_owned()))
}

fn line(mut terminal: &File) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(vec![0; MAX_LINE]);
    // In canonical mode one read is one line.
    let length = terminal.read(&mut line)?;
    line.truncate(length);
    Ok(line)
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Silent<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Silent<'a> {
    fn new(terminal: &'a File) -> std::io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        // Ctrl-C must not end us while the terminal is silent, so here it ends the line.
        silent.local_flags -= LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ISIG;
        silent.local_flags |= LocalFlags::ICANON;
        silent.control_chars[SpecialCharacterIndices::VEOL as usize] = INTERRUPT;
        tcsetattr(terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}
