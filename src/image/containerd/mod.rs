//! Images in containerd's own store (its image and content services), which are read and written through its socket, as
//! `ctr` does.
//!
//! A lease keeps what is read and written until an image names it; one that nobody ends, ends by itself.

mod client;
mod error;
mod ingest;
mod messages;

use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use tonic::{Code, Streaming};

use self::client::Client;
use self::messages::{AboutBlob, AboutImage, ByDigest, Image, Info, Named, Part, method};
use super::descriptor::Descriptor;
use super::registry;
use super::selection::{CONTAINERD_NAME, REF_NAME};
use super::source::Source;
use crate::descriptor::Digest;

pub use self::error::Error;
pub use self::ingest::{Ingest, Stored};

type Result<T, E = Error> = std::result::Result<T, E>;

/// Longest name of an image that we take.
const MAX_NAME: usize = 512;

/// Which containerd, and which of its namespaces unless a name has one.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its socket.
    pub address: PathBuf,
    /// The namespace.
    pub namespace: String,
}

/// What an image in containerd is called, perhaps with its namespace before it. Only containerd can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

/// An image in containerd.
#[derive(Debug)]
pub struct Store {
    client: Arc<Client>,
    entry: Descriptor,
}

impl Name {
    /// Reads `[NAMESPACE/]NAME`; `None` where it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let sound = text.len() <= MAX_NAME
            && text.bytes().all(|byte| byte.is_ascii_graphic())
            && !text.starts_with('/')
            && !text.ends_with('/');
        (sound && !text.is_empty()).then(|| Self(text.to_owned()))
    }

    /// Whether it has the digest of what it names, as Kubernetes names images.
    fn says_which(&self) -> bool {
        let last = self.0.rsplit(['@', '/']).next().unwrap_or_default();
        last.parse::<Digest>().is_ok()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Store {
    /// Finds an image.
    ///
    /// # Errors
    /// [`Error::NoImage`]; [`Error::Unreachable`]; whatever containerd refuses.
    pub fn open(name: &Name, settings: &Settings) -> super::Result<Self> {
        let (client, name) = Client::open(&settings.address, &settings.namespace, &name.0)?;
        let Some(target) = client.image(&name)?.and_then(|image| image.target) else {
            let full = registry::Name::parse(&name).map(|name| name.to_string());
            let full = full.filter(|full| *full != name);
            let meant = match full {
                Some(full) => client.image(&full)?.map(|_| full),
                None => None,
            };
            let namespace = client.namespace.clone();
            return Err(Error::NoImage {
                name,
                namespace,
                meant,
            }
            .into());
        };
        let digest = target
            .digest
            .parse()
            .map_err(|_| super::Error::InvalidDigest {
                text: super::error::shortened(&target.digest),
            })?;
        let size = u64::try_from(target.size).unwrap_or_default();
        let mut entry = Descriptor::new(&target.media_type, digest, size);
        entry.annotations = target.annotations;
        // From the archive that it came in, and not what it is called here.
        entry.annotations.remove(REF_NAME);
        entry.annotations.remove(CONTAINERD_NAME);
        Ok(Self {
            client: Arc::new(client),
            entry,
        })
    }

    /// The image's entry, as an index of a layout would have it.
    #[must_use]
    pub fn entry(&self) -> Descriptor {
        self.entry.clone()
    }
}

impl Source for Store {
    fn has(&self, descriptor: &Descriptor) -> super::Result<bool> {
        Ok(self.client.info(descriptor)?.is_some())
    }

    fn blob(&self, descriptor: &Descriptor) -> super::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Reading::begin(&self.client, descriptor)?))
    }

    fn hold(&self) -> super::Result<()> {
        self.client.begin_lease()?;
        Ok(self.client.keep(self.entry.digest.as_str())?)
    }
}

impl Client {
    fn image(&self, name: &str) -> Result<Option<Image>> {
        let named = Named {
            name: name.to_owned(),
        };
        match self.unary::<_, AboutImage>(method::IMAGE_GET, named) {
            Ok(answer) => Ok(answer.image),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.refused("look for an image", &status)),
        }
    }

    fn info(&self, descriptor: &Descriptor) -> Result<Option<Info>> {
        let wanted = ByDigest {
            digest: descriptor.digest.to_string(),
        };
        match self.unary::<_, AboutBlob>(method::CONTENT_INFO, wanted) {
            Ok(answer) => Ok(answer.info),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.refused("look for a blob", &status)),
        }
    }
}

/// A blob that is being read.
struct Reading {
    parts: Streaming<Part>,
    part: io::Cursor<Vec<u8>>,
    client: Arc<Client>,
}

impl Reading {
    fn begin(client: &Arc<Client>, descriptor: &Descriptor) -> super::Result<Self> {
        let digest = || descriptor.digest.clone();
        let info = client.info(descriptor)?.ok_or_else(|| Error::NoBlob {
            digest: digest(),
            namespace: client.namespace.clone(),
        })?;
        let actual = u64::try_from(info.size).unwrap_or_default();
        if actual != descriptor.size {
            return Err(super::Error::BlobSize {
                digest: digest(),
                actual,
                expected: descriptor.size,
            });
        }
        let wanted = ByDigest {
            digest: digest().to_string(),
        };
        let parts = client
            .answers(method::CONTENT_READ, wanted)
            .map_err(|status| client.refused("read a blob", &status))?;
        Ok(Self {
            parts,
            part: io::Cursor::default(),
            client: Arc::clone(client),
        })
    }
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.part.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            match self.client.wait(self.parts.message()) {
                Ok(Some(part)) => self.part = io::Cursor::new(part.data),
                Ok(None) => return Ok(0),
                Err(status) => {
                    return Err(io::Error::other(
                        self.client.refused("read a blob", &status),
                    ));
                }
            }
        }
    }
}
