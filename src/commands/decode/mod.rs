//! `ocihsm decode`: one encrypted layer from stdin, the plain layer to stdout, as containerd runs it.
//!
//! Who tells us which layer it is stands in `source.rs`, how its key is found in `open.rs`. Here the two are put
//! together, and a failure is made one that containerd cannot overlook.

mod command_line;
mod open;
mod source;

use std::fs::File;
use std::io::{self, Cursor, IsTerminal, Read};
use std::os::fd::AsFd;
use std::os::unix::process::parent_id;
use std::path::PathBuf;
use std::time::Instant;

use tracing::info_span;

use crate::cipher;
use crate::commands::args::{HsmArgs, KeyArgs, LogArgs};
use crate::content_store;
use crate::error::{Error, Result, catch};
use crate::spoil;
use crate::telemetry::LayerRecord;

pub(crate) use self::command_line::ABOUT;
pub use self::command_line::log_in_spite_of_mistakes;
use self::open::Opened;
pub use self::source::SourceArgs;

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

const AFTER_HELP: &str = "\
containerd runs this as a stream processor, also under the name ctd-decoder. Which layer is on stdin is learned \
from the first of: --descriptor; --annotation or OCIHSM_LAYER_ANNOTATIONS; the payload on file descriptor 3; \
containerd's content store.

The module policy is OCICRYPT_CONFIG, else $XDG_CONFIG_HOME/ocicrypt.conf, $HOME/.config/ocicrypt.conf or \
/etc/ocicrypt.conf, else the module directories of the distributions.

A layer is verified in the file that containerd feeds it from, where that can be seen, before its first byte is written; of any \
other one that is larger than 1 MiB, at least the last 512 KiB are held back until all of it was verified.

Exit status: 0 only if every byte was verified and written.";

/// How far a layer has come, for the log and for what becomes of stdout.
#[derive(Default)]
struct Progress {
    record: LayerRecord,
    /// Whether a byte of the layer may have left.
    written: bool,
}

/// Decodes the layer. `inherited` is what came as file descriptor 3.
///
/// # Errors
/// Whatever kept the layer from being written whole and verified. Standard output is then spoiled if anything
/// was written to it, and stays open for a moment after this process ends.
pub fn run(args: &Args, inherited: Option<File>) -> Result<()> {
    let mut progress = Progress::default();
    // A panic is a failure like any other: the log has to tell it, and the stream to be spoiled.
    let result = catch(|| decode(args, inherited, &mut progress));
    if let Err(error) = &result {
        progress.record.error = Some(error.to_string());
    }
    progress.record.emit();
    if result.is_err() {
        fail(&progress);
    }
    result
}

/// Makes a failure one that containerd sees. If this fails too, stdout is closed, and what was read from it is short.
fn fail(progress: &Progress) {
    if progress.written {
        let media_type = progress.record.media_type.as_deref();
        let _ = standard(io::stdout()).map(|output| spoil::spoil(output, media_type));
    }
    spoil::hold();
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
    let layer =
        info_span!("find").in_scope(|| source::find(&args.source, inherited, &mut input))?;
    progress.record.learned_from = Some(layer.learned_from);
    progress.record.media_type = layer.media_type.clone();
    progress.record.layer = layer.digest().map(ToString::to_string);

    let opened = info_span!("unwrap").in_scope(|| open::open(args, layer, &mut progress.record))?;
    let in_layer = |error| match &opened.digest {
        Some(digest) => Error::InLayer {
            digest: digest.clone(),
            source: Box::new(error),
        },
        None => error,
    };
    let _span = info_span!("stream").entered();
    let start = Instant::now();
    if !args.single_pass {
        let verified = verify_first(&opened, &mut progress.record.bytes);
        progress.record.stream = Some(start.elapsed());
        verified.map_err(in_layer)?;
    }
    // A panic from here on may come at any byte.
    progress.written = true;
    let bytes = progress.record.bytes.insert(0);
    let input = Counted {
        input: Cursor::new(opened.peeked).chain(input),
        bytes,
    };
    let result = cipher::decrypt(&opened.parameters, input, output, opened.size);
    progress.record.stream = Some(start.elapsed());
    match result {
        Ok(_) => Ok(()),
        Err(failed) => {
            progress.written = failed.written > 0;
            Err(in_layer(failed.error))
        }
    }
}

/// Verifies a layer in containerd's store, so that one that is damaged fails before its first byte: containerd would
/// otherwise stumble over what was written of it, and report that in the place of our error. What is on stdin is
/// verified all the same.
///
/// That is the file that our parent holds open, and no other one of its name: only this one's bytes are on stdin.
///
/// `bytes` becomes the number of bytes that were read.
fn verify_first(opened: &Opened, bytes: &mut Option<u64>) -> Result<()> {
    if opened
        .size
        .is_some_and(|size| size <= cipher::VERIFIED_WHOLE)
    {
        return Ok(());
    }
    let held = opened
        .digest
        .as_ref()
        .and_then(|digest| content_store::held_blob(parent_id(), digest));
    // A file that we may not open is no reason to fail: its bytes come on stdin.
    match held.map(File::open) {
        Some(Ok(input)) => {
            let bytes = bytes.insert(0);
            cipher::verify(&opened.parameters, Counted { input, bytes }, opened.size)
        }
        _ => Ok(()),
    }
}

/// A reader that counts the bytes, also of a layer that fails.
struct Counted<'a, R> {
    input: R,
    bytes: &'a mut u64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        *self.bytes += count as u64;
        Ok(count)
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

/// A list of paths from the command line, else from an environment variable, where `:` stands between them.
fn paths(given: &[PathBuf], variable: &str) -> Vec<PathBuf> {
    if !given.is_empty() {
        return given.to_vec();
    }
    std::env::var_os(variable)
        .map(|value| std::env::split_paths(&value).collect::<Vec<_>>())
        .unwrap_or_default()
        .into_iter()
        .filter(|path| !path.as_os_str().is_empty())
        .collect()
}
