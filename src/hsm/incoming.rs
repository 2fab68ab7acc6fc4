//! What came from a worker and nobody has looked at yet.

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;

use zeroize::Zeroizing;

/// Bytes of the worker's that were read, and not looked at yet. They may hold a secret.
pub(super) struct Incoming {
    buffer: Zeroizing<[u8; 4096]>,
    from: usize,
    to: usize,
}

impl Default for Incoming {
    fn default() -> Self {
        Self {
            buffer: Zeroizing::new([0; 4096]),
            from: 0,
            to: 0,
        }
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Incoming({} bytes, redacted)", self.to - self.from)
    }
}

impl Incoming {
    /// Moves what fits; returns how much that is.
    pub(super) fn take(&mut self, buffer: &mut [u8]) -> usize {
        let taken = buffer.len().min(self.to - self.from);
        buffer[..taken].copy_from_slice(&self.buffer[self.from..self.from + taken]);
        self.from += taken;
        taken
    }

    /// Reads more, once everything was taken. Zero is the socket's end.
    pub(super) fn fill(&mut self, mut socket: &UnixStream) -> io::Result<usize> {
        (self.from, self.to) = (0, 0);
        self.to = socket.read(&mut *self.buffer)?;
        Ok(self.to)
    }
}
