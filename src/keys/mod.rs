//! Keys as files and packets describe them: RFC 7512 URIs, key files, the module policy, wrapped keys, OAEP.
//!
//! Data, the files that hold it, and arithmetic. No module is loaded here; that is `hsm`, which stands on this room.

mod backup;
pub mod certificate;
mod client;
mod error;
pub mod ignored;
pub mod key_dir;
pub mod key_file;
pub mod oaep;
mod password;
pub mod pem;
pub mod pin_file;
pub mod policy;
pub mod private;
pub mod public;
pub mod recipient;
pub mod ring;
pub mod uri;
mod yaml;

use std::path::PathBuf;

pub use self::error::{Error, Result};
use self::key_file::KeyFile;
pub use self::password::shown;

/// A private key in a token, and the module that reaches it, which the policy allowed.
#[derive(Clone, Debug)]
pub struct TokenKey {
    /// URI, environment and name of the key.
    pub file: KeyFile,
    /// The module's file, absolute.
    pub module: PathBuf,
}

impl TokenKey {
    /// Whether both files name one key of one token in the same words, whatever PIN each has.
    #[must_use]
    pub fn is_same_key(&self, other: &Self) -> bool {
        self.module == other.module
            && self.file.env == other.file.env
            && self.file.init == other.file.init
            && self.file.uri.to_string() == other.file.uri.to_string()
    }

    /// Whether both take the PIN from the same place as well.
    #[must_use]
    pub fn has_same_pin(&self, other: &Self) -> bool {
        let (uri, others) = (&self.file.uri, &other.file.uri);
        uri.pin_value == others.pin_value && uri.pin_source == others.pin_source
    }
}
