//! One file a subcommand; the only place where rooms are put together.

pub mod args;
pub mod completions;
pub mod config;
pub mod decode;
pub mod decrypt;
pub mod doctor;
pub mod encrypt;
mod error;
pub mod image_args;
pub mod inspect;
mod jobs;
pub mod keyprovider;
pub mod keys;
pub mod man;
mod pin;
mod progress;
mod prompt;
mod recipients;
pub mod rekey;
mod signals;
mod summary;
mod transfer;
mod trial;
mod unwrapping;

use std::fmt::{self, Write as _};
use std::io;
use std::io::Write as _;

use serde::Serialize;

pub use self::error::{Error, Result};

/// As JSON in ASCII, so that what somebody else wrote can do nothing to a terminal.
fn to_json(value: &impl Serialize) -> String {
    let json = serde_json::to_string_pretty(value).expect("texts and numbers are always JSON");
    let mut ascii = String::with_capacity(json.len());
    for char in json.chars() {
        if char.is_ascii() && char != '\x7f' {
            ascii.push(char);
        } else {
            for unit in char.encode_utf16(&mut [0; 2]) {
                let _ = write!(ascii, "\\u{unit:04x}");
            }
        }
    }
    ascii
}

/// Prints a command's result.
///
/// # Errors
/// [`Error::ReaderGone`] when nobody reads it any more; [`Error::Stream`] when standard output does not take it.
fn print(result: &impl fmt::Display) -> Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{result}")
        .and_then(|()| stdout.flush())
        .map_err(|source| match source.kind() {
            io::ErrorKind::BrokenPipe => Error::ReaderGone,
            _ => Error::Stream {
                action: "write to standard output",
                source,
            },
        })
}
