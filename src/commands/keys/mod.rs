//! `ocihsm keys`: the keys in tokens. Finds them, makes them, takes their public halves out.

mod export;
mod forget;
mod generate;
mod list;
mod listing;
mod new_file;
mod pin;
mod prompt;
mod survey;
mod table;

use clap::Subcommand;

use crate::commands::Result;

/// Arguments of `keys`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `keys` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List tokens and their RSA keys, each with its URI
    List(list::Args),
    /// Make an RSA key pair in a token, and the files that go with it
    Generate(generate::Args),
    /// Print the public half of a key, as PEM
    Export(export::Args),
    /// Try again the PINs that tokens rejected
    ForgetRejectedPins(forget::Args),
}

/// Runs one of them.
///
/// # Errors
/// Whatever made it fail.
pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::List(args) => list::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Export(args) => export::run(args),
        Command::ForgetRejectedPins(args) => forget::run(args),
    }
}
