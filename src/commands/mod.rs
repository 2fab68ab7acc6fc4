//! One file a subcommand; the only place where rooms are put together.

pub mod args;
pub mod config;
pub mod decode;
pub mod decrypt;
pub mod doctor;
pub mod encrypt;
mod error;
pub mod image_args;
pub mod inspect;
pub mod keyprovider;
pub mod keys;
mod recipients;
pub mod rekey;
mod summary;
mod transfer;
mod unwrapping;

use std::fmt;
use std::io::{self, Write as _};

pub use self::error::{Error, Result};

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
