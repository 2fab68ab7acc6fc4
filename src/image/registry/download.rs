//! A blob as it comes from a registry. Where the connection breaks, the rest is asked for.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use super::Result;
use super::call::Call;
use super::connection::{Connection, TRIES, pause};
use super::error::Error;
use crate::descriptor::Digest;
use crate::image::descriptor::Descriptor;

/// A blob that is being read. As many bytes come as its descriptor says, or an error does.
pub(super) struct Download {
    connection: Arc<Connection>,
    digest: Digest,
    size: u64,
    offset: u64,
    body: Option<Box<dyn Read + Send>>,
    /// Tries since the last byte.
    tries: u32,
}

impl Download {
    pub(super) fn begin(connection: Arc<Connection>, descriptor: &Descriptor) -> Result<Self> {
        let mut this = Self {
            connection,
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            offset: 0,
            body: None,
            tries: 1,
        };
        this.body = Some(this.ask()?);
        Ok(this)
    }

    /// The blob from where we are.
    fn ask(&self) -> Result<Box<dyn Read + Send>> {
        let url = self.connection.url("blobs", self.digest.as_str());
        let mut call = Call::get(url);
        if self.offset > 0 {
            call = call.header("range", format!("bytes={}-", self.offset));
        }
        let response = self.connection.send(&call)?;
        let skip = match response.status().as_u16() {
            200 => self.offset,
            206 if self.offset > 0 => 0,
            404 => {
                return Err(Error::NotFound {
                    host: self.connection.name.host.clone(),
                    what: format!("blob {}", self.digest.short()),
                });
            }
            _ => return Err(self.connection.refused("read a blob", response)),
        };
        let body = response.into_body().into_with_config().limit(u64::MAX);
        let mut body: Box<dyn Read + Send> = Box::new(body.reader());
        // A registry that cannot begin in the middle.
        let skipped = io::copy(&mut body.by_ref().take(skip), &mut io::sink());
        match skipped {
            Ok(skipped) if skipped == skip => Ok(body),
            Ok(_) => Err(self
                .connection
                .broken(self.tries, io::ErrorKind::UnexpectedEof.into())),
            Err(source) => Err(self.connection.broken(self.tries, source)),
        }
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.size - self.offset;
        let len = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if len == 0 {
            return Ok(0);
        }
        loop {
            let read = match &mut self.body {
                Some(body) => body.read(&mut buffer[..len]),
                None => Err(io::ErrorKind::NotConnected.into()),
            };
            let source = match read {
                Ok(0) => io::ErrorKind::UnexpectedEof.into(),
                Ok(read) => {
                    self.offset += read as u64;
                    self.tries = 1;
                    return Ok(read);
                }
                Err(error) => error,
            };
            if self.tries == TRIES {
                return Err(io::Error::other(self.connection.broken(self.tries, source)));
            }
            pause(Duration::from_millis(200 << self.tries)).map_err(io::Error::other)?;
            self.tries += 1;
            self.body = match self.ask() {
                Ok(body) => Some(body),
                Err(Error::Broken { .. }) => None,
                Err(error) => return Err(io::Error::other(error)),
            };
        }
    }
}
