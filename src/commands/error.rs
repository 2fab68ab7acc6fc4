//! Everything that can go wrong with a command: what the rooms say, and what is only known where they are put together.
//!
//! The variant is what happened, the fields say where. The message is a sentence in lower case without a full stop, short
//! enough for a Kubernetes event. No field ever holds a PIN, a key, plaintext, or a MAC that we computed.

use std::io;
use std::path::PathBuf;

use super::unwrapping::refusals::{self, Refusals};
use crate::descriptor::Digest;
use crate::error::{Panicked, event_line};
use crate::words::{listed, reason};

/// Result with our [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What happened. Ordered by room, from the envelope up to the commands.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // ---- everywhere
    /// A file that somebody names could not be opened or read.
    #[error(transparent)]
    InFile(#[from] crate::file::Error),
    /// Standard input, standard output or a pipe of ours failed.
    #[error("cannot {action}: {}", reason(source))]
    Stream {
        /// What we tried: `read the layer`, `write the plain layer`.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// An input is larger than its bound.
    #[error("{what} is over the limit of {limit}")]
    TooLarge {
        /// The input.
        what: &'static str,
        /// The bound, in bytes or items.
        limit: u64,
    },

    // ---- descriptor, envelope, options
    /// The name of a layer cannot be used.
    #[error(transparent)]
    Descriptor(#[from] crate::descriptor::Error),
    /// Options that cannot be read, or that are not to be trusted.
    #[error(transparent)]
    Options(#[from] crate::options::Error),
    /// Annotations that cannot be read.
    #[error(transparent)]
    Envelope(#[from] crate::envelope::Error),
    /// A wrapped key that cannot be read, or that held something else.
    #[error(transparent)]
    Schemes(#[from] crate::schemes::Error),

    // ---- keys
    /// Keys, files of keys, the module policy.
    #[error(transparent)]
    Keys(#[from] crate::keys::Error),
    /// What `keyprovider` was fed.
    #[error("standard input holds no request of the key-provider protocol")]
    InvalidRequest,
    /// A request to wrap that names nobody.
    #[error("the request names no recipient")]
    NoRecipient,
    /// A recipient that cannot stand behind the name of a key provider.
    #[error("{text:?} cannot be a recipient of a key provider")]
    RecipientOfProvider {
        /// What was given, shortened.
        text: String,
    },
    /// A key provider wrapped or unwrapped nothing.
    #[error(transparent)]
    Provider(#[from] crate::schemes::provider::Error),
    // ---- hsm
    /// A token, its module, or the way to it.
    #[error(transparent)]
    Hsm(#[from] crate::hsm::Error),
    // ---- cipher
    /// A layer that could not be encrypted or decrypted.
    #[error(transparent)]
    Cipher(#[from] crate::cipher::Error),
    /// The system gave no random bytes.
    #[error("cannot get random bytes for a key")]
    Random {
        /// Why not.
        source: getrandom::Error,
    },
    // ---- image
    /// What happened to an image.
    #[error(transparent)]
    Image(#[from] crate::image::Error),
    // ---- payload, content store
    /// A payload that cannot be read.
    #[error(transparent)]
    Payload(#[from] crate::payload::Error),
    /// No content store tells which layer it is.
    #[error(transparent)]
    ContentStore(#[from] crate::content_store::Error),
    // ---- node
    /// A configuration of containerd that cannot be read.
    #[error(transparent)]
    Node(#[from] crate::node::Error),
    // ---- settings
    /// An argument or a variable that cannot be used.
    #[error(transparent)]
    Settings(#[from] crate::settings::Error),
    // ---- commands
    /// A size in bits beside a curve.
    #[error("--bits is for an RSA key: a curve has its own size")]
    SizeOfCurve,
    /// A file that should hold a descriptor.
    #[error("{} is not an OCI descriptor: line {}, column {}", path.display(), source.line(), source.column())]
    InvalidDescriptor {
        /// The file.
        path: PathBuf,
        /// Where it fails; what stands there is not shown.
        source: serde_json::Error,
    },
    /// Arguments that the parser does not take, or a variable that stands for one.
    #[error("{} cannot be used: {complaint}", variable.as_ref().map_or_else(|| "the command line".to_owned(), |name| format!("the environment variable {name}")))]
    CommandLine {
        /// The environment variable that the value came from, if it is no argument.
        variable: Option<String>,
        /// The parser's words. It quotes arguments, so whoever makes this looks for PINs first.
        complaint: String,
    },
    /// No key that we have opens the layer.
    #[error("cannot open {}: {}", layer(digest.as_ref()), refusals::sentence(refusals))]
    NoKeyOpens {
        /// The layer, where we know.
        digest: Option<Digest>,
        /// Why not.
        refusals: Box<Refusals>,
    },
    /// Nothing feeds us a layer.
    #[error("standard input is a terminal, not an encrypted layer")]
    StdinIsTerminal,
    /// What happened while one layer was decrypted.
    #[error("layer {}: {source}", digest.short())]
    InLayer {
        /// The layer.
        digest: Digest,
        /// What happened.
        source: Box<Self>,
    },
    /// No key was named.
    #[error("there are no keys to open the layer with")]
    NoKeys,
    /// The files and directories that were named hold no key that can be used.
    #[error("{}", refusals::nothing_usable(refusals))]
    NoUsableKey {
        /// Where they were looked for, and why the others are none.
        refusals: Box<Refusals>,
    },
    /// Whoever read standard output went away, as `head` does. No failure of ours, so nothing is said of it.
    #[error("nobody reads standard output any more")]
    ReaderGone,
    /// A recipient that we cannot encrypt to.
    #[error(
        "{text:?} is not a recipient of the form pkcs11:FILE, jwe:FILE, pkcs7:FILE, pgp:FILE, provider:NAME or FILE"
    )]
    UnknownRecipient {
        /// What was given, shortened.
        text: String,
    },
    /// A signal asked us to end.
    #[error("stopped by a signal, nothing was written")]
    Stopped,
    /// A signal asked us to end while a registry or containerd was told the image's name.
    #[error("stopped by a signal while the image was given its name: it may be there")]
    StoppedWhileNaming,
    /// A file that is not replaced unasked.
    #[error("{} is there already", path.display())]
    FileExists {
        /// The file.
        path: PathBuf,
    },
    /// No module shows the token.
    #[error("no token matches {uri} (PKCS#11 modules that were asked: {modules})")]
    TokenInNoModule {
        /// The URI, without its query.
        uri: String,
        /// How many modules were asked.
        modules: usize,
    },
    /// More than one module shows the token.
    #[error("{uri} is in several PKCS#11 modules: {}", listed(modules))]
    SeveralModules {
        /// The URI, without its query.
        uri: String,
        /// These.
        modules: Vec<PathBuf>,
    },
    /// A key that is to be removed unasked, and is not named.
    #[error("{uri} names no key, and --yes asks nobody which one is meant")]
    KeyUnnamed {
        /// The URI, without its query.
        uri: String,
    },
    /// Somebody was asked, and did not say yes.
    #[error("nothing was removed")]
    NotConfirmed,
    /// What cannot be undone, and there is nobody to ask.
    #[error("there is no terminal to ask at, so nothing was removed")]
    NobodyToAsk,
    /// A key that does not do what images need of it.
    #[error("the key cannot be used as it is")]
    KeyFails,
    /// One PIN, and key files without one that are for several tokens.
    #[error("one PIN was given, and the key files that have none are for several tokens: {}", tokens.join(", "))]
    PinForSeveral {
        /// URIs of the tokens.
        tokens: Vec<String>,
    },
    /// A token wants a PIN, and there is nobody to ask for it.
    #[error("token {token:?} wants a PIN, and none was given")]
    NoPin {
        /// Label of the token.
        token: String,
    },
    /// A pair was made, and its files were not written.
    #[error("made {uri}, but {source}")]
    KeyFilesUnwritten {
        /// The pair's URI, without its query.
        uri: String,
        /// What happened to the files.
        source: Box<Self>,
    },
    /// We failed in a way that nobody foresaw.
    #[error(transparent)]
    Panicked(#[from] Panicked),
    /// What `doctor` found.
    #[error("{failed} of {checked} checks failed")]
    Unhealthy {
        /// Findings that are failures.
        failed: usize,
        /// All findings.
        checked: usize,
    },
}

impl Error {
    /// One sentence on what to do about it, where we can know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::InFile(error) => return error.hint(),
            Self::Keys(error) => return error.hint(),
            Self::Payload(error) => return error.hint(),
            Self::ContentStore(error) => return error.hint(),
            Self::Options(error) => return error.hint(),
            Self::Envelope(error) => return error.hint(),
            Self::Schemes(error) => return error.hint(),
            Self::NoRecipient => {
                "name a recipient behind the provider: provider:ocihsm:pkcs11:FILE, or provider:ocihsm:jwe:FILE"
            }
            Self::Provider(error) => return error.hint(),
            Self::Hsm(error) => return error.hint(),
            Self::SizeOfCurve => "leave --bits away, or take --type rsa",
            Self::FileExists { .. } => "take another name, or replace it with --force",
            Self::StoppedWhileNaming => "look with `ocihsm inspect DST`, or run the command again",
            Self::TokenInNoModule { .. } => {
                "`ocihsm keys list` shows the tokens, and the modules that fail"
            }
            Self::SeveralModules { .. } => "name one of them with --module",
            Self::KeyUnnamed { .. } => {
                "add `object` or `id` to the URI: `ocihsm keys list` shows both"
            }
            Self::NobodyToAsk => "say that it is meant, with --yes",
            Self::PinForSeveral { .. } => {
                "add `pin-source` to the URI in each key file, or name the key files of one token with --key"
            }
            Self::NoPin { .. } => {
                "give it with --pin-file or in OCIHSM_PIN, or type it at a terminal"
            }
            Self::KeyFilesUnwritten { .. } => {
                "take its public half with `ocihsm keys export`, and write the key file by hand"
            }
            Self::Settings(error) => return error.hint(),
            Self::Image(error) => return error.hint(),
            Self::Node(error) => return error.hint(),
            Self::InLayer { source, .. } => return source.hint(),
            Self::Cipher(error) => return error.hint(),
            Self::NoKeyOpens { refusals, .. } => return Some(refusals.hint()),
            Self::StdinIsTerminal => {
                "containerd runs this; to decrypt an image use `ocihsm decrypt`"
            }
            Self::NoKeys => "name a directory of key files with --key or OCIHSM_KEYS_PATH",
            Self::NoUsableKey { refusals } => match refusals.hint_about_keys() {
                Some(hint) => return Some(hint),
                None => "name a key file, or a directory of key files, with --key",
            },
            Self::CommandLine { .. } => {
                "compare containerd's configuration with what `ocihsm config containerd` prints"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }

    /// Whether the command line cannot be used, though it could be parsed; nothing was done then.
    #[must_use]
    pub fn is_about_usage(&self) -> bool {
        matches!(self, Self::SizeOfCurve | Self::KeyUnnamed { .. })
    }

    /// The error and its hint in one line without an end, of 600 bytes at most. Harmless on a terminal.
    #[must_use]
    pub fn event_line(&self) -> String {
        event_line(self, self.hint())
    }
}

impl From<crate::cipher::Failed> for Error {
    fn from(failed: crate::cipher::Failed) -> Self {
        failed.error.into()
    }
}

fn layer(digest: Option<&Digest>) -> String {
    digest.map_or_else(
        || "the layer".to_owned(),
        |digest| format!("layer {}", digest.short()),
    )
}
