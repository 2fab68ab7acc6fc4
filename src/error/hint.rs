//! What to do about an error: at most one sentence, only where it can be known.

use std::io::ErrorKind;

use super::Error;

pub(super) fn hint(error: &Error) -> Option<String> {
    let text = match error {
        Error::InFile(error) => return error.hint(),
        Error::InKeyFile { source, .. } => return hint(source),
        Error::Payload(error) => return error.hint(),
        Error::ContentStore(error) => return error.hint(),
        Error::Options(error) => return error.hint(),
        Error::Envelope(error) => return error.hint(),
        Error::Schemes(error) => return error.hint(),
        Error::PrivateKey { error, .. } => return error.hint(),
        Error::NoRecipient => {
            "name a recipient behind the provider: provider:ocihsm:pkcs11:FILE, or provider:ocihsm:jwe:FILE"
        }
        Error::Provider(error) => return error.hint(),
        Error::KeysUnreadable { source, .. } => match source.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                "put a key file there, or correct --decryption-keys-path, OCIHSM_KEYS_PATH or --key"
            }
            ErrorKind::PermissionDenied => "let the user that this program runs as read it",
            _ => return None,
        },
        Error::PolicyMissing { path } => {
            return Some(format!(
                "write it with `ocihsm config policy > {}`",
                path.display()
            ));
        }
        Error::ModuleNotAllowed { .. } => {
            "add the module, or its directory with a `/` at the end, to allowed-module-paths in ocicrypt.conf"
        }
        Error::ModuleNotFound { .. } => {
            "install the module, or name its file with module-path in the key file's URI"
        }
        Error::ModuleNotNamed => "add ?module-name=NAME or ?module-path=FILE to the key file's URI",
        Error::InvalidPublicKey { what, .. } if what.contains("private key") => {
            "take the public key out of it: openssl pkey -in FILE -pubout"
        }
        Error::Hsm(error) => return error.hint(),
        Error::FileExists { .. } => "take another name, or replace it with --force",
        Error::TokenInNoModule { .. } => {
            "`ocihsm keys list` shows the tokens, and the modules that fail"
        }
        Error::SeveralModules { .. } => "name one of them with --module",
        Error::NoPin { .. } => "give it with --pin-file or in OCIHSM_PIN, or type it at a terminal",
        Error::KeyFilesUnwritten { .. } => {
            "take its public half with `ocihsm keys export`, and write the key file by hand"
        }
        Error::InvalidPinFile { path, .. } => {
            return Some(format!(
                "let {} hold the PIN alone, on one line",
                path.display()
            ));
        }
        Error::UriAsArgument { .. } => {
            "write a key file: the two lines `pkcs11:` and `  uri: URI`, and give its path"
        }
        Error::Image(error) => return error.hint(),
        Error::InLayer { source, .. } => return hint(source),
        Error::Verification => {
            "the layer was damaged or changed: remove the image from this node and pull it anew; if that fails as well, push it again"
        }
        Error::WrongLength { .. } => {
            "the layer did not come whole, or the descriptor is that of another one: remove the image from this node and pull it anew"
        }
        Error::NoKeyOpens { refusals, .. } => return Some(refusals.hint()),
        Error::StdinIsTerminal => "containerd runs this; to decrypt an image use `ocihsm decrypt`",
        Error::NoKeys => {
            "name a directory of key files with --decryption-keys-path or OCIHSM_KEYS_PATH"
        }
        Error::NoUsableKey { refusals } => match refusals.hint_about_keys() {
            Some(hint) => return Some(hint),
            None => "name a key file, or a directory of key files, with --key",
        },
        Error::CommandLine { .. } => {
            "compare containerd's configuration with what `ocihsm config containerd` prints"
        }
        _ => return None,
    };
    Some(text.to_owned())
}
