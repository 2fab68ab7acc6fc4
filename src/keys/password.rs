//! The password of a private key, as command lines give it behind the file: `FILE:pass=TEXT`, `FILE:file=PATH`,
//! `FILE:fd=N`, `FILE:TEXT`.
//!
//! A file whose name holds a colon counts as it is, if it is there. No message holds what stands behind a colon of another
//! one: it may be a password.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use crate::file;
use crate::secret::SecretBytes;

/// Most bytes of a password.
const MAX_PASSWORD: usize = 4096;

/// The file, and its password if one is given.
///
/// # Errors
/// [`Error::InvalidPassword`] for a description that has no meaning; [`Error::InFile`] when its file cannot be read.
pub(super) fn split(given: &Path) -> Result<(PathBuf, Option<SecretBytes>)> {
    let text = given.as_os_str().as_bytes();
    let Some(at) = end_of_name(given) else {
        return Ok((given.to_owned(), None));
    };
    let path = PathBuf::from(OsStr::from_bytes(&text[..at]));
    let password = read(&path, &text[at + 1..])?;
    Ok((path, Some(password)))
}

/// What a message may say of what was given: without the password.
#[must_use]
pub fn shown(given: &Path) -> PathBuf {
    let text = given.as_os_str().as_bytes();
    let end = end_of_name(given).unwrap_or(text.len());
    PathBuf::from(OsStr::from_bytes(&text[..end]))
}

/// The colon behind which a password stands. A file that is there says where its name ends; of one that is not, the first
/// mark does, else the first colon.
fn end_of_name(given: &Path) -> Option<usize> {
    if given.exists() {
        return None;
    }
    let text = given.as_os_str().as_bytes();
    let is_file = |at: &usize| Path::new(OsStr::from_bytes(&text[..*at])).is_file();
    let colons = || memchr::memchr_iter(b':', text);
    (colons().find(is_file))
        .or_else(|| colons().find(|&at| is_marked(text, at)))
        .or_else(|| colons().next())
}

/// Whether a password, or where it is, stands behind a colon.
fn is_marked(text: &[u8], colon: usize) -> bool {
    ["pass=", "file=", "fd="]
        .iter()
        .any(|kind| text[colon + 1..].starts_with(kind.as_bytes()))
}

fn read(path: &Path, given: &[u8]) -> Result<SecretBytes> {
    if let Some(text) = given.strip_prefix(b"pass=") {
        return Ok(SecretBytes::new(text.to_vec()));
    }
    let from = if let Some(name) = given.strip_prefix(b"file=") {
        PathBuf::from(OsStr::from_bytes(name))
    } else if let Some(number) = given.strip_prefix(b"fd=") {
        let number = std::str::from_utf8(number)
            .ok()
            .and_then(|text| text.parse::<u16>().ok());
        let number = number.ok_or_else(|| Error::InvalidPassword {
            path: path.to_owned(),
            what: "its password is given as fd= without a number",
        })?;
        PathBuf::from(format!("/proc/self/fd/{number}"))
    } else {
        return Ok(SecretBytes::new(given.to_vec()));
    };
    let bytes = file::read_secret_or_pipe(&from, MAX_PASSWORD)?;
    // The reference takes the file as it is; a line feed at its end is nobody's password.
    let bytes = bytes.expose();
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Ok(SecretBytes::new(line.to_vec()))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    fn given(text: &str) -> (String, Option<String>) {
        let (path, password) = split(Path::new(text)).unwrap();
        let password = password.map(|text| String::from_utf8(text.expose().to_vec()).unwrap());
        (path.display().to_string(), password)
    }

    #[test]
    fn what_is_shown_has_no_password() {
        for (text, expected) in [
            ("/absent.pem:pass=secret", "/absent.pem"),
            ("/absent:fd=3", "/absent"),
            ("/absent", "/absent"),
            ("/absent:secret", "/absent"),
            ("/absent:se:cret", "/absent"),
        ] {
            assert_eq!(shown(Path::new(text)), Path::new(expected));
        }
    }

    #[test]
    fn passwords_in_every_form() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let (key, odd, word) = (path("k.pem"), path("a:pass=b"), path("word"));
        for (name, text) in [(&key, ""), (&odd, ""), (&word, "se:cret\r\n")] {
            std::fs::write(name, text).unwrap();
        }
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(given(&key), (key.clone(), None));
        assert_eq!(given(&odd), (odd.clone(), None));
        assert_eq!(
            given(&format!("{key}:pass=a:b=c")),
            (key.clone(), some("a:b=c"))
        );
        assert_eq!(given(&format!("{key}:bare")), (key.clone(), some("bare")));
        assert_eq!(
            given(&format!("{key}:file={word}")),
            (key.clone(), some("se:cret"))
        );
        assert_eq!(given(&format!("{odd}:pass=x")), (odd.clone(), some("x")));
        // What is not there is told without the password.
        assert_eq!(given("/absent:pass=x"), ("/absent".to_owned(), some("x")));
        assert_eq!(given("/absent:x"), ("/absent".to_owned(), some("x")));
        let (read, write) = nix::unistd::pipe().unwrap();
        nix::unistd::write(&write, b"secret\n").unwrap();
        drop(write);
        let number = read.as_raw_fd();
        assert_eq!(
            given(&format!("{key}:fd={number}")),
            (key.clone(), some("secret"))
        );
        for bad in ["fd=", "fd=x", "fd=-1"] {
            let error = split(Path::new(&format!("{key}:{bad}"))).unwrap_err();
            assert!(matches!(error, Error::InvalidPassword { .. }), "{error}");
        }
        assert!(split(Path::new(&format!("{key}:file=/absent"))).is_err());
    }
}
