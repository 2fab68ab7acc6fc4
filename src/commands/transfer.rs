//! One image on its way into another layout: bytes counted, digests checked, and nothing left when it is stopped.
//!
//! Starts a thread that waits for signals, so it begins when every token has been asked.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use memchr::memmem;
use nix::sys::signal::{SigSet, Signal};

use super::image_args::ImageArgs;
use super::summary::Summary;
use super::unwrapping::in_layer;
use crate::cipher;
use crate::commands::{Error, Result};
use crate::descriptor::Digest;
use crate::image::document::MAX_DOCUMENT;
use crate::image::finished::{Blob, Finished};
use crate::image::selection::REF_NAME;
use crate::image::target::Existing;
use crate::image::{self, Descriptor, Image, Source, Staged, Target, media_type};
use crate::telemetry::is_silent;

/// For how long a second signal is part of the first: `timeout` and shells send one to the process and to its group.
const ECHO: Duration = Duration::from_secs(1);

/// Whether a signal asked us to end.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// An image being written.
pub(super) struct Transfer<'a> {
    source: &'a dyn Source,
    target: Target,
    bar: ProgressBar,
}

/// A blob of the source, read to be changed.
pub(super) struct Metered<'a> {
    blob: Box<dyn Read + Send>,
    bar: &'a ProgressBar,
}

/// What a layer became: its new digest and size, and whatever else is to be known of it.
pub(super) struct Made<T> {
    pub(super) digest: Digest,
    pub(super) rest: T,
}

impl<'a> Transfer<'a> {
    /// Begins to write `image`, of which this many bytes will be changed, to where the arguments say.
    ///
    /// # Errors
    /// As [`Target::prepare`].
    pub(super) fn begin(
        source: &'a dyn Source,
        image: &Image,
        args: &ImageArgs,
        bytes: u64,
    ) -> Result<Self> {
        stop_on_signals()?;
        let own = image.entry.annotations.get(REF_NAME);
        let own = own.map(String::as_str);
        let target = Target::prepare(
            &args.destination,
            &args.source,
            &args.registry.settings(),
            own,
            args.force,
        )?;
        let style = ProgressStyle::with_template(
            "{bar:32} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        )
        .expect("the template is sound");
        // Shown on a terminal alone, and gone from it also when an error is about to be printed there.
        let bar = match is_silent() {
            true => ProgressBar::hidden(),
            false => ProgressBar::new(bytes),
        };
        let bar = bar.with_style(style).with_finish(ProgressFinish::AndClear);
        Ok(Self {
            source,
            target,
            bar,
        })
    }

    /// Makes another blob from a layer. What `work` has written is kept if it succeeds.
    ///
    /// # Errors
    /// [`Error::InLayer`] with what went wrong; [`Error::Stopped`] after a signal.
    pub(super) fn layer<T>(
        &mut self,
        layer: &Descriptor,
        work: impl FnOnce(Metered<'_>, &mut Staged) -> Result<Made<T>>,
    ) -> Result<T> {
        let mut staged = self.target.begin()?;
        let input = Metered {
            blob: self.source.blob(layer)?,
            bar: &self.bar,
        };
        let result = work(input, &mut staged);
        not_stopped()?;
        let made = result.map_err(|error| in_layer(layer, error))?;
        self.target.keep(staged, &made.digest)?;
        Ok(made.rest)
    }

    /// Writes all that is still missing, and names the image. Returns its digest.
    ///
    /// # Errors
    /// [`image::Error::WrongBlob`] for a blob that is damaged; whatever keeps one from being copied.
    pub(super) fn finish(mut self, image: Image, summary: &mut Summary) -> Result<Digest> {
        let finished = image.finish();
        let mut missing: Vec<Descriptor> = Vec::new();
        let mut entries = Vec::new();
        for blob in &finished.blobs {
            let Blob {
                descriptor,
                needed,
                is_entry,
            } = blob;
            let optional = !needed || descriptor.is_foreign();
            let elsewhere = optional && !self.source.has(descriptor)?;
            let known = missing
                .iter()
                .any(|other| other.digest == descriptor.digest);
            if elsewhere || known {
                continue;
            }
            if *is_entry && descriptor.size <= MAX_DOCUMENT {
                // A registry keeps what an index names as it keeps manifests.
                entries.push((descriptor, self.source.document(descriptor)?));
            } else if !self.has(descriptor)? {
                self.bar.inc_length(descriptor.size);
                missing.push(descriptor.clone());
            }
        }
        for blob in &missing {
            self.copy(blob)?;
        }
        self.outdated_statements(&finished, summary);
        for (descriptor, bytes) in &entries {
            self.target.put(descriptor, bytes)?;
        }
        for (descriptor, bytes) in &finished.documents {
            self.target.put(descriptor, bytes)?;
        }
        not_stopped()?;
        let digest = finished.entry.digest.clone();
        self.target.commit(finished.entry)?;
        Ok(digest)
    }

    /// Whether the destination has a blob, and has it undamaged: name and size do not tell.
    fn has(&self, blob: &Descriptor) -> Result<bool> {
        let there = match self.target.existing(blob)? {
            Existing::No => return Ok(false),
            Existing::Sound => return Ok(true),
            Existing::Unchecked(there) => there,
        };
        self.bar.inc_length(blob.size);
        let input = Metered {
            blob: there,
            bar: &self.bar,
        };
        let found = cipher::copy(input, io::sink());
        not_stopped()?;
        Ok(found.is_ok_and(|found| found == blob.digest))
    }

    /// Notes the statements that speak of a manifest which has another digest now. They are signed, or may be.
    fn outdated_statements(&self, finished: &Finished, summary: &mut Summary) {
        let statements = finished.blobs.iter().map(|blob| &blob.descriptor);
        for statement in statements.filter(|blob| media_type::is_statement(&blob.media_type)) {
            let Ok(text) = self.source.document(statement) else {
                continue;
            };
            for (old, new) in &finished.renamed {
                if memmem::find(&text, old.hex().as_bytes()).is_some() {
                    summary.add(format!(
                        "attestation {} still speaks of manifest {}, which is {} now",
                        statement.digest.short(),
                        old.short(),
                        new.short()
                    ));
                }
            }
        }
    }

    fn copy(&mut self, blob: &Descriptor) -> Result<()> {
        let mut staged = self.target.begin()?;
        let input = Metered {
            blob: self.source.blob(blob)?,
            bar: &self.bar,
        };
        let result = cipher::copy(input, &mut staged);
        not_stopped()?;
        if result? != blob.digest {
            let digest = blob.digest.clone();
            return Err(image::Error::WrongBlob { digest }.into());
        }
        Ok(self.target.keep(staged, &blob.digest)?)
    }
}

impl Read for Metered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if STOPPED.load(Ordering::Relaxed) {
            // Not `ErrorKind::Interrupted`, after which readers try again.
            return Err(io::ErrorKind::Other.into());
        }
        let read = self.blob.read(buffer)?;
        self.bar.inc(read as u64);
        Ok(read)
    }
}

/// From here on SIGINT, SIGTERM and SIGHUP make us clean up and end; one that comes later ends us as it is. One that
/// whoever started us had ignored (`nohup`) stays so.
fn stop_on_signals() -> Result<()> {
    let ignored = ignored_signals();
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .filter(|&signal| ignored >> (signal as u32 - 1) & 1 == 0)
        .collect();
    let failed = |source| Error::Stream {
        action: "wait for signals",
        source,
    };
    // Threads begin with the mask of the one that starts them, so the waiting one gets every signal.
    signals
        .thread_block()
        .map_err(|errno| failed(errno.into()))?;
    let wait = move || {
        let mut first: Option<Instant> = None;
        while let Ok(signal) = signals.wait() {
            STOPPED.store(true, Ordering::Relaxed);
            if first.get_or_insert_with(Instant::now).elapsed() > ECHO {
                std::process::exit(128 + signal as i32);
            }
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .map(drop)
        .map_err(failed)
}

/// The signals that are ignored, the first in the lowest bit. A signal that is waited for is not ignored any more, so
/// this has to be known before (Linux, proc(5)).
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}

fn not_stopped() -> Result<()> {
    match STOPPED.load(Ordering::Relaxed) {
        true => Err(Error::Stopped),
        false => Ok(()),
    }
}
