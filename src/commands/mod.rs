//! One file a subcommand; the only place where rooms are put together.

pub mod config;
pub mod decode;

use crate::cli::Command;
use crate::error::Result;

/// Runs one subcommand.
///
/// # Errors
/// Whatever made it fail; nothing was printed about that yet.
pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Decode(args) => decode::run(args),
        Command::Config(args) => config::run(args),
    }
}
