//! What can go wrong with an image, wherever it is kept, and what to do about it.

use std::io;
use std::path::PathBuf;

use crate::descriptor::Digest;
use crate::words::{quoted, reason};

/// Result with this room's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is in the place of a layout, where that is an archive.
pub(super) const IS_A_FILE: &str = "it is a file";

/// What happened to an image. Texts that come from one are escaped or shortened by whoever puts them here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read, written, created or listed.
    #[error("cannot {action} {}: {}", path.display(), reason(source))]
    File {
        /// What we tried, a verb: `read`, `create`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] crate::file::Error),
    /// A registry, or the way to it.
    #[error(transparent)]
    Registry(#[from] super::registry::Error),
    /// containerd, or the way to it.
    #[error(transparent)]
    Containerd(#[from] super::containerd::Error),
    /// A blob could not be read or written to its end.
    #[error("cannot {action} blob {}: {}", digest.short(), reason(source))]
    Blob {
        /// What we tried, a verb.
        action: &'static str,
        /// The blob.
        digest: Digest,
        /// Why not.
        source: io::Error,
    },
    /// A part of an image is larger than its bound.
    #[error("{what} is over the limit of {limit}")]
    TooLarge {
        /// The part.
        what: &'static str,
        /// The bound, in bytes or items.
        limit: u64,
    },
    /// Not a digest of the one form that we take.
    #[error("{text:?} is not a sha256 digest")]
    InvalidDigest {
        /// What stood there, shortened.
        text: String,
    },
    /// Text that names no image.
    #[error("{text:?} {what}")]
    InvalidReference {
        /// What stood there, shortened.
        text: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A name without a transport, of a directory that is not there.
    #[error("there is no directory {}", path.display())]
    NoSuchDirectory {
        /// The directory.
        path: PathBuf,
        /// The image in a registry that was probably meant.
        meant: Option<String>,
    },
    /// A file that is no archive of images.
    #[error("{} is not an archive of images: {what}", path.display())]
    NotAnArchive {
        /// The file.
        path: PathBuf,
        /// Why not.
        what: &'static str,
    },
    /// A file that is not replaced unasked.
    #[error("{} is there already", path.display())]
    FileExists {
        /// The file.
        path: PathBuf,
    },
    /// What says which image is read, where one is to be written.
    #[error("{name} names no image to write: a number or a digest says which image is read")]
    NoNameToGive {
        /// The name.
        name: String,
    },
    /// Images that would be gone with the one that is replaced.
    #[error("{place} has {count} images {}, and all of them would be replaced", tag.as_ref().map_or_else(|| "in it".to_owned(), |tag| format!("named {tag:?}")))]
    WouldReplace {
        /// The layout or the archive.
        place: String,
        /// How many.
        count: usize,
        /// Their tag; `None` where it is about all that are there.
        tag: Option<String>,
    },
    /// A gzip stream that would fill the disk.
    #[error("{} is not unpacked: {what}", path.display())]
    Unpacked {
        /// The file.
        path: PathBuf,
        /// Why not.
        what: &'static str,
    },
    /// The directory for temporary files has no place for what comes of a gzip stream.
    #[error("cannot unpack {} in the temporary directory {}: {}", path.display(), directory.display(), reason(source))]
    Temporary {
        /// The gzip stream.
        path: PathBuf,
        /// The directory.
        directory: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A place that images are read from alone.
    #[error("images in {transport} can be read, and not written")]
    ReadOnly {
        /// The transport.
        transport: &'static str,
    },
    /// A directory that is no OCI image layout.
    #[error("{} is not an OCI image layout: {what}", path.display())]
    NotALayout {
        /// The directory.
        path: PathBuf,
        /// Why not.
        what: &'static str,
    },
    /// No image of that tag.
    #[error("{place} has no image tagged {tag:?}, {}", tags_there(tags))]
    UnknownTag {
        /// The layout or the archive.
        place: String,
        /// The tag.
        tag: String,
        /// The first of those that it has.
        tags: Vec<String>,
    },
    /// Not exactly one image that could be meant.
    #[error("{place} has {count} images that could be meant, {}", tags_there(tags))]
    WhichImage {
        /// The layout or the archive.
        place: String,
        /// How many.
        count: usize,
        /// The first tags that it has.
        tags: Vec<String>,
    },
    /// No entry of that digest or number.
    #[error("{place} has no such image: it has {count} {}", if *count == 1 { "entry" } else { "entries" })]
    UnknownEntry {
        /// The layout or the archive.
        place: String,
        /// How many entries it has.
        count: usize,
    },
    /// An image without a tag for a layout that has images already.
    #[error("{} is a layout that is there already, so the image needs a tag in it", path.display())]
    TagNeeded {
        /// The layout.
        path: PathBuf,
    },
    /// The tag to write to names an image already.
    #[error("{place} has an image tagged {tag:?} already")]
    TagTaken {
        /// Where the image was to be written.
        place: String,
        /// The tag.
        tag: String,
    },
    /// A manifest, an index or a descriptor that cannot be read.
    #[error("broken image: {what}")]
    InvalidManifest {
        /// What is wrong with it.
        what: &'static str,
    },
    /// An entry of `index.json` that is neither a manifest nor an index.
    #[error("not an image, but {media_type:?}")]
    NotAnImage {
        /// Its media type, shortened.
        media_type: String,
    },
    /// A blob whose content is not what its digest says.
    #[error("blob {} is damaged: its content has another digest", digest.short())]
    WrongBlob {
        /// The digest that it should have.
        digest: Digest,
    },
    /// A blob that is not as long as its descriptor says.
    #[error("blob {} is damaged: it is {actual} bytes long, its descriptor says {expected}", digest.short())]
    BlobSize {
        /// The blob.
        digest: Digest,
        /// Its length in bytes.
        actual: u64,
        /// The length that it should have.
        expected: u64,
    },
    /// No image for that platform.
    #[error("there is no image for {platform}, only for {}", if there.is_empty() { "unknown platforms".to_owned() } else { quoted(there) })]
    NoSuchPlatform {
        /// What was asked for.
        platform: String,
        /// The first of those that there are.
        there: Vec<String>,
    },
    /// A manifest that an index names, that is meant, and that is not here.
    #[error(
        "manifest {name}{} is not here",
        platform.as_ref().map_or_else(String::new, |platform| format!(", for {platform},"))
    )]
    ManifestAbsent {
        /// Its digest.
        name: String,
        /// What the index says that it is for.
        platform: Option<String>,
    },
    /// A manifest that the new image would name, and that it may have found where it is written to.
    #[error(
        "manifest {name}{} is not in SRC, {why}, and the new image would name it as it is",
        platform.as_ref().map_or_else(String::new, |platform| format!(", for {platform},"))
    )]
    ManifestThere {
        /// Its digest.
        name: String,
        /// What the index says that it is for.
        platform: Option<String>,
        /// Its media type, shortened.
        media_type: String,
        /// Whether it is there, to follow a comma.
        why: &'static str,
    },
    /// No layer of that number.
    #[error("there is no layer {number}: manifest {} has {count}", manifest.short())]
    NoSuchLayer {
        /// The number as given, from the top if negative.
        number: i64,
        /// The manifest.
        manifest: Digest,
        /// How many layers it has.
        count: usize,
    },
    /// A layer of a media type that has no encrypted form.
    #[error(
        "layer {number} of manifest {} cannot be encrypted: it is {media_type:?}, or to be fetched from elsewhere",
        manifest.short()
    )]
    CannotBeEncrypted {
        /// The number as given, from the top if negative.
        number: i64,
        /// The manifest.
        manifest: Digest,
        /// Its media type, shortened.
        media_type: String,
    },
    /// Content that has no encrypted form, and that nobody asked to leave as it is.
    #[error("{what} {} would stay plain: {media_type:?} {why}", digest.short())]
    StaysPlain {
        /// A layer, a config, an entry of an index, or a blob that such an entry names.
        what: &'static str,
        /// The blob.
        digest: Digest,
        /// Its media type, shortened.
        media_type: String,
        /// Why, to follow the media type.
        why: &'static str,
    },
    /// An image without a layer that can be encrypted.
    #[error("the image has no layer that can be encrypted")]
    NothingToEncrypt,
    /// An image without an encrypted layer.
    #[error("the image has no encrypted layer")]
    NothingToDecrypt,
    /// A layer that is encrypted, and no key to open it with.
    #[error("layer {} is encrypted already", digest.short())]
    AlreadyEncrypted {
        /// The layer.
        digest: Digest,
    },
}

impl Error {
    /// One sentence on what to do about it, where we can know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::UnknownTag { .. } | Self::WhichImage { .. } => {
                "name the image by one of the tags there, by its digest (@sha256:…) or by its number (@0), or choose with --platform"
            }
            Self::UnknownEntry { .. } => "numbers begin with 0: the first image there is @0",
            Self::NoSuchLayer { .. } => "numbers begin with 0, the lowest layer; -1 is the topmost",
            Self::NotALayout {
                what: IS_A_FILE, ..
            } => "a layout in a tar archive is named as oci-archive:FILE[:TAG]",
            Self::Registry(error) => return error.hint(),
            Self::Containerd(error) => return error.hint(),
            Self::NoSuchDirectory {
                meant: Some(meant), ..
            } => return Some(format!("an image in a registry is named as {meant}")),
            Self::FileExists { .. } => "take another name, or replace it with --force",
            Self::NoNameToGive { .. } => "name the new image by a tag of its own, as oci:DIR:TAG",
            Self::WouldReplace { .. } => "name a new image as DST",
            Self::Unpacked { .. } => {
                "if it is right, unpack it with `gunzip` where there is room, and name the tar archive"
            }
            Self::Temporary { .. } => "name a directory that has room for it in TMPDIR",
            Self::ReadOnly { .. } => "write it to oci-archive:FILE[:TAG] or oci:DIR[:TAG]",
            Self::TagNeeded { .. } => "name the new image as oci:DIR:TAG",
            Self::TagTaken { .. } => "take another tag, or replace that image with --force",
            Self::StaysPlain { media_type, .. } => {
                return Some(format!(
                    "if everybody may read it, say --leave-plain '{media_type}'"
                ));
            }
            Self::ManifestThere { media_type, .. } => {
                return Some(format!(
                    "copy all of the image to SRC first and encrypt all of it, or take another place for DST; if everybody may read it, say --leave-plain '{media_type}'"
                ));
            }
            Self::ManifestAbsent { .. } => "choose one that is here with --platform",
            Self::AlreadyEncrypted { .. } => {
                "give it further recipients with --key FILE, or choose other layers with --encrypt-layer"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// What an image says, no longer than a message bears.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Tags come from the image, so they are escaped.
fn tags_there(tags: &[String]) -> String {
    match tags {
        [] => "and no tags at all".to_owned(),
        tags => format!("its tags are {}", quoted(tags)),
    }
}
