//! `ocihsm keys delete`: a key removed from its token for good.

use super::one_key::OneKey;
use crate::commands::args::HsmArgs;
use crate::commands::prompt;
use crate::commands::{Error, Result, print};
use crate::escape::escaped;
use crate::hsm::{self, Client, Pair};
use crate::keys::public::PublicKey;
use crate::keys::uri::Pkcs11Uri;

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
terminal to ask at, it needs --yes, and then `object` or `id` in the URI.

Examples:
  ocihsm keys delete imagekey.yaml
  ocihsm keys delete 'pkcs11:token=prod;object=old?module-name=softhsm2' --pin-file pin --yes";

pub(super) fn run(args: &Args) -> Result<()> {
    let mut key = args.key.find()?;
    let uri = &key.file.uri;
    match args.yes {
        true if !uri.names_key() => {
            let uri = uri.to_string();
            return Err(Error::KeyUnnamed { uri });
        }
        false if !prompt::has_terminal() => return Err(Error::NobodyToAsk),
        _ => {}
    }
    let name = key.file.name.clone();
    let in_file = |error: hsm::Error| error.in_key_file(&name);
    let mut client = Client::new(args.hsm.settings());
    if !args.yes {
        let pair = client.pair(&key).map_err(in_file)?;
        // Whatever comes to the token meanwhile, this one is asked about.
        let uri = &mut key.file.uri;
        match pair.id.is_empty() {
            true => uri.object = uri.object.take().or(Some(pair.label.clone())),
            false => uri.id = uri.id.take().or(Some(pair.id.clone())),
        }
        let kind = match client.public_key(&key).map_err(in_file)? {
            PublicKey::Rsa(key) => format!("an RSA-{} key", key.bits()),
            PublicKey::Ec(key) => format!("a key on {}", key.curve()),
        };
        let question = format!(
            "{} is {kind}. What is encrypted for it alone can never be opened again. Remove it?",
            shown(&key.file.uri, &pair)
        );
        match prompt::confirm(&question)? {
            Some(true) => {}
            Some(false) => return Err(Error::NotConfirmed),
            None => return Err(Error::NobodyToAsk),
        }
    }
    let pair = client.delete(&key).map_err(in_file)?;
    let what = match (pair.private, pair.public) {
        (0, _) => "public key",
        (_, 0) => "private key",
        _ => "private and the public key",
    };
    print(&format!(
        "removed the {what} of {}",
        shown(&key.file.uri, &pair)
    ))
}

/// The key that was found, which the URI may have left open.
fn shown(uri: &Pkcs11Uri, pair: &Pair) -> String {
    let id = Some(pair.id.clone()).filter(|id| !id.is_empty());
    let label = Some(pair.label.clone()).filter(|label| !label.is_empty());
    let whole = Pkcs11Uri {
        id: id.or_else(|| uri.id.clone()),
        object: label.or_else(|| uri.object.clone()),
        ..uri.clone()
    };
    escaped(&whole.to_string())
}
