//! The PINs that one token rejected, as a file that holds none of them.
//!
//! Each is there as a mark under a salted, slow hash; and with it a mark of what else its key file said, so that a
//! changed file is tried once more.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::lockout::private;
use crate::keys::key_file::KeyFile;
use crate::secret::Pin;

/// Most rejected PINs that are remembered for one token; the oldest goes.
const MAX_REJECTED: usize = 16;
/// Largest file that is read.
const MAX_FILE: u64 = 64 << 10;

/// The PINs that one token rejected.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rejected {
    version: u8,
    /// Label of the token, for whoever clears it.
    pub(super) token: String,
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

impl Rejected {
    pub(super) fn new(label: &str) -> Option<Self> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).ok()?;
        Some(Self {
            version: 1,
            token: label.to_owned(),
            salt: hex(&salt),
            pins: Vec::new(),
        })
    }

    pub(super) fn read(path: &Path) -> Option<Self> {
        let mut json = Vec::new();
        let file = private().read(true).open(path).ok()?;
        file.take(MAX_FILE).read_to_end(&mut json).ok()?;
        serde_json::from_slice(&json)
            .ok()
            .filter(|rejected: &Self| rejected.version == 1)
    }

    /// Whether this PIN is among them, and the file it comes from says the same as it did then.
    pub(super) fn holds(&self, pin: &Pin, file: &KeyFile) -> bool {
        let marks = Marks::new(pin, &self.salt, file);
        self.pins.iter().any(|known| {
            same(&known.pin, &marks.pin)
                && known
                    .files
                    .get(&file.name)
                    .is_none_or(|content| same(content, &marks.file))
        })
    }

    /// Adds a PIN.
    pub(super) fn add(&mut self, pin: &Pin, file: &KeyFile) {
        let marks = Marks::new(pin, &self.salt, file);
        let known = self
            .pins
            .iter()
            .position(|known| same(&known.pin, &marks.pin));
        let mut entry = match known {
            Some(at) => self.pins.remove(at),
            None => RejectedPin {
                pin: marks.pin,
                files: BTreeMap::new(),
            },
        };
        // What a client's payload carries is no one file: it may differ each time, and is no change.
        if Path::new(&file.name).is_absolute() && entry.files.len() < MAX_REJECTED {
            entry.files.insert(file.name.clone(), marks.file);
        }
        self.pins.push(entry);
        if self.pins.len() > MAX_REJECTED {
            self.pins.remove(0);
        }
    }

    /// Whole or not at all.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
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
            .flat_map(|(name, value)| [name.as_str(), value])
            .chain(file.init.as_deref());
        Self {
            pin: mark(&mut ["PIN"].into_iter()),
            file: mark(&mut ["file", &uri].into_iter().chain(content)),
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}
