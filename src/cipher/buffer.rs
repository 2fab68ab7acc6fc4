//! One buffer of the pipeline: page-aligned memory that is filled, worked on in place, written out, and reused.
//!
//! It knows where its bytes lie and how to move them in and out; what they mean is a lane's affair.

use std::io::{self, IoSlice, Read, Write};

use super::error::Result;

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

/// A piece of the layer while a lane works on it.
pub(super) struct Piece<'a> {
    /// The whole slot; the piece is its beginning.
    pub(super) place: &'a mut [u8],
    /// Length of the piece.
    pub(super) len: usize,
    /// Its number in the layer.
    pub(super) number: u64,
    /// Whether it is the last of the layer.
    pub(super) last: bool,
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
    /// Pieces that were rewritten already, and the bytes in them now.
    rewritten: (usize, usize),
    /// Place of the first byte in the layer, as it was read.
    offset: u64,
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
            rewritten: (0, 0),
            offset: 0,
            touched: 0,
            last: false,
        }
    }

    /// Forgets the contents, so that the buffer can be filled again, from this place in the layer on.
    pub(super) fn clear(&mut self, offset: u64) {
        self.piece = self.shape.take;
        self.len = 0;
        self.rewritten = (0, 0);
        self.offset = offset;
        self.last = false;
    }

    /// Place in the layer of the first byte that was read into the buffer.
    pub(super) fn offset(&self) -> u64 {
        self.offset
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

    /// Works on each piece that was not rewritten yet, in place. `piece` is the new length of a full piece.
    pub(super) fn rewrite(
        &mut self,
        piece: usize,
        mut work: impl FnMut(Piece<'_>) -> Result<usize>,
    ) -> Result<()> {
        debug_assert!(piece <= self.shape.stride);
        while self.rewritten.0 < self.count() {
            self.rewrite_next(&mut work)?;
        }
        self.piece = piece;
        self.len = self.rewritten.1;
        self.rewritten = (0, 0);
        Ok(())
    }

    /// Works on one piece more of those that [`Buffer::rewrite`] is to work on later in the same way. The last one
    /// is left to it: returns false when no other is left.
    pub(super) fn rewrite_early(
        &mut self,
        work: impl FnMut(Piece<'_>) -> Result<usize>,
    ) -> Result<bool> {
        if self.rewritten.0 + 1 >= self.count() {
            return Ok(false);
        }
        self.rewrite_next(work)?;
        Ok(true)
    }

    fn rewrite_next(&mut self, mut work: impl FnMut(Piece<'_>) -> Result<usize>) -> Result<()> {
        let (slot, len) = self.rewritten;
        let stride = self.shape.stride;
        let new = work(Piece {
            len: self.piece_len(slot),
            last: self.last && slot + 1 == self.count(),
            number: self.offset / self.shape.take as u64 + slot as u64,
            place: &mut self.memory[self.start + slot * stride..][..stride],
        })?;
        self.touched = self.touched.max(slot * stride + new);
        self.rewritten = (slot + 1, len + new);
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
