//! One file a subcommand; the only place where rooms are put together.

pub mod config;
pub mod decode;
pub mod decrypt;
pub mod doctor;
pub mod encrypt;
pub mod image_args;
pub mod inspect;
pub mod keyprovider;
pub mod keys;
mod recipients;
mod transfer;
mod unwrapping;

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};

use crate::cli::Command;
use crate::error::{Error, Result};

/// Runs one subcommand. `inherited` is what came as file descriptor 3, if it may carry a payload.
///
/// # Errors
/// Whatever made it fail; nothing was printed about that yet.
pub fn run(command: &Command, inherited: Option<File>) -> Result<()> {
    match command {
        Command::Config(args) => config::run(args),
        Command::Decode(args) => decode::run(args, inherited),
        Command::Doctor(args) => doctor::run(args),
        Command::Keyprovider(args) => keyprovider::run(args),
        Command::Keys(args) => keys::run(args),
        Command::Decrypt(args) => decrypt::run(args),
        Command::Encrypt(args) => encrypt::run(args),
        Command::Inspect(args) => inspect::run(args),
    }
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
