//! A layout that is being written: a new one, or another image in one that is there.
//!
//! All is written to a private directory first and moved when it is whole, so that whoever looks sees the image or
//! does not see it. Dropped before that, nothing is left. Blobs that the image does not name are never written.

mod disk;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use self::disk::{
    Moved, create_directories, failed, is_empty, locked, rename, sync_directory, write_synced,
};
use super::descriptor::Descriptor;
use super::document;
use super::error::{Error, Result};
use super::held::Held;
use super::layout::{BLOBS, INDEX, Layout, MARKER};
use super::media_type;
use super::reference::meant;
use super::selection::{CONTAINERD_NAME, REF_NAME, is_named};
use super::staged_file::StagedFile;
use super::staging::Staging;
use super::style::Style;
use crate::descriptor::Digest;

const BLOBS_DIRECTORY: &str = "blobs";

/// Where an image is being written to.
#[derive(Debug)]
pub struct Destination {
    directory: PathBuf,
    tag: Option<String>,
    place: Place,
    /// Whether an image of that tag may be replaced.
    force: bool,
    staging: Staging,
    staged: Mutex<BTreeMap<Digest, PathBuf>>,
    begun: AtomicUsize,
}

/// What is in the directory's place already.
#[derive(Debug)]
enum Place {
    Nothing,
    /// It may be a mount point, so nothing else can take its place.
    EmptyDirectory,
    Layout(Layout),
}

impl Destination {
    /// Prepares to write an image of that tag into a directory, which is a layout, is empty, or is not there. With
    /// `force`, it may replace another one of that tag.
    ///
    /// # Errors
    /// [`Error::NotALayout`] for a directory of something else; [`Error::TagNeeded`] without a tag where there are
    /// images already; [`Error::TagTaken`]; [`Error::File`] when nothing can be written there.
    pub fn prepare(directory: &Path, tag: Option<&str>, force: bool) -> Result<Self> {
        let place = match is_empty(directory) {
            Ok(true) => Place::EmptyDirectory,
            Ok(false) => Place::Layout(Layout::open(directory)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Place::Nothing,
            Err(error) => return Err(failed("list", directory)(error)),
        };
        // Not beside a directory that is there, which may be another file system.
        let beside = match (&place, directory.parent()) {
            (Place::Nothing, Some(parent)) if !parent.as_os_str().is_empty() => parent,
            (Place::Nothing, _) => Path::new("."),
            _ => directory,
        };
        // `localhost:5000/app` could be a new directory, and never is.
        let meant = meant(directory, tag);
        let alone = directory.components().count() == 1;
        let is_new = matches!(place, Place::Nothing);
        if !beside.is_dir() || is_new && alone && meant.is_some() {
            let path = if alone { directory } else { beside }.to_owned();
            return Err(Error::NoSuchDirectory { path, meant });
        }
        let prepared = Self {
            directory: directory.to_owned(),
            tag: tag.map(str::to_owned),
            force,
            staging: Staging::within(beside)?,
            place,
            staged: Mutex::default(),
            begun: AtomicUsize::new(0),
        };
        if let Place::Layout(layout) = &prepared.place {
            prepared.index_with(layout, &Value::Null)?;
        }
        Ok(prepared)
    }

    /// A blob of that digest and length that is there already; its content is still to be checked.
    #[must_use]
    pub fn existing(&self, descriptor: &Descriptor) -> Option<File> {
        match &self.place {
            Place::Layout(layout) => layout.open_blob(descriptor).ok(),
            _ => None,
        }
    }

    /// What is there under a digest of whatever kind.
    #[must_use]
    pub fn holds(&self, digest: &str) -> Held {
        let Place::Layout(layout) = &self.place else {
            return Held::No;
        };
        // The characters of a digest (OCI image spec, descriptor.md), so that it leads nowhere else.
        let is_part = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|it| it.is_ascii_alphanumeric() || b"_-=".contains(&it))
        };
        match digest.split_once(':') {
            Some((kind, own)) if is_part(kind) && is_part(own) => {
                let path = layout
                    .directory()
                    .join(BLOBS_DIRECTORY)
                    .join(kind)
                    .join(own);
                match path.symlink_metadata() {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Held::No,
                    _ => Held::Yes,
                }
            }
            _ => Held::Unknown,
        }
    }

    /// Whether a blob was written already.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.staged().contains_key(digest)
    }

    /// Begins a blob.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be written.
    pub fn begin(&self) -> Result<StagedFile> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let path = self.staging.path().join(number.to_string());
        StagedFile::create(&path).map_err(failed("create", &path))
    }

    /// Keeps a blob that is written and found right, under its digest.
    ///
    /// # Errors
    /// [`Error::File`] when the disk does not take it.
    pub fn keep(&self, blob: StagedFile, digest: Digest) -> Result<()> {
        let path = blob.path().to_owned();
        blob.finish().map_err(failed("write", &path))?;
        self.staged().insert(digest, path);
        Ok(())
    }

    /// Writes a blob that is in memory.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be written.
    pub fn put(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        if self.has(&descriptor.digest) {
            return Ok(());
        }
        let mut blob = self.begin()?;
        let path = blob.path().to_owned();
        blob.write_all(bytes).map_err(failed("write", &path))?;
        self.keep(blob, descriptor.digest.clone())
    }

    /// Moves everything to where it belongs, and names the image.
    ///
    /// # Errors
    /// [`Error::File`] when that fails; what was moved until then is removed again.
    pub fn commit(self, mut entry: Descriptor) -> Result<()> {
        if let Some(tag) = &self.tag {
            let before = entry.annotations.insert(REF_NAME.to_owned(), tag.clone());
            if before.as_ref() != Some(tag) {
                // It names the image that this one was made from, and would replace that on import.
                entry.annotations.remove(CONTAINERD_NAME);
            }
        }
        match &self.place {
            Place::Layout(layout) => self.add_to(layout, &entry),
            Place::EmptyDirectory => self.fill(&entry),
            Place::Nothing => {
                let new = self.build(&entry)?;
                match fs::rename(&new, &self.directory) {
                    // Over a directory that has been filled since.
                    Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                        self.unbuild(&new)?;
                        self.fill(&entry)
                    }
                    Err(error) => Err(failed("create", &self.directory)(error)),
                    Ok(()) => {
                        sync_directory(self.staging.path().parent().unwrap_or(Path::new(".")))
                    }
                }
            }
        }
    }

    fn staged(&self) -> MutexGuard<'_, BTreeMap<Digest, PathBuf>> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills an empty directory, or adds the image to the layout that another of us has made of it since.
    fn fill(&self, entry: &Descriptor) -> Result<()> {
        // Others of us take turns: the second finds a layout here.
        let _lock = locked(&self.directory)?;
        if !is_empty(&self.directory).map_err(failed("list", &self.directory))? {
            return self.add_to_locked(&Layout::open(&self.directory)?, entry);
        }
        let new = self.build(entry)?;
        let mut moved = Moved(Vec::new());
        let mut names = vec![BLOBS_DIRECTORY, MARKER, INDEX];
        if self.directory.join(BLOBS_DIRECTORY).exists() {
            // Of one of us that was killed here: what it has moved stays.
            names.remove(0);
            create_directories(&self.directory.join(BLOBS))?;
            for digest in self.staged().keys() {
                let name = Path::new(BLOBS).join(digest.hex());
                let target = self.directory.join(&name);
                let was_there = target.exists();
                rename(&new.join(&name), &target)?;
                if !was_there {
                    moved.0.push(target);
                }
            }
            sync_directory(&self.directory.join(BLOBS))?;
        }
        for name in names {
            let target = self.directory.join(name);
            rename(&new.join(name), &target)?;
            moved.0.push(target);
        }
        moved.0.clear();
        sync_directory(&self.directory)
    }

    /// Takes the blobs back out of a layout that has found no place.
    fn unbuild(&self, new: &Path) -> Result<()> {
        for (digest, path) in self.staged().iter() {
            rename(&new.join(BLOBS).join(digest.hex()), path)?;
        }
        Ok(())
    }

    /// Makes a whole layout.
    fn build(&self, entry: &Descriptor) -> Result<PathBuf> {
        // Within the private directory, whose mode is not the layout's.
        let new = self.staging.path().join("layout");
        let blobs = new.join(BLOBS);
        create_directories(&blobs)?;
        for (digest, path) in self.staged().iter() {
            rename(path, &blobs.join(digest.hex()))?;
        }
        write_synced(&new.join(MARKER), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media_type::INDEX,
            "manifests": [entry.to_json()],
        });
        write_synced(&new.join(INDEX), index.to_string().as_bytes())?;
        for directory in [&blobs, &new.join(BLOBS_DIRECTORY), &new] {
            sync_directory(directory)?;
        }
        Ok(new)
    }

    fn add_to(&self, layout: &Layout, entry: &Descriptor) -> Result<()> {
        // Others of us take turns, or one image would be lost from the index.
        let _lock = locked(layout.directory())?;
        self.add_to_locked(layout, entry)
    }

    fn add_to_locked(&self, layout: &Layout, entry: &Descriptor) -> Result<()> {
        let directory = layout.directory();
        let index = self.index_with(layout, &entry.to_json())?;
        let new_index = self.staging.path().join(INDEX);
        write_synced(&new_index, &index)?;
        create_directories(&directory.join(BLOBS))?;
        let mut moved = Moved(Vec::new());
        for (digest, path) in self.staged().iter() {
            let target = layout.path(digest);
            let was_there = target.exists();
            rename(path, &target)?;
            if !was_there {
                moved.0.push(target);
            }
        }
        sync_directory(&directory.join(BLOBS))?;
        rename(&new_index, &directory.join(INDEX))?;
        moved.0.clear();
        sync_directory(directory)
    }

    /// The text of `index.json` with the entry in the place of those of its tag, if they may be replaced.
    fn index_with(&self, layout: &Layout, entry: &Value) -> Result<Vec<u8>> {
        let Some(tag) = &self.tag else {
            return Err(Error::TagNeeded {
                path: self.directory.clone(),
            });
        };
        let bytes = layout.index()?;
        let broken = |what| Error::InvalidManifest { what };
        let mut index = document::parse(&bytes, "index.json is no JSON")?;
        document::checked(&index)?;
        let style = Style::of(&bytes, &index);
        let fields = index
            .as_object_mut()
            .ok_or(broken("index.json is no object"))?;
        let manifests = fields.entry("manifests").or_insert(Value::Null);
        if manifests.is_null() {
            *manifests = json!([]);
        }
        let manifests = manifests
            .as_array_mut()
            .ok_or(broken("the list in index.json is no list"))?;
        let named = |other: &Value| is_named(other, tag);
        let entry = without_their_names(entry, manifests.iter().filter(|other| !named(other)));
        match manifests.iter().position(named) {
            Some(_) if !self.force => {
                return Err(Error::TagTaken {
                    place: self.directory.display().to_string(),
                    tag: tag.clone(),
                });
            }
            Some(place) => {
                // All of them, or a plain image could stay under the tag of an encrypted one.
                manifests.retain(|other| !named(other));
                manifests.insert(place, entry);
            }
            None => manifests.push(entry),
        }
        let index = style.write(&index);
        document::is_not_too_long(&index)?;
        Ok(index)
    }
}

/// An entry that does not have the name that containerd has for one of these: it would take its place on import.
fn without_their_names<'a>(entry: &Value, mut others: impl Iterator<Item = &'a Value>) -> Value {
    let mut entry = entry.clone();
    let own = entry["annotations"][CONTAINERD_NAME].as_str();
    if own.is_some_and(|own| others.any(|other| is_named(other, own)))
        && let Some(annotations) = entry["annotations"].as_object_mut()
    {
        annotations.shift_remove(CONTAINERD_NAME);
    }
    entry
}

#[cfg(test)]
mod tests;
