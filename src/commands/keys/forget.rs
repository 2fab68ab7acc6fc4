//! `ocihsm keys forget-rejected-pins`: what keeps a wrong PIN from locking its token, cleared by hand.

use std::time::Duration;

use crate::commands::Result;
use crate::commands::print;
use crate::settings::{self, Environment};

/// Arguments of `keys forget-rejected-pins`.
///
/// A PIN that a token rejected is not tried again on this machine until it changes, since each try
/// may lock the token. Use this when the token was given that PIN since.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Only those of tokens with this label
    #[arg(long, value_name = "LABEL")]
    pub token: Option<String>,
}

const AFTER_HELP: &str = "\
Examples:
  ocihsm keys forget-rejected-pins
  ocihsm keys forget-rejected-pins --token prod";

pub(super) fn run(args: &Args) -> Result<()> {
    // Of them, only the directory matters: no token is asked.
    let settings = settings::hsm(Duration::ZERO, false, &Environment::current());
    let tokens = settings.forget_rejected_pins(args.token.as_deref())?;
    if tokens.is_empty() {
        print(&"no rejected PIN is remembered")?;
    }
    for token in tokens {
        print(&format!("forgot the rejected PINs of token {token:?}"))?;
    }
    Ok(())
}
