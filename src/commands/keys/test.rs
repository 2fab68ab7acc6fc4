//! `ocihsm keys test`: a key used for real, once for each kind of wrapped key that it may be asked for.

use std::fmt::Write as _;

use serde::Serialize;

use super::one_key::OneKey;
use crate::commands::args::HsmArgs;
use crate::commands::trial::{self, Tried};
use crate::commands::{Error, Result, print, to_json};
use crate::escape::escaped;
use crate::hsm::{Client, Probe};
use crate::keys::TokenKey;
use crate::keys::public::PublicKey;
use crate::operation::OaepHash;

/// Arguments of `keys test`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Which key.
    #[command(flatten)]
    pub key: OneKey,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// How to treat the token.
    #[command(flatten)]
    pub hsm: HsmArgs,
}

const AFTER_HELP: &str = "\
Logs in, finds the key, wraps something of no worth for its public half, and has the token unwrap it: with RSA-OAEP as \
the schemes pkcs11 (sha256, sha1) and jwe (sha1) do, with RSA PKCS#1 v1.5 as pkcs7 does, or with ECDH as jwe does. \
`ocihsm doctor` does it for every key of a node, in the environment of containerd; this is for one key, in this shell.

Exit status: 0 if the key does RSA-OAEP, or ECDH if it is on a curve, and gives no wrong answer.

Examples:
  ocihsm keys test imagekey.yaml
  ocihsm keys test 'pkcs11:token=prod;object=imagekey?module-name=softhsm2' --pin-file pin --json";

/// What was found out; `docs/schemas/keys-test.json` describes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    version: u32,
    key: String,
    #[serde(rename = "type")]
    kind: String,
    token: String,
    serial: String,
    module: String,
    works: bool,
    operations: Vec<Operation>,
}

/// One operation.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Operation {
    name: String,
    /// Schemes of `encrypt` that need it.
    schemes: &'static [&'static str],
    works: bool,
    /// How, or why not.
    text: String,
    /// Whether a key is worth nothing without it.
    #[serde(skip)]
    needed: bool,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let key = args.key.find()?;
    let mut client = Client::new(args.hsm.settings());
    let probe = client
        .probe(&key)
        .map_err(|error| error.in_key_file(&key.file.name))?;
    let operations = operations(&mut client, &key, &probe.public_key);
    let report = Report::new(&key, &probe, operations);
    match args.json {
        true => print(&to_json(&report))?,
        false => print(&report.to_text())?,
    }
    match report.works {
        true => Ok(()),
        false => Err(Error::KeyFails),
    }
}

fn operations(client: &mut Client, key: &TokenKey, public: &PublicKey) -> Vec<Operation> {
    let mut operations = Vec::new();
    let mut add = |name: &str, schemes, needed, tried: Tried| {
        operations.push(Operation::new(name, schemes, needed, tried));
    };
    match public {
        PublicKey::Rsa(rsa) => {
            let tried = trial::oaep(client, key, public, OaepHash::Sha256);
            add("RSA-OAEP sha256", &["pkcs11"], true, tried);
            let tried = trial::oaep(client, key, public, OaepHash::Sha1);
            add("RSA-OAEP sha1", &["pkcs11", "jwe"], true, tried);
            let tried = trial::pkcs1(client, key, rsa);
            add("RSA PKCS#1 v1.5", &["pkcs7"], false, tried);
        }
        PublicKey::Ec(ec) => {
            if let Some(tried) = trial::agree(client, key, ec) {
                add(&format!("ECDH {}", ec.curve()), &["jwe"], true, tried);
            }
        }
    }
    operations
}

impl Operation {
    fn new(name: &str, schemes: &'static [&'static str], needed: bool, tried: Tried) -> Self {
        let (works, text, is_wrong) = match tried {
            Tried::Works(how) => (true, how.to_string(), false),
            Tried::Wrong => (
                false,
                "the answer is another one than the public half promises".to_owned(),
                true,
            ),
            Tried::Refused(why) => (false, format!("the token {why}"), false),
            Tried::Failed(error) => (false, error.to_string(), false),
        };
        Self {
            name: name.to_owned(),
            schemes,
            works,
            text,
            needed: needed || is_wrong,
        }
    }
}

impl Report {
    fn new(key: &TokenKey, probe: &Probe, operations: Vec<Operation>) -> Self {
        Self {
            version: 1,
            key: key.file.uri.to_string(),
            kind: match &probe.public_key {
                PublicKey::Rsa(key) => format!("RSA-{}", key.bits()),
                PublicKey::Ec(key) => key.curve().to_string(),
            },
            token: probe.token.clone(),
            serial: probe.serial.clone(),
            module: key.module.display().to_string(),
            works: operations.iter().all(|one| one.works || !one.needed),
            operations,
        }
    }

    fn to_text(&self) -> String {
        let mut text = format!(
            "ok    login: {} on token {:?} (serial {}), by {}",
            self.kind,
            self.token,
            escaped(&self.serial),
            escaped(&self.module)
        );
        for one in &self.operations {
            let level = match (one.works, one.needed) {
                (true, _) => "ok  ",
                (false, true) => "fail",
                (false, false) => "no  ",
            };
            let schemes = one.schemes.join(", ");
            let (name, why) = (&one.name, escaped(&one.text));
            let _ = write!(text, "\n{level}  {name} ({schemes}): {why}");
        }
        text
    }
}
