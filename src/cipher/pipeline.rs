//! The one way of a layer's bytes, in either direction: read, work on them in place, write.
//!
//! A cipher is three [`Lane`]s through which every buffer passes in order. `before` and `after` run on the calling
//! thread (the mover, which also reads and writes), `beside` on a thread of its own. Reading, `before`, `after` and
//! writing of some buffers thus happen while `beside`, the slowest, works on others and never waits for them.
//!
//! ```text
//!            mover (calling thread)                      second thread
//!   ┌────────────────────────────────────────┐      ┌────────────────────┐
//!   │ free ──read──► filled ──before─────────┼─────►│ queue ──► beside   │
//!   │  ▲                                     │      │             │      │
//!   │  └──write── held ◄──after── returned ◄─┼──────┼─────────────┘      │
//!   └────────────────────────────────────────┘      └────────────────────┘
//! ```
//!
//! Where the pieces of a buffer do not depend on one another (GCM segments), the mover does some of `beside`'s work on
//! a buffer before it passes it on, as long as the second thread has enough in its queue: both cores are busy then,
//! and the mover stops as soon as streams keep it busy. A layer of one buffer or two starts no thread at all.
//!
//! There is one thread beside the mover, not one for each hash: on two cores a third one has to wait for the slices of
//! the other two, which are longer than all buffers together last. So work is divided here, about evenly.
//!
//! A buffer is a value and has one owner at a time: the mover while it reads, holds or writes, the channel on the way,
//! the second thread during `beside`. [`BUFFERS`] of them go round, whatever the layer's length.
//!
//! Two of them stand still on the mover's side. *Ahead*: a buffer is passed on only when one more byte (or the end of
//! input) was seen behind it, so that every lane knows which bytes are the last. *Held*: a buffer leaves only when a
//! later one that is not the last has passed all lanes, or when the last has: what stands at the end of the layer is
//! never written before the whole of it was verified. So is a layer that fits in one buffer or two.

use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;

use super::Failed;
use super::buffer::{Buffer, Shape};
use super::error::{Error, Result};

/// Buffers of a layer that is too long for two.
pub(super) const BUFFERS: usize = 6;

/// Buffers that the second thread has, at which it does not run dry for a while: one in work, one that waits.
const ENOUGH: usize = 2;

/// A part of a cipher: works on one buffer after another, in the order of the layer.
///
/// The last buffer is marked and passes exactly once, also when the layer is empty: this is where a lane verifies.
pub(super) trait Lane {
    /// Works on the buffer in place. After an error the lane is not called again, and the buffer is not written.
    fn pass(&mut self, buffer: &mut Buffer) -> Result<()>;

    /// Does a small part of what `beside` would have to do to this buffer later. Returns false when there is none.
    /// Called on `before`, after `pass`, while the second thread has enough to do.
    fn help(&mut self, _: &mut Buffer) -> Result<bool> {
        Ok(false)
    }
}

/// Nothing to do.
impl Lane for () {
    fn pass(&mut self, _: &mut Buffer) -> Result<()> {
        Ok(())
    }
}

/// One lane after the other.
impl<A: Lane, B: Lane> Lane for (A, B) {
    fn pass(&mut self, buffer: &mut Buffer) -> Result<()> {
        self.0.pass(buffer)?;
        self.1.pass(buffer)
    }

    fn help(&mut self, buffer: &mut Buffer) -> Result<bool> {
        Ok(self.0.help(buffer)? || self.1.help(buffer)?)
    }
}

impl<L: Lane + ?Sized> Lane for &mut L {
    fn pass(&mut self, buffer: &mut Buffer) -> Result<()> {
        (**self).pass(buffer)
    }

    fn help(&mut self, buffer: &mut Buffer) -> Result<bool> {
        (**self).help(buffer)
    }
}

/// What is done to each buffer, and where.
pub(super) struct Lanes<A, B, C> {
    /// On the mover, after reading.
    pub(super) before: A,
    /// On the second thread.
    pub(super) beside: B,
    /// On the mover, before writing.
    pub(super) after: C,
}

/// Moves a layer from `input` through the lanes to `output`. Returns the number of bytes written.
///
/// # Errors
/// The first error of a lane or a stream, with the number of bytes that left before it.
pub(super) fn run(
    input: impl Read,
    output: impl Write,
    shape: Shape,
    mut lanes: Lanes<impl Lane, impl Lane + Send, impl Lane>,
) -> Result<u64, Failed> {
    let mut source = Source {
        input,
        ahead: Buffer::new(shape),
    };
    let mut sink = Sink {
        output,
        held: None,
        written: 0,
    };
    match flow(&mut source, &mut sink, shape, &mut lanes) {
        Ok(()) => Ok(sink.written),
        Err(error) => Err(Failed {
            error,
            written: sink.written,
        }),
    }
}

fn flow<A: Lane, B: Lane + Send, C: Lane>(
    source: &mut Source<impl Read>,
    sink: &mut Sink<impl Write>,
    shape: Shape,
    lanes: &mut Lanes<A, B, C>,
) -> Result<()> {
    let mut begin = Vec::with_capacity(2);
    let is_whole = |begin: &[Buffer]| begin.last().is_some_and(Buffer::is_last);
    while begin.len() < 2 && !is_whole(&begin) {
        let mut buffer = source.next(Buffer::new(shape))?;
        lanes.before.pass(&mut buffer)?;
        begin.push(buffer);
    }
    if is_whole(&begin) {
        // A small layer does not pay for a thread.
        for mut buffer in begin {
            lanes.beside.pass(&mut buffer)?;
            lanes.after.pass(&mut buffer)?;
            sink.accept(buffer)?;
        }
        return Ok(());
    }
    let Lanes {
        before,
        beside,
        after,
    } = lanes;
    thread::scope(|scope| {
        let (to_beside, queue) = channel();
        let (to_mover, returned) = channel();
        let worker = thread::Builder::new()
            .name("cipher".to_owned())
            .spawn_scoped(scope, move || work(beside, &queue, &to_mover))
            .map_err(|source| Error::Stream {
                action: "start a thread",
                source,
            })?;
        let moved = Mover {
            source,
            sink,
            before,
            after,
            to_beside: Some(to_beside),
            returned,
            in_flight: 0,
            free: (3..BUFFERS).map(|_| Buffer::new(shape)).collect(),
        }
        .run(begin);
        // Dropping the mover closed both channels, so the thread ends. If it panicked, the mover has seen a closed
        // channel and `moved` is an error.
        let _ = worker.join();
        moved
    })
}

/// The second thread: each buffer through `beside` and back.
fn work(beside: &mut impl Lane, queue: &Receiver<Buffer>, back: &Sender<Result<Buffer>>) {
    for mut buffer in queue {
        let result = beside.pass(&mut buffer).map(|()| buffer);
        let failed = result.is_err();
        if back.send(result).is_err() || failed {
            return;
        }
    }
}

/// The calling thread's part.
struct Mover<'a, R, W, A, C> {
    source: &'a mut Source<R>,
    sink: &'a mut Sink<W>,
    before: &'a mut A,
    after: &'a mut C,
    /// Gone when the last buffer was sent.
    to_beside: Option<Sender<Buffer>>,
    returned: Receiver<Result<Buffer>>,
    in_flight: usize,
    free: Vec<Buffer>,
}

impl<R: Read, W: Write, A: Lane, C: Lane> Mover<'_, R, W, A, C> {
    fn run(mut self, begin: Vec<Buffer>) -> Result<()> {
        for buffer in begin {
            self.send(buffer)?;
        }
        loop {
            if let Some(spare) = self.to_beside.as_ref().and_then(|_| self.free.pop()) {
                let mut buffer = self.source.next(spare)?;
                self.before.pass(&mut buffer)?;
                while self.in_flight >= ENOUGH && self.before.help(&mut buffer)? {
                    self.collect()?;
                }
                self.send(buffer)?;
                self.collect()?;
            } else if self.in_flight > 0 {
                let result = self.returned.recv().map_err(|_| thread_ended())?;
                self.release(result?)?;
            } else {
                return Ok(());
            }
        }
    }

    fn send(&mut self, buffer: Buffer) -> Result<()> {
        let last = buffer.is_last();
        if let Some(channel) = &self.to_beside {
            if channel.send(buffer).is_err() {
                // The thread ends early only after it returned an error.
                while let Ok(result) = self.returned.recv() {
                    result?;
                }
                return Err(thread_ended());
            }
            self.in_flight += 1;
        }
        if last {
            self.to_beside = None;
        }
        Ok(())
    }

    /// Takes back what the second thread is done with, without waiting.
    fn collect(&mut self) -> Result<()> {
        match self.returned.try_recv() {
            Ok(result) => self.release(result?),
            Err(TryRecvError::Empty) => Ok(()),
            Err(TryRecvError::Disconnected) => Err(thread_ended()),
        }
    }

    fn release(&mut self, mut buffer: Buffer) -> Result<()> {
        self.in_flight -= 1;
        self.after.pass(&mut buffer)?;
        self.free.extend(self.sink.accept(buffer)?);
        Ok(())
    }
}

fn thread_ended() -> Error {
    Error::Stream {
        action: "work on the layer",
        source: std::io::Error::other("a thread ended early"),
    }
}

struct Source<R> {
    input: R,
    /// The buffer after the one that was passed on last; holds its first bytes already.
    ahead: Buffer,
}

impl<R: Read> Source<R> {
    /// The next buffer, filled, and marked if it is the last. Not to be called after that one.
    fn next(&mut self, mut spare: Buffer) -> Result<Buffer> {
        while !self.ahead.is_full() {
            if self.read_into_ahead()? == 0 {
                self.ahead.mark_last();
                return Ok(std::mem::replace(&mut self.ahead, spare));
            }
        }
        spare.clear(self.ahead.offset() + self.ahead.len() as u64);
        let mut full = std::mem::replace(&mut self.ahead, spare);
        if self.read_into_ahead()? == 0 {
            full.mark_last();
        }
        Ok(full)
    }

    fn read_into_ahead(&mut self) -> Result<usize> {
        self.ahead
            .read_from(&mut self.input)
            .map_err(|source| Error::Stream {
                action: "read the layer",
                source,
            })
    }
}

struct Sink<W> {
    output: W,
    held: Option<Buffer>,
    written: u64,
}

impl<W: Write> Sink<W> {
    /// Takes a buffer that passed all lanes; returns one that was written and is free.
    fn accept(&mut self, buffer: Buffer) -> Result<Option<Buffer>> {
        let earlier = self.held.take();
        if let Some(earlier) = &earlier {
            self.write(earlier)?;
        }
        if buffer.is_last() {
            self.write(&buffer)?;
            self.output.flush().map_err(write_error)?;
        } else {
            self.held = Some(buffer);
        }
        Ok(earlier)
    }

    fn write(&mut self, buffer: &Buffer) -> Result<()> {
        buffer
            .write_to(&mut self.output, &mut self.written)
            .map_err(write_error)
    }
}

fn write_error(source: std::io::Error) -> Error {
    Error::Stream {
        action: "write the layer",
        source,
    }
}
