//! What keeps a wrong PIN from locking a token: logins take turns, and a PIN that was rejected is not tried again.
//!
//! Both need a directory that outlives a process: `/run/ocihsm` for root, `$XDG_RUNTIME_DIR/ocihsm` for others,
//! `OCIHSM_RUNTIME_DIR` for either. It is ours alone, or it is not used. It holds locks, and for each token a salted,
//! slow hash of each PIN that it rejected; never a PIN. In `/run` all of it ends with a reboot, which costs a token one
//! more try.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use argon2::{Algorithm, Argon2, Params, Version};
use hmac::{Hmac, KeyInit as _, Mac as _};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::child::Place;
use super::module::TokenInfo;
use crate::error::{Error, Result};
use crate::keys::key_file::KeyFile;
use crate::secret::Pin;

/// Most rejected PINs that are remembered for one token; the oldest goes.
const MAX_REJECTED: usize = 16;
/// Largest file of rejected PINs that is read.
const MAX_FILE: u64 = 64 << 10;
/// Ending of such a file's name.
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

/// The PINs that one token rejected.
#[derive(Debug, Serialize, Deserialize)]
struct Rejected {
    version: u8,
    /// Label of the token, for whoever clears it.
    token: String,
    /// Salt of the slow hash, hexadecimal.
    salt: String,
    pins: Vec<RejectedPin>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RejectedPin {
    /// The PIN's mark under its slow hash.
    pin: String,
    /// Files that held the PIN, and the mark of what else they said.
    files: BTreeMap<String, String>,
}

/// The default directory.
pub(super) fn default_directory() -> Option<PathBuf> {
    let named = |name| std::env::var_os(name).filter(|value| !value.is_empty());
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
        let Some(rejected) = self.read(token) else {
            return false;
        };
        let marks = Marks::new(pin, &rejected.salt, file);
        rejected.pins.iter().any(|known| {
            same(&known.pin, &marks.pin)
                && known
                    .files
                    .get(&file.name)
                    .is_none_or(|content| same(content, &marks.file))
        })
    }

    /// Remembers that the token rejected this PIN.
    pub(super) fn remember(&self, token: &TokenInfo, pin: &Pin, file: &KeyFile) {
        let Ok(directory) = &self.directory else {
            return;
        };
        let mut rejected = match self.read(token) {
            Some(rejected) => rejected,
            None => match Rejected::new(&token.label) {
                Some(rejected) => rejected,
                None => return,
            },
        };
        let marks = Marks::new(pin, &rejected.salt, file);
        let at = rejected
            .pins
            .iter()
            .position(|known| same(&known.pin, &marks.pin));
        let mut entry = at.map_or_else(
            || RejectedPin {
                pin: marks.pin.clone(),
                files: BTreeMap::new(),
            },
            |at| rejected.pins.remove(at),
        );
        // What the payload of a client names is not one file, and may differ each time.
        if Path::new(&file.name).is_absolute() && entry.files.len() < MAX_REJECTED {
            entry.files.insert(file.name.clone(), marks.file.clone());
        }
        rejected.pins.push(entry);
        if rejected.pins.len() > MAX_REJECTED {
            rejected.pins.remove(0);
        }
        // Without it the next process tries once more, which is what a lost directory costs too.
        let _ = rejected.write(&directory.join(format!("{}.{REJECTED}", token_name(token))));
    }

    /// Forgets rejected PINs: those of every token, or of those with this label. Returns the labels.
    pub(super) fn forget(&self, label: Option<&str>) -> Result<Vec<String>> {
        let Ok(directory) = &self.directory else {
            return Ok(Vec::new());
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

    fn read(&self, token: &TokenInfo) -> Option<Rejected> {
        let directory = self.directory.as_ref().ok()?;
        Rejected::read(&directory.join(format!("{}.{REJECTED}", token_name(token))))
    }
}

impl Rejected {
    fn new(label: &str) -> Option<Self> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).ok()?;
        Some(Self {
            version: 1,
            token: label.to_owned(),
            salt: hex(&salt),
            pins: Vec::new(),
        })
    }

    fn read(path: &Path) -> Option<Self> {
        let mut json = Vec::new();
        let file = private().read(true).open(path).ok()?;
        file.take(MAX_FILE).read_to_end(&mut json).ok()?;
        serde_json::from_slice(&json)
            .ok()
            .filter(|rejected: &Self| rejected.version == 1)
    }

    /// Whole or not at all.
    fn write(&self, path: &Path) -> io::Result<()> {
        let beside = path.with_extension(format!("{}.new", std::process::id()));
        let mut file = private()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&beside)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(&beside, path)
    }
}

/// What stands for a PIN, and for the rest of its key file, in the directory.
struct Marks {
    pin: String,
    file: String,
}

impl Marks {
    fn new(pin: &Pin, salt: &str, file: &KeyFile) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        // The least of OWASP's settings for Argon2id in memory: 12 MiB, three passes, some 20 ms.
        let parameters = Params::new(12 << 10, 3, 1, Some(key.len()))
            .expect("the parameters are within Argon2's bounds");
        Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
            .hash_password_into(pin.expose().as_bytes(), salt.as_bytes(), &mut *key)
            .expect("salt and output are of lengths that Argon2 takes");
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
            .flat_map(|(name, value)| [name.as_str(), value]);
        Self {
            pin: mark(&mut ["PIN"].into_iter()),
            file: mark(&mut ["file", &uri].into_iter().chain(content)),
        }
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

fn private() -> OpenOptions {
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

#[cfg(test)]
mod tests {
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
