//! JWE (RFC 7516): private options for the holders of RSA and elliptic-curve keys, wherever these are.
//!
//! Reads the flattened, the general and the compact serialization; one private-key operation per recipient. Nothing is
//! decompressed, no password is tried, and what a header says must be known is either known or refused.

mod agreement;
mod content;
mod error;
mod header;
mod json;
mod write;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use self::content::Content;
pub use self::content::Encryption;
pub use self::error::Error;
use self::error::malformed;
use self::header::Header;
pub use self::header::KeyManagement;
use self::json::{Members, Value};
pub use self::write::{WrapFor, seal};
use crate::key_wrap;
use crate::operation::KeyOperation;
use crate::secret::SecretBytes;

/// Most recipients of one JWE.
pub const MAX_RECIPIENTS: usize = 256;
/// Lengths of RSA ciphertexts, in bytes: keys of 1024 to 16384 bits.
const RSA_LENGTHS: std::ops::RangeInclusive<usize> = 128..=2048;

/// The way to the content by one recipient's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// What the key must do.
    pub operation: KeyOperation,
    header: Header,
    encrypted_key: Vec<u8>,
    content: Arc<Content>,
}

impl Recipient {
    /// The content, from what the key answered.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`], whatever it is that does not fit.
    pub fn open(&self, answer: &SecretBytes) -> Result<SecretBytes, Error> {
        let answer = answer.expose();
        match self.header.management {
            KeyManagement::RsaOaep(_) => self.content.open(answer),
            KeyManagement::Direct => self.content.open(&agreement::derive(&self.header, answer)),
            KeyManagement::KeyWrap(_) => {
                let key = agreement::derive(&self.header, answer);
                let len = self.content.encryption.key_len();
                let key = key_wrap::unwrap(&key, &self.encrypted_key)
                    .filter(|key| key.len() == len)
                    .ok_or(Error::NotAuthentic)?;
                self.content.open(&key)
            }
        }
    }

    /// How the content key came to this recipient.
    #[must_use]
    pub fn management(&self) -> KeyManagement {
        self.header.management
    }
}

/// What a JWE offers: each recipient, or why it leads to no operation.
pub type Recipients = Vec<Result<Recipient, Error>>;

/// Reads a JWE.
///
/// # Errors
/// What is wrong with the whole of it. What is wrong with one recipient of several stands in that one's place.
pub fn parse(jwe: &[u8]) -> Result<Recipients, Error> {
    if jwe.iter().find(|octet| !octet.is_ascii_whitespace()) != Some(&b'{') {
        return compact(jwe);
    }
    let members = json::object(jwe, "it is not JSON")?;
    let text = |name| members.text(name, NOT_TEXT).map(Option::unwrap_or_default);
    let (protected, aad) = (text("protected")?, text("aad")?);
    let mut shared = protected_header(protected)?;
    if let Some(unprotected) = members.object("unprotected", "its `unprotected` is no object")? {
        if unprotected.0.contains_key("crit") {
            return Err(malformed("its `crit` is not protected"));
        }
        shared.join(unprotected)?;
    }
    let parts = Parts {
        aad: match aad {
            "" => protected.to_owned(),
            aad => format!("{protected}.{aad}"),
        },
        iv: part(text("iv")?)?,
        ciphertext: part(text("ciphertext")?)?,
        tag: part(text("tag")?)?,
    };
    // With several recipients some writers repeat the first one's key beside them; it is not looked at.
    let recipients = match members.0.get("recipients") {
        None => vec![&members],
        Some(Value::List(list)) => list
            .iter()
            .map(|recipient| match recipient {
                Value::Object(members) => Ok(members),
                _ => Err(malformed("one of its recipients is no object")),
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(malformed("its `recipients` is no list")),
    };
    match recipients.len() {
        0 => return Err(malformed("it has no recipients")),
        1..=MAX_RECIPIENTS => {}
        _ => {
            return Err(Error::TooManyRecipients {
                limit: MAX_RECIPIENTS,
            });
        }
    }
    let alone = recipients.len() == 1;
    let read: Vec<_> = recipients
        .into_iter()
        .map(|recipient| {
            let mut header = shared.clone();
            if let Some(own) = recipient.object("header", "a `header` is no object")? {
                if own.0.contains_key("crit") {
                    return Err(malformed("its `crit` is not protected"));
                }
                header.join(own)?;
            }
            let key = recipient.text("encrypted_key", NOT_TEXT)?;
            let header = Header::read(&header)?;
            if header.management == KeyManagement::Direct && !alone {
                // RFC 7516, section 7.2.1: the content key would be another for each.
                return Err(malformed("its ECDH-ES recipient is not the only one"));
            }
            Ok((header, part(key.unwrap_or_default())?))
        })
        .collect();
    parts.recipients(read)
}

const NOT_TEXT: &str = "one of its members is not text";

/// The five parts that dots join (RFC 7516, section 7.1).
fn compact(jwe: &[u8]) -> Result<Recipients, Error> {
    let what = "it is neither JSON nor five parts joined by dots";
    let text = std::str::from_utf8(jwe).map_err(|_| malformed(what))?;
    let mut split = text.trim_ascii().split('.');
    let mut next = || split.next().ok_or(malformed(what));
    let (protected, key, iv, ciphertext, tag) = (next()?, next()?, next()?, next()?, next()?);
    if split.next().is_some() {
        return Err(malformed(what));
    }
    let header = protected_header(protected).and_then(|members| Header::read(&members));
    let parts = Parts {
        aad: protected.to_owned(),
        iv: part(iv)?,
        ciphertext: part(ciphertext)?,
        tag: part(tag)?,
    };
    let key = part(key)?;
    parts.recipients(vec![header.map(|header| (header, key))])
}

/// What all recipients share.
struct Parts {
    aad: String,
    iv: Vec<u8>,
    ciphertext: Vec<u8>,
    tag: Vec<u8>,
}

impl Parts {
    fn recipients(self, read: Vec<Result<(Header, Vec<u8>), Error>>) -> Result<Recipients, Error> {
        let encryption = |(header, _): &(Header, Vec<u8>)| header.encryption;
        let Some(first) = read.iter().flatten().map(encryption).next() else {
            return Ok(read.into_iter().filter_map(Result::err).map(Err).collect());
        };
        if self.iv.len() != first.iv_len() || self.tag.len() != first.tag_len() {
            return Err(malformed(
                "its `iv` or `tag` is not as long as `enc` has it",
            ));
        }
        let content = Arc::new(Content {
            encryption: first,
            aad: self.aad.into_bytes(),
            iv: self.iv,
            ciphertext: self.ciphertext,
            tag: self.tag,
        });
        Ok(read
            .into_iter()
            .map(|one| {
                let (header, encrypted_key) = one?;
                if header.encryption != first {
                    return Err(malformed("its recipients differ in `enc`"));
                }
                recipient(header, encrypted_key, &content)
            })
            .collect())
    }
}

fn recipient(
    header: Header,
    encrypted_key: Vec<u8>,
    content: &Arc<Content>,
) -> Result<Recipient, Error> {
    let wrong_length = malformed("its `encrypted_key` is not as long as `alg` has it");
    let fits = match header.management {
        KeyManagement::RsaOaep(_) => RSA_LENGTHS.contains(&encrypted_key.len()),
        KeyManagement::Direct => encrypted_key.is_empty(),
        KeyManagement::KeyWrap(_) => encrypted_key.len() == header.encryption.key_len() + 8,
    };
    if !fits {
        return Err(wrong_length);
    }
    let operation = match (header.management, &header.ephemeral) {
        (KeyManagement::RsaOaep(hash), _) => KeyOperation::RsaOaep {
            hash,
            ciphertext: encrypted_key.clone(),
        },
        (_, Some((curve, point))) => KeyOperation::Ecdh {
            curve: *curve,
            point: point.clone(),
        },
        (_, None) => return Err(malformed("it has no `epk`")),
    };
    Ok(Recipient {
        operation,
        header,
        encrypted_key,
        content: Arc::clone(content),
    })
}

fn protected_header(protected: &str) -> Result<Members, Error> {
    let what = "its `protected` header is not base64url of JSON";
    if protected.is_empty() {
        return Ok(Members::default());
    }
    json::object(&base64url(protected).ok_or(malformed(what))?, what)
}

fn part(text: &str) -> Result<Vec<u8>, Error> {
    base64url(text).ok_or(malformed("one of its members is not base64url"))
}

/// Without padding, without other characters, without bits that are left over (RFC 7515, section 2).
fn base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests;
