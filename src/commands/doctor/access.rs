//! Who besides root and ourselves may read or change a file, as modes and owners on the way to it say.
//!
//! Access control lists and mounts are not looked at.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::{getegid, geteuid};

use super::findings::Findings;
use super::kind::Kind;

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

/// What lets somebody else change the file, or put another in its place: the file itself, or a directory above it.
///
/// # Errors
/// What the operating system says about one of them.
pub(super) fn open_to_others(path: &Path) -> io::Result<Option<PathBuf>> {
    let path = path.canonicalize()?;
    for (depth, part) in path.ancestors().enumerate() {
        let metadata = fs::metadata(part)?;
        let mode = metadata.permissions().mode();
        // In a sticky directory, nobody replaces what belongs to another.
        let sticky = depth > 0 && mode & STICKY != 0;
        let by_group = mode >> 3 & WRITE != 0 && is_foreign_group(metadata.gid());
        if is_foreign_user(metadata.uid()) || (!sticky && (mode & WRITE != 0 || by_group)) {
            return Ok(Some(part.to_owned()));
        }
    }
    Ok(None)
}

/// A file that decides what is loaded, run, or sent to a token, belongs to root alone.
pub(super) fn check_owner(findings: &mut Findings, kind: Kind, path: &Path) {
    let Ok(Some(open)) = open_to_others(path) else {
        return;
    };
    let through = match path.canonicalize().is_ok_and(|real| real == open) {
        true => String::new(),
        false => format!(", since they may change {}", open.display()),
    };
    findings.fail(
        kind,
        format!("others than root may change {}{through}", path.display()),
        format!("chown root:root {0}; chmod go-w {0}", open.display()),
    );
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

    fn with_modes(directory: u32, file: u32) -> (bool, Option<&'static str>) {
        // The directories above count too, and TMPDIR may be one that nobody else enters.
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(file)).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(directory)).unwrap();
        (
            others_may_read(&path).unwrap(),
            open_to_others(&path)
                .unwrap()
                .map(|open| if open == path { "file" } else { "directory" }),
        )
    }

    #[test]
    fn both_the_file_and_its_directory_decide() {
        assert_eq!(with_modes(0o755, 0o600), (false, None));
        assert_eq!(with_modes(0o755, 0o644), (true, None));
        assert_eq!(with_modes(0o700, 0o644), (false, None));
        assert_eq!(with_modes(0o755, 0o602), (false, Some("file")));
        assert_eq!(with_modes(0o777, 0o600), (false, Some("directory")));
        assert_eq!(with_modes(0o1777, 0o600), (false, None));
    }
}
