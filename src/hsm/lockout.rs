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
use super::error::{Error, Result};
use super::private::{self, Reserved};
use super::rejected::{ENTRY, Marks, Rejected, hex};
use super::token::TokenInfo;
use crate::file;
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
        let failed = file::Error::failed;
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
mod tests;
