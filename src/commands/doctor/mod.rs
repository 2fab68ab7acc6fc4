//! `ocihsm doctor`: checks this node, says what it found, and how to mend what is not as it should be.
//!
//! Works as the decoder would: with containerd's configuration, the keys and the policy that stand there, and a real
//! login to each token. Changes nothing, and needs no containerd that runs.

mod access;
mod containerd;
mod findings;
mod keys;
mod token;

use std::path::PathBuf;

use self::findings::Findings;
use self::token::Trial;
use super::print;
use crate::cli::{HsmArgs, KeyArgs};
use crate::error::Result;
use crate::node::KEYS;
use crate::node::containerd::LOCATIONS;

/// Arguments of `doctor`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// containerd's configuration file [default: where containerd, k3s, RKE2 and microk8s keep it]
    #[arg(long, value_name = "FILE")]
    pub containerd_config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the keys are, instead of where containerd's configuration says.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// How to treat the tokens.
    #[command(flatten)]
    pub hsm: HsmArgs,
}

const AFTER_HELP: &str = "\
Each key is tried for real: one login to its token, and a wrapped key to open. A token that says that one more \
wrong PIN would lock it is left alone.

Exit status: 0 only if no check failed; warnings do not count.";

/// What one group of stream processors decodes with.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setup {
    /// Directories of key files.
    keys: Vec<PathBuf>,
    /// `OCICRYPT_CONFIG`.
    policy: Option<String>,
}

/// Checks the node and prints what it found.
///
/// # Errors
/// [`crate::Error::Unhealthy`] when a check failed; [`crate::Error::Stream`] when standard output cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let mut findings = Findings::default();
    let mut setups = containerd::check(&mut findings, &configurations(args));
    if !args.keys.decryption_keys_path.is_empty() {
        for setup in &mut setups {
            setup.keys.clone_from(&args.keys.decryption_keys_path);
        }
        setups.dedup();
    }
    if setups.is_empty() {
        setups.push(Setup {
            keys: match args.keys.decryption_keys_path.as_slice() {
                [] => vec![KEYS.into()],
                given => given.to_vec(),
            },
            policy: std::env::var("OCICRYPT_CONFIG").ok(),
        });
    }
    let settings = args.hsm.settings();
    if let Some(warning) = settings.warning() {
        findings.warn(
            "runtime directory",
            format!("rejected PINs cannot be remembered: {warning}"),
            "name a directory of root's own in OCIHSM_RUNTIME_DIR",
        );
    }
    let mut trial = Trial::new(&settings);
    for setup in &setups {
        for key in keys::check(&mut findings, setup) {
            trial.check(&mut findings, &key);
        }
    }
    let text = if args.json {
        findings.to_json()
    } else {
        findings.to_text()
    };
    print(&text.trim_end())?;
    findings.verdict()
}

/// Files to look at, each with the root directory that goes without saying there.
fn configurations(args: &Args) -> Vec<(PathBuf, PathBuf)> {
    if let Some(path) = &args.containerd_config {
        let usual = LOCATIONS
            .iter()
            .find(|(file, _)| path.as_os_str() == *file)
            .unwrap_or(&LOCATIONS[0]);
        return vec![(path.clone(), usual.1.into())];
    }
    LOCATIONS
        .iter()
        .filter(|(file, _)| std::fs::symlink_metadata(file).is_ok())
        .map(|(file, root)| (file.into(), root.into()))
        .collect()
}
