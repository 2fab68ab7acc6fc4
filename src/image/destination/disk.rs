//! Files and directories of a layout that is being written.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::BLOBS_DIRECTORY;
use crate::image::error::{Error, Result};
use crate::image::layout::{BLOBS, MARKER, is_version_one};
use crate::image::staging::is_staging;

/// Most bytes of `oci-layout`.
const MARKER_LIMIT: usize = 4096;

/// What no index names yet; removed when dropped.
pub(super) struct Moved(pub(super) Vec<PathBuf>);

impl Drop for Moved {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
        }
    }
}

/// Whether nothing is in a directory but what others of us are writing, or had moved there when they were killed: an
/// index comes last.
pub(super) fn is_empty(directory: &Path) -> io::Result<bool> {
    let mut entries = fs::read_dir(directory)?.flatten();
    Ok(entries.all(|entry| {
        let (name, path) = (entry.file_name(), entry.path());
        match name.to_str() {
            Some(BLOBS_DIRECTORY) => is_blobs(&path),
            Some(MARKER) => {
                directory.join(BLOBS_DIRECTORY).is_dir()
                    && crate::file::read(&path, MARKER_LIMIT).is_ok_and(|it| is_version_one(&it))
            }
            _ => is_staging(&name),
        }
    }))
}

/// Whether a directory has the blobs of a layout, and nothing else.
fn is_blobs(directory: &Path) -> bool {
    let is_blob =
        |name: &OsStr| name.len() == 64 && name.as_bytes().iter().all(u8::is_ascii_hexdigit);
    let names = |directory: &Path| -> io::Result<Vec<OsString>> {
        fs::read_dir(directory)?
            .map(|entry| Ok(entry?.file_name()))
            .collect()
    };
    let sha256 = Path::new(BLOBS).file_name().unwrap_or_default();
    names(directory).is_ok_and(|names| names.iter().all(|name| name == sha256))
        && names(&directory.join(sha256)).is_ok_and(|names| names.iter().all(|name| is_blob(name)))
}

/// The lock of a directory, until it is dropped.
pub(super) fn locked(directory: &Path) -> Result<File> {
    let lock = File::open(directory).map_err(failed("read", directory))?;
    lock.lock().map_err(failed("lock", directory))?;
    Ok(lock)
}

pub(super) fn create_directories(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o777)
        .create(path)
        .map_err(failed("create", path))
}

pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    File::create(path)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .map_err(failed("write", path))
}

pub(super) fn sync_directory(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("write", path))
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(failed("create", to))
}

pub(super) fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File {
        action,
        path: path.clone(),
        source,
    }
}
