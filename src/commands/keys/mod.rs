//! `ocihsm keys`: what concerns the keys in tokens rather than an image.

use clap::Subcommand;

use crate::error::Result;
use crate::hsm::HsmSettings;

/// Arguments of `keys`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `keys` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Try again the PINs that tokens rejected
    ///
    /// A PIN that a token rejected is not tried again on this machine until it or its key file changes, since each try
    /// may lock the token. Use this when the token was given that PIN since.
    ForgetRejectedPins {
        /// Only those of tokens with this label
        #[arg(long, value_name = "LABEL")]
        token: Option<String>,
    },
}

/// Runs one of them.
///
/// # Errors
/// Whatever made it fail.
pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::ForgetRejectedPins { token } => forget(token.as_deref()),
    }
}

fn forget(token: Option<&str>) -> Result<()> {
    let tokens = HsmSettings::default().forget_rejected_pins(token)?;
    if tokens.is_empty() {
        println!("no rejected PIN is remembered");
    }
    for token in tokens {
        println!("forgot the rejected PINs of token {token:?}");
    }
    Ok(())
}
