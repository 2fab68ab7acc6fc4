//! One image on its way into another layout: bytes counted, digests checked, and nothing left when it is stopped.
//!
//! Starts threads, one that waits for signals and some that work on layers, so it begins when every token has been asked.

use std::collections::BTreeSet;
use std::io::{self, Read};

use memchr::memmem;

use super::image_args::ImageArgs;
use super::jobs::{self, Failed};
use super::progress::{Bar, Progress};
use super::signals::{go_on, not_stopped, stop_on_signals};
use super::summary::Summary;
use super::unwrapping::in_layer;
use crate::cipher;
use crate::commands::{Error, Result};
use crate::descriptor::Digest;
use crate::image::document::MAX_DOCUMENT;
use crate::image::finished::{Blob, Finished};
use crate::image::held::Held;
use crate::image::selection::REF_NAME;
use crate::image::target::Existing;
use crate::image::{
    self, Descriptor, Image, Reference, Settings, Source, Staged, Target, media_type,
};

/// An image being written.
pub(super) struct Transfer<'a> {
    source: &'a dyn Source,
    target: Target,
    /// Where that is, and how it is spoken to.
    place: (Reference, Settings),
    jobs: usize,
    progress: Progress,
    failed: Failed,
}

/// A blob of the source, read to be changed.
pub(super) struct Metered<'a> {
    blob: Box<dyn Read + Send>,
    bar: Bar,
    failed: &'a Failed,
}

/// What a layer became: its new digest, and whatever else is to be known of it.
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
        source.hold()?;
        let own = image.entry.annotations.get(REF_NAME);
        let own = own.map(String::as_str);
        let settings = args.registry.settings();
        let target = Target::prepare(&args.destination, &args.source, &settings, own, args.force)?;
        Ok(Self {
            source,
            target,
            place: (args.destination.clone(), settings),
            jobs: args.jobs.count(),
            progress: Progress::new(bytes),
            failed: Failed::default(),
        })
    }

    /// That the destination has none of these manifests, which the image names and does not bring along: nobody looked at
    /// what they are, and the new name would serve them. `--leave-plain` may name their type.
    ///
    /// # Errors
    /// [`image::Error::ManifestThere`]; whatever keeps the destination from being asked.
    pub(super) fn brings_none_back(
        &self,
        absent: &[Descriptor],
        leave_plain: &[String],
    ) -> Result<()> {
        let (place, settings) = &self.place;
        for manifest in absent {
            not_stopped()?;
            if leave_plain.contains(&manifest.media_type) {
                continue;
            }
            let why = match self.target.holds(place, settings, manifest)? {
                Held::No => continue,
                Held::Yes => "but where DST is",
                Held::Unknown => "and may be where DST is",
            };
            return Err(image::Error::ManifestThere {
                name: manifest.name(),
                platform: manifest.platform().map(|platform| platform.to_string()),
                media_type: manifest.media_type.chars().take(80).collect(),
                why,
            }
            .into());
        }
        Ok(())
    }

    /// Half as many layers at once, since each is opened and encrypted again, which is the work and the memory of two.
    pub(super) fn halved(mut self) -> Self {
        self.jobs = self.jobs.div_ceil(2);
        self
    }

    /// Makes another blob from each layer, several at once, and returns what is to be known of them, in their order.
    /// `work` is given a layer's number. What it has written is kept if it succeeds.
    ///
    /// # Errors
    /// [`Error::InLayer`] with what went wrong first, which ends the others; [`Error::Stopped`] after a signal.
    pub(super) fn layers<'l, T: Send>(
        &self,
        layers: impl Iterator<Item = &'l Descriptor>,
        work: impl Fn(usize, Metered<'_>, &mut Staged) -> Result<Made<T>> + Sync,
    ) -> Result<Vec<T>> {
        let layers: Vec<_> = layers.collect();
        self.each(&layers, |number| {
            let layer = layers[number];
            let mut staged = self.target.begin()?;
            let input = self.read(layer, self.source.blob(layer)?);
            let result = work(number, input, &mut staged);
            not_stopped()?;
            let made = result.map_err(|error| in_layer(layer, error))?;
            self.target.keep(staged, &made.digest)?;
            Ok(made.rest)
        })
    }

    /// Reads each layer, several at once, and writes nothing.
    ///
    /// # Errors
    /// As [`Transfer::layers`].
    pub(super) fn look_at<'l>(
        &self,
        layers: impl Iterator<Item = &'l Descriptor>,
        work: impl Fn(usize, Metered<'_>) -> Result<()> + Sync,
    ) -> Result<()> {
        let layers: Vec<_> = layers.collect();
        let all = self.each(&layers, |number| {
            let layer = layers[number];
            let result = work(number, self.read(layer, self.source.blob(layer)?));
            not_stopped()?;
            result.map_err(|error| in_layer(layer, error))
        });
        all.map(drop)
    }

    fn each<T: Send>(
        &self,
        blobs: &[&Descriptor],
        work: impl Fn(usize) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let sizes: Vec<_> = blobs.iter().map(|blob| blob.size).collect();
        let done = jobs::each(self.jobs, &sizes, &self.failed, work);
        not_stopped()?;
        done
    }

    fn read(&self, blob: &Descriptor, bytes: Box<dyn Read + Send>) -> Metered<'_> {
        Metered {
            blob: bytes,
            bar: self.progress.begin(blob),
            failed: &self.failed,
        }
    }

    /// Writes all that is still missing, and names the image. Returns its digest.
    ///
    /// # Errors
    /// [`image::Error::WrongBlob`] for a blob that is damaged; [`image::Error::TooLarge`] for a manifest that could not be
    /// read again; whatever keeps one from being copied.
    pub(super) fn finish(mut self, image: Image, summary: &mut Summary) -> Result<Digest> {
        let finished = image.finish()?;
        let mut blobs: Vec<&Descriptor> = Vec::new();
        let mut known = BTreeSet::new();
        let mut entries = Vec::new();
        for blob in &finished.blobs {
            let Blob {
                descriptor,
                needed,
                is_entry,
            } = blob;
            let optional = !needed || descriptor.is_foreign();
            let elsewhere = optional && !self.source.has(descriptor)?;
            if elsewhere || known.contains(&descriptor.digest) {
                continue;
            }
            if *is_entry && descriptor.size <= MAX_DOCUMENT {
                // A registry keeps what an index names as it keeps manifests.
                entries.push((descriptor, self.source.document(descriptor)?));
            } else {
                known.insert(&descriptor.digest);
                blobs.push(descriptor);
            }
        }
        self.each(&blobs, |number| match self.has(blobs[number])? {
            true => Ok(()),
            false => self.copy(blobs[number]),
        })?;
        self.outdated_statements(&finished, summary);
        for (descriptor, bytes) in &entries {
            self.target.put(descriptor, bytes)?;
        }
        for (descriptor, bytes) in &finished.documents {
            self.target.put(descriptor, bytes)?;
        }
        not_stopped()?;
        let digest = finished.entry.digest.clone();
        let is_told = self.target.is_told();
        if let Err(error) = self.target.commit(finished.entry, &go_on) {
            return Err(match not_stopped() {
                Err(_) if is_told => Error::StoppedWhileNaming,
                Err(stopped) => stopped,
                Ok(()) => error.into(),
            });
        }
        Ok(digest)
    }

    /// Whether the destination has a blob, and has it undamaged: name and size do not tell.
    fn has(&self, blob: &Descriptor) -> Result<bool> {
        let there = match self.target.existing(blob)? {
            Existing::No => return Ok(false),
            Existing::Sound => return Ok(true),
            Existing::Unchecked(there) => there,
        };
        self.progress.more(blob.size);
        let found = cipher::copy(self.read(blob, there), io::sink());
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

    fn copy(&self, blob: &Descriptor) -> Result<()> {
        self.progress.more(blob.size);
        let mut staged = self.target.begin()?;
        let input = self.read(blob, self.source.blob(blob)?);
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
        if self.failed.is_set() {
            return Err(io::ErrorKind::Other.into());
        }
        go_on()?;
        let read = self.blob.read(buffer)?;
        self.bar.inc(read as u64);
        Ok(read)
    }
}
