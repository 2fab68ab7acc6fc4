//! The command line: which subcommands there are, and what is wrong with one that cannot be parsed.
//!
//! Arguments of one subcommand stand beside it in `commands`, those that several share in `commands/args.rs`. Nothing is
//! read or checked here beyond what the parser does, and no subcommand is run.

use std::ffi::OsString;
use std::sync::LazyLock;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::commands::Error;
use crate::commands::args::VerboseArgs;
use crate::commands::{
    config, decode, decrypt, doctor, encrypt, inspect, keyprovider, keys, rekey,
};
use crate::ctd_decoder;
use crate::envelope::PROVIDED;
use crate::options::CipherName;
use crate::schemes;
use crate::settings::{self, is_uri};

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

/// Opens encrypted container images with a key that stays in an HSM
#[derive(Debug, Parser)]
#[command(name = "ocihsm", version, long_version = VERSION.as_str(), max_term_width = 100)]
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
}

impl Cli {
    /// Parses the arguments. Started as `ctd-decoder`, everything is an argument of `decode`.
    ///
    /// # Errors
    /// What `clap` found wrong, ready to print; asking for help or the version is one of these.
    pub fn parse_from(argv: &[OsString]) -> Result<Self, clap::Error> {
        let Some(alone) = decode::Args::alone(argv) else {
            return Self::from_arg_matches(&Self::command().try_get_matches_from(argv)?);
        };
        let alone = alone.long_version(VERSION.as_str());
        let arguments = ctd_decoder::arguments(&alone, argv);
        let matches = alone.try_get_matches_from(arguments)?;
        Ok(Self {
            verbose: VerboseArgs::from_arg_matches(&matches)?,
            command: Command::Decode(decode::Args::from_arg_matches(&matches)?),
        })
    }
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
        return settings::Error::UriAsArgument { argument: "ocihsm" }.into();
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

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
