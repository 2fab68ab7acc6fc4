//! Completions for the shells that distributions come with.

use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_complete::{Shell, generate};
use ocihsm::cli::Cli;

use crate::Error;

/// The name under which each shell looks for them.
const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "ocihsm"),
    (Shell::Zsh, "_ocihsm"),
    (Shell::Fish, "ocihsm.fish"),
];

/// Writes them all.
pub(crate) fn write(directory: &Path) -> Result<(), Error> {
    for (shell, name) in SHELLS {
        let mut bytes = Vec::new();
        generate(shell, &mut shown(Cli::command()), "ocihsm", &mut bytes);
        crate::write(&directory.join(shell.to_string()).join(name), &bytes)?;
    }
    Ok(())
}

/// Without what is not for users; the generators would offer it.
fn shown(command: Command) -> Command {
    let kept: Vec<_> = command
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set())
        .cloned()
        .collect();
    Command::new("ocihsm")
        .about(command.get_about().cloned().unwrap_or_default())
        // Which one it is does not show.
        .version(env!("CARGO_PKG_VERSION"))
        .args(command.get_arguments().cloned())
        .subcommands(kept)
}
