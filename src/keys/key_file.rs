//! A PKCS#11 key file: YAML with a URI and the module's environment.

use std::collections::BTreeMap;

use super::uri::Pkcs11Uri;

/// What one key file says.
#[derive(Clone, Debug)]
pub struct KeyFile {
    /// What to call it in a message: its path, or `key 1 of the payload`.
    pub name: String,
    /// `pkcs11.uri`.
    pub uri: Pkcs11Uri,
    /// `module.env`.
    pub env: BTreeMap<String, String>,
}
