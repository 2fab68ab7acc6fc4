//! An image on its way into a registry: blobs in chunks, of which the last is kept until the registry has it; manifests
//! by digest; and last of all the tag.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use ureq::Body;
use ureq::http::{HeaderValue, Method, Response};

use super::auth::escape;
use super::call::Call;
use super::connection::{Connection, TRIES, is_temporary, pause};
use super::error::Error;
use super::name::Name;
use super::{Result, Settings};
use crate::descriptor::Digest;
use crate::image::descriptor::Descriptor;
use crate::image::layout::digest_of;
use crate::image::stop;
use crate::image::target::Existing;

/// Bytes of a layer that are sent together. Some registries take no less than 5 MiB but at the end. Several layers are
/// sent at once, and each holds so much.
const CHUNK: usize = 5 << 20;
const ANOTHER: &str = "a manifest that was sent has another digest there";

/// An image that is being pushed.
#[derive(Debug)]
pub struct Pushed {
    connection: Arc<Connection>,
    tag: String,
    force: bool,
    /// A repository of the same registry, whose blobs need not be sent.
    from: Option<String>,
    /// The document that was put last, which is the image's root at the end.
    root: Option<(Descriptor, Vec<u8>)>,
}

impl Pushed {
    /// Prepares to write an image under a name. Blobs of `from`, where that is in the same registry, are taken there.
    ///
    /// # Errors
    /// [`crate::image::Error::TagTaken`]; [`Error::DigestAsTarget`]; whatever keeps the registry from answering.
    pub fn prepare(
        name: &Name,
        settings: &Settings,
        from: Option<&Name>,
        force: bool,
    ) -> crate::image::Result<Self> {
        let Some(tag) = name.tag().filter(|_| name.digest.is_none()) else {
            let name = name.to_string();
            return Err(Error::DigestAsTarget { name }.into());
        };
        let mut connection = Connection::open(name, settings, true)?;
        let from = from.filter(|from| from.host == name.host && from.path != name.path);
        let from = from.map(|from| from.path.clone());
        if let Some(from) = &from {
            connection.also_read(from);
        }
        let this = Self {
            connection: Arc::new(connection),
            tag: tag.to_owned(),
            force,
            from,
            root: None,
        };
        this.check_tag()?;
        Ok(this)
    }

    fn check_tag(&self) -> crate::image::Result<()> {
        if self.force {
            return Ok(());
        }
        let call = Call::head(self.connection.url("manifests", &self.tag));
        let response = self.connection.send(&call)?;
        match response.status().as_u16() {
            404 => Ok(()),
            200 => Err(crate::image::Error::TagTaken {
                place: format!(
                    "{}/{}",
                    self.connection.name.host, self.connection.name.path
                ),
                tag: self.tag.clone(),
            }),
            _ => Err(self.connection.refused("look for a tag", response).into()),
        }
    }

    /// Whether the repository has a blob, or has it now from another one.
    pub(in crate::image) fn existing(&self, descriptor: &Descriptor) -> Result<Existing> {
        let url = self.connection.url("blobs", descriptor.digest.as_str());
        let response = self.connection.send(&Call::head(url))?;
        match response.status().as_u16() {
            200 => {
                self.connection.check_length(&response, descriptor.size)?;
                return Ok(Existing::Sound);
            }
            404 => {}
            _ => return Err(self.connection.refused("look for a blob", response)),
        }
        let Some(from) = &self.from else {
            return Ok(Existing::No);
        };
        let mut path = String::new();
        escape(from, &mut path);
        let query = format!("?mount={}&from={path}", descriptor.digest);
        let url = self.connection.url("blobs", "uploads/") + &query;
        let response = self
            .connection
            .send(&Call::new(Method::POST, url, Some(&[])))?;
        match response.status().as_u16() {
            201 => Ok(Existing::Sound),
            // It did not, and begins an upload in place of that.
            202 => {
                if let Ok(Some(location)) = location(&self.connection, &response) {
                    let _ = self
                        .connection
                        .send(&Call::new(Method::DELETE, location, None));
                }
                Ok(Existing::No)
            }
            _ => Ok(Existing::No),
        }
    }

    pub(in crate::image) fn begin(&self) -> Result<Upload> {
        Upload::begin(Arc::clone(&self.connection))
    }

    pub(in crate::image) fn put(&mut self, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        self.put_as(descriptor.digest.as_str(), descriptor, bytes)?;
        self.root = Some((descriptor.clone(), bytes.to_vec()));
        Ok(())
    }

    fn put_as(&self, reference: &str, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        let url = self.connection.url("manifests", reference);
        let call = Call::new(Method::PUT, url, Some(bytes))
            .header("content-type", descriptor.media_type.clone());
        let response = self.connection.send(&call)?;
        let is_created = match response.status().as_u16() {
            201 => true,
            200 | 202 => false,
            _ => return Err(self.connection.refused("write a manifest", response)),
        };
        // A registry may name a manifest by SHA-256 whatever we named it by.
        let stored = response.headers().get("docker-content-digest");
        let is_same = |stored: &HeaderValue| {
            [&descriptor.digest, &digest_of(bytes)]
                .iter()
                .any(|digest| stored.as_bytes() == digest.as_str().as_bytes())
        };
        match stored.map(is_same) {
            Some(true) if is_created => Ok(()),
            Some(false) => Err(self.connection.nonsense(ANOTHER)),
            _ => self.check(reference, bytes),
        }
    }

    /// Looks whether a manifest is there: who answers for the registry, a page to log in at for example, has none.
    fn check(&self, reference: &str, bytes: &[u8]) -> Result<()> {
        let what = match self.connection.manifest(reference) {
            Ok((_, there)) if there == bytes => return Ok(()),
            Ok(_) => ANOTHER,
            Err(Error::NotFound { .. }) => "a manifest that was sent is not there",
            Err(error) => return Err(error),
        };
        Err(self.connection.nonsense(what))
    }

    pub(in crate::image) fn commit(self, entry: &Descriptor) -> crate::image::Result<()> {
        self.check_tag()?;
        stop::asking();
        match &self.root {
            Some((descriptor, bytes)) if descriptor.digest == entry.digest => {
                match self.put_as(&self.tag, descriptor, bytes) {
                    // It may have come through, and only the answer not.
                    Err(
                        Error::Unreachable { .. }
                        | Error::Status {
                            status: 500..=504, ..
                        },
                    ) if self.check(&self.tag, bytes).is_ok() => Ok(()),
                    put => Ok(put?),
                }
            }
            _ => Err(self.connection.nonsense("the image has no root").into()),
        }
    }
}

/// A blob that is being sent.
#[derive(Debug)]
pub struct Upload {
    connection: Arc<Connection>,
    /// Where the next bytes go; `None` once the registry has the blob.
    location: Option<String>,
    /// Bytes that the registry has.
    sent: u64,
    /// What comes after them.
    chunk: Vec<u8>,
}

impl Upload {
    fn begin(connection: Arc<Connection>) -> Result<Self> {
        let url = connection.url("blobs", "uploads/");
        let mut call = Call::new(Method::POST, url, Some(&[]));
        // An upload that nobody goes on with is forgotten by the registry.
        call.again = true;
        let response = connection.send(&call)?;
        if response.status() != 202 {
            return Err(connection.refused("begin to write a blob", response));
        }
        let location = location(&connection, &response)?;
        let location =
            location.ok_or_else(|| connection.nonsense("it says of no place for a blob"))?;
        Ok(Self {
            connection,
            location: Some(location),
            sent: 0,
            chunk: Vec::with_capacity(CHUNK),
        })
    }

    /// Sends the chunk. Where it does not come through, the registry is asked how much of it did.
    fn send_chunk(&mut self) -> Result<()> {
        let mut tries = 1;
        while !self.chunk.is_empty() {
            let url = self.location.clone().unwrap_or_default();
            let end = self.sent + self.chunk.len() as u64 - 1;
            let call = Call::new(Method::PATCH, url, Some(&self.chunk))
                .header("content-type", "application/octet-stream")
                .header("content-range", format!("{}-{end}", self.sent));
            let trouble = match self.connection.send(&call) {
                Ok(response) if matches!(response.status().as_u16(), 202 | 201 | 204) => {
                    if let Some(location) = location(&self.connection, &response)? {
                        self.location = Some(location);
                    }
                    self.sent = end + 1;
                    self.chunk.clear();
                    return Ok(());
                }
                Ok(response)
                    if is_temporary(response.status().as_u16()) || response.status() == 416 =>
                {
                    self.connection.refused("write a blob", response)
                }
                Ok(response) => return Err(self.connection.refused("write a blob", response)),
                Err(error) => error,
            };
            if tries == TRIES {
                return Err(trouble);
            }
            pause(Duration::from_millis(200 << tries))?;
            tries += 1;
            // A registry that lost the upload with the connection says less than what came before.
            if self.ask_how_much().is_err() {
                return Err(trouble);
            }
        }
        Ok(())
    }

    /// Drops from the chunk what the registry has of it.
    fn ask_how_much(&mut self) -> Result<()> {
        let url = self.location.clone().unwrap_or_default();
        let response = self.connection.send(&Call::get(url))?;
        if !matches!(response.status().as_u16(), 202 | 204) {
            return Err(self.connection.refused("go on writing a blob", response));
        }
        let range = response
            .headers()
            .get("range")
            .and_then(|it| it.to_str().ok());
        let last = range.and_then(|range| range.trim_start_matches("bytes=").split_once('-'));
        let last: u64 = last
            .and_then(|(_, last)| last.parse().ok())
            .unwrap_or_default();
        // `0-0` is nothing as well as one byte; what was sent already is not less than that.
        let has = if last == 0 { self.sent } else { last + 1 };
        let more = has
            .checked_sub(self.sent)
            .and_then(|more| usize::try_from(more).ok());
        let more = more.filter(|&more| more <= self.chunk.len());
        let more = more.ok_or_else(|| self.connection.nonsense("it has lost a part of a blob"))?;
        self.chunk.drain(..more);
        self.sent = has;
        if let Some(location) = location(&self.connection, &response)? {
            self.location = Some(location);
        }
        Ok(())
    }

    /// Tells the registry that this is all, and what it should be.
    pub(in crate::image) fn keep(mut self, digest: &Digest) -> Result<()> {
        self.send_chunk()?;
        let location = self.location.clone().unwrap_or_default();
        let separator = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{separator}digest={digest}");
        let response = self
            .connection
            .send(&Call::new(Method::PUT, url, Some(&[])))?;
        if response.status() == 201 {
            self.location = None;
            return Ok(());
        }
        // A first try may have come through, and only its answer not. Others say less than that they have it.
        let url = self.connection.url("blobs", digest.as_str());
        let there = self.connection.send(&Call::head(url))?;
        match there.status().as_u16() {
            200 => {
                self.location = None;
                self.connection.check_length(&there, self.sent)
            }
            _ => Err(self.connection.refused("write a blob to its end", response)),
        }
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK - self.chunk.len();
        let taken = &bytes[..room.min(bytes.len())];
        self.chunk.extend_from_slice(taken);
        if self.chunk.len() == CHUNK {
            self.send_chunk().map_err(io::Error::other)?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Upload {
    /// A registry need not keep what nobody goes on with.
    fn drop(&mut self) {
        if let Some(location) = self.location.take() {
            let mut call = Call::new(Method::DELETE, location, None);
            call.again = false;
            let _ = self.connection.send(&call);
        }
    }
}

fn location(connection: &Connection, response: &Response<Body>) -> Result<Option<String>> {
    let location = response.headers().get("location");
    let location = location.and_then(|it| it.to_str().ok());
    location.map(|it| connection.absolute(it)).transpose()
}
