//! `ocihsm keys export`: the public half of a key, for whoever encrypts.

use std::path::{Path, PathBuf};

use super::new_file::NewFile;
use super::pin::PinArgs;
use super::survey;
use crate::commands::Result;
use crate::commands::args::HsmArgs;
use crate::commands::print;
use crate::hsm;
use crate::keys::TokenKey;
use crate::keys::key_file::KeyFile;
use crate::keys::policy::Policy;
use crate::node::environment;
use crate::settings;

/// Arguments of `keys export`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The key: its PKCS#11 URI (in quotes), or a key file
    #[arg(value_name = "URI|KEYFILE")]
    pub key: String,
    /// PKCS#11 module, by its path or by the name that a URI's module-name would give, in place of the URI's own
    #[arg(long, value_name = "NAME|PATH")]
    pub module: Option<String>,
    /// Where the PIN is.
    #[command(flatten)]
    pub pin: PinArgs,
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
shows the key to nobody else, and is the one in the URI or the key file if there is one.";

pub(super) fn run(args: &Args) -> Result<()> {
    let policy = survey::policy()?;
    let key = key(args, &policy)?;
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

fn key(args: &Args, policy: &Policy) -> Result<TokenKey> {
    let is_uri = args
        .key
        .get(..7)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("pkcs11:"));
    let mut file = if is_uri {
        KeyFile {
            name: "the command line".to_owned(),
            uri: args.key.parse()?,
            env: Default::default(),
            init: None,
        }
    } else {
        KeyFile::read(Path::new(&args.key))?
    };
    if file.uri.pin_value.is_none()
        && file.uri.pin_source.is_none()
        && let Some(given) = args.pin.given()?
    {
        file.uri.pin_value = Some(given.pin);
        file.name = given.place;
    }
    let module = match &args.module {
        Some(named) => survey::module(policy, named)?,
        None if is_uri => policy.locate(&file.uri)?,
        None => return Ok(policy.resolve(file)?),
    };
    if is_uri {
        file.env = environment::of_module(&module, settings::variable);
    }
    Ok(TokenKey { file, module })
}
