//! Tokens behind PKCS#11 modules, each module in a process of its own. The only user of PKCS#11.
//!
//! ```text
//!   Client ──► Child ──exec──► worker   (one process for each module, its environment and its init string)
//!     (parent: which key,  │              device, search, operation, module
//!      which worker)       │
//!                          ◄─ socket ──►  (requests; each function's name, code and time; answers)
//! ```
//!
//! Nothing of a module is ever loaded into the process that streams. A worker is this program, executed anew with a hidden
//! subcommand, so a program that uses this room calls [`worker_main`] first of all.
//!
//! One layer that the first key opens costs thirteen calls of the module, and one for each slot that holds a token; one
//! more where the token does not know the padding's hash.

mod child;
mod ckr;
mod client;
mod error;
mod failure;
mod function;
mod incoming;
mod listing;
mod lockout;
mod private;
mod protocol;
mod refusal;
mod rejected;
mod surroundings;
mod token;
mod worker;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::client::{Client, Patience};
pub use self::error::{Error, NamedBy, Result};
pub use self::listing::{Permission, ShownKey, ShownKind, Token};
use self::lockout::Lockout;
pub use self::refusal::{Answer, How, Refusal};
pub use self::worker::{Usage, main as worker_main};
use crate::keys::TokenKey;
use crate::keys::public::PublicKey;
use crate::operation::Curve;

/// How patient and how careful we are with a token.
#[derive(Clone, Debug)]
pub struct HsmSettings {
    /// Time that a module has for one answer.
    pub timeout: Duration,
    /// Log in even when the token says that one more wrong PIN locks it.
    pub allow_final_try: bool,
    /// Where locks and rejected PINs are kept; `None` where there is no such place.
    pub runtime_dir: Option<PathBuf>,
    /// What a module finds in its environment, below the `module.env` of its key file.
    pub environment: Environment,
}

/// The environment that a module's process begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Environment {
    /// This process's own.
    Inherited {
        /// `SOFTHSM2_CONF` in it, which may be why SoftHSM does not start.
        softhsm: Option<String>,
    },
    /// These variables and no others: that of a decoder, which this process stands in for.
    Only(BTreeMap<String, String>),
}

impl Environment {
    /// Where a module's process begins: containerd's directory, and with it a decoder's, is the root.
    fn directory(&self) -> &'static Path {
        Path::new(match self {
            Self::Inherited { .. } => ".",
            Self::Only(_) => "/",
        })
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
        self.lockout().trouble()
    }

    /// Forgets the PINs that tokens rejected: of all, or of those with this label. Returns the labels of the tokens.
    ///
    /// # Errors
    /// [`Error::RuntimeDirectory`] when it cannot be used; [`Error::InFile`] when it cannot be read or changed.
    pub fn forget_rejected_pins(&self, label: Option<&str>) -> Result<Vec<String>> {
        self.lockout().forget(label)
    }

    fn lockout(&self) -> Lockout {
        Lockout::open(self.runtime_dir.as_deref())
    }
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
    /// The token agrees on secrets (`CKM_ECDH1_DERIVE`), as far as it says so.
    pub ecdh: bool,
    /// The public half.
    pub public_key: PublicKey,
}

/// A pair to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewKey {
    /// `CKA_LABEL` of both halves.
    pub label: String,
    /// `CKA_ID` of both halves.
    pub id: Vec<u8>,
    /// Size of the modulus in bits, of an RSA key.
    pub bits: u32,
    /// The curve, of one that is on one.
    pub curve: Option<Curve>,
}

/// A key of a token that can be removed, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// `CKA_ID`; empty if it has none.
    pub id: Vec<u8>,
    /// `CKA_LABEL` of its private half, or of the public one if that is alone.
    pub label: String,
    /// Private objects of the key.
    pub private: usize,
    /// Public objects of the key.
    pub public: usize,
}

/// The public half of a key, by a client of its own.
///
/// # Errors
/// As [`Client::public_key`], with the name of the key file.
pub fn public_key(settings: &HsmSettings, key: &TokenKey) -> Result<PublicKey> {
    let public = Client::new(settings.clone()).public_key(key);
    public.map_err(|error| error.in_key_file(&key.file.name))
}

/// What a token and a key say of themselves, by a client of its own.
///
/// # Errors
/// As [`Client::probe`].
pub fn probe(settings: &HsmSettings, key: &TokenKey) -> Result<Probe> {
    Client::new(settings.clone()).probe(key)
}

/// A module's tokens, by a client of its own.
///
/// # Errors
/// As [`Client::tokens`].
pub fn tokens(settings: &HsmSettings, key: &TokenKey, patience: Patience) -> Result<Vec<Token>> {
    Client::new(settings.clone()).tokens(key, patience)
}

/// A new pair, by a client of its own.
///
/// # Errors
/// As [`Client::generate`].
pub fn generate(settings: &HsmSettings, token: &TokenKey, new: &NewKey) -> Result<PublicKey> {
    Client::new(settings.clone()).generate(token, new)
}
