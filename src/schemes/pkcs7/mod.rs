//! PKCS#7 (CMS EnvelopedData, RFC 5652, section 6): private options for the holders of RSA keys with a certificate.
//!
//! The padding mostly is PKCS#1 v1.5, so nothing may show whether it was right (RFC 3218): a key answers random bytes where it
//! was not, and everything from there on has one verdict. Content under AES-CBC has no tag of its own; whether it is
//! what was encrypted shows by the MAC of the layer. DES is refused.

mod content;
mod error;
mod oaep;
mod write;

use std::sync::Arc;

use self::content::Content;
pub use self::error::Error;
use self::oaep::Padding;
pub use self::write::seal;
use crate::der::{self, Elements};
use crate::keys::certificate::Certificate;
use crate::operation::KeyOperation;
use crate::secret::SecretBytes;

/// Most recipients of one message.
pub const MAX_RECIPIENTS: usize = 256;
/// Lengths of RSA ciphertexts, in bytes: keys of 1024 to 16384 bits.
const RSA_LENGTHS: std::ops::RangeInclusive<usize> = 128..=2048;

/// `id-envelopedData`.
const ENVELOPED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03];
/// `id-data`.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// `rsaEncryption`.
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// The way to the content by one recipient's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// What the key must do.
    pub operation: KeyOperation,
    id: RecipientId,
    content: Arc<Content>,
}

/// By what a recipient is named (RFC 5652, section 6.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
enum RecipientId {
    IssuerAndSerial { issuer: Vec<u8>, serial: Vec<u8> },
    SubjectKeyId(Vec<u8>),
}

impl Recipient {
    /// The content, from what the key answered; `None`, whatever it is that does not fit.
    ///
    /// Under AES-CBC it may be anything: where the padding is wrong, the text with that padding.
    #[must_use]
    pub fn open(&self, answer: &SecretBytes) -> Option<SecretBytes> {
        self.content.open(answer.expose())
    }

    /// Whether it is wrapped for the holder of that certificate.
    #[must_use]
    pub fn is_for(&self, certificate: &Certificate) -> bool {
        match &self.id {
            RecipientId::IssuerAndSerial { issuer, serial } => {
                *issuer == certificate.issuer && *serial == certificate.serial
            }
            RecipientId::SubjectKeyId(id) => certificate.subject_key_id.as_ref() == Some(id),
        }
    }
}

/// Reads a message: each recipient, or why it leads to no operation.
///
/// # Errors
/// What is wrong with the whole of it.
pub fn parse(message: &[u8]) -> Result<Vec<Result<Recipient, Error>>, Error> {
    let mut outer = Elements::new(message);
    let (mut recipients, content) = read(&mut outer).ok_or(Error::Malformed)??;
    if !outer.is_empty() {
        return Err(Error::Malformed);
    }
    let content = Arc::new(content);
    let mut found = Vec::new();
    while !recipients.is_empty() {
        if found.len() >= MAX_RECIPIENTS {
            return Err(Error::TooManyRecipients {
                limit: MAX_RECIPIENTS,
            });
        }
        let element = recipients.next().ok_or(Error::Malformed)?;
        found.push(recipient(element, &content));
    }
    match found.is_empty() {
        true => Err(Error::NoRecipients),
        false => Ok(found),
    }
}

/// `ContentInfo` and `EnvelopedData`; `None` where it is no DER of these.
fn read<'a>(outer: &mut Elements<'a>) -> Option<Result<(Elements<'a>, Content), Error>> {
    let mut info = outer.enter(der::SEQUENCE)?;
    if info.content_of(der::OID)? != ENVELOPED_DATA {
        return Some(Err(Error::OtherContent));
    }
    let mut explicit = info.enter(der::CONTEXT_0_CONSTRUCTED)?;
    let mut enveloped = explicit.enter(der::SEQUENCE)?;
    if !info.is_empty() || !explicit.is_empty() {
        return None;
    }
    let _version = enveloped.content_of(der::INTEGER)?;
    let _originator = enveloped.content_of(der::CONTEXT_0_CONSTRUCTED);
    let recipients = enveloped.enter(der::SET)?;
    let content = enveloped.enter(der::SEQUENCE)?;
    Some(Content::read(content).map(|content| (recipients, content)))
}

/// `RecipientInfo`.
fn recipient(element: der::Element<'_>, content: &Arc<Content>) -> Result<Recipient, Error> {
    if element.tag != der::SEQUENCE {
        return Err(Error::OtherRecipient);
    }
    let mut info = Elements::new(element.content);
    let (id, algorithm, key) = key_transport(&mut info).ok_or(Error::Malformed)?;
    let padding = oaep::padding(algorithm)?;
    if !RSA_LENGTHS.contains(&key.len()) {
        return Err(Error::KeyLength { length: key.len() });
    }
    Ok(Recipient {
        operation: match padding {
            Padding::Pkcs1 => KeyOperation::RsaPkcs1 {
                length: content.key_len(),
                ciphertext: key.to_vec(),
            },
            Padding::Oaep(hash) => KeyOperation::RsaOaep {
                hash,
                ciphertext: key.to_vec(),
            },
        },
        id,
        content: Arc::clone(content),
    })
}

/// `KeyTransRecipientInfo`: who, by which algorithm, the wrapped key.
fn key_transport<'a>(info: &mut Elements<'a>) -> Option<(RecipientId, Elements<'a>, &'a [u8])> {
    let _version = info.content_of(der::INTEGER)?;
    let id = match info.next_if(der::CONTEXT_0) {
        Some(id) => RecipientId::SubjectKeyId(id.content.to_vec()),
        None => {
            let mut names = info.enter(der::SEQUENCE)?;
            RecipientId::IssuerAndSerial {
                issuer: names.next_if(der::SEQUENCE)?.whole.to_vec(),
                serial: names.content_of(der::INTEGER)?.to_vec(),
            }
        }
    };
    let algorithm = info.enter(der::SEQUENCE)?;
    let key = info.content_of(der::OCTET_STRING)?;
    info.is_empty().then_some((id, algorithm, key))
}

/// An object identifier with dots, as far as it is one; short.
fn dotted(oid: &[u8]) -> String {
    let mut arcs = Vec::new();
    let mut arc = 0_u64;
    for octet in oid.iter().take(24) {
        arc = arc << 7 | u64::from(octet & 0x7f);
        if octet & 0x80 == 0 {
            if arcs.is_empty() {
                let first = (arc / 40).min(2);
                arcs.push(first.to_string());
                arc -= first * 40;
            }
            arcs.push(arc.to_string());
            arc = 0;
        }
    }
    arcs.join(".")
}

#[cfg(test)]
mod tests;
