//! What to do about an error: at most one sentence, only where it can be known.

use super::Error;

pub(super) fn hint(error: &Error) -> Option<String> {
    let text = match error {
        Error::InFile(error) => return error.hint(),
        Error::Keys(error) => return error.hint(),
        Error::Payload(error) => return error.hint(),
        Error::ContentStore(error) => return error.hint(),
        Error::Options(error) => return error.hint(),
        Error::Envelope(error) => return error.hint(),
        Error::Schemes(error) => return error.hint(),
        Error::NoRecipient => {
            "name a recipient behind the provider: provider:ocihsm:pkcs11:FILE, or provider:ocihsm:jwe:FILE"
        }
        Error::Provider(error) => return error.hint(),
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
        Error::Settings(error) => return error.hint(),
        Error::Image(error) => return error.hint(),
        Error::Node(error) => return error.hint(),
        Error::InLayer { source, .. } => return hint(source),
        Error::Cipher(error) => return error.hint(),
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
