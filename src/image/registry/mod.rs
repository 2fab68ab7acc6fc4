//! Images in a registry (OCI distribution spec), without a file between: what is read streams, and so does what is written.
//!
//! Everything blocks; there is no runtime. What fails on the way is tried again where it stopped, a few times.

mod auth;
mod call;
mod connection;
mod credentials;
mod download;
mod error;
mod login;
mod name;
mod secrets;
mod tls;
mod upload;

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use self::call::Call;
use self::connection::Connection;
use super::descriptor::Descriptor;
use super::document::MAX_DOCUMENT;
use super::layout::digest_of;
use super::media_type::{self, Kind};
use super::source::Source;

pub use self::error::Error;
pub use self::name::Name;
pub use self::upload::{Pushed, Upload};

type Result<T, E = Error> = std::result::Result<T, E>;

/// How registries are spoken to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether a registry has to show a certificate that we trust. If not, it may also speak plain HTTP.
    pub tls_verify: bool,
    /// Where further certificates are: `*.crt` of authorities, `*.cert` and `*.key` of our own. Those of the machine
    /// are in directories named after the registry, below each of these.
    pub cert_dir: Option<PathBuf>,
    /// See `cert_dir`.
    pub machine_cert_dirs: Vec<PathBuf>,
    /// Files with credentials; the first that knows the registry counts.
    pub auth_files: Vec<PathBuf>,
}

/// A repository that an image is read from.
#[derive(Debug)]
pub struct Repository {
    connection: Arc<Connection>,
    /// The image's first document, which has been fetched by its tag.
    root: (Descriptor, Vec<u8>),
}

impl Repository {
    /// Finds an image.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Denied`]; whatever keeps the registry from answering.
    pub fn open(name: &Name, settings: &Settings) -> Result<Self> {
        let connection = Arc::new(Connection::open(name, settings, false)?);
        let (media_type, bytes) = connection.manifest(name.reference())?;
        let digest = digest_of(&bytes);
        if name.digest.as_ref().is_some_and(|wanted| *wanted != digest) {
            return Err(Error::WrongManifest {
                name: name.to_string(),
            });
        }
        let entry = Descriptor::new(&media_type, digest, bytes.len() as u64);
        Ok(Self {
            connection,
            root: (entry, bytes),
        })
    }

    /// The image's entry, as an index of a layout would have it.
    #[must_use]
    pub fn entry(&self) -> Descriptor {
        self.root.0.clone()
    }

    /// Where a blob may be: a manifest is not where other blobs are.
    fn places(descriptor: &Descriptor) -> &'static [&'static str] {
        match media_type::kind(&descriptor.media_type) {
            Kind::Index | Kind::Manifest => &["manifests"],
            Kind::Other if descriptor.media_type.is_empty() => &["manifests", "blobs"],
            Kind::Other => &["blobs", "manifests"],
        }
    }
}

impl Source for Repository {
    fn has(&self, descriptor: &Descriptor) -> super::Result<bool> {
        if descriptor.digest == self.root.0.digest {
            return Ok(true);
        }
        for place in Self::places(descriptor) {
            let url = self.connection.url(place, descriptor.digest.as_str());
            let response = self.connection.send(&Call::head(url))?;
            match response.status().as_u16() {
                200 => return Ok(true),
                404 => {}
                _ => return Err(self.connection.refused("look for a blob", response).into()),
            }
        }
        Ok(false)
    }

    fn blob(&self, descriptor: &Descriptor) -> super::Result<Box<dyn Read + Send>> {
        if descriptor.digest == self.root.0.digest {
            return Ok(Box::new(std::io::Cursor::new(self.root.1.clone())));
        }
        if Self::places(descriptor)[0] == "manifests" && descriptor.size <= MAX_DOCUMENT {
            match self.connection.manifest(descriptor.digest.as_str()) {
                Ok((_, bytes)) => return Ok(Box::new(std::io::Cursor::new(bytes))),
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Box::new(self.connection.download(descriptor)?))
    }
}
