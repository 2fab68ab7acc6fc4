//! Arguments that the image commands share, and what they mean before an image is looked at.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser as _};

use crate::error::{Error, Result};
use crate::image::{Image, Layout, Reference};

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

/// Paths of key files or of their directories.
///
/// # Errors
/// [`Error::UriAsArgument`] for a URI, which may hold a PIN, so that nothing else prints it.
pub(super) fn no_uris<'a>(argument: &'static str, given: &'a [PathBuf]) -> Result<&'a [PathBuf]> {
    match given.iter().any(|path| is_uri(&path.to_string_lossy())) {
        true => Err(Error::UriAsArgument { argument }),
        false => Ok(given),
    }
}

/// Whether somebody wrote the URI itself where a file belongs.
pub(crate) fn is_uri(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let uri = text.find("pkcs11:").map(|start| &text[start..]);
    text.contains("pin-value=") || uri.is_some_and(|uri| uri.contains('='))
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
