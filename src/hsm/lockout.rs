//! What keeps a wrong PIN from locking a token: logins take turns, and a PIN that was rejected is not tried again.
//!
//! Both need a directory that outlives a process: `/run/ocihsm` for root, `$XDG_RUNTIME_DIR/ocihsm` for others,
//! `OCIHSM_RUNTIME_DIR` for either. It is ours alone, or it is not used. It holds locks, and for each token a salted,
//! slow hash of each PIN that it rejected; never a PIN. In `/run` all of it ends with a reboot, which costs a token one
//! more try.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::unistd::geteuid;
use sha2::{Digest as _, Sha256};

use super::child::Place;
use super::rejected::{Rejected, hex};
use super::token::TokenInfo;
use crate::error::{Error, Result};
use crate::keys::key_file::KeyFile;
use crate::secret::Pin;

/// Ending of the name of a file with rejected PINs.
const REJECTED: &str = "rejected";

/// The directory, or why there is none.
#[derive(Clone, Debug)]
pub(super) struct Lockout {
    directory: Result<PathBuf, String>,
}

/// A lock; another process goes on when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _lock: Flock<File>,
}

/// The directory where these variables are set.
pub(super) fn default_directory(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let named = |name| variable(name).filter(|value| !value.is_empty());
    if let Some(directory) = named("OCIHSM_RUNTIME_DIR") {
        return Some(directory.into());
    }
    if geteuid().is_root() {
        return Some("/run/ocihsm".into());
    }
    named("XDG_RUNTIME_DIR").map(|directory| PathBuf::from(directory).join("ocihsm"))
}

impl Lockout {
    /// Makes the directory if it is not there, and checks that it is ours alone.
    pub(super) fn open(directory: Option<&Path>) -> Self {
        let directory = match directory {
            None => Err("no runtime directory is known: set OCIHSM_RUNTIME_DIR".to_owned()),
            Some(path) => match checked(path) {
                Ok(()) => Ok(path.to_owned()),
                Err(why) => Err(format!("cannot use {}: {why}", path.display())),
            },
        };
        Self { directory }
    }

    /// Why nothing is locked or remembered.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.directory.as_ref().err().map(String::as_str)
    }

    /// Waits until no other process of ours starts this module or logs in through it.
    pub(super) fn turn(&self, place: Place<'_>) -> Option<Turn> {
        let mut digest = Sha256::new();
        digest.update(place.module.as_os_str().as_encoded_bytes());
        for (name, value) in place.env {
            digest.update([0]);
            digest.update(name);
            digest.update([b'=']);
            digest.update(value);
        }
        self.lock(&format!("module-{}.lock", short(&digest.finalize())))
    }

    /// Waits until no other process of ours logs in to this token, through whatever module.
    pub(super) fn token_turn(&self, token: &TokenInfo) -> Option<Turn> {
        self.lock(&format!("{}.lock", token_name(token)))
    }

    fn lock(&self, name: &str) -> Option<Turn> {
        let path = self.directory.as_ref().ok()?.join(name);
        let file = private().write(true).create(true).open(path).ok()?;
        let mut file = file;
        loop {
            match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(lock) => return Some(Turn { _lock: lock }),
                Err((back, Errno::EINTR)) => file = back,
                Err(_) => return None,
            }
        }
    }

    /// Whether the token rejected this PIN before, and the file it comes from says the same as it did then.
    pub(super) fn was_rejected(&self, token: &TokenInfo, pin: &Pin, file: &KeyFile) -> bool {
        self.rejected_path(token)
            .and_then(|path| Rejected::read(&path))
            .is_some_and(|rejected| rejected.holds(pin, file))
    }

    /// Remembers that the token rejected this PIN.
    pub(super) fn remember(&self, token: &TokenInfo, pin: &Pin, file: &KeyFile) {
        let Some(path) = self.rejected_path(token) else {
            return;
        };
        if let Some(mut rejected) = Rejected::read(&path).or_else(|| Rejected::new(&token.label)) {
            rejected.add(pin, file);
            // Without it the next process tries once more, which is what a lost directory costs too.
            let _ = rejected.write(&path);
        }
    }

    /// Forgets rejected PINs: those of every token, or of those with this label. Returns the labels.
    pub(super) fn forget(&self, label: Option<&str>) -> Result<Vec<String>> {
        let directory = match &self.directory {
            Ok(directory) => directory,
            Err(why) => return Err(Error::RuntimeDirectory { why: why.clone() }),
        };
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| Error::File {
                action,
                path,
                source,
            }
        };
        let mut labels = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed("list", directory))? {
            let path = entry.map_err(failed("list", directory))?.path();
            if path.extension().is_none_or(|ending| ending != REJECTED) {
                continue;
            }
            let token = Rejected::read(&path).map(|rejected| rejected.token);
            if label.is_some() && token.as_deref() != label {
                continue;
            }
            fs::remove_file(&path).map_err(failed("remove", &path))?;
            labels.push(token.unwrap_or_default());
        }
        labels.sort();
        Ok(labels)
    }

    fn rejected_path(&self, token: &TokenInfo) -> Option<PathBuf> {
        let directory = self.directory.as_ref().ok()?;
        Some(directory.join(format!("{}.{REJECTED}", token_name(token))))
    }
}

/// Ours, a directory, and nobody else's to look into.
fn checked(path: &Path) -> Result<(), String> {
    let why = |error: io::Error| error.to_string();
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
    if metadata.mode() & 0o077 != 0 {
        return Err("others may look into it (mode 0700 is needed)".to_owned());
    }
    Ok(())
}

/// Options for a file of ours in the directory.
pub(super) fn private() -> OpenOptions {
    let mut options = File::options();
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options
}

/// One name for one token, whatever slot and module it is reached by.
fn token_name(token: &TokenInfo) -> String {
    let mut digest = Sha256::new();
    for part in [
        &token.manufacturer,
        &token.model,
        &token.serial,
        &token.label,
    ] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    format!("token-{}", short(&digest.finalize()))
}

fn short(digest: &[u8]) -> String {
    hex(&digest[..12])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn token(serial: &str) -> TokenInfo {
        TokenInfo {
            slot: 1,
            label: "prod".to_owned(),
            manufacturer: "m".to_owned(),
            model: "x".to_owned(),
            serial: serial.to_owned(),
            flags: 0,
        }
    }

    fn file(name: &str, object: &str) -> KeyFile {
        KeyFile {
            name: name.to_owned(),
            uri: format!("pkcs11:token=prod;object={object}")
                .parse()
                .unwrap(),
            env: BTreeMap::new(),
            init: None,
        }
    }

    fn pin(text: &str) -> Pin {
        Pin::new(text.to_owned()).unwrap()
    }

    fn lockout() -> (tempfile::TempDir, Lockout) {
        let directory = tempfile::tempdir().unwrap();
        let lockout = Lockout::open(Some(&directory.path().join("run")));
        assert_eq!(lockout.trouble(), None);
        (directory, lockout)
    }

    #[test]
    fn a_rejected_pin_is_refused_from_every_file_until_it_changes() {
        let (_directory, lockout) = lockout();
        let here = file("/keys/a.yaml", "a");
        assert!(!lockout.was_rejected(&token("1"), &pin("0000"), &here));
        lockout.remember(&token("1"), &pin("0000"), &here);
        assert!(lockout.was_rejected(&token("1"), &pin("0000"), &here));
        assert!(lockout.was_rejected(&token("1"), &pin("0000"), &file("/keys/b.yaml", "b")));
        assert!(!lockout.was_rejected(&token("1"), &pin("1111"), &here));
        assert!(!lockout.was_rejected(&token("2"), &pin("0000"), &here));
    }

    #[test]
    fn a_changed_key_file_is_tried_once_more() {
        let (_directory, lockout) = lockout();
        lockout.remember(&token("1"), &pin("0000"), &file("/keys/a.yaml", "a"));
        let changed = file("/keys/a.yaml", "another");
        assert!(!lockout.was_rejected(&token("1"), &pin("0000"), &changed));
        lockout.remember(&token("1"), &pin("0000"), &changed);
        assert!(lockout.was_rejected(&token("1"), &pin("0000"), &changed));
    }

    #[test]
    fn keys_of_a_payload_do_not_count_as_changed_files() {
        let (_directory, lockout) = lockout();
        let name = "key 1 of the payload";
        lockout.remember(&token("1"), &pin("0000"), &file(name, "a"));
        assert!(lockout.was_rejected(&token("1"), &pin("0000"), &file(name, "b")));
    }

    #[test]
    fn forgetting_is_by_label() {
        let (_directory, lockout) = lockout();
        lockout.remember(&token("1"), &pin("0000"), &file("/a", "a"));
        assert!(lockout.forget(Some("test")).unwrap().is_empty());
        assert_eq!(lockout.forget(Some("prod")).unwrap(), ["prod"]);
        assert!(!lockout.was_rejected(&token("1"), &pin("0000"), &file("/a", "a")));
    }

    #[test]
    fn the_directory_holds_no_pin_and_is_ours_alone() {
        let (directory, lockout) = lockout();
        lockout.remember(&token("1"), &pin("24681357"), &file("/a", "a"));
        for entry in fs::read_dir(directory.path().join("run")).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600);
            let text = fs::read_to_string(entry.path()).unwrap();
            assert!(!text.contains("24681357"), "{text}");
        }
    }

    #[test]
    fn a_directory_that_others_see_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let lockout = Lockout::open(Some(directory.path()));
        assert!(lockout.trouble().unwrap().contains("0700"));
        lockout.remember(&token("1"), &pin("0000"), &file("/a", "a"));
        assert!(!lockout.was_rejected(&token("1"), &pin("0000"), &file("/a", "a")));
    }
}
