//! The private directory that an image is written to before it is moved to where it belongs.
//!
//! It may hold a plain layer, or half of one, so it is its owner's alone, locked while the owner lives, and removed with
//! it. One whose owner was killed is removed by the next of us that writes to the same place.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use nix::unistd::geteuid;
use tempfile::TempDir;

use super::error::{Error, Result};

/// What the name of such a directory begins with.
const PREFIX: &str = ".ocihsm-";
/// How often one is made anew that another of us took for a dead one's.
const TRIES: usize = 16;

/// A private directory.
#[derive(Debug)]
pub(super) struct Staging {
    directory: TempDir,
    /// Its lock, which ends with us, however we end. Dropped after the directory is removed.
    _lock: File,
}

impl Staging {
    /// Makes one within `place`, after what dead processes left there is removed.
    pub(super) fn within(place: &Path) -> Result<Self> {
        let failed = |source| Error::File {
            action: "write to",
            path: place.to_owned(),
            source,
        };
        sweep(place);
        let mut tries = 0;
        loop {
            let directory = tempfile::Builder::new()
                .prefix(PREFIX)
                .permissions(Permissions::from_mode(0o700))
                .tempdir_in(place)
                .map_err(failed)?;
            tries += 1;
            // Whoever sweeps between these two steps has the lock, or has removed it.
            match lock(directory.path()) {
                Some(lock) => {
                    return Ok(Self {
                        directory,
                        _lock: lock,
                    });
                }
                None if tries < TRIES => {}
                None => return Err(failed(std::io::ErrorKind::ResourceBusy.into())),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Whether a directory entry of this name is one of ours, and not what a user keeps there.
pub(super) fn is_staging(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(PREFIX))
}

/// Removes the directories that nobody holds. What cannot be removed is left for another time.
fn sweep(place: &Path) {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_staging(&entry.file_name())) {
        let path = entry.path();
        let ours = entry
            .metadata()
            .is_ok_and(|it| it.is_dir() && it.uid() == geteuid().as_raw());
        if ours && let Some(_lock) = lock(&path) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// The lock of a directory, if nobody has it and the directory is still there.
fn lock(path: &Path) -> Option<File> {
    let directory = File::open(path).ok()?;
    directory.try_lock().ok()?;
    let (held, there) = (directory.metadata().ok()?, fs::symlink_metadata(path).ok()?);
    (held.dev() == there.dev() && held.ino() == there.ino()).then_some(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_process_left_is_removed_and_what_a_living_one_has_stays() {
        let place = TempDir::new().unwrap();
        let living = Staging::within(place.path()).unwrap();
        fs::write(living.path().join("0"), "half a layer").unwrap();
        let dead = place.path().join(".ocihsm-dead00");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("0"), "half a layer").unwrap();
        let mine = place.path().join("notes");
        fs::write(&mine, "").unwrap();
        let second = Staging::within(place.path()).unwrap();
        assert!(!dead.exists());
        assert!(living.path().join("0").exists() && mine.exists());
        assert_ne!(living.path(), second.path());
    }

    #[test]
    fn nobody_else_may_look_into_it() {
        let place = TempDir::new().unwrap();
        let staging = Staging::within(place.path()).unwrap();
        let mode = staging.path().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn many_at_once_have_one_each() {
        let place = TempDir::new().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let staging = Staging::within(place.path()).unwrap();
                    fs::write(staging.path().join("0"), "x").unwrap();
                    assert!(staging.path().join("0").exists());
                });
            }
        });
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
