//! The command line: which subcommands there are, and what they share.
//!
//! Arguments of one subcommand stand beside it in `commands`. Nothing is read or checked here beyond what the
//! parser does.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::commands::{config, decode, decrypt, doctor, encrypt, inspect, keys};
use crate::hsm::HsmSettings;
use crate::log::LogTarget;

/// Name under which containerd's built-in configuration starts its decoder.
const REFERENCE_NAME: &str = "ctd-decoder";

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
    /// Write one record a layer to journald, to syslog, or to a file (one line of JSON each)
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
        HsmSettings {
            timeout: self.hsm_timeout,
            allow_final_try: self.allow_final_try,
            ..HsmSettings::default()
        }
    }
}

impl Cli {
    /// Parses the arguments. Started as `ctd-decoder`, everything is an argument of `decode`.
    ///
    /// # Errors
    /// What `clap` found wrong, ready to print; asking for help or the version is one of these.
    pub fn parse_from(argv: Vec<OsString>) -> Result<Self, clap::Error> {
        if is_reference_name(&argv) {
            let matches = decode::Args::augment_args(clap::Command::new(REFERENCE_NAME))
                .version(env!("CARGO_PKG_VERSION"))
                .about("Decrypt one layer from stdin to stdout (ocihsm decode)")
                .try_get_matches_from(argv)?;
            return Ok(Self {
                command: Command::Decode(decode::Args::from_arg_matches(&matches)?),
            });
        }
        Self::from_arg_matches(&Self::command().try_get_matches_from(argv)?)
    }
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

    fn parse(argv: &[&str]) -> Result<Cli, clap::Error> {
        Cli::parse_from(argv.iter().map(OsString::from).collect())
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
}
