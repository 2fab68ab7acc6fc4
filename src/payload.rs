//! The bytes of fd 3 -> descriptor and key material.
//!
//! containerd's clients may send a protobuf `google.protobuf.Any` along with a layer; its value is JSON made by
//! Go (imgcrypt's `Payload`). Whether fd 3 is such a pipe at all is decided here; what the keys in it mean is
//! not. A payload holds secrets: its bytes are wiped, what is taken of them is decoded where it stands and wiped too,
//! and no message quotes them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use zeroize::Zeroizing;

use crate::descriptor::{Annotations, LayerDescriptor};
use crate::json::{InPlace, object};
use crate::secret::SecretBytes;
use crate::words::reason;

/// Why a payload cannot be read. Quotes nothing of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading fd 3 failed.
    #[error("cannot read the payload from fd 3: {}", reason(source))]
    Failed {
        /// Why.
        source: io::Error,
    },
    /// It has more bytes than its bound.
    #[error("payload on fd 3 is over the limit of {limit}")]
    TooLarge {
        /// The bound in bytes.
        limit: usize,
    },
    /// Bytes on fd 3 that say they are a payload, but cannot be read as one.
    #[error("broken payload on fd 3: {what}")]
    Invalid {
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Result with this room's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// One sentence on what to do about it, where we can know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        None
    }
}

/// Most bytes that a payload may have.
pub const MAX_PAYLOAD: usize = 4 << 20;

/// Enough for nearly every payload; a larger one doubles it.
const FIRST_BUFFER: usize = 64 << 10;

/// Most values of one parameter that are taken.
const MAX_PARAMETERS: usize = 256;

const TYPE_URL: &str = "io.containerd.ocicrypt.v1.Payload";

/// What a client sent for one layer.
#[derive(Debug)]
pub struct Payload {
    /// The layer as its manifest describes it.
    pub descriptor: LayerDescriptor,
    /// The keys that it sent along.
    pub keys: SentKeys,
}

/// Key material, each piece as the client read it from a file.
#[derive(Debug, Default)]
pub struct SentKeys {
    /// PKCS#11 key files (`pkcs11-yamls`).
    pub key_files: Vec<SecretBytes>,
    /// Private keys (`privkeys`).
    pub private_keys: Vec<SecretBytes>,
    /// Their passwords, in the same order; an empty one is none (`privkeys-passwords`).
    pub passwords: Vec<SecretBytes>,
    /// Certificates of theirs (`x509s`).
    pub certificates: Vec<SecretBytes>,
    /// OpenPGP keys (`gpg-privatekeys`).
    pub openpgp_keys: Vec<SecretBytes>,
    /// Their passwords, likewise (`gpg-privatekeys-passwords`).
    pub openpgp_passwords: Vec<SecretBytes>,
    /// The client's module policies (`pkcs11-config`).
    pub policies: Vec<SecretBytes>,
    /// Parameters of other names: those of a key provider have the provider's.
    pub others: BTreeMap<String, Vec<SecretBytes>>,
}

/// Whether a descriptor that we inherited can carry a payload: containerd sends it through a pipe, a test may
/// use a file. Anything else that happens to have the number 3 is left alone.
#[must_use]
pub fn may_carry(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| {
        let kind = metadata.file_type();
        kind.is_fifo() || kind.is_file()
    })
}

impl Payload {
    /// Reads all of fd 3, but not for longer than `patience`: a pipe that containerd itself inherited may never
    /// end. `None` if that is no payload.
    ///
    /// # Errors
    /// [`Error::TooLarge`] over [`MAX_PAYLOAD`], but not for what is surely no payload; [`Error::Failed`]; [`Error::Invalid`] for a payload that cannot be read.
    pub fn read(file: &mut File, patience: Duration) -> Result<Option<Self>> {
        match read_within(file, patience)? {
            Some(bytes) => Self::parse(&bytes),
            None => Ok(None),
        }
    }

    /// Reads the bytes of a payload; `None` if they are not one at all.
    ///
    /// # Errors
    /// [`Error::Invalid`] when they say that they are one, but cannot be read as one.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let Some(json) = any_value(bytes) else {
            return Ok(None);
        };
        let document: Document =
            serde_json::from_slice(json).map_err(|_| invalid("it is not the JSON we expect"))?;
        let descriptor = document.descriptor.ok_or(invalid("it has no descriptor"))?;
        let digest = match descriptor.digest {
            None => None,
            Some(text) if text.is_empty() => None,
            Some(text) => Some(
                text.parse()
                    .map_err(|_| invalid("the digest in its descriptor is none of sha256"))?,
            ),
        };
        let parameters = document.config.and_then(|config| config.parameters);
        let given = parameters.unwrap_or_default();
        let values = |secrets: Option<Secrets>| secrets.unwrap_or_default().0;
        Ok(Some(Self {
            descriptor: LayerDescriptor {
                media_type: descriptor.media_type.filter(|text| !text.is_empty()),
                digest,
                size: descriptor.size,
                annotations: descriptor.annotations.unwrap_or_default().0,
            },
            keys: SentKeys {
                key_files: values(given.key_files),
                private_keys: values(given.private_keys),
                passwords: values(given.passwords),
                certificates: values(given.certificates),
                openpgp_keys: values(given.openpgp_keys),
                openpgp_passwords: values(given.openpgp_passwords),
                policies: values(given.policies),
                others: (given.others.into_iter())
                    .map(|(name, values)| (name, values.0))
                    .collect(),
            },
        }))
    }
}

object! {
    Document {
        config: DecryptConfig = "decryptconfig",
        descriptor: Descriptor = "descriptor",
    }
}

object! {
    DecryptConfig {
        parameters: Parameters = "parameters",
    }
}

object! {
    #[derive(Default)]
    Parameters {
        key_files: Secrets = "pkcs11-yamls",
        private_keys: Secrets = "privkeys",
        passwords: Secrets = "privkeys-passwords",
        certificates: Secrets = "x509s",
        openpgp_keys: Secrets = "gpg-privatekeys",
        openpgp_passwords: Secrets = "gpg-privatekeys-passwords",
        policies: Secrets = "pkcs11-config",
        .. others: Secrets,
    }
}

object! {
    Descriptor {
        media_type: String = "mediatype",
        digest: String = "digest",
        size: u64 = "size",
        annotations: Annotations = "annotations",
    }
}

/// The values of one parameter; a null stands for a missing one.
#[derive(Default)]
struct Secrets(Vec<SecretBytes>);

impl<'de> Deserialize<'de> for Secrets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values;
        impl<'de> Visitor<'de> for Values {
            type Value = Secrets;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of base64 texts")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Secrets, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = seq.next_element::<Option<InPlace<'de>>>()? {
                    let Some(InPlace(text)) = value else { continue };
                    if values.len() >= MAX_PARAMETERS {
                        return Err(A::Error::custom("too many values"));
                    }
                    // As many as the text may hold, at once: a vector that grows leaves copies behind.
                    let mut bytes =
                        Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
                    let length = STANDARD
                        .decode_slice(text, &mut bytes)
                        .map_err(|_| A::Error::custom("not base64"))?;
                    bytes.truncate(length);
                    values.push(SecretBytes::new(std::mem::take(&mut *bytes)));
                }
                Ok(Secrets(values))
            }
        }
        deserializer.deserialize_seq(Values)
    }
}

fn invalid(what: &'static str) -> Error {
    Error::Invalid { what }
}

/// Reads to the end of the file, or gives up when nothing more came in time.
fn read_within(file: &mut File, patience: Duration) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let failed = |source: io::Error| Error::Failed { source };
    let deadline = Instant::now() + patience;
    let mut bytes = Zeroizing::new(vec![0; FIRST_BUFFER]);
    let mut length = 0;
    loop {
        if length == bytes.len() {
            // Not `resize`, which may leave a copy of the keys where the buffer was.
            let mut larger = Zeroizing::new(vec![0; 2 * length]);
            larger[..length].copy_from_slice(&bytes);
            bytes = larger;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Ok(None),
            Err(nix::errno::Errno::EINTR) => continue,
            Err(errno) => return Err(failed(errno.into())),
            Ok(_) => {}
        }
        match file.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A descriptor that happens to be number 3 and cannot be read is not ours.
            Err(_) if length == 0 => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
        if length >= MIN_PAYLOAD && !may_be_payload(&bytes[..length]) {
            // Whatever it is, it may be of any length, and need not be read.
            return Ok(None);
        }
        if length > MAX_PAYLOAD {
            return Err(Error::TooLarge { limit: MAX_PAYLOAD });
        }
    }
    bytes.truncate(length);
    Ok(Some(bytes))
}

/// Bytes that are enough to tell that something is no payload: the first field's key, its length, and the type.
const MIN_PAYLOAD: usize = 64;

/// Whether it begins as one does, with either field.
fn may_be_payload(mut bytes: &[u8]) -> bool {
    let url = [&[0x0a, TYPE_URL.len() as u8], TYPE_URL.as_bytes()].concat();
    if bytes.starts_with(&url) {
        return true;
    }
    let is_value = bytes.split_off_first() == Some(&0x12);
    is_value && varint(&mut bytes).is_some_and(|length| length <= MAX_PAYLOAD as u64)
}

/// Field 2 of a `google.protobuf.Any` whose field 1 is our type, or `None`.
fn any_value(mut bytes: &[u8]) -> Option<&[u8]> {
    let (mut url, mut value): (_, &[u8]) = (None, &[]);
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        // Both fields are length-delimited (wire type 2); an Any has no others.
        if key & 7 != 2 {
            return None;
        }
        let length = usize::try_from(varint(&mut bytes)?).ok()?;
        let field = bytes.split_off(..length)?;
        match key >> 3 {
            1 => url = Some(field),
            2 => value = field,
            _ => {}
        }
    }
    (url == Some(TYPE_URL.as_bytes())).then_some(value)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests;
