//! A blob in the making in a private directory, sent on to the disk while it grows.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use nix::libc;

/// Bytes of a blob that are sent on to the disk together.
const WRITE_BACK: u64 = 16 << 20;

/// A blob in the making, to be written to.
#[derive(Debug)]
pub struct StagedFile {
    file: File,
    path: PathBuf,
    written: u64,
    /// Bytes that the disk was told to begin with.
    on_the_way: u64,
}

impl StagedFile {
    /// Makes an empty one.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::create_new(path)?,
            path: path.to_owned(),
            written: 0,
            on_the_way: 0,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the disk has it.
    pub(super) fn finish(self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn wrote(&mut self, count: usize) {
        self.written += count as u64;
        if self.written - self.on_the_way >= WRITE_BACK {
            start_write_back(&self.file, self.on_the_way, self.written - self.on_the_way);
            self.on_the_way = self.written;
        }
    }
}

impl Write for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).inspect(|&count| self.wrote(count))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = self.file.write_vectored(slices);
        written.inspect(|&count| self.wrote(count))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Has the disk begin with these bytes while others are still to come: otherwise all of a large layer waits for
/// [`StagedFile::finish`]. That it cannot is no error, and what goes wrong with it shows there.
#[allow(unsafe_code)]
fn start_write_back(file: &File, offset: u64, len: u64) {
    let (Ok(offset), Ok(len)) = (offset.try_into(), len.try_into()) else {
        return;
    };
    // SAFETY: takes numbers alone, of a file that is open (Linux, sync_file_range(2)).
    unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
}
