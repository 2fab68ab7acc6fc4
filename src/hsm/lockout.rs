//! What keeps a wrong PIN from locking a token: logins take turns, and a PIN that was rejected is not tried again.
//!
//! Both need a directory that outlives a process: `/run/ocihsm` for root, `$XDG_RUNTIME_DIR/ocihsm` for others,
//! `OCIHSM_RUNTIME_DIR` for either. It is ours alone, or it is not used. It holds locks, and for each token a salted,
//! slow hash of each PIN that it rejected; never a PIN. In `/run` all of it ends with a reboot, which costs a token one
//! more try.
//!
//! The record is written before a login, as it shall stand if no answer comes (`token-….new`); who finds one left there
//! takes it as it is. Where there is no room for it, that is known before the try that would be lost.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use sha2::{Digest as _, Sha256};

use super::child::Place;
use super::error::{Error, Result};
use super::private::{self, Reserved};
use super::rejected::{Before, ENTRY, Marks, Rejected, hex};
use super::token::TokenInfo;
use crate::file;
use crate::keys::key_file::{KeyFile, OF_PAYLOAD};
use crate::secret::Pin;
use crate::words::reason;

/// Ending of the name of a file with rejected PINs.
const REJECTED: &str = "rejected";
/// A token that answers a login later than this may never do so.
const SOON: Duration = Duration::from_millis(100);
/// Who holds a module's turn for so long hangs in it.
const STUCK: Duration = Duration::from_secs(2);
/// How often the module's turn is asked for.
const PAUSE: Duration = Duration::from_millis(1);

/// The directory, or why there is none.
#[derive(Clone, Debug)]
pub(super) struct Lockout {
    directory: Result<PathBuf, String>,
}

/// A lock, if there is any; another process goes on when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    lock: Option<Flock<File>>,
}

impl Turn {
    fn is_held(&self) -> bool {
        self.lock.is_some()
    }
}

/// One login, from before it to what came of it. One that is dropped was neither: nothing is kept of it.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    pin: &'a Pin,
    file: &'a KeyFile,
    marks: Option<Marks>,
    /// The token's record, and room for it.
    kept: Option<(Rejected, Reserved)>,
    _turn: Turn,
}

impl Attempt<'_> {
    /// Whether the PIN will be remembered if it is rejected.
    pub(super) fn is_guarded(&self) -> bool {
        self.kept.is_some()
    }

    /// Does the login. Should this process end meanwhile, the PIN counts as tried without an answer, in whatever file it
    /// stands: of one that came with a layer the slow hash is made as soon as the token takes its time.
    pub(super) fn during<T>(&self, login: impl FnOnce() -> T) -> T {
        let Some((record, reserved)) = &self.kept else {
            return login();
        };
        if self.file.name != OF_PAYLOAD {
            return login();
        }
        thread::scope(|scope| {
            let (answered, answer) = mpsc::channel::<()>();
            // Where no thread can be had, the file that was noted before has to do.
            let _ = thread::Builder::new().spawn_scoped(scope, move || {
                if answer.recv_timeout(SOON) == Err(RecvTimeoutError::Timeout) {
                    let mut record = record.clone();
                    record.add(Before::Unanswered, self.marks_in(&record), self.file);
                    record.ask(self.file, SystemTime::now());
                    let _ = reserved.write(&record.to_json());
                }
            });
            let result = login();
            drop(answered);
            result
        })
    }

    /// The token took the PIN.
    pub(super) fn accepted(self) {
        let Some((mut record, reserved)) = self.kept else {
            return;
        };
        if record.took(self.marks.as_ref(), self.file, SystemTime::now()) {
            let _ = match record.is_empty() {
                true => reserved.remove(),
                false => reserved.fill(&record.to_json()),
            };
        }
    }

    /// The token rejected the PIN. Whether that is on record, so that it is not tried again.
    pub(super) fn rejected(self) -> bool {
        let Some((record, _)) = &self.kept else {
            return false;
        };
        let marks = self.marks_in(record);
        self.kept.is_some_and(|(mut record, reserved)| {
            record.add(Before::Rejected, marks, self.file);
            reserved.fill(&record.to_json()).is_ok()
        })
    }

    fn marks_in(&self, record: &Rejected) -> Marks {
        match &self.marks {
            Some(marks) if record.made(marks) => marks.clone(),
            _ => record.marks(self.pin, self.file),
        }
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

    /// Waits until no other process of ours starts this module or logs in through it; but not for one that hangs there.
    pub(super) fn turn(&self, place: Place<'_>) -> Turn {
        let mut digest = Sha256::new();
        digest.update(place.module.as_os_str().as_encoded_bytes());
        for (name, value) in place.env {
            digest.update([0]);
            digest.update(name);
            digest.update([b'=']);
            digest.update(value);
        }
        let Some(mut file) = self.file(format!("module-{}.lock", short(&digest.finalize()))) else {
            return Turn { lock: None };
        };
        let begin = Instant::now();
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => {
                    let _ = lock.set_modified(SystemTime::now());
                    return Turn { lock: Some(lock) };
                }
                Err((back, Errno::EWOULDBLOCK)) if begin.elapsed() < STUCK || !is_stuck(&back) => {
                    file = back;
                    thread::sleep(PAUSE);
                }
                Err((back, Errno::EINTR)) => file = back,
                Err(_) => return Turn { lock: None },
            }
        }
    }

    /// The token's turn, if no other process of ours logs in to it just now, through whatever module.
    pub(super) fn token_turn_now(&self, token: &TokenInfo) -> Option<Turn> {
        self.lock(token, FlockArg::LockExclusiveNonblock)
    }

    /// Waits for the token's turn. Who holds a module's turn must not: those who wait for other tokens wait for that.
    pub(super) fn token_turn(&self, token: &TokenInfo) -> Turn {
        let turn = self.lock(token, FlockArg::LockExclusive);
        turn.unwrap_or(Turn { lock: None })
    }

    fn lock(&self, token: &TokenInfo, how: FlockArg) -> Option<Turn> {
        let Some(mut file) = self.file(format!("{}.lock", token_name(token))) else {
            return Some(Turn { lock: None });
        };
        loop {
            match Flock::lock(file, how) {
                Ok(lock) => return Some(Turn { lock: Some(lock) }),
                Err((_, Errno::EWOULDBLOCK)) => return None,
                Err((back, Errno::EINTR)) => file = back,
                Err(_) => return Some(Turn { lock: None }),
            }
        }
    }

    fn file(&self, name: impl AsRef<Path>) -> Option<File> {
        let path = self.directory.as_ref().ok()?.join(name);
        let mut options = private::options();
        options.write(true).create(true).open(path).ok()
    }

    /// What stands for the PIN where the token's record has any. It is slow, so it is made before others have to wait.
    pub(super) fn marks(&self, token: &TokenInfo, pin: &Pin, file: &KeyFile) -> Option<Marks> {
        let record = self
            .rejected_path(token)
            .as_deref()
            .and_then(Rejected::read);
        record
            .filter(|record| record.has_marks() && !record.is_working(file))
            .map(|record| record.marks(pin, file))
    }

    /// Begins a login, in the token's turn: nobody else of ours logs in to it until the attempt is over. `marks` were
    /// made before.
    ///
    /// # Errors
    /// What is known of this PIN; of one without an answer, if the file that it comes from says the same as it did then.
    pub(super) fn attempt<'a>(
        &self,
        token: &TokenInfo,
        turn: Turn,
        pin: &'a Pin,
        file: &'a KeyFile,
        mut marks: Option<Marks>,
    ) -> Result<Attempt<'a>, Before> {
        // Without a lock it may be another's, who is at it.
        let record_path = self.rejected_path(token);
        let path = record_path.clone().filter(|_| turn.is_held());
        if let Some(path) = &path {
            settle(path);
        }
        let mut record = record_path.as_deref().and_then(Rejected::read);
        if let Some(record) = &record
            && !record.is_working(file)
        {
            if record.is_unanswered(file) {
                return Err(Before::Unanswered);
            }
            if record.has_marks() {
                let marks = match marks.take_if(|marks| !record.made(marks)) {
                    None => marks.get_or_insert_with(|| record.marks(pin, file)),
                    Some(_) => marks.insert(record.marks(pin, file)),
                };
                if let Some(before) = record.holds(marks, file) {
                    return Err(before);
                }
            }
        }
        let record = record.take().or_else(|| Rejected::new(&token.label));
        let mut made = None;
        let kept = path.zip(record).and_then(|(path, record)| {
            let mut unanswered = record.clone();
            if !record.is_working(file) {
                // What each layer brings anew would cost each layer the slow hash: see `during`.
                if file.name != OF_PAYLOAD {
                    let marks = marks.take_if(|marks| record.made(marks));
                    let marks = marks.unwrap_or_else(|| record.marks(pin, file));
                    unanswered.add(Before::Unanswered, marks.clone(), file);
                    made = Some(marks);
                }
                unanswered.ask(file, SystemTime::now());
            }
            let json = unanswered.to_json();
            let reserved = Reserved::new(path, json.len() as u64 + ENTRY, &json).ok()?;
            Some((record, reserved))
        });
        Ok(Attempt {
            pin,
            file,
            marks: made.or(marks),
            kept,
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
        let mut stems = BTreeSet::new();
        for entry in fs::read_dir(directory).map_err(failed("list", directory))? {
            let path = entry.map_err(failed("list", directory))?.path();
            if path
                .extension()
                .is_some_and(|it| it == REJECTED || it == private::BESIDE)
            {
                stems.insert(path.with_extension(""));
            }
        }
        let mut labels = Vec::new();
        for stem in stems {
            let path = stem.with_extension(REJECTED);
            // What a dead process left counts. Who is logging in just now writes when this is over.
            if let Some(file) = self.file(stem.with_extension("lock"))
                && let Ok(_turn) = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            {
                settle(&path);
            }
            if !path.exists() {
                continue;
            }
            let record = Rejected::read(&path);
            let token = record.as_ref().map(|record| record.token.as_str());
            if label.is_some() && token != label {
                continue;
            }
            fs::remove_file(&path).map_err(failed("remove", &path))?;
            if record.as_ref().is_none_or(Rejected::refuses) {
                labels.push(token.unwrap_or_default().to_owned());
            }
        }
        labels.sort();
        Ok(labels)
    }

    fn rejected_path(&self, token: &TokenInfo) -> Option<PathBuf> {
        let directory = self.directory.as_ref().ok()?;
        Some(directory.join(format!("{}.{REJECTED}", token_name(token))))
    }
}

/// Takes what a dead process left beside a token's record for the record; see [`Attempt::during`].
fn settle(record: &Path) {
    let _ = Reserved::settle(record, |left| Rejected::read(left).is_some());
}

/// Whether whoever has this lock has had it for long.
fn is_stuck(lock: &File) -> bool {
    let begin = lock.metadata().and_then(|metadata| metadata.modified());
    begin.is_ok_and(|begin| begin.elapsed().is_ok_and(|held| held > STUCK))
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
