//! `ocihsm decode`: one encrypted layer from stdin, the plain layer to stdout, as containerd runs it.
//!
//! Who tells us which layer it is stands in `source.rs`, how it is verified and written in `stream.rs`. Here the way is
//! walked, and a failure is made one that containerd cannot overlook.

mod command_line;
mod source;
mod stream;

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::time::Instant;

use tracing::info_span;

use crate::cipher;
use crate::commands::args::{HsmArgs, KeyArgs, LogArgs};
use crate::commands::unwrapping::Opener;
use crate::commands::{Error, Result};
use crate::error::catch;
use crate::keys::policy::Policy;
use crate::keys::ring::KeyRing;
use crate::schemes::provider;
use crate::settings::{self, Arguments, Environment, KeySettings};
use crate::spoil;
use crate::telemetry::LayerRecord;

pub(crate) use self::command_line::ABOUT;
pub use self::command_line::log_in_spite_of_mistakes;
use self::source::Layer;
pub use self::source::SourceArgs;
use self::stream::Stream;

/// Arguments of `decode`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Where the keys are.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// What tells us which layer it is.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Write a large layer while it is being verified, where the file that containerd holds open could be verified first:
    /// for disks that are slower than the rest of the pull
    #[arg(long)]
    pub single_pass: bool,
    /// How to treat the token.
    #[command(flatten)]
    pub hsm: HsmArgs,
    /// Where a record of the layer goes.
    #[command(flatten)]
    pub log: LogArgs,
}

impl Args {
    /// As `settings` wants them.
    pub(super) fn raw(&self) -> Arguments {
        Arguments {
            keys: self.keys.decryption_keys_path.clone(),
            descriptor: self.source.descriptor.clone(),
            annotations: self.source.annotation.clone(),
            media_type: self.source.media_type.clone(),
            content_stores: self.source.content_store.clone(),
            single_pass: self.single_pass,
            hsm_timeout: self.hsm.hsm_timeout,
            allow_final_try: self.hsm.allow_final_try,
        }
    }
}

const AFTER_HELP: &str = "\
containerd runs this as a stream processor, also under the name ctd-decoder. Which layer is on stdin is learned \
from the first of: --descriptor; --annotation or OCIHSM_LAYER_ANNOTATIONS; the payload on file descriptor 3; \
containerd's content store.

The module policy is OCICRYPT_CONFIG, else $XDG_CONFIG_HOME/ocicrypt.conf, $HOME/.config/ocicrypt.conf or \
/etc/ocicrypt.conf, else the module directories of the distributions.

A layer is verified in the file that containerd feeds it from, where that can be seen, before its first byte is written; of any \
other one that is larger than 1 MiB, at least the last 512 KiB are held back until all of it was verified.

Exit status: 0 only if every byte was verified and written.

Examples:
  ocihsm decode --key /etc/containerd/ocicrypt/keys --descriptor layer.json < layer > layer.tar
  ocihsm decode --key imagekey.yaml --content-store /var/lib/containerd < layer > layer.tar";

/// How far a layer has come, for the log and for what becomes of stdout.
#[derive(Default)]
struct Progress {
    record: LayerRecord,
    /// Whether a byte of the layer may have left.
    written: bool,
}

impl Progress {
    /// Adds the time since `start` to that of the stream.
    fn took(&mut self, start: Instant) {
        *self.record.stream.get_or_insert_default() += start.elapsed();
    }
}

/// Decodes the layer. `inherited` is what came as file descriptor 3.
///
/// # Errors
/// Whatever kept the layer from being written whole and verified. Standard output is then spoiled if anything
/// was written to it, and stays open for a moment after this process ends.
pub fn run(args: &Args, inherited: Option<File>) -> Result<()> {
    spoil::survive_file_limit();
    let mut progress = Progress::default();
    // A panic is a failure like any other: the log has to tell it, and the stream to be spoiled.
    let result = catch(|| decode(args, inherited, &mut progress));
    if let Err(error) = &result {
        // Before anything else that may fail.
        spoil::hold();
        progress.record.error = Some(error.to_string());
    }
    // No log is a reason to leave out what comes after it, be it that it panics.
    let _ = catch(|| {
        progress.record.emit();
        Ok::<_, Error>(())
    });
    if result.is_err() && progress.written {
        // Last: containerd may end us as soon as it has read this. If it fails too, what was read is short.
        let media_type = progress.record.media_type.as_deref();
        let _ = standard(io::stdout()).map(|output| spoil::spoil(output, media_type));
    }
    result
}

fn decode(args: &Args, inherited: Option<File>, progress: &mut Progress) -> Result<()> {
    if io::stdin().is_terminal() {
        return Err(Error::StdinIsTerminal);
    }
    let mut input = standard(io::stdin())?;
    let output = standard(io::stdout())?;
    // Now, so that the beginning of the layer comes while the HSM is at work.
    cipher::enlarge_pipe(input.as_fd());
    cipher::enlarge_pipe(output.as_fd());
    let settings = settings::resolve(args.raw(), &Environment::current())?;
    progress.record.media_type = settings.layer.media_type.clone();
    progress.record.notes.extend(settings.hsm.warning());

    // The node's keys first, so that their modules start while the layer is looked for. What is wrong with them is
    // told when it is known which layer it keeps shut.
    let node = NodeKeys::read(&settings.keys);
    let mut opener = Opener::new(settings.hsm, settings.keys.providers.clone());
    if let Ok(node) = &node {
        opener.start(&node.ring);
    }
    let mut layer =
        info_span!("find").in_scope(|| source::find(&settings.layer, inherited, &mut input))?;
    progress.record.learned_from = Some(layer.learned_from);
    progress.record.media_type = layer.media_type.clone();
    progress.record.layer = layer.digest.as_ref().map(ToString::to_string);
    let mut opener = opener
        .with_keys(node?.and_those_of(&layer)?)
        .with_parameters(std::mem::take(&mut layer.keys.others));

    let digest = layer.digest.clone();
    // Where there is nothing to choose from, a file that may be another than the one on stdin proves nothing.
    let first = (settings.single_pass || !layer.held) && layer.descriptions.is_one();
    let mut stream = Stream::new(&mut layer, input, output, progress)?;
    let opened = info_span!("unwrap").in_scope(|| {
        opener.open(digest.as_ref(), layer.descriptions, |unwrapped| {
            stream.judge(unwrapped, first)
        })
    });
    opener.rest();
    let result = opened.map(|unwrapped| {
        let finished = info_span!("stream").in_scope(|| stream.finish(&unwrapped));
        (finished, unwrapped)
    });
    progress.record.unwrap = Some(opener.asked_for);
    let (result, unwrapped) = result?;
    progress.record.key = Some(unwrapped.uri);
    progress.record.scheme = Some(unwrapped.scheme.to_string());
    progress.record.hash = unwrapped.hash;
    result.map_err(|error| match digest {
        Some(digest) => Error::InLayer {
            digest,
            source: Box::new(error),
        },
        None => error,
    })
}

/// The keys of this node, and what decides which modules may be loaded for them.
struct NodeKeys {
    ring: KeyRing,
    policy: Policy,
    /// Whether keys, or a provider of keys, were named at all.
    named: bool,
}

impl NodeKeys {
    fn read(settings: &KeySettings) -> Result<Self> {
        let policy = Policy::discover(&settings.policy)?;
        Ok(Self {
            ring: KeyRing::read(&settings.paths, &policy)?,
            policy,
            named: !settings.paths.is_empty() || settings.providers.is_some(),
        })
    }

    /// These keys, then those of the payload.
    fn and_those_of(self, layer: &Layer) -> Result<KeyRing> {
        let mut ring = self.ring;
        let sent = &layer.keys;
        ring.add_payload(&sent.key_files, &sent.policies, &self.policy)?;
        ring.add_certificates(&sent.certificates);
        ring.add_private_keys("private key", &sent.private_keys, &sent.passwords);
        ring.add_private_keys("OpenPGP key", &sent.openpgp_keys, &sent.openpgp_passwords);
        let names_provider = sent.others.keys().any(|name| provider::may_be(name));
        match ring.only_reason() {
            Some(error) => Err(error.into()),
            None if ring.is_empty() && !self.named && !names_provider => Err(Error::NoKeys),
            None => Ok(ring),
        }
    }
}

/// A standard stream without the buffer that the standard library puts before it.
fn standard(stream: impl AsFd) -> Result<File> {
    let descriptor = stream.as_fd().try_clone_to_owned();
    descriptor.map(File::from).map_err(|source| Error::Stream {
        action: "use standard input and output",
        source,
    })
}
