//! The decoder's command line as containerd gives it: under two names, in an environment that need not be ours, and
//! perhaps with mistakes in it.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args as _, FromArgMatches as _};

use super::Args;
use crate::commands::args::VerboseArgs;
use crate::settings;
use crate::telemetry::LogTarget;

/// Name under which containerd's built-in configuration starts its decoder.
const REFERENCE_NAME: &str = "ctd-decoder";

/// What `decode` does, as it says under that name.
pub(crate) const ABOUT: &str = "Decrypt one layer from stdin to stdout (ocihsm decode)";

impl Args {
    /// The definition of a program that does nothing but decode, where it is started under such a name.
    #[must_use]
    pub fn alone(argv: &[OsString]) -> Option<clap::Command> {
        let name = Path::new(argv.first()?).file_name()?;
        (name == REFERENCE_NAME).then(|| {
            let command = Self::augment_args(clap::Command::new(REFERENCE_NAME));
            VerboseArgs::augment_args(command)
                .version(env!("CARGO_PKG_VERSION"))
                .about(ABOUT)
        })
    }

    /// The arguments of a decoder that is started with this command line in this environment.
    ///
    /// # Errors
    /// What `clap` found wrong, with the name of the variable if the arguments alone are right; asking for help or the
    /// version is one of these.
    pub(crate) fn parse_in(
        mut argv: Vec<OsString>,
        variable: impl Fn(&OsStr) -> Option<OsString>,
    ) -> Result<Self, (clap::Error, Option<String>)> {
        let with_variables = Self::alone(&argv).unwrap_or_else(|| {
            let decode = Self::augment_args(clap::Command::new("decode"));
            VerboseArgs::augment_args(clap::Command::new("ocihsm"))
                .version(env!("CARGO_PKG_VERSION"))
                .subcommand_required(true)
                .subcommand(decode)
        });
        let mut command = without_variables(with_variables.clone());
        let matches = command
            .try_get_matches_from_mut(&argv)
            .map_err(|error| (error, None))?;
        let mut args = Self::from_matches(&matches).map_err(|error| (error, None))?;
        let (defined, given) = match matches.subcommand() {
            Some((name, given)) => (with_variables.find_subcommand(name), given),
            None => (Some(&with_variables), &matches),
        };
        // Before all others, since `--` may end the options further on.
        let at = match matches.subcommand_name() {
            Some(name) => 2 + argv[1..].iter().position(|word| word == name).unwrap_or(0),
            None => 1,
        };
        for argument in defined.into_iter().flat_map(clap::Command::get_arguments) {
            let (Some(name), Some(long)) = (argument.get_env(), argument.get_long()) else {
                continue;
            };
            let is_given =
                given.value_source(argument.get_id().as_str()) == Some(ValueSource::CommandLine);
            let value = variable(name).filter(|value| !value.is_empty());
            if let (false, Some(value)) = (is_given, value) {
                let mut option = OsString::from(format!("--{long}="));
                option.push(value);
                argv.insert(at, option);
                args = command
                    .try_get_matches_from_mut(&argv)
                    .and_then(|matches| Self::from_matches(&matches))
                    .map_err(|error| (error, Some(name.to_string_lossy().into_owned())))?;
            }
        }
        Ok(args)
    }

    fn from_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let of_decode = matches.subcommand().map_or(matches, |(_, given)| given);
        Self::from_arg_matches(of_decode)
    }
}

/// The same, for an environment that is not ours.
fn without_variables(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| argument.env(None::<&str>))
        .mut_subcommands(without_variables)
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
        None => settings::variable("OCIHSM_LOG").and_then(|target| target.into_string().ok()),
    };
    target
        .and_then(|target| target.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn words(argv: &[&str]) -> Vec<OsString> {
        argv.iter().map(OsString::from).collect()
    }

    fn parse_in(argv: &[&str], variable: (&str, &str)) -> Result<Args, Option<String>> {
        let variable = |name: &OsStr| (name == variable.0).then(|| variable.1.into());
        Args::parse_in(words(argv), variable).map_err(|(_, variable)| variable)
    }

    #[test]
    fn another_environment_counts_like_ones_own() {
        let timeout = ("OCIHSM_HSM_TIMEOUT", "5");
        for argv in [
            &["ocihsm", "decode"][..],
            &["/x/ctd-decoder"],
            &["ocihsm", "decode", "--"],
            &["ctd-decoder", "--"],
            &["ocihsm", "-v", "decode", "--"],
            &["ctd-decoder", "-vv", "--"],
        ] {
            let args = parse_in(argv, timeout).unwrap();
            assert_eq!(args.hsm.hsm_timeout, Duration::from_secs(5));
            let args = parse_in(argv, ("OCIHSM_LOG", "/x")).unwrap();
            assert_eq!(args.log.log, LogTarget::File("/x".into()));
            let wrong = parse_in(argv, ("OCIHSM_HSM_TIMEOUT", "abc"));
            assert_eq!(wrong.unwrap_err().as_deref(), Some("OCIHSM_HSM_TIMEOUT"));
            let args = parse_in(argv, ("OCIHSM_HSM_TIMEOUT", "")).unwrap();
            assert_eq!(args.hsm.hsm_timeout, Duration::from_secs(60));
        }
        let args = parse_in(&["ocihsm", "decode", "--hsm-timeout", "7"], timeout).unwrap();
        assert_eq!(args.hsm.hsm_timeout, Duration::from_secs(7));
        let wrong = parse_in(&["ocihsm", "decode", "--hsm-timeout", "x"], timeout);
        assert_eq!(wrong.unwrap_err(), None);
    }

    #[test]
    fn a_decoder_that_is_told_to_do_something_else_is_none() {
        for argv in [
            &["ocihsm"][..],
            &["ocihsm", "inspect", "x"],
            &["ocihsm", "--version"],
        ] {
            assert!(parse_in(argv, ("X", "")).is_err(), "{argv:?}");
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
