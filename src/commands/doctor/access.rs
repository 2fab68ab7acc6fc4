//! Who besides root and ourselves may read or change a file, as modes and owners on the way to it say.
//!
//! Access control lists and mounts are not looked at.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use nix::unistd::{getegid, geteuid};

const READ: u32 = 0o4;
const WRITE: u32 = 0o2;
const SEARCH: u32 = 0o1;
const STICKY: u32 = 0o1000;

/// Whether somebody else may read the file: its mode says so, and so do all directories above it.
///
/// # Errors
/// What the operating system says about one of them.
pub(super) fn others_may_read(path: &Path) -> io::Result<bool> {
    let path = path.canonicalize()?;
    let file = fs::metadata(&path)?;
    let mode = file.permissions().mode();
    let group = is_foreign_group(file.gid()).then(|| file.gid());
    let reaches = |group: Option<u32>| -> io::Result<bool> {
        for directory in path.ancestors().skip(1) {
            let directory = fs::metadata(directory)?;
            let mode = directory.permissions().mode();
            let as_group = group == Some(directory.gid()) && mode >> 3 & SEARCH != 0;
            if mode & SEARCH == 0 && !as_group {
                return Ok(false);
            }
        }
        Ok(true)
    };
    Ok((mode & READ != 0 && reaches(None)?)
        || (mode >> 3 & READ != 0 && group.is_some() && reaches(group)?))
}

/// Whether somebody else may change the file, or put another in its place.
///
/// # Errors
/// What the operating system says about one of them.
pub(super) fn others_may_change(path: &Path) -> io::Result<bool> {
    let path = path.canonicalize()?;
    for (depth, part) in path.ancestors().enumerate() {
        let part = fs::metadata(part)?;
        let mode = part.permissions().mode();
        // In a sticky directory, nobody replaces what belongs to another.
        let sticky = depth > 0 && mode & STICKY != 0;
        let by_group = mode >> 3 & WRITE != 0 && is_foreign_group(part.gid());
        if is_foreign_user(part.uid()) || (!sticky && (mode & WRITE != 0 || by_group)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_foreign_user(user: u32) -> bool {
    user != 0 && user != geteuid().as_raw()
}

fn is_foreign_group(group: u32) -> bool {
    group != 0 && group != getegid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_modes(directory: u32, file: u32) -> (bool, bool) {
        // The directories above count too, and TMPDIR may be one that nobody else enters.
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(file)).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(directory)).unwrap();
        (
            others_may_read(&path).unwrap(),
            others_may_change(&path).unwrap(),
        )
    }

    #[test]
    fn both_the_file_and_its_directory_decide() {
        assert_eq!(with_modes(0o755, 0o600), (false, false));
        assert_eq!(with_modes(0o755, 0o644), (true, false));
        assert_eq!(with_modes(0o700, 0o644), (false, false));
        assert_eq!(with_modes(0o755, 0o602), (false, true));
        assert_eq!(with_modes(0o777, 0o600), (false, true));
        assert_eq!(with_modes(0o1777, 0o600), (false, false));
    }
}
