//! What the bytes of a blob are, where its media type says that it is to stay as it is.

use std::io::{self, BufRead as _, BufReader, Read};

use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};

use super::descriptor::Descriptor;
use super::error::{Error, Result};
use super::source::Source;
use crate::descriptor::Digest;

/// Bytes of a blob that tell what it is.
const START: u64 = 512;
/// Most arrays and objects within each other in a statement: its reader keeps a byte for each that is open.
const MAX_NESTING: usize = 128;
/// Where a tar header has its checksum (POSIX, pax, ustar interchange format).
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Whether a blob is a JSON object and nothing else, whatever its length. No archive is one, nor is what is compressed. One
/// that is nested deeper than any statement is taken for none.
///
/// # Errors
/// [`Error::WrongBlob`], [`Error::Blob`]; whatever [`Source::blob`] has.
pub(super) fn is_json(source: &dyn Source, blob: &Descriptor) -> Result<bool> {
    let failed = |source| Error::Blob {
        action: "read",
        digest: blob.digest.clone(),
        source,
    };
    let mut reader = BufReader::new(Hashing {
        blob: source.blob(blob)?,
        hash: Sha256::new(),
        nesting: Nesting::default(),
    });
    let begins = reader.fill_buf().map(|start| {
        let first = start.iter().find(|it| !it.is_ascii_whitespace());
        first == Some(&b'{')
    });
    match begins {
        Ok(true) => {}
        Ok(false) => return Ok(false),
        Err(_) if reader.get_ref().nesting.is_too_deep() => return Ok(false),
        Err(error) => return Err(failed(error)),
    }
    match serde_json::from_reader::<_, IgnoredAny>(&mut reader) {
        Ok(_) => {}
        Err(_) if reader.get_ref().nesting.is_too_deep() => return Ok(false),
        Err(error) if error.is_io() => return Err(failed(error.into())),
        Err(_) => return Ok(false),
    }
    let found = Digest::from_sha256(&reader.into_inner().hash.finalize().into());
    match found == blob.digest {
        true => Ok(true),
        false => Err(Error::WrongBlob {
            digest: blob.digest.clone(),
        }),
    }
}

/// What a blob begins as, if that is as plain layers begin. What is encrypted begins as nothing.
///
/// # Errors
/// [`Error::Blob`]; whatever [`Source::blob`] has.
pub(super) fn plain_form(source: &dyn Source, blob: &Descriptor) -> Result<Option<&'static str>> {
    let mut start = Vec::new();
    let read = source.blob(blob)?.take(START).read_to_end(&mut start);
    read.map_err(|source| Error::Blob {
        action: "read",
        digest: blob.digest.clone(),
        source,
    })?;
    Ok(form(&start))
}

fn form(start: &[u8]) -> Option<&'static str> {
    const MAGIC: [(&[u8], &str); 6] = [
        (&[0x1f, 0x8b, 8], "gzip"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "Zstandard"),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"),
        (b"hsqs", "SquashFS"),
        (b"\0asm", "WebAssembly"),
        (b"\x7fELF", "ELF"),
    ];
    let magic = MAGIC.iter().find(|(magic, _)| start.starts_with(magic));
    match magic {
        Some((_, name)) => Some(name),
        None => is_tar(start).then_some("tar"),
    }
}

/// Whether it is a header whose checksum is right: the sum of its bytes, the checksum's own taken as spaces.
fn is_tar(header: &[u8]) -> bool {
    let Some(field) = header.get(CHECKSUM).filter(|_| header.len() == 512) else {
        return false;
    };
    let text = String::from_utf8_lossy(field);
    let said = u32::from_str_radix(text.trim_matches(['\0', ' ']), 8);
    let all: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    let own: u32 = field.iter().map(|&byte| u32::from(byte)).sum();
    said == Ok(all - own + 8 * u32::from(b' '))
}

/// A JSON text that is hashed while it is read, and ends where it is nested too deep.
struct Hashing<R> {
    blob: R,
    hash: Sha256,
    nesting: Nesting,
}

/// How many arrays and objects are open in a JSON text.
#[derive(Default)]
struct Nesting {
    open: usize,
    within_text: bool,
    escaped: bool,
}

impl Nesting {
    fn is_too_deep(&self) -> bool {
        self.open > MAX_NESTING
    }

    /// Goes on until it is too deep.
    fn follow(&mut self, text: &[u8]) {
        for byte in text {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = self.within_text,
                b'"' => self.within_text = !self.within_text,
                b'[' | b'{' if !self.within_text => self.open += 1,
                b']' | b'}' if !self.within_text => self.open = self.open.saturating_sub(1),
                _ => {}
            }
            if self.is_too_deep() {
                return;
            }
        }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.blob.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.nesting.follow(&buffer[..read]);
        match self.nesting.is_too_deep() {
            true => Err(io::ErrorKind::InvalidData.into()),
            false => Ok(read),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_layers_are_known_by_their_start() {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_old();
        header.set_size(1);
        archive
            .append_data(&mut header, "{\"a\":1}", &b"x"[..])
            .unwrap();
        let archive = archive.into_inner().unwrap();
        assert_eq!(form(&archive[..512]), Some("tar"));
        assert_eq!(form(&archive[..511]), None);
        assert_eq!(form(&[0x1f, 0x8b, 8, 0, 0]), Some("gzip"));
        assert_eq!(form(&[0x28, 0xb5, 0x2f, 0xfd]), Some("Zstandard"));
        for other in [&[0; 512][..], &[b' '; 512], &[0x55; 512], b"", b"{}"] {
            assert_eq!(form(other), None);
        }
    }
}
