//! What to do about a key that failed its trial, where the error does not say.

use crate::hsm::Probe;

/// What to do about a token that could not be asked.
pub(super) const MEND_FAILED: &str =
    "compare the URI and module.env of the key file with the token";

/// As the error's own hint, which does not know where the decoder remembers what was rejected.
pub(super) fn mend_rejected(directory: &str) -> String {
    format!(
        "correct the PIN in the key file, or in the PIN file that it names, or run `OCIHSM_RUNTIME_DIR={directory} ocihsm keys forget-rejected-pins` if \
         the token was given it since"
    )
}

/// Likewise, for a PIN that may be right.
pub(super) fn mend_unanswered(directory: &str) -> String {
    format!(
        "make sure that the PIN is right and the HSM answers, then run `OCIHSM_RUNTIME_DIR={directory} ocihsm keys \
         forget-rejected-pins`"
    )
}

pub(super) fn mend_refused(probe: &Probe) -> &'static str {
    if probe.oaep || probe.raw_rsa {
        "check that `id` and `object` name a pair whose two halves belong together"
    } else {
        "the token decrypts neither RSA-OAEP nor raw RSA: allow it one of the two"
    }
}
