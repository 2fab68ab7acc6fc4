//! Writes what packages of `ocihsm` hold beside the program: its manual pages and completions, which it prints itself as
//! well, the licences of the crates in it, and its bill of materials.
//!
//! usage: `assets TARGET DIRECTORY`, with the target that the program was built for. The same sources give the same bytes.

mod bill;
mod crates;
mod licences;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;
use crates::Crates;
use ocihsm::cli::Cli;
use ocihsm::commands::{completions, man};

/// The name under which each shell looks for its completions.
const SHELLS: [(Shell, &str); 3] = [
    (Shell::Bash, "ocihsm"),
    (Shell::Zsh, "_ocihsm"),
    (Shell::Fish, "ocihsm.fish"),
];

/// What can go wrong here; whoever makes packages reads it.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot run cargo: {0}")]
    Start(io::Error),
    #[error("cargo {command} failed: {stderr}")]
    Cargo { command: String, stderr: String },
    #[error("cargo printed what cannot be read: {what}")]
    Printed { what: String },
    #[error("crate {name} has no text of its licence, which is {licence}")]
    NoText { name: String, licence: String },
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [target, directory] = &arguments[..] else {
        eprintln!("usage: assets TARGET DIRECTORY");
        return ExitCode::from(2);
    };
    match write_all(target, Path::new(directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("assets: error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_all(target: &str, directory: &Path) -> Result<(), Error> {
    for page in man::pages(Cli::command()) {
        write(&directory.join("man").join(page.name), &page.text)?;
    }
    for (shell, name) in SHELLS {
        let path = directory.join("completions").join(shell.to_string());
        write(
            &path.join(name),
            &completions::script(shell, Cli::command()),
        )?;
    }
    let crates = Crates::of_program(target)?;
    write(
        &directory.join("licences.txt"),
        licences::text(&crates)?.as_bytes(),
    )?;
    write(
        &directory.join("sbom.cdx.json"),
        bill::text(&crates).as_bytes(),
    )
}

/// Writes a file, in a directory that is made for it.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(path, bytes))
        .map_err(|source| Error::Write {
            path: path.to_owned(),
            source,
        })
}
