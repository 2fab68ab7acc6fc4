//! `ocihsm keys delete`: a key removed from its token for good.

use super::one_key::OneKey;
use crate::commands::args::HsmArgs;
use crate::commands::prompt;
use crate::commands::{Error, Result, print};
use crate::escape::escaped;
use crate::hsm::{Client, Deleted};
use crate::keys::public::PublicKey;

/// Arguments of `keys delete`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Which key.
    #[command(flatten)]
    pub key: OneKey,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// How to treat the token.
    #[command(flatten)]
    pub hsm: HsmArgs,
}

const AFTER_HELP: &str = "\
Removes the private and the public key; certificates stay. Layers that are encrypted for this key alone are lost with it: \
give them another recipient first, with `ocihsm rekey`. The URI has to mean one key, or nothing is removed. Without a \
terminal to ask at, it needs --yes.

Examples:
  ocihsm keys delete imagekey.yaml
  ocihsm keys delete 'pkcs11:token=prod;object=old?module-name=softhsm2' --pin-file pin --yes";

pub(super) fn run(args: &Args) -> Result<()> {
    let key = args.key.find()?;
    let uri = escaped(&key.file.uri.to_string());
    let mut client = Client::new(args.hsm.settings());
    let in_file = |error: crate::hsm::Error| error.in_key_file(&key.file.name);
    if !args.yes {
        let public_key = client.public_key(&key).map_err(in_file)?;
        let kind = match public_key {
            PublicKey::Rsa(key) => format!("an RSA-{} key", key.bits()),
            PublicKey::Ec(key) => format!("a key on {}", key.curve()),
        };
        let question = format!(
            "{uri} is {kind}. What is encrypted for it alone can never be opened again. Remove it?"
        );
        match prompt::confirm(&question)? {
            Some(true) => {}
            Some(false) => return Err(Error::NotConfirmed),
            None => return Err(Error::NobodyToAsk),
        }
    }
    let Deleted { private, public } = client.delete(&key).map_err(in_file)?;
    let what = match (private, public) {
        (0, _) => "public key",
        (_, 0) => "private key",
        _ => "private and the public key",
    };
    print(&format!("removed the {what} of {uri}"))
}
