//! What to do about an error: at most one sentence, only where it can be known.

use super::Error;

pub(super) fn hint(error: &Error) -> Option<String> {
    let text = match error {
        Error::HsmTimeout { .. } => {
            "check that the HSM can be reached from this node, or allow more time with --hsm-timeout"
        }
        Error::UnknownCipher { .. } => "a newer ocihsm may know this cipher",
        Error::NoContentStore { .. } | Error::UnknownLayer { .. } => {
            "name containerd's root directory with --content-store or OCIHSM_CONTENT_STORE"
        }
        _ => return None,
    };
    Some(text.to_owned())
}
