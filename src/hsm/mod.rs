//! Tokens behind PKCS#11 modules, each module in a process of its own. The only user of cryptoki.
//!
//! ```text
//!   unwrap, public_key ──► child::run ──fork──► module   (one process for each module and its environment)
//!     (parent: groups        │                   device   (tokens, one session and one login for each)
//!      keys by module)       │                   unwrap   (which key opens which blob)
//!                            ◄──── pipe ─────────┘        (each function's name, then the answer)
//! ```
//!
//! Nothing of a module is ever loaded into the process that streams; when a function here returns, its process is dead.
//! These functions fork, so they are called before any thread exists.
//!
//! One layer that the first key opens costs twelve calls of the module, and one for each slot that holds a token; one
//! more where the token does not know the padding's hash.

mod attempt;
mod child;
mod ckr;
mod device;
mod failure;
mod function;
mod generate;
mod list;
mod lockout;
mod module;
mod probe;
mod public;
mod rejected;
mod search;
mod token;
mod unwrap;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::attempt::Attempt;
use self::child::Place;
pub use self::device::Patience;
use self::device::{Device, Key, KeyPin};
use self::failure::Failure;
pub use self::generate::{NewKey, generate};
pub use self::list::{Permission, RsaKey, Token, tokens};
use self::lockout::Lockout;
pub use self::probe::Usage;
use self::public::Components;
use crate::error::{Error, Result};
use crate::keys::TokenKey;
use crate::keys::packet::{OaepHash, Recipient};
use crate::keys::public::PublicKey;
use crate::secret::SecretBytes;

/// How patient and how careful we are with a token.
#[derive(Clone, Debug)]
pub struct HsmSettings {
    /// Time that one module has for everything.
    pub timeout: Duration,
    /// Log in even when the token says that one more wrong PIN locks it.
    pub allow_final_try: bool,
    /// Where locks and rejected PINs are kept; `None` where there is no such place.
    pub runtime_dir: Option<PathBuf>,
    /// What a module finds in its environment, below the `module.env` of its key file.
    pub environment: Environment,
}

/// The environment that a module's process begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Environment {
    /// This process's own.
    #[default]
    Inherited,
    /// These variables and no others: that of another process, which this one stands in for.
    Only(BTreeMap<String, String>),
}

/// What came of one envelope.
#[derive(Debug)]
pub enum Outcome {
    /// A key opened it.
    Opened(Opened),
    /// None did; a reason for each key, in the order of the keys.
    Refused(Vec<Refusal>),
}

/// A wrapped key, opened.
#[derive(Debug)]
pub struct Opened {
    /// The private options, JSON.
    pub private_options: SecretBytes,
    /// Which of the keys opened it.
    pub key: usize,
    /// Which of the envelope's recipients it was.
    pub recipient: usize,
    /// Its OAEP hash.
    pub hash: OaepHash,
    /// Who took the padding off.
    pub how: How,
}

/// Who takes the OAEP padding off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// The token.
    Native,
    /// We: the token did the raw RSA operation, since it does not know the padding's hash.
    RawRsa,
}

/// Why one key did not open one envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which of the keys.
    pub key: usize,
    /// Its name.
    pub name: String,
    /// The reason.
    pub why: Why,
}

/// The reason for which a key did not open an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// No wrapped key is as long as its modulus, which has this many bits.
    WrongLength(usize),
    /// The wrapped keys of its length are for others, or broken.
    DoesNotFit,
    /// It could not be tried, for instance since its token is absent.
    Unavailable(Unavailable),
}

/// Why a key could not be tried, as often as it has to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// The error's message.
    pub message: String,
    /// The error's hint.
    pub hint: Option<String>,
}

impl From<&Error> for Unavailable {
    fn from(error: &Error) -> Self {
        Self {
            message: error.to_string(),
            hint: error.hint(),
        }
    }
}

impl Default for HsmSettings {
    /// A minute, no final try, the directory that environment and user choose, and this environment.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            allow_final_try: false,
            runtime_dir: Self::usual_runtime_dir(|name| std::env::var_os(name)),
            environment: Environment::Inherited,
        }
    }
}

impl HsmSettings {
    /// Where a process of this user with these variables keeps locks and rejected PINs.
    #[must_use]
    pub fn usual_runtime_dir(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
        lockout::default_directory(variable)
    }

    /// Why a wrong PIN cannot be remembered and logins cannot take turns, if so. Work goes on without; this is for
    /// the log.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        self.lockout().trouble().map(str::to_owned)
    }

    /// Forgets the PINs that tokens rejected: of all, or of those with this label. Returns the labels of the tokens.
    ///
    /// # Errors
    /// [`Error::RuntimeDirectory`] when it cannot be used; [`Error::File`] when it cannot be read or changed.
    pub fn forget_rejected_pins(&self, label: Option<&str>) -> Result<Vec<String>> {
        self.lockout().forget(label)
    }

    fn lockout(&self) -> Lockout {
        Lockout::open(self.runtime_dir.as_deref())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, why, .. } = self;
        match why {
            Why::WrongLength(bits) => {
                write!(
                    f,
                    "{name}: no wrapped key has the length of this RSA-{bits} key"
                )
            }
            Why::DoesNotFit => write!(f, "{name}: the wrapped keys are for other keys"),
            Why::Unavailable(Unavailable { message, .. }) => write!(f, "{name}: {message}"),
        }
    }
}

/// For each envelope, the PKCS#11 recipients of one layer, the first recipient that one of the keys opens.
///
/// Keys that share a module and its environment share a process, and keys on one token a login. A key that is absent
/// or does not fit is refused, and the next one is tried. A module that does not load, crashes or hangs, and a device
/// that fails, is kept in mind while the others are tried, since a node with two HSMs must survive the loss of one;
/// it is the error when nothing was opened, and a refusal's reason otherwise. A PIN that is wrong, locked or about to be
/// is an error at once, and nothing else is tried.
///
/// # Errors
/// As said; and [`Error::Threads`] when other threads run.
pub fn unwrap(
    settings: &HsmSettings,
    keys: &[TokenKey],
    envelopes: &[Vec<Recipient>],
) -> Result<Vec<Outcome>> {
    Attempt::new(settings, keys, envelopes).run()
}

/// The public half of a key, read from its token; without a login where the token allows.
///
/// # Errors
/// Whatever keeps the key from being found and read.
pub fn public_key(settings: &HsmSettings, key: &TokenKey) -> Result<PublicKey> {
    let Components { modulus, exponent } = ask_about(settings, key, public::public_key)?;
    PublicKey::from_components(&key.file.name, &modulus, &exponent)
}

/// What a token and one of its keys say of themselves.
#[derive(Debug)]
pub struct Probe {
    /// Label of the token.
    pub token: String,
    /// Who made the token.
    pub manufacturer: String,
    /// Model of the token.
    pub model: String,
    /// Serial number of the token.
    pub serial: String,
    /// The token says that a wrong PIN was tried since the last right one.
    pub had_wrong_pin: bool,
    /// The token says that one more wrong PIN would have locked it.
    pub was_final_try: bool,
    /// What the key may do.
    pub usage: Usage,
    /// The token decrypts RSA-OAEP; with which hashes, only trying shows.
    pub oaep: bool,
    /// The token decrypts raw RSA.
    pub raw_rsa: bool,
    /// The public half.
    pub public_key: PublicKey,
}

/// Logs in to a key's token and asks about both.
///
/// # Errors
/// Whatever keeps the key from being found; of a login, as [`unwrap`].
pub fn probe(settings: &HsmSettings, key: &TokenKey) -> Result<Probe> {
    let report = ask_about(settings, key, probe::probe)?;
    let Components { modulus, exponent } = &report.components;
    Ok(Probe {
        had_wrong_pin: report.token.had_wrong_pin(),
        was_final_try: report.token.is_final_try(),
        token: report.token.label,
        manufacturer: report.token.manufacturer,
        model: report.token.model,
        serial: report.token.serial,
        usage: report.usage,
        oaep: report.oaep,
        raw_rsa: report.raw_rsa,
        public_key: PublicKey::from_components(&key.file.name, modulus, exponent)?,
    })
}

/// Does some work for one key in its module's process.
fn ask_about<T: Serialize + DeserializeOwned>(
    settings: &HsmSettings,
    key: &TokenKey,
    work: impl FnOnce(&mut Device<'_>, &Key<'_>) -> Result<T, Failure>,
) -> Result<T> {
    let lockout = settings.lockout();
    let (pin, mut pin_error) = read_pin(key);
    let work_key = Key {
        number: 0,
        file: &key.file,
        pin,
    };
    let answer = in_child(settings, &lockout, place(key), |device| {
        work(device, &work_key)
    })?;
    answer.map_err(|failure| {
        failure.into_error(&key.module, |_| {
            pin_error
                .take()
                .expect("the child reports the error of this key only")
        })
    })
}

fn place(key: &TokenKey) -> Place<'_> {
    Place {
        module: &key.module,
        env: &key.file.env,
    }
}

/// The PIN, read while nothing foreign is in the process.
fn read_pin(key: &TokenKey) -> (KeyPin, Option<Error>) {
    match key.file.pin() {
        Ok(Some(pin)) => (KeyPin::Known(pin), None),
        Ok(None) => (KeyPin::None, None),
        Err(error) => (KeyPin::Unreadable, Some(error)),
    }
}

/// Does the work in a child of its own, in which the module is loaded, and stopped once the answer is out.
fn in_child<T: Serialize + DeserializeOwned>(
    settings: &HsmSettings,
    lockout: &Lockout,
    place: Place<'_>,
    work: impl FnOnce(&mut Device<'_>) -> Result<T, Failure>,
) -> Result<Result<T, Failure>> {
    child::run(
        place,
        &settings.environment,
        settings.timeout,
        |reporter| match Device::load(place, reporter, lockout, settings.allow_final_try) {
            Ok(mut device) => {
                reporter.answer(&work(&mut device))?;
                device.stop();
                Ok(())
            }
            Err(failure) => reporter.answer::<T>(&Err(failure)),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_key_and_says_why() {
        let mut refusal = Refusal {
            key: 0,
            name: "/keys/a.yaml".to_owned(),
            why: Why::WrongLength(2048),
        };
        assert!(refusal.to_string().contains("/keys/a.yaml: "));
        assert!(refusal.to_string().contains("RSA-2048"));
        refusal.why = Why::DoesNotFit;
        assert!(refusal.to_string().contains("other keys"));
    }

    #[test]
    fn a_process_with_threads_does_not_fork() {
        // The test harness itself is such a process.
        let key = TokenKey {
            file: crate::keys::key_file::KeyFile {
                name: "k".to_owned(),
                uri: "pkcs11:token=t;object=o".parse().unwrap(),
                env: Default::default(),
                init: None,
            },
            module: "/none.so".into(),
        };
        let settings = HsmSettings {
            runtime_dir: None,
            ..HsmSettings::default()
        };
        let error = unwrap(&settings, &[key], &[Vec::new()]).unwrap_err();
        assert!(matches!(error, Error::Threads { .. }), "{error}");
    }
}
