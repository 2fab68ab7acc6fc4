//! `ocihsm keys list`: tokens and their RSA and EC keys, each with the URI that belongs in a key file.

use super::listing::Listing;
use super::survey::{self, Asked, Survey};
use super::table;
use crate::commands::Result;
use crate::commands::args::HsmArgs;
use crate::commands::pin::PinArgs;
use crate::commands::print;
use crate::hsm::{self, Patience};
use crate::keys::uri::Pkcs11Uri;
use crate::telemetry::note;

/// Arguments of `keys list`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// PKCS#11 module, by its path or by the name that a URI's module-name would give; else all that the module
    /// policy leads to
    #[arg(long, value_name = "NAME|PATH")]
    pub module: Option<String>,
    /// Only this token
    #[arg(long, value_name = "LABEL|URI")]
    pub token: Option<String>,
    /// Where its PIN is.
    #[command(flatten)]
    pub pin: PinArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// How to treat the token.
    #[command(flatten)]
    pub hsm: HsmArgs,
}

const AFTER_HELP: &str = "\
Most tokens hide private keys until somebody logs in, and show public keys to everybody. With --token and its PIN the \
private keys are listed too; without --token no PIN is used. The modules find their tokens as always, SoftHSM by \
SOFTHSM2_CONF for example.

Examples:
  ocihsm keys list
  ocihsm keys list --token prod --pin-file pin --json";

pub(super) fn run(args: &Args) -> Result<()> {
    let policy = survey::policy()?;
    let settings = args.hsm.settings();
    let uri = match &args.token {
        Some(token) => survey::token_uri(token)?,
        None => Pkcs11Uri::default(),
    };
    // A PIN is for one token, so without --token it is not even looked at.
    let pin = match args.token {
        Some(_) => args.pin.given()?,
        None => None,
    };
    let mut survey = Survey::new(&settings, &policy, args.module.as_deref(), &uri)?;
    if pin.is_some() {
        let (module, _) = survey.only(&uri)?;
        let key = survey::token_key(&uri, module, pin.as_ref());
        let tokens = hsm::tokens(&settings, &key, Patience::Some);
        survey.modules = vec![Asked {
            tokens: Ok(tokens?),
            module: key.module,
        }];
    }
    let listing = Listing::new(&policy, &survey);
    if args.json {
        let text = serde_json::to_string_pretty(&listing);
        return print(&text.expect("strings, numbers and lists are always JSON"));
    }
    for problem in listing.problems() {
        tracing::warn!("{problem}");
    }
    print(&table::to_text(&listing))?;
    if pin.is_none() && listing.hides_private_keys() {
        note(match args.token {
            Some(_) => {
                "private keys are shown once the PIN is given, with --pin-file or in OCIHSM_PIN"
            }
            None => "private keys are shown with --token and the PIN of that token",
        });
    }
    Ok(())
}
