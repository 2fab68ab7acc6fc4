//! Where an image is read from, whatever keeps it there.

use std::io::Read;

use super::descriptor::Descriptor;
use super::document::MAX_DOCUMENT;
use super::error::{Error, Result};
use super::layout::digest_of;

/// A place that holds the blobs of an image.
pub trait Source: Send + Sync {
    /// Whether something is there under the blob's digest.
    ///
    /// # Errors
    /// When the place cannot be asked.
    fn has(&self, descriptor: &Descriptor) -> Result<bool>;

    /// Begins to read a blob, from its first byte. Its length may have been checked; its content is still to be.
    ///
    /// # Errors
    /// When it is not there, or has another length.
    fn blob(&self, descriptor: &Descriptor) -> Result<Box<dyn Read + Send>>;

    /// Has the image kept until all is read. Who does this has to end as it should, or it is kept for a day.
    ///
    /// # Errors
    /// When the place cannot be asked.
    fn hold(&self) -> Result<()> {
        Ok(())
    }

    /// A manifest, an index or a config, whose size and digest are right.
    ///
    /// # Errors
    /// [`Error::WrongBlob`] when they are not; [`Error::TooLarge`] over [`MAX_DOCUMENT`]; whatever [`Source::blob`] has.
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        if descriptor.size > MAX_DOCUMENT {
            return Err(Error::TooLarge {
                what: "size of a manifest, an index or a config in bytes",
                limit: MAX_DOCUMENT,
            });
        }
        let mut bytes = Vec::new();
        let digest = || descriptor.digest.clone();
        self.blob(descriptor)?
            .take(MAX_DOCUMENT + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| Error::Blob {
                action: "read",
                digest: digest(),
                source,
            })?;
        if bytes.len() as u64 != descriptor.size || digest_of(&bytes) != descriptor.digest {
            return Err(Error::WrongBlob { digest: digest() });
        }
        Ok(bytes)
    }
}
