//! Layers made here: a tar archive, plain or compressed, with the digests an image needs.

use std::io::{Read as _, Write as _};

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::program::Program;

/// How a layer's archive is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    None,
    /// gzip, by a library.
    Gzip,
    /// Zstandard, by the `zstd` program.
    Zstd,
}

/// A finished plain layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// How `blob` is stored.
    pub compression: Compression,
    /// The bytes that the manifest's digest is of.
    pub blob: Vec<u8>,
    /// Digest of the archive, `sha256:…`.
    pub diff_id: String,
}

/// The archive of a layer in the making.
pub struct Archive(tar::Builder<Vec<u8>>);

impl Compression {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::None, Self::Gzip, Self::Zstd];

    /// Media type of a plain layer.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// What a plain layer of this media type is compressed with.
    ///
    /// # Panics
    /// If it is no such type.
    #[must_use]
    pub fn of(media_type: &str) -> Self {
        let found = Self::ALL
            .into_iter()
            .find(|compression| compression.media_type() == media_type);
        found.unwrap_or_else(|| panic!("{media_type} is no type of a layer"))
    }

    /// The archive that was compressed.
    ///
    /// # Panics
    /// If the bytes are not what they should be, or `zstd` is not installed.
    #[must_use]
    pub fn decompress(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::None => bytes.to_vec(),
            Self::Gzip => {
                let mut archive = Vec::new();
                MultiGzDecoder::new(bytes)
                    .read_to_end(&mut archive)
                    .expect("a layer is gzip");
                archive
            }
            Self::Zstd => {
                Program::new("zstd")
                    .args(["-q", "-d", "-c", "-"])
                    .stdin(bytes)
                    .ok()
                    .stdout
            }
        }
    }

    /// Compresses into one member, or frame; several of them in a row are one stream.
    ///
    /// # Panics
    /// If `zstd` is not installed.
    #[must_use]
    pub fn compress(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::None => bytes.to_vec(),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).expect("writing to memory");
                encoder.finish().expect("writing to memory")
            }
            Self::Zstd => {
                Program::new("zstd")
                    .args(["-q", "-c", "-"])
                    .stdin(bytes)
                    .ok()
                    .stdout
            }
        }
    }
}

impl Layer {
    /// A layer that holds this archive.
    #[must_use]
    pub fn new(archive: &[u8], compression: Compression) -> Self {
        Self {
            compression,
            blob: compression.compress(archive),
            diff_id: digest(archive),
        }
    }

    /// The layer that a container can be started from: a static busybox under its usual names.
    ///
    /// # Panics
    /// If there is no `busybox` on the search path.
    #[must_use]
    pub fn busybox(compression: Compression) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let busybox = std::env::split_paths(&path)
            .find_map(|place| std::fs::read(place.join("busybox")).ok());
        let mut archive = Archive::new();
        archive.file(
            "bin/busybox",
            0o755,
            &busybox.expect("busybox-static is on the search path"),
        );
        for name in ["sh", "echo", "cat", "sleep"] {
            archive.link(&format!("bin/{name}"), "busybox");
        }
        Self::new(&archive.finish(), compression)
    }

    /// A layer with one file.
    #[must_use]
    pub fn file(path: &str, content: &[u8], compression: Compression) -> Self {
        let mut archive = Archive::new();
        archive.file(path, 0o644, content);
        Self::new(&archive.finish(), compression)
    }
}

impl Default for Archive {
    fn default() -> Self {
        Self::new()
    }
}

impl Archive {
    /// An empty archive.
    #[must_use]
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// Adds a file, owned by root, of 1970.
    ///
    /// # Panics
    /// If the path is longer than tar can hold.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        self.0
            .append_data(&mut header, path, content)
            .expect("writing to memory");
    }

    /// Adds a symbolic link.
    ///
    /// # Panics
    /// If a path is longer than tar can hold.
    pub fn link(&mut self, path: &str, target: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        self.0
            .append_link(&mut header, path, target)
            .expect("writing to memory");
    }

    /// What is there so far, without the two blocks that end an archive: a reader takes it for whole.
    #[must_use]
    pub fn so_far(&self) -> &[u8] {
        self.0.get_ref()
    }

    /// The whole archive.
    ///
    /// # Panics
    /// Never: it is in memory.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0.into_inner().expect("writing to memory")
    }
}

/// What messages show of a descriptor's digest.
///
/// # Panics
/// If it has none.
#[must_use]
pub fn short(descriptor: &Value) -> &str {
    let digest = descriptor["digest"].as_str();
    &digest.expect("a descriptor has a digest")[.."sha256:".len() + 12]
}

/// `sha256:` and the hash in hexadecimal.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes)
        .iter()
        .fold("sha256:".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Bytes that do not compress and do not repeat.
#[must_use]
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
