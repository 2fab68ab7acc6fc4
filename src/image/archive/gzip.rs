//! An archive in a gzip stream, unpacked into a file without a name. Whoever made it may have made a few bytes of what fills
//! a disk, so there is a bound: by its own length, and by the room that there is.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Write as _};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use nix::sys::statvfs::fstatvfs;

use crate::image::error::{Error, Result};

/// Most bytes that come of one. Layers are compressed already, or become some four times as long; zeros become a thousand
/// times as long.
const MOST: u64 = 100;
/// So many bytes nobody minds.
const ALWAYS: u64 = 64 << 20;

pub(super) fn unpacked(path: &Path, archive: File, directory: &Path) -> Result<File> {
    let failed = |source| Error::File {
        action: "unpack",
        path: path.to_owned(),
        source,
    };
    let no_place = |source| Error::Temporary {
        path: path.to_owned(),
        directory: directory.to_owned(),
        source,
    };
    let own = archive.metadata().map_err(failed)?.len();
    let mut unpacked = tempfile::tempfile_in(directory).map_err(no_place)?;
    let by_length = own.saturating_mul(MOST).max(ALWAYS);
    // Others want some of it too.
    let by_room = room(&unpacked) / 10 * 9;
    let limit = by_length.min(by_room);
    let gzip = MultiGzDecoder::new(BufReader::new(archive));
    let mut gzip = gzip.take(limit.saturating_add(1));
    let mut buffer = vec![0; 1 << 16];
    let mut copied: u64 = 0;
    // Not `io::copy`, which does not tell which of the two files failed.
    loop {
        let read = match gzip.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        unpacked.write_all(&buffer[..read]).map_err(no_place)?;
        copied += read as u64;
    }
    if copied > limit {
        let what = match by_length <= by_room {
            true => "it would become more than 100 times as long",
            false => "it would take the room that is left for temporary files",
        };
        return Err(Error::Unpacked {
            path: path.to_owned(),
            what,
        });
    }
    Ok(unpacked)
}

/// The bytes that are free where a file is.
fn room(file: &File) -> u64 {
    fstatvfs(file).map_or(u64::MAX, |it| {
        it.blocks_available().saturating_mul(it.fragment_size())
    })
}
