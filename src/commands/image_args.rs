//! Arguments that the image commands share, and what they mean before an image is looked at.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser as _};

use crate::error::Result;
use crate::image::{Image, Layout, Reference};
pub(crate) use crate::settings::{is_uri, no_uris};

/// Where an image comes from and where it goes.
#[derive(clap::Args, Clone, Debug)]
pub struct ImageArgs {
    /// Where the image comes from.
    #[arg(
        help = "Image to read: an OCI layout, oci:DIR[:TAG] or DIR[:TAG]; without TAG, the only image in it",
        value_name = "SRC",
        value_parser = reference()
    )]
    pub source: Reference,
    /// Image to write, likewise; without TAG, SRC's. May be another tag in the same layout
    #[arg(value_name = "DST", value_parser = reference())]
    pub destination: Reference,
    /// Replace an image that DST's tag names already
    #[arg(long)]
    pub force: bool,
}

/// Parses [`Reference`]s.
pub(super) fn reference() -> impl clap::builder::TypedValueParser<Value = Reference> {
    OsStringValueParser::new().try_map(|text: OsString| Reference::parse(&text))
}

/// The files that `--key` named.
///
/// # Errors
/// As [`no_uris`].
pub(super) fn key_files(given: &[PathBuf]) -> Result<&[PathBuf]> {
    no_uris("--key", given)
}

/// Reads an image.
///
/// # Errors
/// Whatever keeps it from being found and read.
pub(super) fn load(reference: &Reference) -> Result<(Layout, Image)> {
    let layout = Layout::open(&reference.directory)?;
    let image = Image::load(&layout, layout.entry(reference.tag.as_deref())?)?;
    Ok((layout, image))
}
