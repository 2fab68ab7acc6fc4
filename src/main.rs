//! The only place that knows argv, file descriptors and the exit status; prints one error.

use std::process::ExitCode;

use ocihsm::cli::Cli;
use ocihsm::{Error, commands};

fn main() -> ExitCode {
    let cli = match Cli::parse_from(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match commands::run(&cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

fn report(error: &Error) {
    eprintln!("ocihsm: error: {error}");
    if let Some(hint) = error.hint() {
        eprintln!("ocihsm: hint: {hint}");
    }
}
