//! The command line: which subcommands there are, and what is wrong with one that cannot be parsed.
//!
//! Arguments of one subcommand stand beside it in `commands`, those that several share in `commands/args.rs`. Nothing is
//! read or checked here beyond what the parser does, and no subcommand is run.

mod usage;

use std::ffi::OsString;
use std::sync::LazyLock;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub use self::usage::{complaint, usage_error};
use crate::commands::args::VerboseArgs;
use crate::commands::{
    completions, config, decode, decrypt, doctor, encrypt, inspect, keyprovider, keys, man, rekey,
};
use crate::ctd_decoder;
use crate::envelope::PROVIDED;
use crate::options::CipherName;
use crate::schemes;
use crate::settings;

/// What `--version` says: what somebody who has a layer that does not open wants to know.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let commit = match option_env!("OCIHSM_BUILD_COMMIT") {
        Some(commit) => format!("commit: {commit}\n"),
        None => String::new(),
    };
    let schemes = format!("{}, {PROVIDED}*", schemes::OWN.join(", "));
    let ciphers = CipherName::ALL.map(CipherName::as_str).join(", ");
    format!(
        "{}\n{commit}target: {}\nciphers: {ciphers}\nschemes: {schemes}",
        env!("CARGO_PKG_VERSION"),
        env!("OCIHSM_BUILD_TARGET"),
    )
});

/// What stands below the program's own help. `docs/exit-status.md` has the same table.
const AFTER_HELP: &str = "\
Exit status:
  0      done
  1      failed, and standard error says why; so does a check of `doctor` that fails, a layer of
         `inspect` that no key opens, and a key that fails `keys test`
  2      the command line cannot be used, and nothing was done
  128+N  ended by signal N; the first SIGINT, SIGTERM or SIGHUP only asks an image command to
         clean up, and that is a 1

Examples:
  ocihsm keys generate --token prod --label imagekey --pin-file pin
  ocihsm encrypt oci:app:v1 oci:app-encrypted:v1 --recipient pkcs11:imagekey.pub.pem
  ocihsm doctor";

/// Opens encrypted container images with a key that stays in an HSM
#[derive(Debug, Parser)]
#[command(name = "ocihsm", version, long_version = VERSION.as_str(), max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    /// How much is told.
    #[command(flatten)]
    pub verbose: VerboseArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Decrypt one layer from stdin to stdout, as containerd's stream processor
    Decode(decode::Args),
    /// Encrypt the layers of an image
    Encrypt(encrypt::Args),
    /// Decrypt the layers of an image
    Decrypt(decrypt::Args),
    /// Wrap the keys of an image's encrypted layers for others; the layers stay as they are
    Rekey(rekey::Args),
    /// Show which layers of an image are encrypted, and for whom
    Inspect(inspect::Args),
    /// Check this node: containerd, keys, policy, tokens
    Doctor(doctor::Args),
    /// Print configuration for containerd, and a policy for PKCS#11 modules
    Config(config::Args),
    /// Look after the keys in tokens
    Keys(keys::Args),
    /// Answer one request of the key-provider protocol, for other tools
    Keyprovider(keyprovider::Args),
    /// Print what makes a shell complete these arguments
    Completions(completions::Args),
    /// Print the manual page, or write all of them
    Man(man::Args),
}

impl Cli {
    /// Parses the arguments. Started as `ctd-decoder`, everything is an argument of `decode`.
    ///
    /// # Errors
    /// What `clap` found wrong, ready to print; asking for help or the version is one of these.
    pub fn parse_from(argv: &[OsString]) -> Result<Self, clap::Error> {
        let Some(alone) = decode::Args::alone(argv) else {
            let command = without_empty_variables(Self::command());
            return Self::from_arg_matches(&command.try_get_matches_from(argv)?);
        };
        let alone = without_empty_variables(alone).long_version(VERSION.as_str());
        let arguments = ctd_decoder::arguments(&alone, argv);
        let matches = alone.try_get_matches_from(arguments)?;
        Ok(Self {
            verbose: VerboseArgs::from_arg_matches(&matches)?,
            command: Command::Decode(decode::Args::from_arg_matches(&matches)?),
        })
    }
}

/// A variable that is empty counts as one that is not set.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |argument: &clap::Arg| {
        let variable = argument.get_env().and_then(|name| name.to_str());
        variable
            .and_then(settings::variable)
            .is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|argument| match is_empty(&argument) {
            true => argument.env(None::<&str>),
            false => argument,
        })
        .mut_subcommands(without_empty_variables)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A command and all below it, each by its name, that somebody may ask for.
    fn all_commands(name: &str, command: &clap::Command) -> Vec<(String, clap::Command)> {
        let mut all = vec![(name.to_owned(), command.clone())];
        for subcommand in command.get_subcommands() {
            if subcommand.get_name() != "help" && !subcommand.is_hide_set() {
                let name = format!("{name} {}", subcommand.get_name());
                all.extend(all_commands(&name, subcommand));
            }
        }
        all
    }

    /// The words of a line in a shell, as far as our examples go: quotes, and what ends a command.
    fn shell_words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
        for char in line.chars() {
            match char {
                '\'' => quoted = !quoted,
                '|' | '<' | '>' if !quoted => break,
                ' ' if !quoted => {
                    words.extend(Some(std::mem::take(&mut word)).filter(|it| !it.is_empty()))
                }
                char => word.push(char),
            }
        }
        words.extend(Some(word).filter(|it| !it.is_empty()));
        words
    }

    #[test]
    fn every_command_has_examples_and_each_parses() {
        let mut program = Cli::command();
        program.build();
        let commands = all_commands("ocihsm", &program);
        assert!(commands.len() > 15, "{}", commands.len());
        for (name, mut command) in commands {
            let help = command.render_long_help().to_string();
            let (_, examples) = help
                .split_once("Examples:\n")
                .unwrap_or_else(|| panic!("{name} has none"));
            let mut of_this_command = 0;
            for line in examples.lines().filter(|line| !line.is_empty()) {
                let words = shell_words(line);
                assert_eq!(words[0], "ocihsm", "{line}");
                let argv: Vec<_> = words.iter().map(OsString::from).collect();
                if let Err(error) = Cli::parse_from(&argv) {
                    panic!("{line}: {error}");
                }
                of_this_command += usize::from(line.trim_start().starts_with(&name));
            }
            assert!(of_this_command > 0, "{name}: {examples}");
        }
    }

    #[test]
    fn the_page_has_the_table_of_the_help() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/exit-status.md");
        let page = std::fs::read_to_string(page).unwrap();
        let in_help = AFTER_HELP
            .lines()
            .filter_map(|line| line.strip_prefix("  ")?.split_once("  "))
            .map(|(status, _)| status)
            .filter(|status| status.starts_with(|first: char| first.is_ascii_digit()));
        let in_page = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(status, _)| status);
        let in_help: Vec<_> = in_help.collect();
        assert_eq!(in_help.len(), 4, "{in_help:?}");
        assert_eq!(in_help, in_page.collect::<Vec<_>>());
    }

    #[test]
    fn an_idea_has_one_name_and_its_old_ones_still_work() {
        for argv in [
            "decode --key /k",
            "decode --decryption-keys-path /k",
            "doctor --key /k",
            "doctor --decryption-keys-path /k",
            "keyprovider --key /k",
            "keyprovider --decryption-keys-path /k",
            "config containerd --key /k",
            "config containerd --keys /k",
            "config keyprovider --keys /k",
        ] {
            let argv: Vec<_> = ["ocihsm"].into_iter().chain(argv.split(' ')).collect();
            assert!(parse(&argv).is_ok(), "{argv:?}");
        }
        // Wherever keys are named, so that nobody has to remember which command calls them what.
        let mut program = Cli::command();
        program.build();
        for (name, command) in all_commands("ocihsm", &program) {
            for argument in command.get_arguments() {
                let long = argument.get_long().unwrap_or_default();
                assert!(!["keys", "decryption-keys-path"].contains(&long), "{name}");
            }
        }
    }

    #[test]
    fn a_mistake_is_told_as_any_other_error_with_what_may_be_meant() {
        for (line, message, hint) in [
            (
                "ocihsm decrypt oci:a oci:b --keyz k",
                "unexpected argument '--keyz' found",
                "perhaps --key is meant",
            ),
            (
                "ocihsm encryp",
                "unrecognized subcommand 'encryp'",
                "perhaps encrypt is meant",
            ),
            (
                "ocihsm keys lst",
                "unrecognized subcommand 'lst'",
                "perhaps list is meant",
            ),
            (
                "ocihsm keys generate --token t --label l --bits 7",
                "invalid value '7' for '--bits <BITS>': expected 2048 to 16384, a multiple of 256",
                "`ocihsm keys generate --help` says",
            ),
            (
                "ocihsm images encrypt a b",
                "unrecognized subcommand 'images'",
                "`ocihsm encrypt SRC DST`",
            ),
        ] {
            let argv: Vec<_> = line.split(' ').map(OsString::from).collect();
            let (text, hints) = usage_error(&Cli::parse_from(&argv).unwrap_err(), &argv);
            assert_eq!(text, message, "{line}");
            assert!(hints.iter().any(|it| it.contains(hint)), "{hints:?}");
        }
    }

    fn words(argv: &[&str]) -> Vec<OsString> {
        argv.iter().map(OsString::from).collect()
    }

    fn parse(argv: &[&str]) -> Result<Cli, clap::Error> {
        Cli::parse_from(&words(argv))
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn under_the_reference_name_all_arguments_belong_to_decode() {
        let cli = parse(&["/usr/bin/ctd-decoder", "--decryption-keys-path", "/keys"]).unwrap();
        let Command::Decode(args) = cli.command else {
            panic!("not decode");
        };
        assert_eq!(args.keys.decryption_keys_path, [Path::new("/keys")]);
    }

    #[test]
    fn a_timeout_of_zero_is_refused() {
        assert!(parse(&["ocihsm", "decode", "--hsm-timeout", "0"]).is_err());
    }

    #[test]
    fn what_the_parser_says_becomes_one_sentence() {
        for (argv, expected) in [
            (
                &["ocihsm", "decode", "--keyz", "x"][..],
                "unexpected argument '--keyz' found",
            ),
            (&["ocihsm", "decode", "a\n\nb"], "unexpected argument 'a"),
            (
                &["ocihsm", "decode", "--hsm-timeout", "0"],
                "invalid value '0' for '--hsm-timeout <SECONDS>': expected whole seconds, 1 to 86400",
            ),
            (&["ocihsm"], "there is no subcommand"),
            (&["ocihsm", "unlock"], "unrecognized subcommand 'unlock'"),
            (
                &["ocihsm", "decrypt"],
                "the following required arguments were not provided: --key <FILE> <SRC> <DST>",
            ),
        ] {
            let error = complaint(&parse(argv).unwrap_err(), &words(argv)).to_string();
            let expected = format!("the command line cannot be used: {expected}");
            assert_eq!(error, expected, "{argv:?}");
        }
    }

    #[test]
    fn a_pin_on_the_command_line_is_not_repeated() {
        for argument in [
            "pkcs11:token=t?pin-value=1234",
            "pkcs11:token=t?pin%2Dvalue=1234",
            "--log=PKCS11:token=t?PIN-VALUE=1234",
            "--keyz=pkcs11:token=t?pin-valeu=1234",
        ] {
            let argv = ["ocihsm", "decode", argument];
            let error = complaint(&parse(&argv).unwrap_err(), &words(&argv));
            assert!(!format!("{error} {error:?}").contains("1234"), "{argument}");
        }
    }
}
