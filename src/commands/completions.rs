//! `ocihsm completions`: what makes a shell complete our arguments.

use clap::Command;
use clap_complete::{Shell, generate};

use super::{Result, print};

/// Arguments of `completions`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// For which shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

const AFTER_HELP: &str = "\
Packages bring them along.

Examples:
  ocihsm completions bash > /usr/share/bash-completion/completions/ocihsm
  ocihsm completions zsh > ~/.zfunc/_ocihsm
  ocihsm completions fish > ~/.config/fish/completions/ocihsm.fish";

/// Prints them. `program` is the whole command line.
///
/// # Errors
/// [`crate::commands::Error::Stream`] when standard output cannot be written.
pub fn run(args: &Args, program: Command) -> Result<()> {
    let script = script(args.shell, program);
    print(&String::from_utf8_lossy(&script).trim_end())
}

/// The completions for one shell.
#[must_use]
pub fn script(shell: Shell, program: Command) -> Vec<u8> {
    let mut bytes = Vec::new();
    generate(shell, &mut shown(program), "ocihsm", &mut bytes);
    bytes
}

/// Without what is not for users; the generators would offer it.
fn shown(program: Command) -> Command {
    let kept: Vec<_> = program
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set())
        .cloned()
        .collect();
    Command::new("ocihsm")
        .about(program.get_about().cloned().unwrap_or_default())
        // Which one it is does not show.
        .version(env!("CARGO_PKG_VERSION"))
        .args(program.get_arguments().cloned())
        .subcommands(kept)
}
