//! Everything that can go wrong, as one enum: the variant is what happened, the fields say where.
//!
//! The message is a sentence in lower case without a full stop, short enough for a Kubernetes event. What to do
//! about it is in `hint.rs`. No field ever holds a PIN, a key, plaintext, or a MAC that we computed.

mod event;
mod hint;
mod panicked;
mod refusals;
mod words;

use std::io;
use std::path::PathBuf;

use crate::descriptor::Digest;

pub use self::panicked::{catch, watch_panics};
pub use self::refusals::{Cure, Reason, Refusals};

use self::words::layer;
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
    /// A file could not be read, written, created or listed.
    #[error("cannot {action} {}: {}", path.display(), reason(source))]
    File {
        /// What we tried, a verb: `read`, `create`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
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

    /// A file is larger than its bound.
    #[error("{} is over the limit of {limit} bytes", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// The bound in bytes.
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
    /// A PKCS#11 URI that cannot be read.
    #[error("broken PKCS#11 URI: {part} {what}")]
    InvalidUri {
        /// The attribute, or what else of it is meant. Never a value.
        part: String,
        /// What is wrong there.
        what: &'static str,
    },
    /// YAML that does not parse, or is not of the shape that it should have.
    #[error("{name}: line {line} is not the YAML that belongs there")]
    InvalidYaml {
        /// The file, or what else the text came from.
        name: String,
        /// Where, from 1.
        line: u64,
    },
    /// A file that is no key file at all.
    #[error("{name} is not a PKCS#11 key file: {what}")]
    NotAKeyFile {
        /// The file, or what else the text came from.
        name: String,
        /// What it is instead.
        what: &'static str,
    },
    /// A private key in a file that cannot be used.
    #[error("{name}: {error}")]
    PrivateKey {
        /// The file, or what else it came from.
        name: String,
        /// Why not.
        error: crate::keys::private::Error,
    },
    /// Where the password of a private key comes from, as it makes no sense.
    #[error("{}: its password is given as fd= without a number", path.display())]
    InvalidPassword {
        /// The private key's file.
        path: PathBuf,
    },
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
    /// A key file with a mistake in it.
    #[error("key file {name}: {what}")]
    InvalidKeyFile {
        /// The key file.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A client's key file that would decide what is loaded on this node.
    #[error(
        "{name}: a client may not set {variable} in `module.env`: this node alone decides what is loaded"
    )]
    ClientVariable {
        /// What messages call the key file.
        name: String,
        /// The variable.
        variable: String,
    },
    /// A key file whose URI cannot be read, or whose module cannot be had.
    #[error("key file {name}: {source}")]
    InKeyFile {
        /// The key file.
        name: String,
        /// What is wrong.
        source: Box<Error>,
    },
    /// A PIN file whose content cannot be a PIN.
    #[error("the PIN file {} {what}", path.display())]
    InvalidPinFile {
        /// The PIN file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Not a public key that serves.
    #[error("{name} is not a public key that can be used: {what}")]
    InvalidPublicKey {
        /// The file, or the key's name.
        name: String,
        /// What it is instead, or what is wrong with it.
        what: &'static str,
    },
    /// An RSA key of a size that we do not take.
    #[error("{name} has {bits} bits, which is not between {min} and {max}")]
    KeySize {
        /// The file, or the key's name.
        name: String,
        /// Its size in bits.
        bits: u32,
        /// Smallest size in bits.
        min: u32,
        /// Largest size in bits.
        max: u32,
    },
    /// Private options that RSA-OAEP cannot carry.
    #[error(
        "the layer's private options are {len} bytes long, RSA-{bits} with OAEP {hash} takes {limit}"
    )]
    MessageTooLong {
        /// Length of the options in bytes.
        len: usize,
        /// Size of the recipient's key in bits.
        bits: u32,
        /// OAEP hash.
        hash: &'static str,
        /// What would fit, in bytes.
        limit: usize,
    },
    /// The RSA encryption itself failed.
    #[error("cannot wrap the layer key: {source}")]
    Wrapping {
        /// Why not; in practice, that the system has no randomness.
        source: rsa::Error,
    },
    /// A directory of keys, or a key file, that cannot be looked into.
    #[error("cannot read the keys in {}: {}", path.display(), reason(source))]
    KeysUnreadable {
        /// The directory or the file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The policy that was named is not there.
    #[error("the module policy {} is not there", path.display())]
    PolicyMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// A policy with a key that is unknown, misplaced or of the wrong kind.
    #[error("{policy}: {key:?} {what}")]
    PolicyKey {
        /// The policy's file, or what else the text came from.
        policy: String,
        /// The key, shortened.
        key: String,
        /// What is wrong with it, and where it belongs.
        what: &'static str,
    },
    /// A policy with an entry that cannot mean what it says.
    #[error("{policy}: {} in {list} {what}", entry.display())]
    PolicyEntry {
        /// The policy's file, or what else the text came from.
        policy: String,
        /// The list.
        list: &'static str,
        /// The entry.
        entry: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A URI with neither `module-name` nor a `module-path` that is a file.
    #[error("the URI names no PKCS#11 module: it has no `module-name`")]
    ModuleNotNamed,
    /// No file of that name in any of the directories.
    #[error("no PKCS#11 module {name:?} in {}", listed(searched))]
    ModuleNotFound {
        /// `module-name`.
        name: String,
        /// Where we looked.
        searched: Vec<PathBuf>,
    },
    /// A module that the policy keeps from being loaded.
    #[error("the PKCS#11 module {} is not allowed by {policy}", module.display())]
    ModuleNotAllowed {
        /// The module.
        module: PathBuf,
        /// Which policy.
        policy: String,
    },
    // ---- hsm
    /// A token, its module, or the way to it.
    #[error(transparent)]
    Hsm(#[from] crate::hsm::Error),
    /// The directory for locks and rejected PINs cannot be used.
    #[error("no rejected PIN can be remembered here: {why}")]
    RuntimeDirectory {
        /// Which directory, and why not.
        why: String,
    },
    // ---- cipher
    /// The MAC or a tag does not agree: changed, truncated, extended, or opened with another layer's key.
    #[error("verification failed: the content is not what was encrypted")]
    Verification,
    /// Standard input is not as long as the descriptor says.
    #[error("{actual} bytes came, the descriptor says {expected}")]
    WrongLength {
        /// Bytes that came (at least).
        actual: u64,
        /// Bytes that the descriptor states.
        expected: u64,
    },
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
    /// A file of containerd's configuration that does not parse, or is not of the shape that it should have.
    #[error("{}: line {line} is not the TOML that belongs there", path.display())]
    InvalidToml {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: u64,
    },
    /// A file of containerd's configuration that says something twice, with which containerd does not start.
    #[error("{}: line {line} defines `{key}` a second time", path.display())]
    RepeatedTomlKey {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: u64,
        /// What is there twice.
        key: String,
    },
    // ---- commands
    /// A file that should hold a descriptor.
    #[error("{} is not an OCI descriptor: line {}, column {}", path.display(), source.line(), source.column())]
    InvalidDescriptor {
        /// The file.
        path: PathBuf,
        /// Where it fails; what stands there is not shown.
        source: serde_json::Error,
    },
    /// An environment variable whose value cannot be used.
    #[error("the environment variable {name} is not {expected}")]
    InvalidVariable {
        /// Its name.
        name: &'static str,
        /// What it should be.
        expected: &'static str,
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
        source: Box<Error>,
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
    /// A PKCS#11 URI where a file belongs. It may hold a PIN, so it is not quoted.
    #[error("{argument} takes the path of a file, not a PKCS#11 URI")]
    UriAsArgument {
        /// The argument.
        argument: &'static str,
    },
    /// A recipient that we cannot encrypt to.
    #[error(
        "{text:?} is not a recipient of the form pkcs11:FILE, jwe:FILE, pkcs7:FILE, provider:NAME or FILE"
    )]
    UnknownRecipient {
        /// What was given, shortened.
        text: String,
    },
    /// A signal asked us to end.
    #[error("stopped by a signal, nothing was written")]
    Stopped,
    /// A file that is not replaced unasked.
    #[error("{} is there already", path.display())]
    FileExists {
        /// The file.
        path: PathBuf,
    },
    /// No module shows the token.
    #[error("no token matches {uri} in any of {modules} PKCS#11 modules")]
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
        source: Box<Error>,
    },
    /// We failed in a way that nobody foresaw.
    #[error("internal error at {location}")]
    Panicked {
        /// File and line.
        location: String,
    },
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
        hint::hint(self)
    }

    /// Says to which key it happened, unless it names the key file already.
    #[must_use]
    pub fn in_key_file(self, name: &str) -> Self {
        match self {
            Self::InKeyFile { .. } => self,
            Self::Hsm(ref error) if error.names_key_file() => self,
            source => Self::InKeyFile {
                name: name.to_owned(),
                source: Box::new(source),
            },
        }
    }

    /// Whether it tells of a PIN that was refused, or would be: nothing else is to be tried on that token then.
    #[must_use]
    pub fn is_about_pin(&self) -> bool {
        match self {
            Self::Hsm(error) => error.is_about_pin(),
            Self::InKeyFile { source, .. } => source.is_about_pin(),
            _ => false,
        }
    }
}
