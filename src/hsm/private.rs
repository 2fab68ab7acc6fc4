//! A directory that is ours alone, and the files that we keep in it.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc;
use nix::unistd::geteuid;

/// Beginnings of the names of our files.
const OURS: [&[u8]; 2] = [b"module-", b"token-"];
/// Ending of the name of a file that is room for another.
pub(super) const BESIDE: &str = "new";
/// Most files of ours that are looked at before the mode of their directory is set.
const MAX_FILES: usize = 4096;

/// Makes the directory if it is not there, and makes sure that it is ours, and nobody else's to look into.
///
/// # Errors
/// Why it cannot be used, in words that follow its name.
pub(super) fn directory(path: &Path) -> Result<(), String> {
    let why = |error: io::Error| crate::words::reason(&error);
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(why(error)),
        _ => {}
    }
    let metadata = fs::symlink_metadata(path).map_err(why)?;
    if !metadata.is_dir() {
        return Err("it is not a directory".to_owned());
    }
    if metadata.uid() != geteuid().as_raw() {
        return Err("it belongs to another user".to_owned());
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    // Whoever names `/run` itself must not lose it to everybody else.
    let needed = format!("others may look into it (mode {mode:04o}, 0700 is needed)");
    if !holds_ours_alone(path).map_err(why)? {
        return Err(format!("{needed}, and it holds other files"));
    }
    fs::set_permissions(path, Permissions::from_mode(0o700))
        .map_err(|error| format!("{needed}, and its mode cannot be set: {}", why(error)))?;
    // What others put there until then would be seen now.
    match holds_ours_alone(path).map_err(why)? {
        true => Ok(()),
        false => Err("somebody else wrote into it: remove it".to_owned()),
    }
}

/// Whether there is nothing in the directory but files that we made.
fn holds_ours_alone(path: &Path) -> io::Result<bool> {
    if path.parent().is_none_or(|parent| parent.parent().is_none()) {
        return Ok(false);
    }
    for (number, entry) in fs::read_dir(path)?.enumerate() {
        let entry = entry?;
        let name = entry.file_name();
        let ours = |name: &OsStr| OURS.iter().any(|begin| name.as_bytes().starts_with(begin));
        let metadata = fs::symlink_metadata(entry.path())?;
        let private = metadata.is_file()
            && metadata.uid() == geteuid().as_raw()
            && metadata.nlink() == 1
            && metadata.mode() & 0o077 == 0;
        if number >= MAX_FILES || !ours(&name) || !private {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Options for a file of ours in the directory.
pub(super) fn options() -> OpenOptions {
    let mut options = File::options();
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options
}

/// Whether so many bytes can be written into a new file of the directory.
pub(super) fn has_room(directory: &Path, bytes: u64) -> io::Result<()> {
    allocate(&tempfile::tempfile_in(directory)?, bytes)
}

/// Room for what a file is to hold, taken before it is known: it is there when it is needed, or the want of it is known
/// in time. Until then it holds what is true if its owner comes to an end without a word.
#[derive(Debug)]
pub(super) struct Reserved {
    file: Option<File>,
    bytes: u64,
    beside: PathBuf,
    path: PathBuf,
}

impl Reserved {
    /// So many bytes for the file at `path`, with this JSON at first. Who calls this holds a lock that nobody shares:
    /// there is one such room.
    pub(super) fn new(path: PathBuf, bytes: u64, json: &[u8]) -> io::Result<Self> {
        let beside = path.with_extension(BESIDE);
        let mut options = options();
        let file = options
            .write(true)
            .create(true)
            .truncate(true)
            .open(&beside)?;
        let reserved = Self {
            file: Some(file),
            bytes,
            beside,
            path,
        };
        if let Some(file) = &reserved.file {
            allocate(file, bytes)?;
        }
        reserved.write(json)?;
        Ok(reserved)
    }

    /// What a dead owner left of the room for the file at `path`; it is kept if `is_whole` says that it is, and nothing
    /// is left beside the file. Who calls this holds the lock.
    pub(super) fn settle(path: &Path, is_whole: impl FnOnce(&Path) -> bool) -> io::Result<()> {
        let beside = path.with_extension(BESIDE);
        match fs::symlink_metadata(&beside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(_) if is_whole(&beside) => fs::rename(&beside, path),
            Ok(_) => fs::remove_file(&beside),
        }
    }

    /// Puts other JSON there, and keeps the room: blanks at its end mean nothing.
    pub(super) fn write(&self, json: &[u8]) -> io::Result<()> {
        let Some(mut file) = self.file.as_ref() else {
            return Ok(());
        };
        let room = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        let mut content = json.to_vec();
        content.resize(room.max(json.len()), b' ');
        file.rewind()?;
        file.write_all(&content)
    }

    /// Removes the file itself: there is nothing to keep.
    pub(super) fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }

    /// Puts a file with this content in its place: whole, or not at all.
    pub(super) fn fill(mut self, json: &[u8]) -> io::Result<()> {
        self.write(json)?;
        if let Some(file) = &self.file {
            file.set_len(json.len() as u64)?;
        }
        fs::rename(&self.beside, &self.path)?;
        self.file = None;
        Ok(())
    }
}

/// What was not needed goes again.
impl Drop for Reserved {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = fs::remove_file(&self.beside);
        }
    }
}

fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        // NFS and others do not know it: there the file is written to find out.
        Err(nix::errno::Errno::EOPNOTSUPP) => {
            let zeros = vec![0; usize::try_from(bytes).unwrap_or(0)];
            let mut file = file;
            file.write_all(&zeros)?;
            file.rewind()
        }
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new(mode: u32) -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            fs::create_dir(tree.path()).unwrap();
            tree.set_mode(mode);
            tree
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("run")
        }

        fn set_mode(&self, mode: u32) {
            fs::set_permissions(self.path(), Permissions::from_mode(mode)).unwrap();
        }

        fn mode(&self) -> u32 {
            fs::metadata(self.path()).unwrap().mode() & 0o7777
        }
    }

    #[test]
    fn a_directory_of_ours_that_others_see_is_closed_to_them() {
        for mode in [0o755, 0o777, 0o1777, 0o750] {
            let tree = Tree::new(mode);
            let file = options()
                .write(true)
                .create(true)
                .open(tree.path().join("token-1.lock"));
            drop(file.unwrap());
            assert_eq!(directory(&tree.path()), Ok(()), "{mode:o}");
            assert_eq!(tree.mode(), 0o700);
        }
    }

    #[test]
    fn a_directory_that_others_use_is_left_as_it_is() {
        let tree = Tree::new(0o755);
        fs::write(tree.path().join("other"), "").unwrap();
        let why = directory(&tree.path()).unwrap_err();
        assert!(
            why.contains("mode 0755") && why.contains("other files"),
            "{why}"
        );
        assert_eq!(tree.mode(), 0o755);
        // A name of ours is not enough: somebody may have put it there for us to write through.
        fs::remove_file(tree.path().join("other")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", tree.path().join("token-1.new")).unwrap();
        assert!(directory(&tree.path()).is_err());
        assert!(directory(Path::new("/")).is_err());
        assert!(
            directory(Path::new("/dev/null"))
                .unwrap_err()
                .contains("not a directory")
        );
    }

    #[test]
    fn room_that_is_not_needed_leaves_nothing() {
        let tree = Tree::new(0o700);
        let path = tree.path().join("token-1.rejected");
        drop(Reserved::new(path.clone(), 4096, b"").unwrap());
        assert_eq!(fs::read_dir(tree.path()).unwrap().count(), 0);
        Reserved::new(path.clone(), 4096, b"")
            .unwrap()
            .fill(b"abc")
            .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        assert_eq!(fs::read_dir(tree.path()).unwrap().count(), 1);
    }

    #[test]
    fn room_that_is_not_there_is_known_before() {
        // What no file can hold.
        let tree = Tree::new(0o700);
        let path = tree.path().join("token-1.rejected");
        assert!(Reserved::new(path, u64::MAX, b"").is_err());
        assert!(has_room(&tree.path(), u64::MAX).is_err());
        assert!(has_room(&tree.path(), 4096).is_ok());
        assert_eq!(fs::read_dir(tree.path()).unwrap().count(), 0);
    }
}
