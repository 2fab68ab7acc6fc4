//! A file that appears whole, or not at all, and takes no other's place unasked.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::commands::{Error, Result};
use crate::file;

/// A file in the making, beside its place.
#[derive(Debug)]
pub(super) struct NewFile {
    path: PathBuf,
    file: NamedTempFile,
    replace: bool,
}

impl NewFile {
    /// Begins a file with this mode, less the umask.
    ///
    /// # Errors
    /// [`Error::FileExists`] when something is there and may not be replaced; [`Error::InFile`].
    pub(super) fn create(path: PathBuf, mode: u32, replace: bool) -> Result<Self> {
        if !replace && path.symlink_metadata().is_ok() {
            return Err(Error::FileExists { path });
        }
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(mode))
            .prefix(".ocihsm-")
            .tempfile_in(directory);
        match file {
            Ok(file) => Ok(Self {
                path,
                file,
                replace,
            }),
            Err(source) => Err(failed(path, source)),
        }
    }

    /// Fills it and puts it in its place.
    pub(super) fn place(mut self, content: &str) -> Result<PathBuf> {
        let written = self
            .file
            .write_all(content.as_bytes())
            .and_then(|()| self.file.as_file().sync_all());
        let placed = written.and_then(|()| {
            let result = if self.replace {
                self.file.persist(&self.path)
            } else {
                self.file.persist_noclobber(&self.path)
            };
            result.map(drop).map_err(|error| error.error)
        });
        match placed {
            Ok(()) => Ok(self.path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::FileExists { path: self.path })
            }
            Err(source) => Err(failed(self.path, source)),
        }
    }
}

fn failed(path: PathBuf, source: io::Error) -> Error {
    Error::InFile(file::Error::Failed {
        action: "write",
        path,
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_replaced_only_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let begun = NewFile::create(path.clone(), 0o600, false).unwrap();
        fs::write(&path, "theirs").unwrap();
        assert!(matches!(begun.place("ours"), Err(Error::FileExists { .. })));
        let error = NewFile::create(path.clone(), 0o600, false).unwrap_err();
        assert!(matches!(error, Error::FileExists { .. }));
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        let begun = NewFile::create(path.clone(), 0o600, true).unwrap();
        begun.place("ours").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "ours");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        drop(NewFile::create(dir.path().join("a"), 0o600, false).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
