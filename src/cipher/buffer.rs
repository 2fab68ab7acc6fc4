//! One buffer of the pipeline: page-aligned memory that is filled, worked on in place, written out, and reused.
//!
//! It knows where its bytes lie and how to move them in and out; what they mean is a lane's affair.

use std::io::{self, IoSlice, Read, Write};

/// Where the bytes of a buffer lie: in slots of equal size, so that a segment may grow or shrink by its tag in place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Number of slots, at most [`MAX_SLOTS`].
    pub(super) slots: usize,
    /// Distance from one slot to the next.
    pub(super) stride: usize,
    /// Bytes that are read into each slot, at most the stride.
    pub(super) take: usize,
}

/// Most slots that a buffer has.
pub(super) const MAX_SLOTS: usize = 16;

const PAGE: usize = 4096;

/// A buffer of one [`Shape`]. Whoever holds the value owns the bytes; they are wiped with it.
pub(super) struct Buffer {
    memory: Vec<u8>,
    start: usize,
    shape: Shape,
    /// Bytes that belong to each slot but the last; changes when a lane grows or shrinks the pieces.
    piece: usize,
    /// Bytes in all pieces together.
    len: usize,
    /// Bytes from the start that were ever used.
    touched: usize,
    last: bool,
}

impl Buffer {
    /// An empty buffer. Its pages are not touched before they are filled, so a small layer pays for what it uses.
    pub(super) fn new(shape: Shape) -> Self {
        debug_assert!(shape.slots <= MAX_SLOTS && shape.take <= shape.stride);
        let memory = vec![0; shape.slots * shape.stride + PAGE];
        let start = memory.as_ptr().align_offset(PAGE).min(PAGE);
        Self {
            memory,
            start,
            shape,
            piece: shape.take,
            len: 0,
            touched: 0,
            last: false,
        }
    }

    /// Forgets the contents, so that the buffer can be filled again.
    pub(super) fn clear(&mut self) {
        self.piece = self.shape.take;
        self.len = 0;
        self.last = false;
    }

    /// Bytes in it.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether these are the last bytes of the layer.
    pub(super) fn is_last(&self) -> bool {
        self.last
    }

    /// Says that these are the last bytes of the layer.
    pub(super) fn mark_last(&mut self) {
        self.last = true;
    }

    /// Whether no byte more can be read into it.
    pub(super) fn is_full(&self) -> bool {
        self.len == self.shape.slots * self.shape.take
    }

    /// Reads once into the first free place; 0 at the end of input. Not for a full buffer.
    pub(super) fn read_from(&mut self, input: &mut impl Read) -> io::Result<usize> {
        debug_assert!(!self.is_full());
        let take = self.shape.take;
        // Without gaps between the slots all of the room is read into at once.
        let (from, room) = if take == self.shape.stride {
            (self.len, self.shape.slots * take - self.len)
        } else {
            let (slot, within) = (self.len / take, self.len % take);
            (slot * self.shape.stride + within, take - within)
        };
        let place = &mut self.memory[self.start + from..][..room];
        let count = loop {
            match input.read(place) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        // A reader that claims more than it was given room for is broken; never believe it.
        let count = count.min(room);
        self.len += count;
        self.touched = self.touched.max(from + count);
        Ok(count)
    }

    /// The bytes, piece by piece in the order of the layer. An empty buffer is one empty piece.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let memory = &self.memory[self.start..];
        (0..self.count())
            .map(move |slot| &memory[slot * self.shape.stride..][..self.piece_len(slot)])
    }

    /// Works on each piece in place: `work` gets the whole slot and the length of the piece in it, and returns the
    /// new length. `piece` is the new length of a full piece.
    pub(super) fn rewrite<E>(
        &mut self,
        piece: usize,
        mut work: impl FnMut(&mut [u8], usize, bool) -> Result<usize, E>,
    ) -> Result<(), E> {
        debug_assert!(piece <= self.shape.stride);
        let count = self.count();
        let mut len = 0;
        for slot in 0..count {
            let old = self.piece_len(slot);
            let place =
                &mut self.memory[self.start + slot * self.shape.stride..][..self.shape.stride];
            let new = work(place, old, self.last && slot + 1 == count)?;
            debug_assert!(new == piece || slot + 1 == count);
            self.touched = self.touched.max(slot * self.shape.stride + new);
            len += new;
        }
        self.piece = piece;
        self.len = len;
        Ok(())
    }

    /// Writes all pieces; `written` counts what left, also when it fails midway.
    pub(super) fn write_to(&self, output: &mut impl Write, written: &mut u64) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); MAX_SLOTS];
        let count = self.count();
        for (slice, piece) in slices.iter_mut().zip(self.pieces()) {
            *slice = IoSlice::new(piece);
        }
        let mut left = &mut slices[..count];
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match output.write_vectored(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    *written += count as u64;
                    IoSlice::advance_slices(&mut left, count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn count(&self) -> usize {
        self.len.div_ceil(self.piece).max(1)
    }

    fn piece_len(&self, slot: usize) -> usize {
        self.piece.min(self.len - slot * self.piece)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // `fill` and a barrier rather than `zeroize`, which stores byte by byte: megabytes are wiped here.
        let used = &mut self.memory[self.start..][..self.touched];
        used.fill(0);
        zeroize::optimization_barrier(used);
    }
}
