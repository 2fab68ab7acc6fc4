//! What to do about a key that failed its trial, where the error does not say.

use std::path::Path;

use crate::file;
use crate::hsm::{self, Probe};
use crate::keys::{self, TokenKey};

/// What to do about a token that could not be asked, where the error does not say.
pub(super) fn mend_failed(key: &TokenKey, error: &hsm::Error) -> String {
    let pin_error = match error {
        hsm::Error::InKeyFile { source, .. } => return mend_failed(key, source),
        hsm::Error::PinFile { source } => mend_pin_file(key, source),
        _ => None,
    };
    pin_error.unwrap_or_else(|| {
        "compare the URI and module.env of the key file with the token".to_owned()
    })
}

/// What to do about a PIN that could not be read from its file.
fn mend_pin_file(key: &TokenKey, error: &keys::Error) -> Option<String> {
    let pin_file = |path: &Path| key.file.uri.pin_source.as_deref() == Some(path);
    match error {
        keys::Error::InKeyFile { source, .. } => mend_pin_file(key, source),
        keys::Error::InFile(file::Error::TooLarge { path, .. })
        | keys::Error::InvalidPinFile { path, .. } => Some(format!(
            "let {} hold the PIN alone, on one line",
            path.display()
        )),
        keys::Error::InFile(error) if pin_file(error.path()) => Some(format!(
            "write the PIN alone, on one line, into {} (mode 600), or correct pin-source in the key file",
            error.path().display()
        )),
        _ => None,
    }
}

/// As the error's own hint, which does not know where the decoder remembers what was rejected.
pub(super) fn mend_rejected(directory: &str) -> String {
    format!(
        "correct the PIN in the key file, or run `OCIHSM_RUNTIME_DIR={directory} ocihsm keys forget-rejected-pins` if \
         the token was given it since"
    )
}

pub(super) fn mend_refused(probe: &Probe) -> &'static str {
    if probe.oaep || probe.raw_rsa {
        "check that `id` and `object` name a pair whose two halves belong together"
    } else {
        "the token decrypts neither RSA-OAEP nor raw RSA: allow it one of the two"
    }
}
