//! The private directory that an image is written to before it is moved to where it belongs.
//!
//! It may hold a plain layer, or half of one, so it is its owner's alone, locked while the owner lives, and removed with
//! it. One whose owner was killed is removed by the next of us that writes to the same place.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::unistd::geteuid;
use tempfile::TempDir;

use super::error::{Error, Result};

/// What the name of such a directory begins with.
const PREFIX: &str = ".ocihsm-";
/// How many letters and digits follow, which are random.
const RANDOM: usize = 6;
/// The mode of such a directory.
const MODE: u32 = 0o700;
/// The empty file in it that says that it is ours to remove, and holds its lock.
const MARK: &str = ".ocihsm-temporary";
/// How often one is made anew that another of us took for a dead one's.
const TRIES: usize = 16;
/// An empty one of this age has no mark because whoever made it was killed before that.
const SETTLED: Duration = Duration::from_secs(60);

/// Those that we have now.
static OURS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

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
                .rand_bytes(RANDOM)
                .permissions(Permissions::from_mode(MODE))
                .tempdir_in(place)
                .map_err(failed)?;
            tries += 1;
            let mark = directory.path().join(MARK);
            File::create_new(&mark).map_err(failed)?;
            // Whoever sweeps between these two steps has the lock, or has removed it.
            match lock(&mark) {
                Some(lock) => {
                    ours().push(directory.path().to_owned());
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

impl Drop for Staging {
    fn drop(&mut self) {
        empty(self.path());
        ours().retain(|path| path != self.path());
    }
}

/// Removes all that we have, where others still write to them.
pub(super) fn remove_all() {
    for path in ours().iter() {
        empty(path);
        let _ = fs::remove_dir(path);
    }
}

fn ours() -> MutexGuard<'static, Vec<PathBuf>> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a directory entry of this name is one of ours, and not what a user keeps there.
pub(super) fn is_staging(name: &std::ffi::OsStr) -> bool {
    let random = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
    random.is_some_and(|it| it.len() == RANDOM && it.bytes().all(|it| it.is_ascii_alphanumeric()))
}

/// Removes the directories that nobody holds. What cannot be removed is left for another time.
///
/// A user may have a directory of such a name, so only one that has our mark is removed.
fn sweep(place: &Path) {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_staging(&entry.file_name())) {
        let path = entry.path();
        let Ok(found) = entry.metadata() else {
            continue;
        };
        if !found.is_dir() || found.uid() != geteuid().as_raw() || found.mode() & 0o777 != MODE {
            continue;
        }
        let mark = path.join(MARK);
        let age = found.modified().ok().and_then(|it| it.elapsed().ok());
        if age.is_some_and(|age| age > SETTLED) {
            // Fails where anything is in it.
            let _ = fs::remove_dir(&path);
        }
        if is_mark(&mark)
            && let Some(_lock) = lock(&mark)
        {
            empty(&path);
            let _ = fs::remove_dir(&path);
        }
    }
}

/// Whether an empty file of ours is there.
fn is_mark(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|it| it.is_file() && it.len() == 0 && it.uid() == geteuid().as_raw())
}

/// Removes what is in a directory, the mark last: were we killed before that, the next of us would still know it.
fn empty(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_other = |path: &PathBuf| !path.ends_with(MARK);
    let mut is_clear = true;
    for path in entries.map(|entry| entry.path()).filter(is_other) {
        let is_directory = fs::symlink_metadata(&path).is_ok_and(|it| it.is_dir());
        let removed = match is_directory {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        };
        is_clear &= removed.is_ok();
    }
    if is_clear {
        let _ = fs::remove_file(directory.join(MARK));
    }
}

/// The lock of a file, if nobody has it and the file is still there.
fn lock(path: &Path) -> Option<File> {
    let file = File::open(path).ok()?;
    file.try_lock().ok()?;
    let (held, there) = (file.metadata().ok()?, fs::symlink_metadata(path).ok()?);
    (held.dev() == there.dev() && held.ino() == there.ino()).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_process_left_is_removed_and_what_a_living_one_has_stays() {
        let place = TempDir::new().unwrap();
        let living = Staging::within(place.path()).unwrap();
        fs::write(living.path().join("0"), "half a layer").unwrap();
        let dead = directory(place.path(), ".ocihsm-dead00", MODE);
        fs::write(dead.join(MARK), "").unwrap();
        fs::write(dead.join("0"), "half a layer").unwrap();
        fs::create_dir_all(dead.join("layout/blobs")).unwrap();
        let mine = place.path().join("notes");
        fs::write(&mine, "").unwrap();
        let second = Staging::within(place.path()).unwrap();
        assert!(!dead.exists());
        assert!(living.path().join("0").exists() && mine.exists());
        assert_ne!(living.path(), second.path());
    }

    #[test]
    fn one_whose_owner_was_killed_before_it_had_its_mark_is_removed() {
        let place = TempDir::new().unwrap();
        let (young, old) = (
            directory(place.path(), ".ocihsm-young0", MODE),
            directory(place.path(), ".ocihsm-older0", MODE),
        );
        let time = std::time::SystemTime::now() - 2 * SETTLED;
        File::open(&old).unwrap().set_modified(time).unwrap();
        drop(Staging::within(place.path()).unwrap());
        assert!(young.exists() && !old.exists());
    }

    #[test]
    fn what_a_user_keeps_under_such_a_name_stays() {
        let place = TempDir::new().unwrap();
        let kept = [
            (".ocihsm-keys", MODE, Some("")),
            (".ocihsm-dead000", MODE, Some("")),
            (".ocihsm-dead-0", MODE, Some("")),
            (".ocihsm-backup", MODE, None),
            (".ocihsm-marked", MODE, Some("mine")),
            (".ocihsm-shared", 0o755, Some("")),
        ]
        .map(|(name, mode, mark)| {
            let path = directory(place.path(), name, mode);
            if let Some(mark) = mark {
                fs::write(path.join(MARK), mark).unwrap();
            }
            fs::write(path.join("key.pem"), "mine").unwrap();
            path
        });
        drop(Staging::within(place.path()).unwrap());
        for path in kept {
            assert!(path.join("key.pem").exists(), "{path:?}");
        }
    }

    fn directory(place: &Path, name: &str, mode: u32) -> PathBuf {
        let path = place.join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
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
