//! OpenPGP messages (RFC 9580): private options for the holders of OpenPGP keys.
//!
//! Each packet of a session key is an operation, and its answer candidates for it. The content must be protected against
//! changes: of any other nothing is decrypted. What comes out of it may be compressed; not more of it is unpacked than
//! private options may have. Signatures are not looked at: who made the message does not matter here.

mod content;
mod error;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

pub use self::error::Error;
pub use self::write::seal;
use crate::openpgp::algorithm::recipient_name;
use crate::openpgp::packets::{self, Packets};
use crate::openpgp::session::{self, Wrapped};
use crate::operation::KeyOperation;
use crate::secret::SecretBytes;

/// Most recipients of one message.
pub const MAX_RECIPIENTS: usize = 256;
/// Most of them that do not say whose they are: each is tried with every key.
const MAX_HIDDEN: usize = 16;
/// Most bytes of the encrypted content, and of what it is unpacked to.
const MAX_CONTENT: usize = 64 << 10;
/// Most packets before the content beside those of recipients.
const MAX_OTHERS: usize = 64;

/// The way to the content by one recipient's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// What the key must do.
    pub operation: KeyOperation,
    content: Arc<Vec<u8>>,
}

impl Recipient {
    /// The content, from what the key answered.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`], whether a padding was wrong or the content is; for content that is as it was written, what
    /// keeps it from being read.
    pub fn open(&self, answer: &SecretBytes) -> Result<SecretBytes, Error> {
        content::open(&self.content, answer.expose())
    }
}

/// What a message offers: each recipient, or why it leads to no operation.
pub type Recipients = Vec<Result<Recipient, Error>>;

/// Reads a message.
///
/// # Errors
/// What is wrong with the whole of it. What is wrong with one recipient of several stands in that one's place.
pub fn parse(message: &[u8]) -> Result<Recipients, Error> {
    let mut packets = Packets::new(message);
    let mut operations = Vec::new();
    let (mut hidden, mut others) = (0, 0);
    let content = loop {
        let packet = packets.read().ok_or(Error::Malformed)?;
        match packet.kind {
            packets::PUBLIC_KEY_SESSION_KEY if operations.len() >= MAX_RECIPIENTS => {
                return Err(Error::TooManyRecipients {
                    limit: MAX_RECIPIENTS,
                });
            }
            packets::PUBLIC_KEY_SESSION_KEY => {
                let wrapped = Wrapped::parse(packet.body());
                hidden += usize::from(wrapped.as_ref().is_ok_and(Wrapped::is_for_anybody));
                operations.push(match wrapped {
                    Ok(_) => Ok(KeyOperation::OpenPgp {
                        packet: packet.body().to_vec(),
                    }),
                    Err(error) => Err(error.into()),
                });
            }
            packets::PASSWORD_SESSION_KEY | packets::MARKER | packets::PADDING => others += 1,
            packets::PROTECTED => match packet.body().split_first() {
                Some((1, content)) => break content.to_vec(),
                Some((&version, _)) => return Err(Error::ContentVersion { version }),
                None => return Err(Error::Malformed),
            },
            packets::UNPROTECTED => return Err(Error::Unprotected),
            packets::GNUPG_AEAD => return Err(Error::GnupgAead),
            _ => return Err(Error::Malformed),
        }
        if others > MAX_OTHERS {
            return Err(Error::Malformed);
        }
    };
    if !packets.is_empty() {
        return Err(Error::Malformed);
    }
    if content.len() > MAX_CONTENT {
        return Err(Error::TooLong { limit: MAX_CONTENT });
    }
    if operations.is_empty() {
        return Err(Error::NoRecipients);
    }
    if hidden > MAX_HIDDEN {
        return Err(Error::TooManyHidden { limit: MAX_HIDDEN });
    }
    let content = Arc::new(content);
    let recipient = |operation| Recipient {
        operation,
        content: Arc::clone(&content),
    };
    Ok((operations.into_iter())
        .map(|operation| operation.map(recipient))
        .collect())
}

impl From<session::Error> for Error {
    fn from(error: session::Error) -> Self {
        match error {
            session::Error::Broken => Self::RecipientBroken,
            session::Error::Version(version) => Self::RecipientVersion { version },
            session::Error::Algorithm(number) => Self::RecipientAlgorithm {
                name: recipient_name(number),
            },
        }
    }
}
