//! What `docker save` writes, read as if it were an OCI image: its layers by their places, its manifest made here.

use std::io::Read as _;
use std::os::unix::fs::FileExt as _;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Archive, Blob, DOCKER, GZIP, Span};
use crate::descriptor::Digest;
use crate::image::descriptor::Descriptor;
use crate::image::document;
use crate::image::error::{Error, Result, shortened};
use crate::image::layout::digest_of;
use crate::image::media_type;
use crate::image::selection::Selection;

/// What a Zstandard frame begins with (RFC 8878, section 3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

impl Archive {
    /// The entry of an image that `docker save` wrote: its manifest is made here, with OCI's types.
    ///
    /// # Errors
    /// [`Error::NotAnArchive`] where something is not as it should be; [`Error::UnknownTag`] and
    /// [`Error::WhichImage`].
    pub fn docker_entry(&mut self, wanted: &Selection) -> Result<Descriptor> {
        let list = document::parse(&self.text(DOCKER)?, "manifest.json is no JSON")?;
        let list = list.as_array().map_or(&[][..], Vec::as_slice);
        for image in list.iter().filter_map(Value::as_object) {
            document::no_variants(image, &["Config", "RepoTags", "Layers"])?;
        }
        let names = |image: &Value| -> Vec<String> {
            let names = image["RepoTags"].as_array().into_iter().flatten();
            names
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect()
        };
        let is_meant = |(number, image): &(usize, &Value)| match wanted {
            Selection::Only => true,
            Selection::Number(wanted) => number == wanted,
            Selection::Digest(_) => false,
            Selection::Tag(tag) => names(image).iter().any(|name| is_named(name, tag)),
        };
        let meant: Vec<_> = list.iter().enumerate().filter(is_meant).collect();
        let [(_, image)] = meant[..] else {
            let tags = list
                .iter()
                .flat_map(names)
                .take(10)
                .map(|tag| shortened(&tag))
                .collect();
            let place = self.path.display().to_string();
            return Err(match wanted {
                Selection::Tag(tag) if meant.is_empty() => Error::UnknownTag {
                    place,
                    tag: tag.clone(),
                    tags,
                },
                _ => Error::WhichImage {
                    place,
                    count: meant.len(),
                    tags,
                },
            });
        };
        let config = self.text(image["Config"].as_str().unwrap_or_default())?;
        let json = document::parse(&config, "an image's config is no JSON")?;
        let empty = Vec::new();
        let diff_ids = json["rootfs"]["diff_ids"].as_array().unwrap_or(&empty);
        let files = image["Layers"].as_array().unwrap_or(&empty);
        if diff_ids.len() != files.len() {
            return Err(self.not("an image has other layers than its config"));
        }
        let mut layers = Vec::new();
        for (file, diff_id) in files.iter().zip(diff_ids) {
            layers.push(
                self.docker_layer(file.as_str(), diff_id.as_str())?
                    .to_json(),
            );
        }
        let config = self.made(media_type::CONFIG, config);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::MANIFEST,
            "config": config.to_json(),
            "layers": layers,
        });
        Ok(self.made(media_type::MANIFEST, manifest.to_string().into_bytes()))
    }

    /// A layer is named by where it is; its digest is that of the archive in it, unless it is compressed.
    fn docker_layer(&mut self, name: Option<&str>, diff_id: Option<&str>) -> Result<Descriptor> {
        let span = name.and_then(|name| self.find(name));
        let span = span.ok_or_else(|| self.not("a layer is missing"))?;
        let mut start = [0; 4];
        let known = span.len >= start.len() as u64;
        let known = known && self.file.read_exact_at(&mut start, span.start).is_ok();
        let compressed = match known {
            true if start.starts_with(&GZIP) => Some("application/vnd.oci.image.layer.v1.tar+gzip"),
            true if start == ZSTD => Some("application/vnd.oci.image.layer.v1.tar+zstd"),
            _ => None,
        };
        let (digest, media_type) = match compressed {
            Some(media_type) => (self.hash(span)?, media_type),
            None => {
                let digest = diff_id.and_then(|it| it.parse().ok());
                let digest = digest.ok_or_else(|| self.not("a config has no sha256 of a layer"))?;
                (digest, "application/vnd.oci.image.layer.v1.tar")
            }
        };
        self.docker.insert(digest.clone(), Blob::There(span));
        Ok(Descriptor::new(media_type, digest, span.len))
    }

    fn made(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let made = Descriptor::new(media_type, digest_of(&bytes), bytes.len() as u64);
        self.docker.insert(made.digest.clone(), Blob::Made(bytes));
        made
    }

    fn hash(&self, span: Span) -> Result<Digest> {
        let mut hash = Sha256::new();
        let mut reader = self.reader(span);
        let mut buffer = vec![0; 1 << 16];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(Digest::from_sha256(&hash.finalize().into())),
                Ok(read) => hash.update(&buffer[..read]),
                Err(source) => {
                    return Err(Error::File {
                        action: "read",
                        path: self.path.clone(),
                        source,
                    });
                }
            }
        }
    }
}

/// Whether a name in `RepoTags` is the one that was asked for: with its registry or without.
fn is_named(name: &str, wanted: &str) -> bool {
    let with_tag = |name: &str| match name.rsplit('/').next().is_some_and(|it| it.contains(':')) {
        true => name.to_owned(),
        false => format!("{name}:latest"),
    };
    let short = |name: &str| {
        let name = name.strip_prefix("docker.io/").unwrap_or(name);
        with_tag(name.strip_prefix("library/").unwrap_or(name))
    };
    short(name) == short(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_and_without_a_registry() {
        for wanted in [
            "busybox",
            "busybox:latest",
            "docker.io/library/busybox:latest",
        ] {
            assert!(is_named("busybox:latest", wanted), "{wanted}");
        }
        assert!(!is_named("busybox:latest", "busybox:1"));
        assert!(!is_named("r.test:5000/a:1", "a:1"));
    }
}
