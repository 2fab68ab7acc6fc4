//! The command line of `ctd-decoder`, as the Go program takes it, written as our parser takes it.
//!
//! Go's flags may have one dash or two. The first word that is no flag ends them: `help` prints the help, and any other
//! is passed over with what follows. Which flags there are is for the parser to say.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use clap::Command;

/// The arguments as `command` parses them; the first is the program's name.
pub(crate) fn arguments(command: &Command, argv: &[OsString]) -> Vec<OsString> {
    let mut words = argv.iter();
    let mut arguments: Vec<OsString> = words.next().cloned().into_iter().collect();
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        let flag = match bytes {
            b"--" => break,
            b"-h" | b"-help" | b"--help" => OsString::from("--help"),
            b"-v" | b"-version" | b"--version" => OsString::from("--version"),
            [b'-', b'-', ..] => word.clone(),
            [b'-', _, ..] => {
                let mut flag = OsString::from("-");
                flag.push(word);
                flag
            }
            b"help" | b"h" => {
                arguments.push("--help".into());
                break;
            }
            _ => break,
        };
        let takes_the_next = takes_value(command, &flag);
        arguments.push(flag);
        if takes_the_next {
            arguments.extend(words.next().cloned());
        }
    }
    arguments
}

/// Whether a flag's value is the word behind it.
fn takes_value(command: &Command, flag: &OsStr) -> bool {
    let name = flag.to_str().and_then(|flag| flag.strip_prefix("--"));
    command.get_arguments().any(|argument| {
        let is_named = argument.get_long().is_some() && argument.get_long() == name;
        let aliases = argument.get_all_aliases().unwrap_or_default();
        (is_named || aliases.iter().any(|alias| Some(*alias) == name))
            && argument.get_action().takes_values()
    })
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction};

    use super::*;

    fn read(words: &str) -> String {
        let command = Command::new("ctd-decoder")
            .arg(Arg::new("keys").long("key").alias("decryption-keys-path"))
            .arg(
                Arg::new("single")
                    .long("single-pass")
                    .action(ArgAction::SetTrue),
            );
        let argv: Vec<_> = words.split_whitespace().map(OsString::from).collect();
        let arguments = arguments(&command, &argv);
        let arguments: Vec<_> = arguments
            .iter()
            .map(|word| word.to_str().unwrap())
            .collect();
        arguments.join(" ")
    }

    #[test]
    fn as_go_takes_them() {
        for (given, taken) in [
            ("p", "p"),
            ("p -decryption-keys-path /k", "p --decryption-keys-path /k"),
            ("p -key /k -single-pass", "p --key /k --single-pass"),
            ("p --decryption-keys-path /k", "p --decryption-keys-path /k"),
            (
                "p -decryption-keys-path=/k x",
                "p --decryption-keys-path=/k",
            ),
            (
                "p -decryption-keys-path help",
                "p --decryption-keys-path help",
            ),
            ("p stray -decryption-keys-path /k", "p"),
            ("p -single-pass stray words", "p --single-pass"),
            ("p -- -x", "p"),
            ("p help", "p --help"),
            ("p h me", "p --help"),
            ("p -h", "p --help"),
            ("p -v", "p --version"),
            ("p -unknown", "p --unknown"),
            ("p -decryption-keys-path", "p --decryption-keys-path"),
            ("p - x", "p"),
        ] {
            assert_eq!(read(given), taken, "{given}");
        }
    }
}
