//! A recipient as somebody wrote it on the command line: the scheme, if one stands before it, and the file or the name.

use std::path::{Path, PathBuf};

use crate::commands::{Error, Result};
use crate::schemes::provider;

/// What somebody wrote on the command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written<'a> {
    Packet(&'a Path),
    Jwe(&'a Path),
    Pkcs7(&'a Path),
    Pgp(&'a Path),
    Provider(&'a str, &'a str),
    /// Whatever fits what is in the file.
    Bare(&'a Path),
}

impl<'a> Written<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self> {
        let unknown = || Error::UnknownRecipient {
            text: text.chars().take(80).collect(),
        };
        if let Some((scheme, rest)) = text.split_once(':') {
            let written = match scheme {
                "pkcs11" => Self::Packet(file(rest)),
                "jwe" => Self::Jwe(file(rest)),
                "pkcs7" => Self::Pkcs7(file(rest)),
                "pgp" => Self::Pgp(file(rest)),
                "provider" => {
                    let (name, text) = provider::name_and_text(rest);
                    Self::Provider(name, text)
                }
                _ if PathBuf::from(text).exists() => Self::Bare(Path::new(text)),
                _ => return Err(unknown()),
            };
            return match rest.is_empty() {
                true => Err(unknown()),
                false => Ok(written),
            };
        }
        match text.is_empty() {
            true => Err(unknown()),
            false => Ok(Self::Bare(Path::new(text))),
        }
    }
}

/// A recipient's file. It takes no password, and one that is given all the same is not for a message.
fn file(text: &str) -> &Path {
    let end = text.find(":pass=").filter(|_| !Path::new(text).exists());
    Path::new(&text[..end.unwrap_or(text.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_as_they_are_written() {
        let path = Path::new;
        for (text, written) in [
            ("pkcs11:a:b", Written::Packet(path("a:b"))),
            ("jwe:a", Written::Jwe(path("a"))),
            ("pkcs7:a", Written::Pkcs7(path("a"))),
            ("pgp:a", Written::Pgp(path("a"))),
            ("provider:n", Written::Provider("n", "Enabled")),
            ("provider:n:", Written::Provider("n", "")),
            ("provider:n:t:u", Written::Provider("n", "t:u")),
            ("a.pem", Written::Bare(path("a.pem"))),
        ] {
            assert_eq!(Written::parse(text).unwrap(), written);
        }
        for text in ["", "jwe:", "provider:", "pgp:", "x:y", "PKCS11:a"] {
            assert!(Written::parse(text).is_err(), "{text}");
        }
    }
}
