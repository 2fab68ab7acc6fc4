//! Whom a layer key is wrapped for, as a file says: a public key, or the key file of a token that shows one.

use std::path::Path;

use super::error::{Error, Result};
use super::key_file::{KeyFile, MAX_KEY_FILE};
use super::public::PublicKey;
use crate::file;

/// What one file on the command line says of a recipient.
#[derive(Clone, Debug)]
pub enum Recipient {
    /// The public key itself.
    Key(PublicKey),
    /// A key file: the token has the public key.
    InToken(Box<KeyFile>),
}

impl Recipient {
    /// Reads one; `name` is what messages call it.
    ///
    /// # Errors
    /// As [`KeyFile::parse`] for a key file with a mistake in it, as [`PublicKey::parse`] for anything else.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        match KeyFile::parse(name, bytes) {
            Ok(file) => Ok(Self::InToken(Box::new(file))),
            Err(Error::NotAKeyFile { .. }) => PublicKey::parse(name, bytes).map(Self::Key),
            Err(error) => Err(error),
        }
    }

    /// Reads the file once, so that it may be a pipe: `<(openssl x509 -in node.crt -pubkey -noout)`.
    ///
    /// # Errors
    /// As [`Recipient::parse`]; [`Error::InFile`] when it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = file::read_secret_or_pipe(path, MAX_KEY_FILE)?;
        Self::parse(&path.display().to_string(), bytes.expose())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = include_str!("../../integration/vectors/keys/rsa3072.pub.pem");
    const KEY: &str = include_str!("../../integration/vectors/keys/rsa3072.yaml");

    #[test]
    fn a_recipient_is_a_key_file_or_a_public_key() {
        let read = |text: &str| Recipient::parse("r", text.as_bytes());
        assert!(matches!(read(KEY), Ok(Recipient::InToken(_))));
        // As p11tool prints a public key.
        let listed = format!("Object 0:\n\tURL: pkcs11:token=t;object=o\n\n{PEM}");
        for text in [PEM, &listed] {
            assert!(matches!(read(text), Ok(Recipient::Key(_))), "{text}");
        }
        let mistake = read("pkcs11:\n  uri: pkcs11:token=t\n").unwrap_err();
        assert!(matches!(mistake, Error::InvalidKeyFile { .. }), "{mistake}");
        let neither = read("hello").unwrap_err();
        assert!(
            matches!(neither, Error::InvalidPublicKey { .. }),
            "{neither}"
        );
    }
}
