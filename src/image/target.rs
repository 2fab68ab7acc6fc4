//! Where an image is written to, whatever keeps it there. Nothing names the image before all of it is there.

use std::fs::{self, File};
use std::io::{self, IoSlice, Read, Write};
use std::path::{Path, PathBuf};

use super::containerd::{Ingest, Stored};
use super::descriptor::Descriptor;
use super::destination::Destination;
use super::error::{Error, Result};
use super::place::Settings;
use super::reference::Reference;
use super::registry::{Pushed, Upload};
use super::staged_file::StagedFile;
use super::staging::Staging;
use super::stop;
use crate::descriptor::Digest;

/// An image that is being written.
#[derive(Debug)]
pub enum Target {
    /// To a layout.
    Layout(Destination),
    /// To an archive of a layout.
    Archive(ArchiveFile),
    /// To a registry.
    Registry(Pushed),
    /// To containerd.
    Containerd(Stored),
}

/// A blob in the making, to be written to.
#[derive(Debug)]
pub enum Staged {
    /// A file that is moved to its place later.
    File(StagedFile),
    /// An upload to a registry.
    Upload(Upload),
    /// An ingest of containerd's.
    Ingest(Box<Ingest>),
}

/// What a target has of a blob already.
pub enum Existing {
    /// Nothing.
    No,
    /// The blob, undamaged.
    Sound,
    /// Something of its name and length, whose content is still to be checked.
    Unchecked(Box<dyn Read + Send>),
}

impl Target {
    /// Prepares to write an image there, which comes from `source`, under a tag where the reference names none. With
    /// `force` it may replace another one.
    ///
    /// # Errors
    /// As [`Destination::prepare`], [`Pushed::prepare`] and [`Stored::prepare`]; [`Error::FileExists`]; [`Error::ReadOnly`];
    /// [`Error::NoNameToGive`].
    pub fn prepare(
        reference: &Reference,
        source: &Reference,
        settings: &Settings,
        tag: Option<&str>,
        force: bool,
    ) -> Result<Self> {
        if let Reference::Layout(place) | Reference::OciArchive(place) = reference
            && !place.image.may_be_given()
        {
            return Err(Error::NoNameToGive {
                name: reference.to_string(),
            });
        }
        let tag = reference.tag().or(tag);
        match reference {
            Reference::Layout(place) => {
                Destination::prepare(&place.path, tag, force).map(Self::Layout)
            }
            Reference::OciArchive(place) => {
                ArchiveFile::prepare(&place.path, tag, force).map(Self::Archive)
            }
            Reference::DockerArchive(_) => Err(Error::ReadOnly {
                transport: "docker-archive:",
            }),
            Reference::Registry(name) => {
                let from = match source {
                    Reference::Registry(from) => Some(from),
                    _ => None,
                };
                Pushed::prepare(name, &settings.registry, from, force).map(Self::Registry)
            }
            Reference::Containerd(name) => {
                Stored::prepare(name, &settings.containerd, force).map(Self::Containerd)
            }
        }
    }

    /// What is there of a blob.
    ///
    /// # Errors
    /// When the place cannot be asked.
    pub fn existing(&self, descriptor: &Descriptor) -> Result<Existing> {
        let files = match self {
            Self::Layout(layout) => layout,
            Self::Archive(archive) => &archive.layout,
            Self::Registry(pushed) => return Ok(pushed.existing(descriptor)?),
            Self::Containerd(stored) => return stored.existing(descriptor),
        };
        if files.has(&descriptor.digest) {
            return Ok(Existing::Sound);
        }
        Ok(match files.existing(descriptor) {
            Some(file) => Existing::Unchecked(Box::new(file)),
            None => Existing::No,
        })
    }

    /// Begins a blob.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(&self) -> Result<Staged> {
        match self {
            Self::Layout(layout) => layout.begin().map(Staged::File),
            Self::Archive(archive) => archive.layout.begin().map(Staged::File),
            Self::Registry(pushed) => Ok(Staged::Upload(pushed.begin()?)),
            Self::Containerd(stored) => Ok(Staged::Ingest(Box::new(stored.begin()?))),
        }
    }

    /// Keeps a blob that is written and found right, under its digest.
    ///
    /// # Errors
    /// When it is not taken.
    pub fn keep(&self, blob: Staged, digest: &Digest) -> Result<()> {
        match (self, blob) {
            (_, Staged::Upload(upload)) => Ok(upload.keep(digest)?),
            (_, Staged::Ingest(ingest)) => ingest.keep(digest),
            (Self::Layout(layout), Staged::File(file)) => layout.keep(file, digest.clone()),
            (Self::Archive(archive), Staged::File(file)) => {
                archive.layout.keep(file, digest.clone())
            }
            (Self::Registry(_) | Self::Containerd(_), Staged::File(_)) => {
                unreachable!("they begin no files")
            }
        }
    }

    /// Writes a document, under its digest.
    ///
    /// # Errors
    /// When it is not taken.
    pub fn put(&mut self, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Layout(layout) => layout.put(descriptor, bytes),
            Self::Archive(archive) => archive.layout.put(descriptor, bytes),
            Self::Registry(pushed) => Ok(pushed.put(descriptor, bytes)?),
            Self::Containerd(stored) => stored.put(descriptor, bytes),
        }
    }

    /// Whether somebody else gives the image its name, and may have done so where no answer came.
    #[must_use]
    pub fn is_told(&self) -> bool {
        matches!(self, Self::Registry(_) | Self::Containerd(_))
    }

    /// Names the image, and with that makes it appear. Where that takes long, `go_on` is asked now and then, and its
    /// error ends it.
    ///
    /// # Errors
    /// When that fails; nothing is named then.
    pub fn commit(self, entry: Descriptor, go_on: &dyn Fn() -> io::Result<()>) -> Result<()> {
        match self {
            Self::Layout(layout) => {
                let naming = stop::naming();
                layout.commit(entry)?;
                naming.done();
                Ok(())
            }
            Self::Archive(archive) => archive.commit(entry, go_on),
            Self::Registry(pushed) => {
                pushed.commit(&entry)?;
                stop::naming().done();
                Ok(())
            }
            Self::Containerd(stored) => {
                stop::asking();
                stored.commit(&entry)?;
                stop::naming().done();
                Ok(())
            }
        }
    }
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Upload(upload) => upload.write(bytes),
            Self::Ingest(ingest) => ingest.write(bytes),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write_vectored(slices),
            Self::Upload(upload) => upload.write_vectored(slices),
            Self::Ingest(ingest) => ingest.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Upload(upload) => upload.flush(),
            Self::Ingest(ingest) => ingest.flush(),
        }
    }
}

/// A tar archive that is written as a layout first, since a file's name and length stand before its content.
#[derive(Debug)]
pub struct ArchiveFile {
    path: PathBuf,
    force: bool,
    layout: Destination,
    staging: Staging,
}

impl ArchiveFile {
    fn prepare(path: &Path, tag: Option<&str>, force: bool) -> Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(there) if !force || !there.is_file() => {
                return Err(Error::FileExists {
                    path: path.to_owned(),
                });
            }
            _ => {}
        }
        let beside = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let staging = Staging::within(beside)?;
        let layout = Destination::prepare(&staging.path().join("layout"), tag, false)?;
        Ok(Self {
            path: path.to_owned(),
            force,
            layout,
            staging,
        })
    }

    fn commit(self, entry: Descriptor, go_on: &dyn Fn() -> io::Result<()>) -> Result<()> {
        let Self {
            path,
            force,
            layout,
            staging,
        } = self;
        layout.commit(entry)?;
        let directory = staging.path().join("layout");
        let new = staging.path().join("archive");
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| Error::File {
                action,
                path,
                source,
            }
        };
        write_archive(&directory, &new, go_on).map_err(failed("write", &new))?;
        let naming = stop::naming();
        if force {
            fs::rename(&new, &path).map_err(failed("create", &path))?;
        } else {
            // A second name fails where somebody else has taken it since.
            fs::hard_link(&new, &path).map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => Error::FileExists { path: path.clone() },
                _ => failed("create", &path)(source),
            })?;
        }
        let beside = staging.path().parent().unwrap_or(Path::new("."));
        File::open(beside)
            .and_then(|directory| directory.sync_all())
            .map_err(failed("write", beside))?;
        naming.done();
        Ok(())
    }
}

/// A file on its way into an archive.
struct Content<'a> {
    file: File,
    go_on: &'a dyn Fn() -> io::Result<()>,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (self.go_on)()?;
        self.file.read(buffer)
    }
}

/// Moves a layout into an archive, file by file, so that no more than one of them is there twice.
fn write_archive(
    layout: &Path,
    archive: &Path,
    go_on: &dyn Fn() -> io::Result<()>,
) -> io::Result<()> {
    let mut tar = tar::Builder::new(io::BufWriter::with_capacity(
        1 << 20,
        File::create_new(archive)?,
    ));
    let mut blobs = Vec::new();
    for entry in fs::read_dir(layout.join(super::layout::BLOBS))? {
        let name = entry?.file_name().into_string();
        blobs.extend(name.map(|name| format!("{}/{name}", super::layout::BLOBS)));
    }
    blobs.sort();
    let names = [super::layout::MARKER, super::layout::INDEX].map(str::to_owned);
    for name in names.into_iter().chain(blobs) {
        let path = layout.join(&name);
        let file = File::open(&path)?;
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_size(file.metadata()?.len());
        let content = Content { file, go_on };
        match header.size()? {
            // More than eleven octal digits: GNU's form.
            0o100_000_000_000.. => {
                let mut large = tar::Header::new_gnu();
                large.set_entry_type(tar::EntryType::Regular);
                large.set_mode(0o644);
                large.set_mtime(0);
                large.set_size(header.size()?);
                tar.append_data(&mut large, &name, content)?;
            }
            _ => tar.append_data(&mut header, &name, content)?,
        }
        fs::remove_file(&path)?;
    }
    let file = tar
        .into_inner()?
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    file.sync_all()
}
