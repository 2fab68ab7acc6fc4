//! What to do about an error, in one sentence.

use std::path::Path;

use super::{Error, NamedBy};
use crate::file;
use crate::keys;
use crate::keys::key_file::COMMAND_LINE;
use crate::keys::uri::Pkcs11Uri;

impl Error {
    /// One sentence on what to do about it, where we can know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Timeout { .. } | Self::Busy { .. } => {
                "check that the HSM can be reached from this node, or allow more time with --hsm-timeout"
            }
            Self::Call { hint, .. } => (*hint)?,
            Self::Crashed { .. } => {
                "try the module with `pkcs11-tool --module FILE -L` in the same environment (module.env of a key file)"
            }
            Self::Load { .. } => {
                "install the module together with the libraries that it needs, or correct module-path or module-name"
            }
            Self::Surroundings { named_by, path, .. } => {
                return Some(surroundings_hint(named_by, path));
            }
            Self::TokenNotFound {
                any_slot: false, ..
            } => {
                "if the module is a client (p11-kit), check that its server runs and that module.env names its address"
            }
            Self::TokenNotFound { .. } => {
                "compare the URI with what `ocihsm keys list` shows in the same environment (module.env and module.init of a key file)"
            }
            Self::SeveralTokens { .. } => "add `serial` or `slot-id` to the URI",
            Self::SeveralKeys { .. } => "name `id` and `object` in the URI",
            Self::KeyNotFound { uri, .. } => {
                let uri: Option<Pkcs11Uri> = uri.parse().ok();
                if let Some(hint) = uri.and_then(|uri| uri.id_hint()) {
                    return Some(hint);
                }
                "compare `id` and `object` in the URI with the keys that `ocihsm keys list --token LABEL` shows"
            }
            Self::SecretUnreadable { .. } => {
                "use an RSA key with CKA_DECRYPT: this token keeps derived and unwrapped secrets to itself"
            }
            Self::KeyExists { .. } => {
                "`ocihsm keys list` shows it; choose another --label, or take that key's public half with \
                 `ocihsm keys export`"
            }
            Self::NewKeySize { .. } => "choose another size with --bits",
            Self::PinFile { source } => return pin_file_hint(source),
            Self::PublicKey { source } => return source.hint(),
            Self::InFile { source } => return source.hint(),
            Self::InKeyFile { source, .. } => return source.hint(),
            Self::PinMissing { key, .. } if key == COMMAND_LINE => {
                "give it with --pin-file or in OCIHSM_PIN"
            }
            Self::PinMissing { .. } => {
                "add `pin-source` to the URI in the key file; by hand, --pin-file or OCIHSM_PIN gives it too"
            }
            Self::PinRejectedBefore { given: true, .. } => {
                "give the right PIN, or run `ocihsm keys forget-rejected-pins` if the token was given this one since"
            }
            Self::PinRejectedBefore { .. } => {
                "correct the PIN in the key file, or in the PIN file that it names, or run `ocihsm keys forget-rejected-pins` if the token was given it since"
            }
            Self::PinUnanswered { .. } => {
                "make sure that the PIN is right and the HSM answers, then run `ocihsm keys forget-rejected-pins`"
            }
            Self::PinUnguarded { .. } => {
                "run `ocihsm doctor`: it says why it cannot; with --allow-final-try it tries the PIN once more"
            }
            Self::PinFinalTry { .. } => {
                "make sure that the PIN is right, then run `ocihsm doctor --allow-final-try`, or this command with it"
            }
            Self::PinLocked { .. } => {
                "have the token's security officer unlock the PIN, and correct it first wherever it is kept"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}

fn surroundings_hint(named_by: &NamedBy, path: &Path) -> String {
    match named_by {
        NamedBy::Variable(name) => format!(
            "correct {name} in the environment, or under module.env in the key file: it has to name a file of this machine"
        ),
        NamedBy::ModuleEnv(name) => {
            format!("correct {name} under module.env in the key file, or put the file there")
        }
        NamedBy::File(configuration) => format!(
            "correct directories.tokendir in {}, or bring the tokens back to {}",
            configuration.display(),
            path.display()
        ),
    }
}

fn pin_file_hint(error: &keys::Error) -> Option<String> {
    match error {
        keys::Error::InKeyFile { source, .. } => pin_file_hint(source),
        keys::Error::InFile(file::Error::TooLarge { path, .. })
        | keys::Error::InvalidPinFile { path, .. } => Some(format!(
            "let {} hold the PIN alone, on one line",
            path.display()
        )),
        keys::Error::InFile(error) => Some(format!(
            "write the PIN alone, on one line, into {} (mode 600), or correct pin-source in the key file",
            error.path().display()
        )),
        other => other.hint(),
    }
}

/// Why a path that is not there may look right: a worker has no shell, and its directory is not that of the key file.
pub(super) fn doubt(path: &Path) -> &'static str {
    if path.to_string_lossy().starts_with('~') {
        ": no shell expands `~` here, so write the path from / on"
    } else if path.is_relative() {
        ": write the path from / on"
    } else {
        ""
    }
}
