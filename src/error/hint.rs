//! What to do about an error: at most one sentence, only where it can be known.

use super::Error;

pub(super) fn hint(error: &Error) -> Option<String> {
    let text = match error {
        Error::InKeyFile { source, .. } => return hint(source),
        Error::ModuleNotAllowed { .. } => {
            "add the module, or its directory with a `/` at the end, to allowed-module-paths in ocicrypt.conf"
        }
        Error::ModuleNotFound { .. } => {
            "install the module, or name its file with module-path in the key file's URI"
        }
        Error::ModuleNotNamed => "add ?module-name=NAME or ?module-path=FILE to the key file's URI",
        Error::InvalidPublicKey { what, .. } if what.contains("certificate") => {
            "take the public key out of it: openssl x509 -in FILE -pubkey -noout"
        }
        Error::InvalidPublicKey { what, .. } if what.contains("private key") => {
            "take the public key out of it: openssl pkey -in FILE -pubout"
        }
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
