//! Arguments that several subcommands share.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};

use crate::hsm::HsmSettings;
use crate::settings::{self, Environment};
use crate::telemetry::{LogTarget, Verbosity};

/// What `--key` is called in containerd's configuration, by the reference and by earlier releases.
pub(crate) const DECRYPTION_KEYS_PATH: &str = "decryption-keys-path";

/// How much is told, of every subcommand.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct VerboseArgs {
    /// Tell each step and its time on standard error; twice, each call of a PKCS#11 function too. `decode` tells its log
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Say nothing on standard error but errors: no warnings, no notes, no progress
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
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
    /// Directory of keys, searched at any depth, or one key file (repeatable; --decryption-keys-path is the same) [env: OCIHSM_KEYS_PATH=]
    #[arg(long = "key", alias = DECRYPTION_KEYS_PATH, value_name = "DIR")]
    pub decryption_keys_path: Vec<PathBuf>,
}

impl VerboseArgs {
    /// As the telemetry wants it.
    #[must_use]
    pub fn verbosity(self) -> Verbosity {
        match self.quiet {
            true => Verbosity::Silent,
            false => Verbosity::of_count(self.verbose),
        }
    }
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

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds.into())),
        _ => Err("expected whole seconds, 1 to 86400".to_owned()),
    }
}
