//! What is wrong with a command line that cannot be parsed, in the words of any other error; and what may be meant.

use std::ffi::OsString;

use clap::CommandFactory as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Cli;
use crate::commands::{Error, decode};
use crate::imgcrypt;
use crate::settings::{self, is_uri};

/// What the parser found wrong, as an error of ours: one sentence. Without a word of what it quotes if that may be a
/// PIN.
#[must_use]
pub fn complaint(error: &clap::Error, argv: &[OsString]) -> Error {
    let text = error.to_string();
    let complaint = match error.kind() {
        // It prints the help in the place of an error.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "there is no subcommand".to_owned(),
        _ => {
            // What comes after the first paragraph is usage.
            let lines = text.lines().take_while(|line| !line.is_empty());
            let words: Vec<_> = lines.flat_map(str::split_whitespace).collect();
            let words = words.join(" ");
            words.strip_prefix("error: ").unwrap_or(&words).to_owned()
        }
    };
    // Whatever is written like a URI may hold a PIN, however its attributes are spelt.
    if is_uri(&complaint) {
        return settings::Error::UriAsArgument { argument: "ocihsm" }.into();
    }
    Error::CommandLine {
        variable: variable_of(error, argv),
        complaint,
    }
}

/// What to say to somebody at a terminal about a command line that cannot be used: what is wrong with it, and each hint.
#[must_use]
pub fn usage_error(error: &clap::Error, argv: &[OsString]) -> (String, Vec<String>) {
    let complaint = complaint(error, argv);
    let variable = match complaint {
        Error::CommandLine {
            variable: None,
            complaint,
        } => return (complaint.clone(), hints(error, argv, &complaint)),
        Error::CommandLine { ref variable, .. } => variable.clone(),
        other => return (other.to_string(), other.hint().into_iter().collect()),
    };
    let hint = variable.map(|name| format!("the value stands in the environment variable {name}"));
    (complaint.to_string(), hint.into_iter().collect())
}

fn hints(error: &clap::Error, argv: &[OsString], complaint: &str) -> Vec<String> {
    let mut hints = Vec::new();
    if let Some(hint) = imgcrypt::hint(argv, complaint) {
        hints.push(hint.to_owned());
    } else {
        let similar = [
            ContextKind::SuggestedArg,
            ContextKind::SuggestedSubcommand,
            ContextKind::SuggestedValue,
        ];
        let similar = similar.into_iter().find_map(|kind| match error.get(kind)? {
            ContextValue::String(one) => Some(one.clone()),
            ContextValue::Strings(several) => several.last().cloned(),
            _ => None,
        });
        hints.extend(similar.map(|name| format!("perhaps {name} is meant")));
    }
    let command = called(argv);
    hints.push(match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => {
            let usage = usage.to_string();
            let words: Vec<_> = usage.split_whitespace().skip(1).collect();
            format!(
                "the usage is: {}; `{command} --help` says more",
                words.join(" ")
            )
        }
        _ => format!("`{command} --help` says how it is used"),
    });
    hints
}

/// The subcommand as it was called: `ocihsm keys list`.
fn called(argv: &[OsString]) -> String {
    if let Some(alone) = decode::Args::alone(argv) {
        return alone.get_name().to_owned();
    }
    let program = Cli::command();
    let (mut command, mut name) = (&program, program.get_name().to_owned());
    for word in argv.iter().skip(1) {
        let word = word.to_string_lossy();
        if word.starts_with('-') {
            continue;
        }
        match command.find_subcommand(word.as_ref()) {
            Some(subcommand) => {
                command = subcommand;
                name = format!("{name} {word}");
            }
            None => break,
        }
    }
    name
}

/// The environment variable that a value came from which the parser does not take.
fn variable_of(error: &clap::Error, argv: &[OsString]) -> Option<String> {
    let Some(ContextValue::String(invalid)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let flag = invalid.split(' ').next()?;
    let command = Cli::command();
    let arguments = command
        .get_subcommands()
        .flat_map(clap::Command::get_arguments);
    let variable = arguments
        .filter(|argument| argument.get_long() == flag.strip_prefix("--"))
        .find_map(clap::Arg::get_env)?;
    let given = argv.iter().any(|given| {
        let rest = given.to_str().and_then(|given| given.strip_prefix(flag));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    });
    (!given).then(|| variable.to_string_lossy().into_owned())
}
