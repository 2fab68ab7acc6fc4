//! `ocihsm doctor`: checks this node, says what it found, and how to mend what is not as it should be.
//!
//! Works as the decoder would: with containerd's configuration, the keys, the policy and the environment that stand
//! there, and real logins to each token. Changes nothing. Where no containerd runs, the files tell, and that is said.

mod access;
mod containerd;
mod files;
mod findings;
mod image;
mod keys;
mod kind;
mod log;
mod media_types;
mod mend;
mod policy;
mod processors;
mod program;
mod rancher;
mod running;
mod script;
mod setup;
mod stores;
mod token;
mod trial;

use std::path::PathBuf;

use nix::unistd::geteuid;

use self::containerd::Decoder;
use self::findings::{Colour, Findings};
use self::setup::Setup;
use self::token::Trial;
use super::image_args::{self, RegistryArgs};
use super::print;
use crate::commands::Result;
use crate::commands::args::{DECRYPTION_KEYS_PATH, HsmArgs};
use crate::image::reference::HELP;
use crate::image::{Platform, Reference};

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
    /// Fail on warnings too
    #[arg(long)]
    pub strict: bool,
    /// An image: tell whether this node opens each of its layers, and if not, why
    #[arg(
        long,
        value_name = "IMAGE",
        help_heading = "Image",
        long_help = format!("An image: tell whether this node opens each of its layers, and if not, why. {HELP}"),
        value_parser = image_args::reference()
    )]
    pub image: Option<Reference>,
    /// Ask about the image for this platform [default: this machine's]
    #[arg(
        long,
        value_name = "OS/ARCH[/VARIANT]",
        requires = "image",
        help_heading = "Image"
    )]
    pub platform: Option<Platform>,
    /// Directory of PKCS#11 key files, or one key file, in the place of what containerd's configuration names (repeatable)
    #[arg(long = "key", alias = DECRYPTION_KEYS_PATH, value_name = "DIR", help_heading = "Keys")]
    pub decryption_keys_path: Vec<PathBuf>,
    /// How to speak to registries.
    #[command(flatten)]
    pub registry: RegistryArgs,
    /// How to treat the tokens.
    #[command(flatten)]
    pub hsm: HsmArgs,
}

const AFTER_HELP: &str = "\
Each key is tried for real, in the environment that containerd gives the decoder and not in this one: a login to ask \
the token about it, and another to open a wrapped key. A PIN that is rejected is not tried again, and a token that \
says that one more wrong PIN would lock it is left alone.

With --image, no layer is read: the keys are asked to unwrap what stands in the image's manifest.

Exit status: 0 only if no check failed; warnings count with --strict alone.

Examples:
  ocihsm doctor
  ocihsm doctor --strict --json
  ocihsm doctor --key imagekey.yaml --containerd-config /etc/containerd/config.toml
  ocihsm doctor --image docker://registry.example/app:v1";

/// Checks the node and prints what it found.
///
/// # Errors
/// [`crate::commands::Error::Unhealthy`] when a check failed; [`crate::commands::Error::Stream`] when standard output cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let mut findings = Findings::default();
    if !geteuid().is_root() {
        findings.warn(
            kind::NOT_ROOT,
            "containerd runs its decoder as root, and this is another user, who may see less"
                .to_owned(),
            "run doctor as root, unless containerd is this user's own",
        );
    }
    let named = args.containerd_config.as_deref();
    let containerds = running::containerds(named);
    running::check_any(&mut findings, &containerds, named);
    let decoders = containerd::check(&mut findings, &containerds);
    let decoders = with_keys(decoders, &args.decryption_keys_path)?;
    if decoders.is_empty() && !findings.mention(kind::KEYS.subject) {
        findings.warn(
            kind::KEYS_UNCHECKED,
            "not checked, since no stream processor says where they are".to_owned(),
            "mend that first, or name them with --key",
        );
    }
    let settings = args.hsm.settings();
    let mut trial = Trial::new(&settings);
    for Decoder { setup, containerds } in &decoders {
        let containerds: Vec<_> = containerds.iter().map(PathBuf::as_path).collect();
        findings.about(&containerds);
        for key in keys::check(&mut findings, setup) {
            trial.check(&mut findings, setup, &key);
        }
    }
    if let Some(reference) = &args.image {
        findings.about(&[]);
        let platform = args.platform.as_ref();
        if let Some(asked) = image::read(&mut findings, reference, platform, &args.registry) {
            image::ask(&mut findings, &asked, &decoders, &trial, &settings);
        }
    }
    let text = if args.json {
        findings.to_json()
    } else {
        findings.to_text(Colour::wanted())
    };
    print(&text.trim_end())?;
    findings.verdict(args.strict)
}

/// The decoders, each once, with these keys in the place of their own if any are named.
fn with_keys(decoders: Vec<Decoder>, named: &[PathBuf]) -> Result<Vec<Decoder>> {
    if named.is_empty() {
        return Ok(decoders);
    }
    let mut changed: Vec<Decoder> = Vec::new();
    for Decoder { setup, containerds } in decoders {
        let setup = setup.but_with_keys(named.to_vec());
        Decoder { setup, containerds }.add_to(&mut changed);
    }
    if changed.is_empty() {
        changed.push(Decoder::of_the_only(Setup::with_keys(named.to_vec())?));
    }
    Ok(changed)
}
