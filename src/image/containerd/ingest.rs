//! An image on its way into containerd: blobs as ingests, which containerd checks against their digests; labels, by which its
//! garbage collector finds what a document names; and last of all the image's name.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::client::Client;
use super::messages::{
    self, AboutBlob, AboutImage, ByDigest, Empty, FieldMask, Info, WriteAnswer, WriteRequest,
    action, method,
};
use super::{Name, Reading, Result, Settings};
use crate::descriptor::Digest;
use crate::image::descriptor::Descriptor;
use crate::image::selection::{CONTAINERD_NAME, REF_NAME};
use crate::image::target::Existing;

/// Bytes that are sent together. containerd itself reads as many together.
const CHUNK: usize = 1 << 20;
/// What labels of references begin with.
const REFERENCE: &str = "containerd.io/gc.ref.content";

/// An image that is being written to containerd.
#[derive(Debug)]
pub struct Stored {
    client: Arc<Client>,
    name: String,
    force: bool,
    begun: AtomicUsize,
}

impl Stored {
    /// Prepares to write an image under a name.
    ///
    /// # Errors
    /// [`crate::image::Error::TagTaken`]; [`crate::image::Error::NoNameToGive`]; [`super::Error::Unreachable`]; whatever
    /// containerd refuses.
    pub fn prepare(name: &Name, settings: &Settings, force: bool) -> crate::image::Result<Self> {
        if name.says_which() {
            let name = format!("containerd:{name}");
            return Err(crate::image::Error::NoNameToGive { name });
        }
        let (client, name) = Client::open(&settings.address, &settings.namespace, &name.0)?;
        if !force && client.image(&name)?.is_some() {
            return Err(taken(&client, &name));
        }
        client.begin_lease()?;
        Ok(Self {
            client: Arc::new(client),
            name,
            force,
            begun: AtomicUsize::new(0),
        })
    }

    /// What the namespace has of a blob. It is kept from now on.
    pub(in crate::image) fn existing(
        &self,
        descriptor: &Descriptor,
    ) -> crate::image::Result<Existing> {
        self.client.keep(descriptor.digest.as_str())?;
        match self.client.info(descriptor)? {
            Some(_) => {
                let reading = Reading::begin(&self.client, descriptor)?;
                Ok(Existing::Unchecked(Box::new(reading)))
            }
            None => Ok(Existing::No),
        }
    }

    pub(in crate::image) fn begin(&self) -> Result<Ingest> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        Ingest::begin(
            Arc::clone(&self.client),
            format!("{}-{number}", self.client.lease()),
        )
    }

    pub(in crate::image) fn put(
        &self,
        descriptor: &Descriptor,
        bytes: &[u8],
    ) -> crate::image::Result<()> {
        let mut ingest = self.begin()?;
        let written = ingest.write_all(bytes);
        written.map_err(|source| crate::image::Error::Blob {
            action: "write",
            digest: descriptor.digest.clone(),
            source,
        })?;
        let named = named_by(bytes);
        ingest.keep_with(&descriptor.digest, labels(&named))?;
        self.add_labels(descriptor, named)
    }

    /// A document that was there before may have other labels than ours, or none.
    fn add_labels(
        &self,
        descriptor: &Descriptor,
        mut named: BTreeMap<String, String>,
    ) -> crate::image::Result<()> {
        let info = self.client.info(descriptor)?.unwrap_or_default();
        let is_reference = |label: &&String| label.starts_with(REFERENCE);
        let has = |digest: &String| {
            let labels = info.labels.iter();
            labels
                .filter(|(label, _)| is_reference(label))
                .any(|(_, value)| value == digest)
        };
        named.retain(|_, digest| !has(digest));
        if named.is_empty() {
            return Ok(());
        }
        let labels = labels(&named);
        let update = AboutBlob {
            update_mask: Some(FieldMask {
                paths: labels.keys().map(|it| format!("labels.{it}")).collect(),
            }),
            info: Some(Info {
                digest: descriptor.digest.to_string(),
                size: 0,
                labels,
            }),
        };
        self.client
            .unary::<_, Empty>(method::CONTENT_UPDATE, update)
            .map_err(|status| self.client.refused("label a blob", &status))?;
        Ok(())
    }

    pub(in crate::image) fn commit(self, entry: &Descriptor) -> crate::image::Result<()> {
        let mut annotations = entry.annotations.clone();
        // What it was called elsewhere.
        annotations.remove(REF_NAME);
        annotations.remove(CONTAINERD_NAME);
        let image = messages::Image {
            name: self.name.clone(),
            labels: BTreeMap::new(),
            target: Some(messages::Descriptor {
                media_type: entry.media_type.clone(),
                digest: entry.digest.to_string(),
                size: i64::try_from(entry.size).unwrap_or(i64::MAX),
                annotations,
            }),
        };
        let about = |paths: Option<&str>| AboutImage {
            image: Some(image.clone()),
            update_mask: paths.map(|path| FieldMask {
                paths: vec![path.to_owned()],
            }),
        };
        let created = self
            .client
            .unary::<_, Empty>(method::IMAGE_CREATE, about(None));
        let named = match created {
            Err(status) if status.code() == Code::AlreadyExists && self.force => self
                .client
                .unary::<_, Empty>(method::IMAGE_UPDATE, about(Some("target"))),
            Err(status) if status.code() == Code::AlreadyExists => {
                return Err(taken(&self.client, &self.name));
            }
            created => created,
        };
        named
            .map(drop)
            .map_err(|status| self.client.refused("name an image", &status).into())
    }
}

fn taken(client: &Client, name: &str) -> crate::image::Error {
    crate::image::Error::TagTaken {
        place: format!("containerd's namespace {:?}", client.namespace),
        tag: name.to_owned(),
    }
}

/// What a document names, by the end of the label that says so. The ends are containerd's own.
fn named_by(bytes: &[u8]) -> BTreeMap<String, String> {
    let json: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let mut named = BTreeMap::new();
    let mut add = |end: String, descriptor: &Value| {
        if let Some(digest) = descriptor["digest"].as_str() {
            named.insert(end, digest.to_owned());
        }
    };
    add(".config".to_owned(), &json["config"]);
    for (list, letter) in [("manifests", "m"), ("layers", "l"), ("blobs", "b")] {
        for (number, descriptor) in json[list].as_array().into_iter().flatten().enumerate() {
            add(format!(".{letter}.{number}"), descriptor);
        }
    }
    named
}

fn labels(named: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let label = |(end, digest): (&String, &String)| (format!("{REFERENCE}{end}"), digest.clone());
    named.iter().map(label).collect()
}

/// A blob that is being written. containerd forgets it when it is dropped before it is kept.
pub struct Ingest {
    /// `None` once all is said.
    questions: Option<mpsc::Sender<WriteRequest>>,
    answers: Streaming<WriteAnswer>,
    client: Arc<Client>,
    reference: String,
    /// Bytes that were sent.
    sent: u64,
    /// What comes after them.
    chunk: Vec<u8>,
    /// Whether what was sent last has no answer yet.
    unanswered: bool,
}

impl Ingest {
    fn begin(client: Arc<Client>, reference: String) -> Result<Self> {
        let refused = |status: Status| client.refused("begin to write a blob", &status);
        let (questions, receiver) = mpsc::channel(1);
        let first = WriteRequest {
            action: action::STAT,
            reference: reference.clone(),
            ..WriteRequest::default()
        };
        // An answer begins when there is a question.
        let sent = questions.try_send(first);
        sent.map_err(|_| refused(Status::aborted("no room for a question")))?;
        let answers = client
            .talk(method::CONTENT_WRITE, ReceiverStream::new(receiver))
            .map_err(refused)?;
        let mut this = Self {
            questions: Some(questions),
            answers,
            client: Arc::clone(&client),
            reference,
            sent: 0,
            chunk: Vec::with_capacity(CHUNK),
            unanswered: true,
        };
        this.settle().map_err(refused)?;
        Ok(this)
    }

    /// Waits for the answer to what was sent last.
    fn settle(&mut self) -> Result<(), Status> {
        if !std::mem::take(&mut self.unanswered) {
            return Ok(());
        }
        match self.client.wait(self.answers.message())? {
            Some(answer) if u64::try_from(answer.offset) == Ok(self.sent) => Ok(()),
            Some(_) => Err(Status::data_loss("a part of a blob was lost")),
            None => Err(Status::aborted("it hung up")),
        }
    }

    /// Sends what is there, with what is to be done with it. Its answer is waited for before the next one is sent.
    fn send(&mut self, mut question: WriteRequest) -> Result<(), Status> {
        self.settle()?;
        question.offset = i64::try_from(self.sent).unwrap_or(i64::MAX);
        question.data = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.sent += question.data.len() as u64;
        if question.action == action::COMMIT {
            question.total = i64::try_from(self.sent).unwrap_or(i64::MAX);
        }
        let questions = self.questions.as_ref();
        let questions = questions.ok_or_else(|| Status::aborted("all is said"))?;
        self.unanswered = true;
        let sent = async { Ok(questions.send(question).await.is_ok()) };
        match self.client.wait(sent)? {
            true => Ok(()),
            // It says why in its last answer.
            false => self.settle(),
        }
    }

    pub(in crate::image) fn keep(self, digest: &Digest) -> crate::image::Result<()> {
        self.keep_with(digest, BTreeMap::new())
    }

    fn keep_with(
        mut self,
        digest: &Digest,
        labels: BTreeMap<String, String>,
    ) -> crate::image::Result<()> {
        let size = self.sent + self.chunk.len() as u64;
        let descriptor = Descriptor::new("", digest.clone(), size);
        self.client.keep(digest.as_str())?;
        if self.client.info(&descriptor)?.is_some() {
            // What is there is not written anew.
            return self.check(&descriptor);
        }
        let question = WriteRequest {
            action: action::COMMIT,
            expected: digest.to_string(),
            labels,
            ..WriteRequest::default()
        };
        let kept = self.send(question).and_then(|()| self.settle());
        match kept {
            Ok(()) => {
                self.questions = None;
                Ok(())
            }
            // Somebody else was faster.
            Err(status) if status.code() == Code::AlreadyExists => self.check(&descriptor),
            Err(status) => Err(self.client.refused("write a blob", &status).into()),
        }
    }

    /// Whether a blob that is there is what its digest says.
    fn check(&self, descriptor: &Descriptor) -> crate::image::Result<()> {
        let digest = &descriptor.digest;
        let mut reading = Reading::begin(&self.client, descriptor)?;
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
        loop {
            let read = reading.read(&mut buffer);
            let read = read.map_err(|source| crate::image::Error::Blob {
                action: "read",
                digest: digest.clone(),
                source,
            })?;
            match read {
                0 => break,
                read => hash.update(&buffer[..read]),
            }
        }
        match Digest::from_sha256(&hash.finalize().into()) == *digest {
            true => Ok(()),
            false => Err(crate::image::Error::WrongBlob {
                digest: digest.clone(),
            }),
        }
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK - self.chunk.len();
        let taken = &bytes[..room.min(bytes.len())];
        self.chunk.extend_from_slice(taken);
        if self.chunk.len() == CHUNK {
            let question = WriteRequest {
                action: action::WRITE,
                ..WriteRequest::default()
            };
            let sent = self.send(question);
            sent.map_err(|status| io::Error::other(self.client.refused("write a blob", &status)))?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        if self.questions.take().is_some() {
            // While containerd has it open, it cannot remove it.
            while let Ok(Some(_)) = self.client.wait(self.answers.message()) {}
            let wanted = ByDigest {
                digest: self.reference.clone(),
            };
            let _ = self.client.unary::<_, Empty>(method::CONTENT_ABORT, wanted);
        }
    }
}

impl fmt::Debug for Ingest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ingest({}, {} bytes)", self.reference, self.sent)
    }
}
