//! What can go wrong between us and a token.
//!
//! An error is one key's alone, and says whether it may pass. It names the module or the token; the key file is named
//! by whoever tells it, since a list of reasons does that for each.

mod hint;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::function::Function;
use crate::file;
use crate::keys;
use crate::keys::key_file::COMMAND_LINE;
use crate::words::{reason, told};

/// What happened, and where.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The module's process could not be started, or its socket failed.
    #[error("cannot {action}: {}", reason(source))]
    Worker {
        /// What we tried: `start a process for the PKCS#11 module`.
        action: &'static str,
        /// Why not.
        source: Arc<io::Error>,
    },
    /// The system has no random bytes.
    #[error("the system has no random bytes")]
    NoRandomness,
    /// The module's process did not answer in time.
    #[error("the PKCS#11 module {} did not answer within {} s, in {function}", module.display(), timeout.as_secs())]
    Timeout {
        /// The module.
        module: PathBuf,
        /// Which function it was in.
        function: &'static str,
        /// The time it had.
        timeout: Duration,
    },
    /// Other processes of ours did not come to an end with the module, or with a token's login.
    #[error(
        "waited {} s for other processes that start the PKCS#11 module {} or log in through it",
        timeout.as_secs(),
        module.display()
    )]
    Busy {
        /// The module.
        module: PathBuf,
        /// The time it had.
        timeout: Duration,
    },
    /// The module's process ended before it had an answer, or gave one that is none.
    #[error("the PKCS#11 module {} crashed in {function}: {ending}", module.display())]
    Crashed {
        /// The module.
        module: PathBuf,
        /// Which function it was in.
        function: &'static str,
        /// How the process ended.
        ending: String,
    },
    /// An answer, or a list in it, is larger than its bound.
    #[error("{what} is over the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The bound, in bytes or items.
        limit: u64,
    },
    /// The module is no library, no PKCS#11 module, or needs a library that is not there.
    #[error("cannot load the PKCS#11 module {}: {reason}", module.display())]
    Load {
        /// The module.
        module: PathBuf,
        /// The loader's words.
        reason: String,
    },
    /// The module does not start, and what it is told of is not there.
    #[error("the PKCS#11 module {} does not start: {named_by} names {}, which is not there{}", module.display(), path.display(), hint::doubt(path))]
    Surroundings {
        /// The module.
        module: PathBuf,
        /// What names it.
        named_by: NamedBy,
        /// What is not there.
        path: PathBuf,
    },
    /// A variable of `module.env` that no environment can hold.
    #[error("module.env: {name:?} cannot be a variable, or its value has a NUL")]
    Variable {
        /// Name of the variable, shortened.
        name: String,
    },
    /// A function of the module failed.
    #[error("{subject}: {what} ({function}: {code})")]
    Call {
        /// The token, or the module: `token "prod"`.
        subject: String,
        /// What failed, and what the code means: `login failed: the PIN is wrong`.
        what: Box<str>,
        /// Name of the function in the standard.
        function: &'static str,
        /// Name of the code in the standard.
        code: Box<str>,
        /// What to do about it, where code and function tell.
        hint: Option<&'static str>,
        /// Whether it may pass by itself.
        passing: bool,
    },
    /// No token matches a URI.
    #[error(
        "no token matches {uri}{}",
        if *any_slot { String::new() } else { format!(": the module {} lists no slots at all", module.display()) }
    )]
    TokenNotFound {
        /// The URI, without its query.
        uri: String,
        /// The module.
        module: PathBuf,
        /// Whether the module listed any slot with a token.
        any_slot: bool,
    },
    /// Several tokens match a URI.
    #[error("{uri} matches several tokens: {}", told(tokens))]
    SeveralTokens {
        /// The URI, without its query.
        uri: String,
        /// What tells them apart.
        tokens: Vec<String>,
    },
    /// A token holds no key that matches a URI.
    #[error("token {token:?} holds no key that matches {uri}")]
    KeyNotFound {
        /// The URI, without its query.
        uri: String,
        /// Label of the token.
        token: String,
    },
    /// Several keys on one token match a URI.
    #[error("{uri} matches several keys on token {token:?}: {}", told(keys))]
    SeveralKeys {
        /// The URI, without its query.
        uri: String,
        /// Label of the token.
        token: String,
        /// Id and label of each.
        keys: Vec<String>,
    },
    /// The public half of a key is none that serves.
    #[error("{source}")]
    PublicKey {
        /// What is wrong with it.
        source: Arc<keys::Error>,
    },
    /// A key that no layer can be wrapped to.
    #[error("token {token:?}: {uri} is neither an RSA key nor one on P-256, P-384 or P-521")]
    KeyType {
        /// The URI, without its query.
        uri: String,
        /// Label of the token.
        token: String,
    },
    /// The token derives or unwraps a secret, and keeps it to itself.
    #[error("token {token:?} refuses a readable secret")]
    SecretUnreadable {
        /// Label of the token.
        token: String,
    },
    /// A new key is to have the label or the id of one that is there.
    #[error("token {token:?} holds a key with {key} already")]
    KeyExists {
        /// Label of the token.
        token: String,
        /// What the other key has: `the label "layers"`.
        key: String,
    },
    /// The token makes no keys of this size.
    #[error("token {token:?} makes RSA keys of {min} to {max} bits, not {bits}")]
    NewKeySize {
        /// Label of the token.
        token: String,
        /// The size that was asked for, in bits.
        bits: u32,
        /// Smallest size in bits.
        min: u64,
        /// Largest size in bits.
        max: u64,
    },
    /// The PIN cannot be read from its file.
    #[error("{source}")]
    PinFile {
        /// Why not.
        source: Arc<keys::Error>,
    },
    /// The token wants a PIN, and the key file has none.
    #[error("token {token:?} wants a PIN, and {key} has none")]
    PinMissing {
        /// Label of the token.
        token: String,
        /// The key file.
        key: String,
    },
    /// The token rejected this PIN before, on this machine.
    #[error("token {token:?}: the PIN in {key} was rejected before and is not tried again")]
    PinRejectedBefore {
        /// Label of the token.
        token: String,
        /// The key file, or where else the PIN is from.
        key: String,
        /// Whether somebody gave it beside the key file.
        given: bool,
    },
    /// This PIN was tried on this machine, and no answer came.
    #[error(
        "token {token:?}: the PIN in {key} was tried before without an answer and is not tried again: it may be wrong"
    )]
    PinUnanswered {
        /// Label of the token.
        token: String,
        /// The key file.
        key: String,
    },
    /// The token says that one more wrong PIN locks it.
    #[error("token {token:?}: not logged in, since one more wrong PIN would lock it")]
    PinFinalTry {
        /// Label of the token.
        token: String,
    },
    /// The token says that a wrong PIN was tried since the last right one, and nothing here could remember the next.
    #[error(
        "token {token:?}: not logged in, since a wrong PIN was tried there and this node cannot remember rejected PINs"
    )]
    PinUnguarded {
        /// Label of the token.
        token: String,
    },
    /// The token says that its PIN is locked.
    #[error("token {token:?}: not logged in, since its PIN is locked")]
    PinLocked {
        /// Label of the token.
        token: String,
    },
    /// The directory for locks and rejected PINs cannot be used.
    #[error("no rejected PIN can be remembered here: {why}")]
    RuntimeDirectory {
        /// Which directory, and why not.
        why: String,
    },
    /// A file of that directory could not be read or removed.
    #[error("{source}")]
    InFile {
        /// Which, and why not.
        source: Arc<file::Error>,
    },
    /// What happened with the key of a key file.
    #[error("key file {name}: {source}")]
    InKeyFile {
        /// The key file.
        name: String,
        /// What happened.
        source: Box<Self>,
    },
}

/// What tells a module of a file or a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// A variable of the environment.
    Variable(String),
    /// A variable under `module.env` of a key file.
    ModuleEnv(String),
    /// The module's configuration, which names its directory of tokens.
    File(PathBuf),
}

impl fmt::Display for NamedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => f.write_str(name),
            Self::ModuleEnv(name) => write!(f, "{name} in module.env"),
            Self::File(path) => write!(f, "directories.tokendir in {}", path.display()),
        }
    }
}

/// Result with this room's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<keys::Error> for Error {
    /// Of a key that a token showed.
    fn from(source: keys::Error) -> Self {
        Self::PublicKey {
            source: Arc::new(source),
        }
    }
}

impl From<file::Error> for Error {
    fn from(source: file::Error) -> Self {
        Self::InFile {
            source: Arc::new(source),
        }
    }
}

impl Error {
    /// Whether it tells of a PIN that was refused, or would be: nothing else is to be tried on that token then.
    #[must_use]
    pub fn is_about_pin(&self) -> bool {
        match self {
            Self::PinRejectedBefore { .. }
            | Self::PinUnanswered { .. }
            | Self::PinFinalTry { .. }
            | Self::PinUnguarded { .. }
            | Self::PinLocked { .. } => true,
            Self::Call { function, .. } => *function == Function::C_Login.name(),
            Self::InKeyFile { source, .. } => source.is_about_pin(),
            _ => false,
        }
    }

    /// Whether the module's process is gone, or never came to be.
    #[must_use]
    pub fn is_about_module(&self) -> bool {
        matches!(
            self,
            Self::Worker { .. }
                | Self::Timeout { .. }
                | Self::Busy { .. }
                | Self::Crashed { .. }
                | Self::Load { .. }
                | Self::Surroundings { .. }
        )
    }

    /// Whether the module lacks a file or a directory that it is told of.
    #[must_use]
    pub fn is_about_surroundings(&self) -> bool {
        match self {
            Self::Surroundings { .. } => true,
            Self::InKeyFile { source, .. } => source.is_about_surroundings(),
            _ => false,
        }
    }

    /// Says to which key it happened, unless it names the key file already.
    #[must_use]
    pub fn in_key_file(self, name: &str) -> Self {
        match self.names_key_file() || name == COMMAND_LINE {
            true => self,
            false => Self::InKeyFile {
                name: name.to_owned(),
                source: Box::new(self),
            },
        }
    }

    /// Whether the message names the key file already.
    #[must_use]
    pub fn names_key_file(&self) -> bool {
        match self {
            Self::PinMissing { .. }
            | Self::PinRejectedBefore { .. }
            | Self::PinUnanswered { .. }
            | Self::InKeyFile { .. } => true,
            Self::PinFile { source } => matches!(**source, keys::Error::InKeyFile { .. }),
            _ => false,
        }
    }

    /// Whether the same question may be answered a little later: the token is not there, or the device fails. Where
    /// there is no other key, it is worth the wait.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::TokenNotFound { .. } | Self::Call { passing: true, .. }
        )
    }
}
