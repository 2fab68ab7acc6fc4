//! `ocihsm keys`: the keys in tokens. Finds them, makes them, takes their public halves out, tries them, removes them.

mod delete;
mod export;
mod forget;
mod generate;
mod list;
mod listing;
mod new_file;
mod one_key;
mod survey;
mod table;
mod test;

use clap::Subcommand;

use crate::commands::Result;

const AFTER_HELP: &str = "\
Examples:
  ocihsm keys list
  ocihsm keys generate --token prod --label imagekey
  ocihsm keys test imagekey.yaml";

/// Arguments of `keys`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `keys` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List tokens and their keys, each with its URI
    List(list::Args),
    /// Make a key pair in a token, and the files that go with it
    Generate(generate::Args),
    /// Print the public half of a key, as PEM
    Export(export::Args),
    /// Log in and use a key for real: say what works with it
    Test(test::Args),
    /// Remove a key from its token for good, both halves
    Delete(delete::Args),
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
        Command::Test(args) => test::run(args),
        Command::Delete(args) => delete::run(args),
        Command::ForgetRejectedPins(args) => forget::run(args),
    }
}
