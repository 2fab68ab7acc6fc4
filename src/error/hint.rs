//! What to do about an error: at most one sentence, only where it can be known.

use std::io::ErrorKind;

use super::Error;

pub(super) fn hint(error: &Error) -> Option<String> {
    let text = match error {
        Error::InFile(error) => return error.hint(),
        Error::InKeyFile { source, .. } => return hint(source),
        Error::Payload(error) => return error.hint(),
        Error::ContentStore(error) => return error.hint(),
        Error::Unavailable { hint, .. } => return hint.clone(),
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
        Error::HsmTimeout { .. } | Error::HsmBusy { .. } => {
            "check that the HSM can be reached from this node, or allow more time with --hsm-timeout"
        }
        Error::Pkcs11 { hint, .. } => (*hint)?,
        Error::HsmCrashed { .. } => {
            "try the module with `pkcs11-tool --module FILE -L`, in the environment of the key file's module.env"
        }
        Error::ModuleLoad { .. } => {
            "install the module together with the libraries that it needs, or correct module-path or module-name"
        }
        Error::TokenNotFound {
            any_slot: false, ..
        } => {
            "if the module is a client (p11-kit), check that its server runs and that module.env names its address"
        }
        Error::TokenNotFound { .. } => {
            "compare the URI with what `ocihsm keys list` shows, in the environment of the key file's module.env"
        }
        Error::SeveralTokens { .. } => "add `serial` or `slot-id` to the URI",
        Error::SeveralKeys { .. } => "name `id` and `object` in the URI",
        Error::KeyNotFound { .. } => {
            "compare `id` and `object` in the URI with the keys that `ocihsm keys list --token LABEL` shows"
        }
        Error::FileExists { .. } => "take another name, or replace it with --force",
        Error::TokenInNoModule { .. } => {
            "`ocihsm keys list` shows the tokens, and the modules that fail"
        }
        Error::SeveralModules { .. } => "name one of them with --module",
        Error::NoPin { .. } => "give it with --pin-file or in OCIHSM_PIN, or type it at a terminal",
        Error::KeyFilesUnwritten { .. } => {
            "take its public half with `ocihsm keys export`, and write the key file by hand"
        }
        Error::KeyExists { .. } => {
            "`ocihsm keys list` shows it; choose another --label, or take that key's public half with \
             `ocihsm keys export`"
        }
        Error::NewKeySize { .. } => "choose another size with --bits",
        Error::PinMissing { .. } => "add `pin-source` to the URI in the key file",
        Error::PinRejectedBefore { .. } => {
            "correct the PIN in the key file, or run `ocihsm keys forget-rejected-pins` if the token was given it since"
        }
        Error::PinFinalTry { .. } => {
            "make sure that the PIN is right, then run `ocihsm doctor --allow-final-try`"
        }
        Error::PinLocked { .. } => {
            "have the token's security officer unlock the PIN, and correct it in the key files first"
        }
        Error::UnknownTag { .. } | Error::WhichImage { .. } => {
            "name the image as oci:DIR:TAG, with one of the tags there"
        }
        Error::TagNeeded { .. } => "name the new image as oci:DIR:TAG",
        Error::UriAsArgument { .. } => {
            "write a key file: the two lines `pkcs11:` and `  uri: URI`, and give its path"
        }
        Error::AlreadyEncrypted { .. } => {
            "give it further recipients with --key FILE, or choose other layers with --encrypt-layer"
        }
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
