//! One file a subcommand; the only place where rooms are put together.

pub mod config;
pub mod decode;
pub mod doctor;
pub mod keys;

use std::fs::File;

use crate::cli::Command;
use crate::error::Result;

/// Runs one subcommand. `inherited` is what came as file descriptor 3, if it may carry a payload.
///
/// # Errors
/// Whatever made it fail; nothing was printed about that yet.
pub fn run(command: &Command, inherited: Option<File>) -> Result<()> {
    match command {
        Command::Config(args) => config::run(args),
        Command::Decode(args) => decode::run(args, inherited),
        Command::Doctor(args) => doctor::run(args),
        Command::Keys(args) => keys::run(args),
    }
}
