//! The command line: which subcommands there are, and what they share.
//!
//! Arguments of one subcommand stand beside it in `commands`. Nothing is read or checked here beyond what the
//! parser does.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::commands::image_args::is_uri;
use crate::commands::{config, decode, decrypt, doctor, encrypt, inspect, keyprovider, keys};
use crate::ctd_decoder;
use crate::error::Error;
use crate::hsm::HsmSettings;
use crate::log::LogTarget;
use crate::settings::{self, Environment};

/// Name under which containerd's built-in configuration starts its decoder.
const REFERENCE_NAME: &str = "ctd-decoder";

/// What `decode` does, as it says under that name.
pub(crate) const ABOUT_DECODE: &str = "Decrypt one layer from stdin to stdout (ocihsm decode)";

/// Opens encrypted container images with a key that stays in an HSM
#[derive(Debug, Parser)]
#[command(name = "ocihsm", version, max_term_width = 100)]
pub struct Cli {
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
}

/// How patient and how careful we are with a token.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "HSM")]
pub struct HsmArgs {
    /// Seconds until a PKCS#11 module that does not answer is given up
    #[arg(long, value_name = "SECONDS", env = "OCIHSM_HSM_TIMEOUT", default_value = "60", value_parser = seconds)]
    pub hsm_timeout: Duration,
    /// Log in even when the token says that one more wrong PIN locks it
    #[arg(long)]
    pub allow_final_try: bool,
}

/// Where records of layers go.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Log")]
pub struct LogArgs {
    /// Write one record a layer to journald, to syslog, or to a file (its absolute path; one line of JSON each)
    #[arg(
        long,
        value_name = "journald|syslog|FILE",
        env = "OCIHSM_LOG",
        default_value = "off"
    )]
    pub log: LogTarget,
}

/// Where the keys are.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Keys")]
pub struct KeyArgs {
    /// Directory of PKCS#11 key files, searched at any depth, or one key file (repeatable) [env: OCIHSM_KEYS_PATH=]
    #[arg(long, value_name = "DIR")]
    pub decryption_keys_path: Vec<PathBuf>,
}

impl HsmArgs {
    /// As the `hsm` room wants it.
    #[must_use]
    pub fn settings(&self) -> HsmSettings {
        settings::hsm(
            self.hsm_timeout,
            self.allow_final_try,
            &Environment::current(),
        )
    }
}

impl Cli {
    /// Parses the arguments. Started as `ctd-decoder`, everything is an argument of `decode`.
    ///
    /// # Errors
    /// What `clap` found wrong, ready to print; asking for help or the version is one of these.
    pub fn parse_from(argv: Vec<OsString>) -> Result<Self, clap::Error> {
        let definition = definition(&argv);
        let arguments = match is_reference_name(&argv) {
            true => ctd_decoder::arguments(&definition, &argv),
            false => argv.clone(),
        };
        Self::from_matches(&argv, &definition.try_get_matches_from(arguments)?)
    }

    /// Parses the arguments as a process does whose environment is this one.
    ///
    /// # Errors
    /// As [`Cli::parse_from`], with the name of the variable if the arguments alone are right.
    pub fn parse_in(
        mut argv: Vec<OsString>,
        variable: impl Fn(&OsStr) -> Option<OsString>,
    ) -> Result<Self, (clap::Error, Option<String>)> {
        let with_variables = definition(&argv);
        let mut command = without_variables(with_variables.clone());
        let matches = command
            .try_get_matches_from_mut(&argv)
            .map_err(|error| (error, None))?;
        let mut cli = Self::from_matches(&argv, &matches).map_err(|error| (error, None))?;
        // Right after the subcommand, since `--` may end the options further on.
        let (defined, given, at) = match matches.subcommand() {
            Some((name, given)) => (with_variables.find_subcommand(name), given, 2),
            None => (Some(&with_variables), &matches, 1),
        };
        for argument in defined.into_iter().flat_map(clap::Command::get_arguments) {
            let (Some(name), Some(long)) = (argument.get_env(), argument.get_long()) else {
                continue;
            };
            let is_given =
                given.value_source(argument.get_id().as_str()) == Some(ValueSource::CommandLine);
            if let (false, Some(value)) = (is_given, variable(name)) {
                let mut option = OsString::from(format!("--{long}="));
                option.push(value);
                argv.insert(at, option);
                cli = command
                    .try_get_matches_from_mut(&argv)
                    .and_then(|matches| Self::from_matches(&argv, &matches))
                    .map_err(|error| (error, Some(name.to_string_lossy().into_owned())))?;
            }
        }
        Ok(cli)
    }

    fn from_matches(argv: &[OsString], matches: &ArgMatches) -> Result<Self, clap::Error> {
        if is_reference_name(argv) {
            return Ok(Self {
                command: Command::Decode(decode::Args::from_arg_matches(matches)?),
            });
        }
        Self::from_arg_matches(matches)
    }
}

/// What may be given, under the name that we are started by.
fn definition(argv: &[OsString]) -> clap::Command {
    if is_reference_name(argv) {
        return decode::Args::augment_args(clap::Command::new(REFERENCE_NAME))
            .version(env!("CARGO_PKG_VERSION"))
            .about(ABOUT_DECODE);
    }
    Cli::command()
}

/// The same, for an environment that is not ours.
fn without_variables(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| argument.env(None::<&str>))
        .mut_subcommands(without_variables)
}

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
        return Error::UriAsArgument { argument: "ocihsm" };
    }
    Error::CommandLine {
        variable: variable_of(error, argv),
        complaint,
    }
}

/// The environment variable that a value came from which the parser does not take.
#[must_use]
pub fn variable_of(error: &clap::Error, argv: &[OsString]) -> Option<String> {
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

/// Where the record of a layer goes whose decoder was started with arguments that the parser does not take: it gives up
/// at the first mistake, so they are looked through.
#[must_use]
pub fn log_in_spite_of_mistakes(argv: &[OsString]) -> LogTarget {
    let mut words = argv.iter().map(|word| word.to_string_lossy());
    let argument = words.find_map(|word| match word.strip_prefix("--log") {
        Some("") => Some(None),
        Some(rest) => rest.strip_prefix('=').map(|value| Some(value.to_owned())),
        None => None,
    });
    let target = match argument {
        Some(value) => value.or_else(|| words.next().map(|next| next.into_owned())),
        None => std::env::var("OCIHSM_LOG").ok(),
    };
    target
        .and_then(|target| target.parse().ok())
        .unwrap_or_default()
}

fn is_reference_name(argv: &[OsString]) -> bool {
    argv.first()
        .and_then(|name| Path::new(name).file_name())
        .is_some_and(|name| name == REFERENCE_NAME)
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds.into())),
        _ => Err("expected whole seconds, 1 to 86400".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(argv: &[&str]) -> Vec<OsString> {
        argv.iter().map(OsString::from).collect()
    }

    fn parse(argv: &[&str]) -> Result<Cli, clap::Error> {
        Cli::parse_from(words(argv))
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
    fn another_environment_counts_like_ones_own() {
        let parse_in = |argv: &[&str], variable: (&str, &str)| {
            let argv = argv.iter().map(OsString::from).collect();
            match Cli::parse_in(argv, |name| (name == variable.0).then(|| variable.1.into())) {
                Ok(Cli {
                    command: Command::Decode(args),
                }) => Ok(args),
                Ok(_) => panic!("not decode"),
                Err((_, variable)) => Err(variable),
            }
        };
        let timeout = ("OCIHSM_HSM_TIMEOUT", "5");
        for argv in [
            &["ocihsm", "decode"][..],
            &["/x/ctd-decoder"],
            &["ocihsm", "decode", "--"],
            &["ctd-decoder", "--"],
        ] {
            let args = parse_in(argv, timeout).unwrap();
            assert_eq!(args.hsm.hsm_timeout, Duration::from_secs(5));
            let args = parse_in(argv, ("OCIHSM_LOG", "/x")).unwrap();
            assert_eq!(args.log.log, LogTarget::File("/x".into()));
            let wrong = parse_in(argv, ("OCIHSM_HSM_TIMEOUT", "abc"));
            assert_eq!(wrong.unwrap_err().as_deref(), Some("OCIHSM_HSM_TIMEOUT"));
        }
        let args = parse_in(&["ocihsm", "decode", "--hsm-timeout", "7"], timeout).unwrap();
        assert_eq!(args.hsm.hsm_timeout, Duration::from_secs(7));
        let wrong = parse_in(&["ocihsm", "decode", "--hsm-timeout", "x"], timeout);
        assert_eq!(wrong.unwrap_err(), None);
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

    #[test]
    fn a_log_that_was_named_is_found_beside_what_is_wrong() {
        let file = LogTarget::File("/var/log/x".into());
        for (argv, expected) in [
            (
                &["ocihsm", "decode", "--log", "/var/log/x", "--keyz"][..],
                &file,
            ),
            (&["ocihsm", "decode", "--keyz", "--log=/var/log/x"], &file),
            (
                &["ctd-decoder", "--log", "/var/log/x", "--hsm-timeout", "0"],
                &file,
            ),
            (&["ocihsm", "decode", "--log", "journal"], &LogTarget::Off),
            (&["ocihsm"], &LogTarget::Off),
            (&["ocihsm", "inspect"], &LogTarget::Off),
        ] {
            assert_eq!(
                &log_in_spite_of_mistakes(&words(argv)),
                expected,
                "{argv:?}"
            );
        }
    }
}
