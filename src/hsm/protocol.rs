//! What crosses the socket between a worker and its parent.
//!
//! The parent sends one [`Start`], then requests; each is a length (4 bytes, little-endian) and JSON. The worker sends
//! the number of each function before it calls it, so that a hang or a crash can be placed; after it the code and the
//! microseconds; and for each request an answer, JSON with a length. Requests and answers hold secrets, so every buffer
//! is made as long as it needs to be, once, and wiped.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::NewKey;
use super::failure::Failure;
use super::refusal::Refused;
use crate::keys;
use crate::keys::public::{EcPublicKey, PublicKey};
use crate::operation::{Curve, KeyOperation};
use crate::secret::{Pin, SecretBytes};

/// First byte of an answer; the numbers of functions are smaller.
pub(super) const ANSWER: u8 = 0xff;
/// First byte of what a function returned: its code (8 bytes) and microseconds (4 bytes) follow, little-endian.
pub(super) const RETURNED: u8 = 0xfe;
/// Most bytes of a request. A key file has 64 KiB at most, an operation less.
pub(super) const MAX_REQUEST: usize = 1 << 20;
/// Most bytes of an answer. 1024 keys of a token, of each half, take less than 1 MiB.
pub(super) const MAX_ANSWER: usize = 4 << 20;

/// What a worker is for: the one module that it loads.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Start {
    /// Process id of the parent, without which the worker does not go on.
    pub(super) parent: u32,
    pub(super) module: OsString,
    /// `module.env`, which is in the environment already; it tells two starts of one module apart.
    pub(super) env: BTreeMap<String, String>,
    /// `module.init`, the string that the module is initialized with.
    pub(super) init: Option<String>,
    /// Where locks and rejected PINs are.
    pub(super) runtime_dir: Option<OsString>,
    pub(super) allow_final_try: bool,
}

/// One question about one key, or one token.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// Milliseconds until nobody waits for the answer any more.
    pub(super) left: u64,
    /// Whether to wait for a token that is not there, or a device that fails.
    pub(super) patient: bool,
    /// What the key's file is called.
    pub(super) name: String,
    /// Its URI, without a PIN.
    pub(super) uri: String,
    pub(super) pin: KeyPin,
    pub(super) question: Question,
}

/// The PIN of a key, read before its module was loaded.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum KeyPin {
    /// From the file, or from the one that it names.
    Known(#[serde(serialize_with = "write_pin", deserialize_with = "read_pin")] Pin),
    /// The file has none.
    None,
    /// It cannot be read; the parent knows why.
    Unreadable,
}

/// What is asked. Each has an answer of its own type.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Question {
    /// [`KeyKind`](crate::operation::KeyKind).
    Kind,
    /// [`Answered`].
    Operation(KeyOperation),
    /// [`Components`].
    PublicKey,
    /// `Report`.
    Probe,
    /// A list of `Listed`.
    Tokens,
    /// [`Components`].
    Generate(NewKey),
    /// [`Pair`](super::Pair): what would be removed.
    Pair,
    /// [`Pair`](super::Pair): what was removed.
    Delete,
}

/// What came of an operation.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answered {
    Opened {
        #[serde(serialize_with = "write_secret", deserialize_with = "read_secret")]
        secret: SecretBytes,
        how: super::How,
    },
    Refused(Refused),
}

/// The public half of a key, as its attributes have it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Components {
    /// Modulus and public exponent, big-endian.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    /// The point, uncompressed; not checked yet.
    Ec { curve: Curve, point: Vec<u8> },
}

impl Components {
    /// The key, checked; `name` is what messages call it.
    pub(super) fn public_key(&self, name: &str) -> keys::Result<PublicKey> {
        match self {
            Self::Rsa { modulus, exponent } => PublicKey::from_components(name, modulus, exponent),
            Self::Ec { curve, point } => {
                EcPublicKey::from_point(name, *curve, point).map(PublicKey::Ec)
            }
        }
    }
}

/// A message with its length, in memory that is wiped.
pub(super) fn framed(message: &impl Serialize) -> io::Result<Zeroizing<Vec<u8>>> {
    // Twice, since a buffer that grows leaves copies behind.
    let mut length = Length(0);
    serde_json::to_writer(&mut length, message)?;
    let mut frame = Zeroizing::new(Vec::with_capacity(4 + length.0));
    let length = u32::try_from(length.0).map_err(|_| io::ErrorKind::FileTooLarge)?;
    frame.extend(length.to_le_bytes());
    serde_json::to_writer(&mut *frame, message)?;
    Ok(frame)
}

/// Counts what is written to it.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// In base64, which JSON never has to escape: an escaped string is read by way of memory that is not wiped.
fn write_secret<S: Serializer>(secret: &SecretBytes, serializer: S) -> Result<S::Ok, S::Error> {
    write(secret.expose(), serializer)
}

fn read_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretBytes, D::Error> {
    let mut bytes = read(deserializer)?;
    Ok(SecretBytes::new(std::mem::take(&mut *bytes)))
}

fn write_pin<S: Serializer>(pin: &Pin, serializer: S) -> Result<S::Ok, S::Error> {
    write(pin.expose().as_bytes(), serializer)
}

fn read_pin<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Pin, D::Error> {
    let mut bytes = read(deserializer)?;
    let text = String::from_utf8(std::mem::take(&mut *bytes));
    text.ok()
        .and_then(Pin::new)
        .ok_or_else(|| D::Error::custom("no PIN"))
}

fn write<S: Serializer>(secret: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    let text = Zeroizing::new(STANDARD.encode(secret));
    serializer.serialize_str(&text)
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<Vec<u8>>, D::Error> {
    let text = Zeroizing::<String>::deserialize(deserializer)?;
    STANDARD
        .decode(text.as_bytes())
        .map(Zeroizing::new)
        .map_err(D::Error::custom)
}

/// What a worker makes of a request.
pub(super) type Result<T, E = Failure> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    fn unframed<T: for<'de> Deserialize<'de>>(frame: &[u8]) -> T {
        let (length, json) = frame.split_at(4);
        assert_eq!(
            u32::from_le_bytes(length.try_into().unwrap()) as usize,
            json.len()
        );
        serde_json::from_slice(json).unwrap()
    }

    #[test]
    fn a_request_arrives_as_it_was_sent_in_a_buffer_that_never_grew() {
        let request = Request {
            left: 1,
            patient: true,
            name: "/keys/\"a\".yaml".to_owned(),
            uri: "pkcs11:token=t".to_owned(),
            pin: KeyPin::Known(Pin::new("1\"2\\\n\u{1}ü".to_owned()).unwrap()),
            question: Question::Operation(KeyOperation::RsaPkcs1 {
                length: 32,
                ciphertext: vec![0xff; 512],
            }),
        };
        let frame = framed(&request).unwrap();
        assert_eq!(frame.len(), frame.capacity());
        let read: Request = unframed(&frame);
        let KeyPin::Known(pin) = read.pin else {
            panic!("the PIN is gone");
        };
        assert_eq!(pin.expose(), "1\"2\\\n\u{1}ü");
        assert_eq!(read.name, request.name);
        assert!(matches!(
            read.question,
            Question::Operation(KeyOperation::RsaPkcs1 { length: 32, ciphertext }) if ciphertext == [0xff; 512]
        ));
    }

    #[test]
    fn an_answer_arrives_as_it_was_sent_and_debug_shows_no_secret() {
        let answer: Result<Answered> = Ok(Answered::Opened {
            secret: SecretBytes::new(b"AAAA".to_vec()),
            how: super::super::How::Native,
        });
        let read: Result<Answered> = unframed(&framed(&answer).unwrap());
        assert!(!format!("{read:?}").contains("65"));
        let Ok(Answered::Opened { secret, .. }) = read else {
            panic!("{read:?}");
        };
        assert_eq!(secret.expose(), b"AAAA");
    }

    #[test]
    fn what_is_no_pin_is_refused() {
        for text in ["\"\"", "\"/w==\"", "\"*\"", "7"] {
            let json = format!("{{\"Known\":{text}}}");
            assert!(serde_json::from_str::<KeyPin>(&json).is_err(), "{text}");
        }
    }
}
