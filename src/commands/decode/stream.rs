//! The layer on its way from stdin to stdout, and who says whether a key is its own.
//!
//! A large layer is verified in the file that containerd feeds it from, where that can be seen, so that one that is
//! damaged fails before its first byte: containerd would otherwise stumble over what was written of it, and report that
//! in the place of our error. What is on stdin is verified all the same. A small one is verified whole before its first
//! byte is written, so stdin itself says whether a key is right, and is read again for the next.

use std::fs::File;
use std::io::{self, Read};
use std::time::Instant;

use super::Progress;
use super::source::Layer;
use crate::cipher::{self, VERIFIED_WHOLE};
use crate::commands::unwrapping::{Rejected, Unwrapped};
use crate::commands::{Error, Result};
use crate::content_store::{BlobReader, PrefixReader};

/// Most bytes of stdin that are kept for another key: a small layer, and what is read ahead of one that is longer than
/// its description says.
const KEPT: usize = 3 * VERIFIED_WHOLE as usize;

/// One layer and both its ends.
pub(super) struct Stream<'a> {
    input: Again,
    output: File,
    /// The layer's file, to be verified before.
    file: Option<File>,
    progress: &'a mut Progress,
    /// Whether the layer was written.
    done: bool,
}

impl<'a> Stream<'a> {
    /// The layer that was found, from `input` to `output`.
    ///
    /// # Errors
    /// When the layer's file cannot be read.
    pub(super) fn new(
        layer: &mut Layer,
        input: File,
        output: File,
        progress: &'a mut Progress,
    ) -> Result<Self> {
        Ok(Self {
            input: Again::new(layer.prefix.take(), input),
            output,
            file: layer.file.take(),
            progress,
            done: false,
        })
    }

    /// Judges a key: verifies the layer with it, be it by writing it.
    ///
    /// # Errors
    /// [`Rejected::TryNext`] when another key may be right, since nothing was written yet.
    pub(super) fn judge(&mut self, unwrapped: &Unwrapped, first: bool) -> Result<(), Rejected> {
        let small = unwrapped.size.is_some_and(|size| size <= VERIFIED_WHOLE);
        if small {
            self.input.keep();
            return match self.write(unwrapped) {
                Ok(()) => Ok(()),
                Err(error) if !self.progress.written && self.input.rewind() => {
                    Err(Rejected::TryNext(error))
                }
                Err(error) => Err(Rejected::GiveUp(error)),
            };
        }
        match &self.file {
            Some(file) if !first => {
                let start = Instant::now();
                let verified = BlobReader::new(file)
                    .map_err(|source| Error::Stream {
                        action: "read the layer",
                        source,
                    })
                    .and_then(|input| {
                        let bytes = self.progress.record.bytes.insert(0);
                        let input = Counted { input, bytes };
                        Ok(cipher::verify(
                            &unwrapped.parameters,
                            input,
                            unwrapped.size,
                        )?)
                    });
                self.progress.took(start);
                verified.map_err(Rejected::TryNext)
            }
            _ => Ok(()),
        }
    }

    /// Writes the layer, unless judging the key has done so.
    ///
    /// # Errors
    /// Whatever kept it from being verified and written.
    pub(super) fn finish(mut self, unwrapped: &Unwrapped) -> Result<()> {
        match self.done {
            true => Ok(()),
            false => self.write(unwrapped),
        }
    }

    fn write(&mut self, unwrapped: &Unwrapped) -> Result<()> {
        let start = Instant::now();
        let progress = &mut *self.progress;
        // A panic from here on may come at any byte.
        progress.written = true;
        let input = Counted {
            input: &mut self.input,
            bytes: progress.record.bytes.insert(0),
        };
        let result = cipher::decrypt(
            &unwrapped.parameters,
            input,
            &mut self.output,
            unwrapped.size,
        );
        progress.took(start);
        match result {
            Ok(_) => {
                self.done = true;
                Ok(())
            }
            Err(failed) => {
                progress.written = failed.written > 0;
                Err(failed.error.into())
            }
        }
    }
}

/// Standard input, which can be read again as long as little of it was.
struct Again {
    prefix: Option<PrefixReader>,
    input: File,
    kept: Vec<u8>,
    /// Place in what was kept; `None` where nothing is kept.
    place: Option<usize>,
}

impl Again {
    fn new(prefix: Option<PrefixReader>, input: File) -> Self {
        Self {
            prefix,
            input,
            kept: Vec::new(),
            place: None,
        }
    }

    /// From now on what is read is kept.
    fn keep(&mut self) {
        self.place.get_or_insert(0);
    }

    /// Begins again, if all that was read was kept.
    fn rewind(&mut self) -> bool {
        self.place = self.place.map(|_| 0);
        self.place.is_some()
    }
}

impl Read for &mut Again {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(place) = &mut self.place {
            let rest = &self.kept[*place..];
            if !rest.is_empty() {
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                *place += count;
                return Ok(count);
            }
        }
        let count = match &mut self.prefix {
            Some(prefix) => match prefix.read(buffer)? {
                0 => {
                    self.prefix = None;
                    self.input.read(buffer)?
                }
                count => count,
            },
            None => self.input.read(buffer)?,
        };
        if let Some(place) = &mut self.place {
            if self.kept.len() + count > KEPT {
                self.place = None;
                self.kept = Vec::new();
            } else {
                self.kept.extend_from_slice(&buffer[..count]);
                *place += count;
            }
        }
        Ok(count)
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
