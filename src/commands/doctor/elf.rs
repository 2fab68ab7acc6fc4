//! Whether Linux starts an ELF file: for which machine it is, whether all of it is there, and what loads it (elf(5)).

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use elf::abi::{PT_INTERP, PT_LOAD};
use elf::endian::AnyEndian;
use elf::{ElfStream, ParseError};

use crate::node::section::is_executable;

pub(super) const MAGIC: &[u8] = b"\x7fELF";

/// Longest path of a loader (`PATH_MAX`), in bytes.
const MAX_PATH: u64 = 4096;

/// Why it does not start.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is for another kind of machine than `like`.
    Machine,
    /// Its end is missing, or it is no program.
    Broken,
    /// The dynamic loader that it names is not there.
    Loader(PathBuf),
}

/// Looks at the file's headers; `like` is one that starts.
pub(super) fn fault(path: &Path, like: &Path) -> Option<Fault> {
    let Ok(machine) = header(path) else {
        return Some(Fault::Broken);
    };
    if header(like).is_ok_and(|like| like != machine) {
        return Some(Fault::Machine);
    }
    match loader(path) {
        Err(_) => Some(Fault::Broken),
        Ok(Some(loader)) if !is_executable(&loader) => Some(Fault::Loader(loader)),
        Ok(_) => None,
    }
}

/// What kind of machine it is for: class, byte order, and `e_machine`.
fn header(path: &Path) -> std::io::Result<[u8; 4]> {
    let mut head = [0; 20];
    std::io::Read::read_exact(&mut File::open(path)?, &mut head)?;
    Ok([head[4], head[5], head[18], head[19]])
}

/// The dynamic loader that it names, if all that is to be loaded is in the file.
fn loader(path: &Path) -> Result<Option<PathBuf>, ParseError> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut elf = ElfStream::<AnyEndian, _>::open_stream(file)?;
    let is_whole = |from: u64, size: u64| from.checked_add(size).is_some_and(|end| end <= length);
    let segments = elf.segments();
    let mut loaded = segments
        .iter()
        .filter(|one| one.p_type == PT_LOAD)
        .peekable();
    let missing = || ParseError::SliceReadError((0, 0));
    loaded.peek().ok_or_else(missing)?;
    if !loaded.all(|one| is_whole(one.p_offset, one.p_filesz)) {
        return Err(missing());
    }
    let Some(named) = segments.iter().find(|one| one.p_type == PT_INTERP).copied() else {
        return Ok(None);
    };
    if named.p_filesz > MAX_PATH {
        return Err(missing());
    }
    let name = elf.segment_data(&named)?;
    let name = name.strip_suffix(b"\0").unwrap_or(name);
    Ok(Some(PathBuf::from(OsStr::from_bytes(name))))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_linux_does_not_start_is_known_by_its_headers() {
        let us = std::env::current_exe().unwrap();
        let sound = fs::read(&us).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        let fault = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            super::fault(&path, &us)
        };
        assert_eq!(fault(&sound), None);
        let mut other = sound.clone();
        other[18] ^= 1;
        assert_eq!(fault(&other), Some(Fault::Machine));
        assert_eq!(fault(&other[..4096]), Some(Fault::Machine));
        for length in [4, 19, 64, 4096, sound.len() / 2] {
            assert_eq!(fault(&sound[..length]), Some(Fault::Broken), "{length}");
        }
        let mut other = sound;
        let place = memchr::memmem::find(&other, b"/ld-linux").unwrap();
        other[place + 1] = b'L';
        assert!(matches!(fault(&other), Some(Fault::Loader(_))));
    }
}
