//! The bytes of fd 3 -> descriptor and key material.
//!
//! containerd's clients may send a protobuf `google.protobuf.Any` along with a layer; its value is JSON made by
//! Go (imgcrypt's `Payload`). Whether fd 3 is such a pipe at all is decided here; what the keys in it mean is
//! not. A payload holds secrets: its bytes are wiped, and no message quotes them.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Map, Value};
use zeroize::{Zeroize, Zeroizing};

use crate::descriptor::LayerDescriptor;
use crate::error::{Error, Result};
use crate::secret::SecretBytes;

/// Most bytes that a payload may have.
pub const MAX_PAYLOAD: usize = 4 << 20;

/// Enough for nearly every payload; a larger one doubles it.
const FIRST_BUFFER: usize = 64 << 10;

const TYPE_URL: &str = "io.containerd.ocicrypt.v1.Payload";

/// What a client sent for one layer.
#[derive(Debug)]
pub struct Payload {
    /// The layer as its manifest describes it.
    pub descriptor: LayerDescriptor,
    /// PKCS#11 key files (`pkcs11-yamls`).
    pub key_files: Vec<SecretBytes>,
    /// The client's module policies (`pkcs11-config`).
    pub policies: Vec<SecretBytes>,
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
    /// [`Error::TooLarge`] over [`MAX_PAYLOAD`], [`Error::InvalidPayload`] for a payload that cannot be read.
    pub fn read(file: &mut File, patience: Duration) -> Result<Option<Self>> {
        match read_within(file, patience)? {
            Some(bytes) => Self::parse(&bytes),
            None => Ok(None),
        }
    }

    /// Reads the bytes of a payload; `None` if they are not one at all.
    ///
    /// # Errors
    /// [`Error::InvalidPayload`] when they say that they are one, but cannot be read as one.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let Some(json) = any_value(bytes) else {
            return Ok(None);
        };
        let mut root: Value =
            serde_json::from_slice(json).map_err(|_| invalid("it is not JSON"))?;
        let payload = Self::from_json(&root);
        wipe(&mut root);
        payload.map(Some)
    }

    fn from_json(root: &Value) -> Result<Self> {
        let root = root.as_object().ok_or(invalid("it is not a JSON object"))?;
        let descriptor = member(root, "Descriptor")
            .and_then(Value::as_object)
            .ok_or(invalid("it has no descriptor"))?;
        let parameters = member(root, "DecryptConfig")
            .and_then(Value::as_object)
            .and_then(|config| member(config, "Parameters"))
            .and_then(Value::as_object);
        Ok(Self {
            descriptor: layer(descriptor)?,
            key_files: parameter(parameters, "pkcs11-yamls")?,
            policies: parameter(parameters, "pkcs11-config")?,
        })
    }
}

fn invalid(what: &'static str) -> Error {
    Error::InvalidPayload { what }
}

/// Reads to the end of the file, or gives up when nothing more came in time.
fn read_within(file: &mut File, patience: Duration) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let failed = |source: io::Error| Error::Stream {
        action: "read the payload from fd 3",
        source,
    };
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
        if length > MAX_PAYLOAD {
            return Err(Error::TooLarge {
                what: "payload on fd 3",
                limit: MAX_PAYLOAD as u64,
            });
        }
    }
    bytes.truncate(length);
    Ok(Some(bytes))
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

/// A member of a JSON object, as Go finds it: the exact name, else the name in any case.
fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| {
        object
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    })
}

fn layer(object: &Map<String, Value>) -> Result<LayerDescriptor> {
    let text = |name| member(object, name).and_then(Value::as_str);
    let annotations = member(object, "annotations").and_then(Value::as_object);
    Ok(LayerDescriptor {
        media_type: text("mediaType").map(str::to_owned),
        digest: text("digest").map(str::parse).transpose()?,
        size: member(object, "size").and_then(Value::as_u64),
        annotations: annotations
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect(),
    })
}

/// The values of one parameter; a null stands for a missing one.
fn parameter(parameters: Option<&Map<String, Value>>, name: &str) -> Result<Vec<SecretBytes>> {
    parameters
        .and_then(|map| member(map, name))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|text| {
            STANDARD
                .decode(text)
                .map(SecretBytes::new)
                .map_err(|_| invalid("a parameter is not base64"))
        })
        .collect()
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(map) => map.values_mut().for_each(wipe),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn any(url: &str, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (key, field) in [(0x0a, url.as_bytes()), (0x12, value)] {
            bytes.push(key);
            let mut length = field.len();
            while length > 0x7f {
                bytes.push((length & 0x7f) as u8 | 0x80);
                length >>= 7;
            }
            bytes.push(length as u8);
            bytes.extend_from_slice(field);
        }
        bytes
    }

    fn pipe_with(bytes: &[u8]) -> File {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(bytes).unwrap();
        File::from(std::os::fd::OwnedFd::from(reader))
    }

    #[test]
    fn reads_what_cri_sends() {
        let json = br#"{"DecryptConfig":{"Parameters":null},"Descriptor":{"mediaType":"m","size":3,
            "digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "annotations":{"a":"b"},"platform":null}}"#;
        let payload = Payload::parse(&any(TYPE_URL, json)).unwrap().unwrap();
        assert_eq!(payload.descriptor.size, Some(3));
        assert_eq!(payload.descriptor.annotations["a"], "b");
        assert!(payload.key_files.is_empty());
    }

    #[test]
    fn reads_names_in_any_case_and_null_values() {
        let json = br#"{"decryptconfig":{"PARAMETERS":{"pkcs11-yamls":["aGk=",null]}},"descriptor":{"MediaType":"m"}}"#;
        let payload = Payload::parse(&any(TYPE_URL, json)).unwrap().unwrap();
        assert_eq!(payload.key_files, [SecretBytes::new(b"hi".to_vec())]);
        assert_eq!(payload.descriptor.media_type.as_deref(), Some("m"));
    }

    #[test]
    fn other_bytes_are_no_payload() {
        for bytes in [
            b"".as_slice(),
            b"{}",
            &any("io.containerd.other", b"{}"),
            &any(TYPE_URL, b"{}")[..10],
            &[0xff; 64],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ] {
            assert!(Payload::parse(bytes).unwrap().is_none(), "{bytes:?}");
        }
    }

    #[test]
    fn broken_json_is_an_error_that_quotes_nothing() {
        let error = Payload::parse(&any(TYPE_URL, b"{\"pin\": 1234")).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("1234"));
    }

    #[test]
    fn digest_that_is_a_path_is_refused() {
        let json = br#"{"Descriptor":{"digest":"sha256:../../../etc/passwd"}}"#;
        assert!(Payload::parse(&any(TYPE_URL, json)).is_err());
    }

    #[test]
    fn a_pipe_that_never_ends_is_no_payload() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"x").unwrap();
        let mut file = File::from(std::os::fd::OwnedFd::from(reader));
        let read = Payload::read(&mut file, Duration::from_millis(30)).unwrap();
        assert!(read.is_none());
        drop(writer);
    }

    #[test]
    fn a_payload_through_a_pipe() {
        let mut file = pipe_with(&any(TYPE_URL, br#"{"Descriptor":{}}"#));
        assert!(may_carry(&file));
        let read = Payload::read(&mut file, Duration::from_secs(5)).unwrap();
        assert!(read.is_some());
    }

    #[test]
    fn a_huge_payload_is_an_error_that_names_the_bound() {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(MAX_PAYLOAD as u64 + 1).unwrap();
        let error = Payload::read(&mut file, Duration::from_secs(5)).unwrap_err();
        assert!(error.to_string().contains(&MAX_PAYLOAD.to_string()));
    }
}
