//! Who tells us which layer is on stdin: arguments, the payload, or containerd's content store.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::paths;
use crate::content_store::{self, FirstBytes};
use crate::descriptor::{Digest, LayerDescriptor};
use crate::error::{Error, Result};
use crate::payload::Payload;
use crate::secret::SecretBytes;

/// Most bytes of a descriptor file; a descriptor is a part of a manifest.
const MAX_DESCRIPTOR: u64 = 4 << 20;
/// How long to wait for a payload. containerd writes it as soon as we run.
const PAYLOAD_PATIENCE: Duration = Duration::from_secs(3);

const ANNOTATIONS: &str = "OCIHSM_LAYER_ANNOTATIONS";
const MEDIA_TYPE: &str = "STREAM_PROCESSOR_MEDIATYPE";
const CONTENT_STORE: &str = "OCIHSM_CONTENT_STORE";

/// What tells us which layer it is.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Layer")]
pub struct SourceArgs {
    /// OCI descriptor of the layer, in JSON
    #[arg(long, value_name = "FILE")]
    pub descriptor: Option<PathBuf>,
    /// An annotation of the layer (repeatable)
    #[arg(long, value_name = "KEY=VALUE", value_parser = annotation, conflicts_with = "descriptor")]
    pub annotation: Vec<(String, String)>,
    /// Media type of the layer, where --annotation is given
    #[arg(long, value_name = "TYPE")]
    pub media_type: Option<String>,
    /// containerd's root directory, a content store or an image layout (repeatable)
    #[arg(long, value_name = "DIR", help_heading = "Layer")]
    pub content_store: Vec<PathBuf>,
}

/// What we were told.
pub(super) struct Layer {
    /// How we know, for the log.
    pub(super) learned_from: &'static str,
    /// The layer as it is described; more than once if manifests of the store wrap its key differently.
    pub(super) descriptors: Vec<LayerDescriptor>,
    /// Media type, for a stream that has to be spoiled.
    pub(super) media_type: Option<String>,
    /// What was read of stdin already.
    pub(super) peeked: Vec<u8>,
    /// File of the blob, where it is known.
    pub(super) blob: Option<PathBuf>,
    /// Key files that came with the payload.
    pub(super) key_files: Vec<SecretBytes>,
    /// Module policies that came with the payload.
    pub(super) policies: Vec<SecretBytes>,
}

/// Asks each in turn.
///
/// # Errors
/// What is wrong with the first that answers, or where the content store was looked for in vain.
pub(super) fn find(args: &SourceArgs, inherited: Option<File>, input: &mut File) -> Result<Layer> {
    let media_type = expected_media_type(args);
    let mut layer = if let Some(path) = &args.descriptor {
        Layer::new("descriptor file", vec![read_descriptor(path)?])
    } else if let Some(annotations) = annotations(&args.annotation)? {
        let descriptor = LayerDescriptor {
            annotations,
            ..LayerDescriptor::default()
        };
        Layer::new("annotations", vec![descriptor])
    } else if let Some(payload) = read_payload(inherited)? {
        let mut layer = Layer::new("payload", vec![payload.descriptor]);
        layer.key_files = payload.key_files;
        layer.policies = payload.policies;
        layer
    } else {
        search(args, input)?
    };
    // containerd knows best what it expects to get.
    layer.media_type = Some(media_type)
        .filter(|known| !known.is_empty())
        .or_else(|| layer.descriptors.iter().find_map(|d| d.media_type.clone()));
    Ok(layer)
}

/// Media type of what is on stdin, as far as arguments and environment say; empty if they do not.
pub(super) fn expected_media_type(args: &SourceArgs) -> String {
    args.media_type
        .clone()
        .or_else(|| text(MEDIA_TYPE))
        .unwrap_or_default()
}

/// The roots to search, as arguments, environment or custom name them.
pub(super) fn stores(args: &SourceArgs) -> Vec<PathBuf> {
    match paths(&args.content_store, CONTENT_STORE) {
        none if none.is_empty() => content_store::usual_roots(),
        named => named,
    }
}

impl Layer {
    /// Digest of the encrypted blob, where we know.
    pub(super) fn digest(&self) -> Option<&Digest> {
        self.descriptors
            .iter()
            .find_map(|descriptor| descriptor.digest.as_ref())
    }

    fn new(learned_from: &'static str, descriptors: Vec<LayerDescriptor>) -> Self {
        Self {
            learned_from,
            descriptors,
            media_type: None,
            peeked: Vec::new(),
            blob: None,
            key_files: Vec::new(),
            policies: Vec::new(),
        }
    }
}

fn read_payload(inherited: Option<File>) -> Result<Option<Payload>> {
    match inherited {
        Some(mut file) => Payload::read(&mut file, PAYLOAD_PATIENCE),
        None => Ok(None),
    }
}

fn search(args: &SourceArgs, input: &mut File) -> Result<Layer> {
    let first = FirstBytes::read(input).map_err(|source| Error::Stream {
        action: "read the layer",
        source,
    })?;
    if first.is_empty() {
        return Err(Error::StdinIsEmpty);
    }
    let found = content_store::find(&stores(args), parent_id(), &first)?;
    let mut layer = Layer::new("content store", found.layers);
    layer.blob = Some(found.blob);
    layer.peeked = first.into_bytes();
    Ok(layer)
}

fn read_descriptor(path: &Path) -> Result<LayerDescriptor> {
    let failed = |source| Error::File {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let mut json = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_DESCRIPTOR + 1)
        .read_to_end(&mut json)
        .map_err(failed)?;
    if json.len() as u64 > MAX_DESCRIPTOR {
        return Err(Error::TooLarge {
            what: "descriptor file",
            limit: MAX_DESCRIPTOR,
        });
    }
    serde_json::from_slice(&json).map_err(|source| Error::InvalidDescriptor {
        path: path.to_owned(),
        source,
    })
}

/// Annotations from the arguments, else from the environment, else none.
fn annotations(given: &[(String, String)]) -> Result<Option<BTreeMap<String, String>>> {
    if !given.is_empty() {
        return Ok(Some(given.iter().cloned().collect()));
    }
    text(ANNOTATIONS)
        .map(|json| {
            serde_json::from_str(&json).map_err(|_| Error::InvalidVariable {
                name: ANNOTATIONS,
                expected: "a JSON object of strings",
            })
        })
        .transpose()
}

fn annotation(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "expected KEY=VALUE".to_owned())
}

fn text(variable: &str) -> Option<String> {
    std::env::var(variable)
        .ok()
        .filter(|value| !value.is_empty())
}
