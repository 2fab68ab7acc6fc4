//! The PINs that one token rejected, or gave no answer to, as a file that holds none of them.
//!
//! Each is there as a mark under a salted, slow hash. What was rejected is not sent again, whatever else the key file comes
//! to say: it is the same PIN for the same token. With what had no answer goes a mark of what else its key file said, so
//! that a changed file is tried once more. Beside them stand key files, by what the system says of them: those whose PINs the
//! token took, for which the slow hash is spared while that stays the same, and those to whose PINs no answer came.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use argon2::{Algorithm, Argon2, Params, Version};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::private;
use crate::keys::key_file::KeyFile;
use crate::secret::Pin;

/// Most rejected PINs that are remembered for one token, and most files for each without an answer; the oldest goes.
const MAX_REJECTED: usize = 16;
/// Most key files of one kind.
const MAX_FILES: usize = 64;
/// Longest name of a file that is kept, in bytes.
const MAX_NAME: usize = 512;
/// Largest file that is read. What the bounds above let in is less.
const MAX_FILE: u64 = 2 << 20;
/// What one more entry may take, in bytes.
pub(super) const ENTRY: u64 = 8 << 10;
/// Length of a salt in bytes.
const SALT: usize = 16;
/// A file that changed so shortly before a login may have done so after its PIN was read.
const SETTLED: Duration = Duration::from_secs(2);

/// The PINs that one token rejected.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Rejected {
    version: u8,
    /// Label of the token, for whoever clears it.
    pub(super) token: String,
    /// Salt of the slow hash, hexadecimal.
    salt: String,
    pins: Vec<RejectedPin>,
    /// Key files whose PINs were taken, and what the system says of them.
    #[serde(default)]
    working: Vec<(String, String)>,
    /// Key files to whose PINs no answer came, likewise.
    #[serde(default)]
    unanswered: Vec<(String, String)>,
}

/// Why a PIN is not tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// The token rejected it.
    Rejected,
    /// It was tried, and the token gave no answer.
    Unanswered,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct RejectedPin {
    /// The PIN's mark under its slow hash.
    pin: String,
    /// Files that held the PIN without an answer, and the mark of what else they said.
    files: BTreeMap<String, String>,
    /// Whether the token gave no answer, so that nobody knows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unanswered: bool,
}

/// What stands for a PIN, and for the rest of its key file, under one salt. Slow to make.
#[derive(Clone, Debug)]
pub(super) struct Marks {
    salt: String,
    pin: String,
    file: String,
}

impl Rejected {
    pub(super) fn new(label: &str) -> Option<Self> {
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt).ok()?;
        Some(Self {
            version: 1,
            token: label.to_owned(),
            salt: hex(&salt),
            pins: Vec::new(),
            working: Vec::new(),
            unanswered: Vec::new(),
        })
    }

    /// What a file holds; one that is not as we write it counts for nothing.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let mut json = Vec::new();
        let file = private::options().read(true).open(path).ok()?;
        file.take(MAX_FILE).read_to_end(&mut json).ok()?;
        Self::parse(&json)
    }

    fn parse(json: &[u8]) -> Option<Self> {
        let rejected: Self = serde_json::from_slice(json).ok()?;
        let is_hex = rejected.salt.bytes().all(|byte| byte.is_ascii_hexdigit());
        (rejected.version == 1 && rejected.salt.len() == 2 * SALT && is_hex).then_some(rejected)
    }

    /// As a file holds it.
    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and lists of them are always JSON")
    }

    /// Whether nothing is known that would spare or refuse anything.
    pub(super) fn is_empty(&self) -> bool {
        self.pins.is_empty() && self.working.is_empty() && self.unanswered.is_empty()
    }

    /// Whether any PIN would be refused.
    pub(super) fn refuses(&self) -> bool {
        !(self.pins.is_empty() && self.unanswered.is_empty())
    }

    /// Whether any PIN is known by its mark.
    pub(super) fn has_marks(&self) -> bool {
        !self.pins.is_empty()
    }

    /// What stands for a PIN here.
    pub(super) fn marks(&self, pin: &Pin, file: &KeyFile) -> Marks {
        Marks::new(pin, &self.salt, file)
    }

    /// Whether the marks were made for this record.
    pub(super) fn made(&self, marks: &Marks) -> bool {
        marks.salt == self.salt
    }

    /// What is known of this PIN; of one without an answer, if the file it comes from says the same as it did then.
    pub(super) fn holds(&self, marks: &Marks, file: &KeyFile) -> Option<Before> {
        let is_it = |known: &&RejectedPin| {
            let then = known.files.get(&file.name);
            same(&known.pin, &marks.pin)
                && (!known.unanswered || then.is_none_or(|content| same(content, &marks.file)))
        };
        self.pins
            .iter()
            .find(is_it)
            .map(|known| match known.unanswered {
                true => Before::Unanswered,
                false => Before::Rejected,
            })
    }

    /// Whether no answer came to the PIN of this file, and the file is still as it was then.
    pub(super) fn is_unanswered(&self, file: &KeyFile) -> bool {
        is_among(&self.unanswered, file)
    }

    /// Adds what is known of a PIN.
    pub(super) fn add(&mut self, before: Before, marks: Marks, file: &KeyFile) {
        self.forget(file);
        let known = self
            .pins
            .iter()
            .position(|known| same(&known.pin, &marks.pin));
        let mut entry = match known {
            Some(at) => self.pins.remove(at),
            None => RejectedPin {
                pin: marks.pin,
                files: BTreeMap::new(),
                unanswered: false,
            },
        };
        entry.unanswered = before == Before::Unanswered;
        // What a client's payload carries is no one file: it may differ each time, and is no change.
        match before {
            Before::Rejected => entry.files.clear(),
            Before::Unanswered if is_kept(&file.name) && entry.files.len() < MAX_REJECTED => {
                entry.files.insert(file.name.clone(), marks.file);
            }
            Before::Unanswered => {}
        }
        self.pins.push(entry);
        if self.pins.len() > MAX_REJECTED {
            self.pins.remove(0);
        }
    }

    /// Adds that a file's PIN is about to be tried; true if no answer comes.
    pub(super) fn ask(&mut self, file: &KeyFile, now: SystemTime) {
        self.forget(file);
        note(&mut self.unanswered, file, now);
    }

    fn forget(&mut self, file: &KeyFile) {
        self.working.retain(|(name, _)| *name != file.name);
        self.unanswered.retain(|(name, _)| *name != file.name);
    }

    /// Whether the token took the key file's PIN, and the file is still as it was then.
    pub(super) fn is_working(&self, file: &KeyFile) -> bool {
        is_among(&self.working, file)
    }

    /// Notes that the token took a key file's PIN. Returns whether anything changed.
    pub(super) fn took(&mut self, marks: Option<&Marks>, file: &KeyFile, now: SystemTime) -> bool {
        let before = self.pins.len();
        if let Some(marks) = marks {
            self.pins.retain(|known| !same(&known.pin, &marks.pin));
        }
        let barred = self.unanswered.len();
        self.unanswered.retain(|(name, _)| *name != file.name);
        let changed = self.pins.len() != before || self.unanswered.len() != barred;
        (!self.is_working(file) && note(&mut self.working, file, now)) || changed
    }
}

/// Whether a list has the file as the system shows it now.
fn is_among(list: &[(String, String)], file: &KeyFile) -> bool {
    let known = list.iter().find(|(name, _)| *name == file.name);
    known.is_some_and(|(_, state)| state_of(file).as_ref() == Some(state))
}

/// Puts the file on a list as the system shows it. Whether that was possible.
fn note(list: &mut Vec<(String, String)>, file: &KeyFile, now: SystemTime) -> bool {
    if !is_kept(&file.name) || !is_settled(file, now) {
        return false;
    }
    let Some(state) = state_of(file) else {
        return false;
    };
    list.retain(|(name, _)| *name != file.name);
    list.push((file.name.clone(), state));
    if list.len() > MAX_FILES {
        list.remove(0);
    }
    true
}

impl Marks {
    fn new(pin: &Pin, salt: &str, file: &KeyFile) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        // The least of OWASP's settings for Argon2id in memory: 12 MiB, three passes, some 20 ms.
        let parameters = Params::new(12 << 10, 3, 1, Some(key.len()))
            .expect("the parameters are within Argon2's bounds");
        Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
            .hash_password_into(pin.expose().as_bytes(), salt.as_bytes(), &mut *key)
            .expect("a salt is 32 digits long, which Argon2 takes, as it does any PIN");
        let mark = |parts: &mut dyn Iterator<Item = &str>| {
            let mut mac = Hmac::<Sha256>::new_from_slice(&*key).expect("HMAC takes any key");
            for part in parts {
                mac.update(&(part.len() as u64).to_le_bytes());
                mac.update(part.as_bytes());
            }
            hex(&mac.finalize().into_bytes())
        };
        let uri = file.uri.with_query();
        let content = file
            .env
            .iter()
            .flat_map(|(name, value)| [name.as_str(), value])
            .chain(file.init.as_deref());
        Self {
            salt: salt.to_owned(),
            pin: mark(&mut ["PIN"].into_iter()),
            file: mark(&mut ["file", &uri].into_iter().chain(content)),
        }
    }
}

/// A path that means the same to every process.
fn is_kept(name: &str) -> bool {
    name.len() <= MAX_NAME && Path::new(name).is_absolute()
}

/// The files that a PIN comes from: the key file, and the PIN file that it names.
fn files(file: &KeyFile) -> impl Iterator<Item = fs::Metadata> {
    let paths = [Some(Path::new(&file.name)), file.uri.pin_source.as_deref()];
    paths
        .into_iter()
        .flatten()
        .filter_map(|path| fs::metadata(path).ok())
}

/// What the system says of these files, which is another once one was written. The time of the last change (ctime) is
/// the system's own.
fn state_of(file: &KeyFile) -> Option<String> {
    let expected = 1 + usize::from(file.uri.pin_source.is_some());
    let states: Vec<_> = files(file)
        .map(|metadata| {
            format!(
                "{}:{} {} {}.{} {}.{}",
                metadata.dev(),
                metadata.ino(),
                metadata.size(),
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.ctime(),
                metadata.ctime_nsec()
            )
        })
        .collect();
    (states.len() == expected).then(|| states.join(" "))
}

/// Whether none of them changed just now.
fn is_settled(file: &KeyFile, now: SystemTime) -> bool {
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    files(file).all(|metadata| {
        let changed = Duration::from_secs(u64::try_from(metadata.ctime()).unwrap_or(0));
        changed + SETTLED < now
    })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

#[cfg(test)]
mod tests;
