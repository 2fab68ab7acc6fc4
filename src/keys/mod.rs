//! Keys as files and packets describe them: RFC 7512 URIs, key files, the module policy, wrapped keys, OAEP.
//!
//! Data, the files that hold it, and arithmetic. No module is loaded here; that is `hsm`, which stands on this room.

pub mod ignored;
pub mod key_dir;
pub mod key_file;
pub mod oaep;
pub mod packet;
pub mod pem;
pub mod policy;
pub mod public;
pub mod recipient;
pub mod ring;
pub mod uri;
mod yaml;

use std::path::PathBuf;

use self::key_file::KeyFile;

/// A private key in a token, and the module that reaches it, which the policy allowed.
#[derive(Clone, Debug)]
pub struct TokenKey {
    /// URI, environment and name of the key.
    pub file: KeyFile,
    /// The module's file, absolute.
    pub module: PathBuf,
}
