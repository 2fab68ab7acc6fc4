//! PKCS#11 URIs (RFC 7512): what a key file says about token, object, module and PIN.

use std::path::PathBuf;

use crate::secret::Pin;

/// A parsed URI. Every attribute that is present takes part in matching.
#[derive(Clone, Debug, Default)]
pub struct Pkcs11Uri {
    /// `token`: label of the token.
    pub token: Option<String>,
    /// `manufacturer` of the token.
    pub manufacturer: Option<String>,
    /// `model` of the token.
    pub model: Option<String>,
    /// `serial` number of the token.
    pub serial: Option<String>,
    /// `slot-id`.
    pub slot_id: Option<u64>,
    /// `id`: raw bytes of `CKA_ID`.
    pub id: Option<Vec<u8>>,
    /// `object`: `CKA_LABEL`.
    pub object: Option<String>,
    /// `type`, as written: `private`, `public`, `cert`, `secret-key`, `data`.
    pub object_type: Option<String>,
    /// `pin-value`, percent-decoded.
    pub pin_value: Option<Pin>,
    /// `pin-source`: an absolute path (from a path or a `file:` URI).
    pub pin_source: Option<PathBuf>,
    /// `module-name`.
    pub module_name: Option<String>,
    /// `module-path`.
    pub module_path: Option<PathBuf>,
}
