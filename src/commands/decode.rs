//! `ocihsm decode`: one encrypted layer from stdin, the plain layer to stdout, as containerd runs it.

use std::path::PathBuf;

use crate::cli::HsmArgs;
use crate::error::Result;

/// Arguments of `decode`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where the keys are.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// How to treat the token.
    #[command(flatten)]
    pub hsm: HsmArgs,
}

/// Where the keys are.
#[derive(clap::Args, Debug)]
pub struct KeyArgs {
    /// Directory of PKCS#11 key files, searched at any depth, or one key file (repeatable)
    #[arg(
        long,
        value_name = "DIR",
        env = "OCIHSM_KEYS_PATH",
        value_delimiter = ':'
    )]
    pub decryption_keys_path: Vec<PathBuf>,
}

/// Decodes the layer.
///
/// # Errors
/// Whatever kept the layer from being written whole and verified.
pub fn run(_args: &Args) -> Result<()> {
    Ok(())
}
