//! A file that holds a PIN, and nothing else.
//!
//! What looks like a slip is refused before it is sent: each wrong PIN brings the token nearer to its lock. Of the
//! content nothing is ever quoted.

use std::path::Path;

use crate::error::{Error, Result};
use crate::file;
use crate::secret::{Pin, SecretBytes};

/// Most bytes that a PIN file may have; tokens take 255 at most.
const MAX_PIN_FILE: usize = 1 << 10;

/// What editors of Windows put at the beginning of a text in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Pairs of quotes that somebody copied along.
const QUOTES: [(char, char); 5] = [('"', '"'), ('\'', '\''), ('“', '”'), ('‘', '’'), ('`', '`')];

/// Reads the PIN file that a key file names.
///
/// # Errors
/// [`Error::InFile`] when it cannot be read, or is no regular file; [`Error::InvalidPinFile`] for what cannot be a PIN,
/// or hardly can be meant.
pub(super) fn read(path: &Path) -> Result<Pin> {
    pin_in(path, &file::read_secret(path, MAX_PIN_FILE)?)
}

/// Reads a PIN file that somebody named on a command line. It may be a pipe, which is waited for a while.
///
/// # Errors
/// As [`crate::keys::key_file::KeyFile::pin`].
pub fn read_given(path: &Path) -> Result<Pin> {
    pin_in(path, &file::read_secret_or_pipe(path, MAX_PIN_FILE)?)
}

/// What is wrong with a PIN, if it is most likely not what was meant.
#[must_use]
pub fn slip(pin: &str) -> Option<&'static str> {
    let mut inner = pin.chars();
    let quoted = match (inner.next(), inner.next_back()) {
        (Some(first), Some(last)) => QUOTES.contains(&(first, last)),
        _ => false,
    };
    if pin.contains(['\n', '\r']) {
        Some("has more than one line")
    } else if pin.starts_with(char::is_whitespace) || pin.ends_with(char::is_whitespace) {
        Some("begins or ends with a blank or a tab")
    } else if pin
        .chars()
        .any(|char| char.is_control() || "\u{feff}\u{200b}".contains(char))
    {
        Some("holds a tab or another character that cannot be seen")
    } else if quoted {
        Some("has quotes around the PIN, which would be a part of it")
    } else {
        None
    }
}

/// One line, of which the end does not count.
fn pin_in(path: &Path, bytes: &SecretBytes) -> Result<Pin> {
    let bytes = bytes.expose();
    let invalid = |what| Error::InvalidPinFile {
        path: path.to_owned(),
        what,
    };
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(invalid("is UTF-16, and has to be UTF-8"));
    }
    let line = bytes.strip_prefix(MARK).unwrap_or(bytes);
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line).map_err(|_| invalid("is not UTF-8"))?;
    if let Some(what) = slip(text) {
        return Err(invalid(what));
    }
    Pin::new(text.to_owned()).ok_or_else(|| invalid("is empty"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn pin(content: &[u8]) -> Result<Pin> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        fs::write(&path, content).unwrap();
        let read = read(&path);
        assert_eq!(
            read.as_ref().ok().map(Pin::expose),
            read_given(&path).as_ref().ok().map(Pin::expose)
        );
        read
    }

    #[test]
    fn one_line_end_and_a_mark_at_the_beginning_do_not_count() {
        for content in [
            "12 34",
            "12 34\n",
            "12 34\r\n",
            "\u{feff}12 34",
            "\u{feff}12 34\r\n",
        ] {
            assert_eq!(
                pin(content.as_bytes()).unwrap().expose(),
                "12 34",
                "{content:?}"
            );
        }
        for odd in ["'", "\"12", "12'", "'12\"", "a'b'c", "ü34"] {
            assert_eq!(pin(odd.as_bytes()).unwrap().expose(), odd);
        }
    }

    #[test]
    fn what_looks_like_a_slip_is_refused_and_not_quoted() {
        for (content, part) in [
            (&b""[..], "is empty"),
            (b"\n", "is empty"),
            (b"\xef\xbb\xbf\n", "is empty"),
            (b"1234\n\n", "more than one line"),
            (b"1234\r\r\n", "more than one line"),
            (b"1234\n5678", "more than one line"),
            (b" 1234\n", "blank or a tab"),
            (b"1234 \n", "blank or a tab"),
            (b"1234\t", "blank or a tab"),
            (b"\t1234", "blank or a tab"),
            ("1234\u{a0}".as_bytes(), "blank or a tab"),
            (b" ", "blank or a tab"),
            (b"12\t34", "cannot be seen"),
            (b"1234\0", "cannot be seen"),
            ("12\u{200b}34".as_bytes(), "cannot be seen"),
            (b"\"1234\"\n", "quotes around"),
            (b"'1234'", "quotes around"),
            ("“1234”".as_bytes(), "quotes around"),
            (b"\"\"", "quotes around"),
            (b"\xff1234", "is not UTF-8"),
            (b"\xff\xfe1\x002\x003\x004\x00", "is UTF-16"),
            (&[b'1'; 1025], "over the limit of 1024"),
        ] {
            let error = pin(content).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(part) && !shown.contains("1234"), "{shown}");
        }
    }
}
