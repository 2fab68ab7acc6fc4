//! Names that editors, package managers and careful people give to copies of a key file.
//!
//! A copy most likely holds what was replaced, such as an old PIN: to use it beside the file itself would cost its token
//! a try for each pull.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

/// Endings of names, in lower case. `~` is also that of `.~1~`.
const ENDINGS: [&str; 25] = [
    "~",
    ".backup",
    ".bak",
    ".copy",
    ".disabled",
    ".dpkg-bak",
    ".dpkg-dist",
    ".dpkg-new",
    ".dpkg-old",
    ".dpkg-tmp",
    ".off",
    ".old",
    ".orig",
    ".pacnew",
    ".pacsave",
    ".rej",
    ".rpmnew",
    ".rpmorig",
    ".rpmsave",
    ".save",
    ".swo",
    ".swp",
    ".ucf-dist",
    ".ucf-new",
    ".ucf-old",
];
/// Names of directories, in lower case.
const DIRECTORIES: [&str; 5] = ["bak", "backup", "backups", "old", "lost+found"];

/// Whether a name, of a file or of a directory, is that of something hidden or of a copy.
pub(super) fn is_one(name: &OsStr) -> bool {
    let name = name.as_bytes().to_ascii_lowercase();
    if name.starts_with(b".") || name.starts_with(b"#") {
        return true;
    }
    // A counter behind it: `.bak2`, `.old.1`.
    let counted = name.trim_ascii_end();
    let digits = counted
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let base = &counted[..counted.len() - digits];
    let base = base
        .strip_suffix(b".")
        .filter(|_| digits > 0)
        .unwrap_or(base);
    let ends = |name: &[u8]| {
        let stem = |ending: &&str| name.strip_suffix(ending.as_bytes());
        ENDINGS.iter().filter_map(stem).any(|stem| !stem.is_empty())
    };
    ends(&name) || ends(base)
}

/// Whether a directory of this name holds copies.
pub(super) fn holds_copies(name: &OsStr) -> bool {
    let name = name.as_bytes().to_ascii_lowercase();
    DIRECTORIES
        .iter()
        .any(|directory| name == directory.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_known_by_their_names() {
        for name in [
            ".imagekey.yaml.old",
            "#imagekey.yaml#",
            ".#imagekey.yaml",
            "imagekey.yaml~",
            "imagekey.yaml.~1~",
            ".imagekey.yaml.swp",
            "k.bak",
            "k.BAK",
            "k.bak2",
            "k.bak.1",
            "k.orig",
            "k.dpkg-old",
            "k.ucf-old",
            "k.rpmsave",
            "k.yaml.save.3",
            "k.old",
        ] {
            assert!(is_one(OsStr::new(name)), "{name}");
        }
        for name in [
            "imagekey.yaml",
            "k",
            "old.yaml",
            "bak",
            "k.2",
            "key-2024",
            "2",
            "k.bold",
            "save",
            "k.yaml.1",
        ] {
            assert!(!is_one(OsStr::new(name)), "{name}");
        }
        assert!(holds_copies(OsStr::new("Backup")) && !holds_copies(OsStr::new("prod")));
    }
}
