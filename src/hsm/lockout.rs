//! What keeps a wrong PIN from locking a token: logins take turns, and a PIN that was rejected is not tried again.
//!
//! Both need a directory that outlives a process: `/run/ocihsm` for root, `$XDG_RUNTIME_DIR/ocihsm` for others,
//! `OCIHSM_RUNTIME_DIR` for either. It is ours alone, or it is not used. It holds locks, and for each token a salted,
//! slow hash of each PIN that it rejected; never a PIN. In `/run` all of it ends with a reboot, which costs a token one
//! more try.
//!
//! Room for the record is taken before a login: where there is none, that is known before the try that would be lost.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use sha2::{Digest as _, Sha256};

use super::child::Place;
use super::private::{self, Reserved};
use super::rejected::{ENTRY, Marks, Rejected, hex};
use super::token::TokenInfo;
use crate::error::{Error, Result};
use crate::keys::key_file::KeyFile;
use crate::secret::Pin;
use crate::words::reason;

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

/// The token rejected this PIN before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RejectedBefore;

/// One login, from before it to what came of it. One that is dropped was neither: nothing is kept of it.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    pin: &'a Pin,
    file: &'a KeyFile,
    marks: Option<Marks>,
    /// The token's record, and room for it.
    kept: Option<(Rejected, Reserved)>,
    _turn: Option<Turn>,
}

impl Attempt<'_> {
    /// Whether the PIN will be remembered if it is rejected.
    pub(super) fn is_guarded(&self) -> bool {
        self.kept.is_some()
    }

    /// The token took the PIN.
    pub(super) fn accepted(self) {
        let Some((mut record, reserved)) = self.kept else {
            return;
        };
        let marks = self.marks.as_ref();
        if !record.is_empty() && record.took(marks, self.file, SystemTime::now()) {
            let _ = match record.is_empty() {
                true => reserved.remove(),
                false => reserved.fill(&record.to_json()),
            };
        }
    }

    /// The token rejected the PIN. Whether that is on record, so that it is not tried again.
    pub(super) fn rejected(self) -> bool {
        let Some((mut record, reserved)) = self.kept else {
            return false;
        };
        let marks = match self.marks {
            Some(marks) if record.made(&marks) => marks,
            _ => record.marks(self.pin, self.file),
        };
        record.add(marks, self.file);
        reserved.fill(&record.to_json()).is_ok()
    }
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
            Some(path) => match private::directory(path) {
                Ok(()) => Ok(path.to_owned()),
                Err(why) => Err(format!("cannot use {}: {why}", path.display())),
            },
        };
        Self { directory }
    }

    /// Why nothing is locked or remembered.
    pub(super) fn trouble(&self) -> Option<String> {
        match &self.directory {
            Err(why) => Some(why.clone()),
            Ok(directory) => private::has_room(directory, ENTRY).err().map(|error| {
                format!(
                    "cannot write into {}: {}",
                    directory.display(),
                    reason(&error)
                )
            }),
        }
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
        let file = private::options()
            .write(true)
            .create(true)
            .open(path)
            .ok()?;
        let mut file = file;
        loop {
            match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(lock) => return Some(Turn { _lock: lock }),
                Err((back, Errno::EINTR)) => file = back,
                Err(_) => return None,
            }
        }
    }

    /// Begins a login, in the token's turn: nobody else of ours logs in to it until the attempt is over.
    ///
    /// # Errors
    /// [`RejectedBefore`]: the token rejected this PIN, and the file that it comes from says the same as it did then.
    pub(super) fn attempt<'a>(
        &self,
        token: &TokenInfo,
        pin: &'a Pin,
        file: &'a KeyFile,
    ) -> Result<Attempt<'a>, RejectedBefore> {
        let path = self.rejected_path(token);
        let read = || path.as_deref().and_then(Rejected::read);
        // The hash is slow, so it is made before others have to wait, and only where there is a record.
        let mut marks = read()
            .filter(|record| !record.is_working(file))
            .map(|record| record.marks(pin, file));
        let turn = self.token_turn(token);
        let mut record = read();
        if let Some(record) = &record
            && !record.is_working(file)
        {
            let marks = match marks.take_if(|marks| !record.made(marks)) {
                None => marks.get_or_insert_with(|| record.marks(pin, file)),
                Some(_) => marks.insert(record.marks(pin, file)),
            };
            if record.holds(marks, file) {
                return Err(RejectedBefore);
            }
        }
        let record = record.take().or_else(|| Rejected::new(&token.label));
        let reserved = match (&turn, path, &record) {
            (Some(_), Some(path), Some(record)) => {
                Reserved::new(path, record.to_json().len() as u64 + ENTRY).ok()
            }
            _ => None,
        };
        Ok(Attempt {
            pin,
            file,
            marks,
            kept: record.zip(reserved),
            _turn: turn,
        })
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
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

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

    fn is_refused(lockout: &Lockout, serial: &str, pin_text: &str, file: &KeyFile) -> bool {
        lockout
            .attempt(&token(serial), &pin(pin_text), file)
            .is_err()
    }

    /// The token rejects the PIN; whether that is on record.
    fn reject(lockout: &Lockout, pin_text: &str, file: &KeyFile) -> bool {
        let pin = pin(pin_text);
        lockout.attempt(&token("1"), &pin, file).unwrap().rejected()
    }

    #[test]
    fn a_rejected_pin_is_refused_from_every_file_until_it_changes() {
        let (_directory, lockout) = lockout();
        let here = file("/keys/a.yaml", "a");
        assert!(!is_refused(&lockout, "1", "0000", &here));
        assert!(reject(&lockout, "0000", &here));
        assert!(is_refused(&lockout, "1", "0000", &here));
        assert!(is_refused(
            &lockout,
            "1",
            "0000",
            &file("/keys/b.yaml", "b")
        ));
        assert!(!is_refused(&lockout, "1", "1111", &here));
        assert!(!is_refused(&lockout, "2", "0000", &here));
    }

    #[test]
    fn a_changed_key_file_is_tried_once_more() {
        let (_directory, lockout) = lockout();
        assert!(reject(&lockout, "0000", &file("/keys/a.yaml", "a")));
        let changed = file("/keys/a.yaml", "another");
        assert!(!is_refused(&lockout, "1", "0000", &changed));
        assert!(reject(&lockout, "0000", &changed));
        assert!(is_refused(&lockout, "1", "0000", &changed));
    }

    #[test]
    fn keys_of_a_payload_do_not_count_as_changed_files() {
        let (_directory, lockout) = lockout();
        let name = "key 1 of the payload";
        assert!(reject(&lockout, "0000", &file(name, "a")));
        assert!(is_refused(&lockout, "1", "0000", &file(name, "b")));
    }

    #[test]
    fn forgetting_is_by_label() {
        let (_directory, lockout) = lockout();
        assert!(reject(&lockout, "0000", &file("/a", "a")));
        assert!(lockout.forget(Some("test")).unwrap().is_empty());
        assert_eq!(lockout.forget(Some("prod")).unwrap(), ["prod"]);
        assert!(!is_refused(&lockout, "1", "0000", &file("/a", "a")));
    }

    #[test]
    fn the_directory_holds_no_pin_and_is_ours_alone() {
        let (directory, lockout) = lockout();
        assert!(reject(&lockout, "24681357", &file("/a", "a")));
        for entry in fs::read_dir(directory.path().join("run")).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600);
            let text = fs::read_to_string(entry.path()).unwrap();
            assert!(!text.contains("24681357"), "{text}");
        }
    }

    #[test]
    fn what_came_of_an_attempt_leaves_no_other_file() {
        let (directory, lockout) = lockout();
        let names = || -> Vec<String> {
            let entries = fs::read_dir(directory.path().join("run")).unwrap();
            let mut names: Vec<_> = entries
                .map(|entry| {
                    entry
                        .unwrap()
                        .path()
                        .extension()
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned()
                })
                .collect();
            names.sort();
            names
        };
        let (here, good, bad) = (file("/a", "a"), pin("1111"), pin("0000"));
        lockout
            .attempt(&token("1"), &good, &here)
            .unwrap()
            .accepted();
        drop(lockout.attempt(&token("1"), &good, &here).unwrap());
        assert_eq!(names(), ["lock"]);
        assert!(
            lockout
                .attempt(&token("1"), &bad, &here)
                .unwrap()
                .rejected()
        );
        lockout
            .attempt(&token("1"), &good, &here)
            .unwrap()
            .accepted();
        assert_eq!(names(), ["lock", "rejected"]);
        // The token was given that PIN since, and a changed file says so.
        let changed = file("/a", "b");
        lockout
            .attempt(&token("1"), &bad, &changed)
            .unwrap()
            .accepted();
        assert_eq!(names(), ["lock"]);
    }

    #[test]
    fn a_broken_record_is_replaced() {
        let (directory, lockout) = lockout();
        let here = file("/a", "a");
        assert!(reject(&lockout, "0000", &here));
        let path = lockout.rejected_path(&token("1")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"salt\":\"", "\"salt\":\"0")).unwrap();
        assert!(!is_refused(&lockout, "1", "0000", &here));
        assert!(reject(&lockout, "0000", &here));
        assert!(is_refused(&lockout, "1", "0000", &here));
        drop(directory);
    }

    #[test]
    fn what_cannot_be_reserved_is_said_before_the_login() {
        let (directory, lockout) = lockout();
        let here = file("/a", "a");
        let wrong = pin("0000");
        // A directory in the place of the file stands for a disk without room.
        let path = lockout.rejected_path(&token("1")).unwrap();
        fs::create_dir(path.with_extension("new")).unwrap();
        let attempt = lockout.attempt(&token("1"), &wrong, &here).unwrap();
        assert!(!attempt.is_guarded() && !attempt.rejected());
        let nowhere = Lockout::open(Some(Path::new("/dev/null")));
        let attempt = nowhere.attempt(&token("1"), &wrong, &here).unwrap();
        assert!(!attempt.is_guarded() && !attempt.rejected());
        assert!(nowhere.trouble().unwrap().contains("not a directory"));
        drop(directory);
    }

    #[test]
    fn a_directory_that_others_see_is_closed_to_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let lockout = Lockout::open(Some(&path));
        assert_eq!(lockout.trouble(), None);
        assert!(reject(&lockout, "0000", &file("/a", "a")));
        assert!(is_refused(&lockout, "1", "0000", &file("/a", "a")));
    }
}
