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
/// Where a tar header has its checksum (POSIX, pax, ustar interchange format).
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// Whether a blob is a JSON object and nothing else, whatever its length. No archive is one, nor is what is compressed.
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
    });
    let start = reader.fill_buf().map_err(failed)?;
    if start.iter().find(|it| !it.is_ascii_whitespace()) != Some(&b'{') {
        return Ok(false);
    }
    match serde_json::from_reader::<_, IgnoredAny>(&mut reader) {
        Ok(_) => {}
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

/// A blob that is hashed while it is read.
struct Hashing<R> {
    blob: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.blob.read(buffer)?;
        self.hash.update(&buffer[..read]);
        Ok(read)
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
