//! `ocihsm keys export`: the public half of a key, for whoever encrypts.

use std::path::PathBuf;

use super::new_file::NewFile;
use super::one_key::OneKey;
use crate::commands::Result;
use crate::commands::args::HsmArgs;
use crate::commands::print;
use crate::hsm;

/// Arguments of `keys export`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Which key.
    #[command(flatten)]
    pub key: OneKey,
    /// Write the key to this file
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace that file if it is there
    #[arg(long)]
    pub force: bool,
    /// How to treat the token.
    #[command(flatten)]
    pub hsm: HsmArgs,
}

const AFTER_HELP: &str = "\
Prints a SubjectPublicKeyInfo in PEM. Most tokens show public keys to everybody; a PIN is used only where the token \
shows the key to nobody else, and is the one in the URI or the key file if there is one.

Examples:
  ocihsm keys export imagekey.yaml --out imagekey.pub.pem
  ocihsm keys export 'pkcs11:token=prod;object=imagekey?module-name=softhsm2'";

pub(super) fn run(args: &Args) -> Result<()> {
    let key = args.key.find()?;
    let file = match &args.out {
        Some(path) => Some(NewFile::create(path.clone(), 0o644, args.force)?),
        None => None,
    };
    let pem = hsm::public_key(&args.hsm.settings(), &key)?.to_pem();
    match file {
        Some(file) => file.place(&pem).map(drop),
        None => print(&pem.trim_end()),
    }
}
