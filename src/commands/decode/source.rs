//! Who tells us which layer is on stdin: arguments, the payload, or containerd's content store.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::commands::{Error, Result};
use crate::content_store::{self, Descriptions, PrefixReader};
use crate::descriptor::{Digest, LayerDescriptor};
use crate::file;
use crate::payload::Payload;
use crate::secret::SecretBytes;
use crate::settings::{LayerSettings, Told};

/// Most bytes of a descriptor file; a descriptor is a part of a manifest.
const MAX_DESCRIPTOR: usize = 4 << 20;
/// How long to wait for a payload. containerd writes it as soon as we run.
const PAYLOAD_PATIENCE: Duration = Duration::from_secs(3);

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
    /// How the layer is described, once or by each manifest of the store that lists it.
    pub(super) descriptions: Described,
    /// Digest of the encrypted blob, where we know.
    pub(super) digest: Option<Digest>,
    /// Media type, for a stream that has to be spoiled.
    pub(super) media_type: Option<String>,
    /// What was read of stdin already.
    pub(super) prefix: Option<PrefixReader>,
    /// The file that stdin is fed from, open, where it is known.
    pub(super) file: Option<File>,
    /// Whether our parent holds it open, so that its bytes and no others are on stdin.
    pub(super) held: bool,
    /// Key files that came with the payload.
    pub(super) key_files: Vec<SecretBytes>,
    /// Private keys that came with it.
    pub(super) private_keys: Vec<SecretBytes>,
    /// Their passwords; an empty one is none.
    pub(super) passwords: Vec<SecretBytes>,
    /// How many OpenPGP keys came with it.
    pub(super) openpgp_keys: usize,
    /// Parameters that came with it, by the names of key providers that they are for.
    pub(super) provided: BTreeMap<String, Vec<SecretBytes>>,
    /// Module policies that came with the payload.
    pub(super) policies: Vec<SecretBytes>,
}

/// Descriptions of a layer, manifest by manifest.
pub(super) enum Described {
    /// By whoever asked for it.
    Once(Option<LayerDescriptor>),
    /// By manifests of a store.
    Store(Box<Descriptions>),
}

/// Asks each in turn.
///
/// # Errors
/// What is wrong with the first that answers, or where the content store was looked for in vain.
pub(super) fn find(
    settings: &LayerSettings,
    inherited: Option<File>,
    input: &mut File,
) -> Result<Layer> {
    let mut layer = match &settings.told {
        Told::Descriptor(path) => Layer::new("descriptor file", read_descriptor(path)?),
        Told::Annotations(annotations) => {
            let descriptor = LayerDescriptor {
                annotations: annotations.clone(),
                ..LayerDescriptor::default()
            };
            Layer::new("annotations", descriptor)
        }
        Told::Nothing => match read_payload(inherited)? {
            Some(payload) => Layer {
                key_files: payload.key_files,
                private_keys: payload.private_keys,
                passwords: payload.passwords,
                openpgp_keys: payload.openpgp_keys,
                provided: payload.others,
                policies: payload.policies,
                ..Layer::new("payload", payload.descriptor)
            },
            None => search(settings, input)?,
        },
    };
    // containerd knows best what it expects to get.
    layer.media_type = settings.media_type.clone().or(layer.media_type);
    Ok(layer)
}

impl Layer {
    fn new(learned_from: &'static str, descriptor: LayerDescriptor) -> Self {
        let digest = descriptor.digest.clone();
        // That is the file that our parent holds open, and no other one of its name: only this one's bytes are on stdin.
        let held = |digest| content_store::held_blob(parent_id(), digest);
        Self {
            learned_from,
            file: digest.as_ref().and_then(held),
            held: true,
            digest,
            media_type: descriptor.media_type.clone(),
            descriptions: Described::Once(Some(descriptor)),
            prefix: None,
            key_files: Vec::new(),
            private_keys: Vec::new(),
            passwords: Vec::new(),
            openpgp_keys: 0,
            provided: BTreeMap::new(),
            policies: Vec::new(),
        }
    }
}

impl Described {
    /// Whether there can be no other description than the first.
    pub(super) fn is_one(&mut self) -> bool {
        match self {
            Self::Once(_) => true,
            Self::Store(descriptions) => descriptions.is_one(),
        }
    }
}

impl Iterator for Described {
    type Item = Vec<LayerDescriptor>;

    fn next(&mut self) -> Option<Vec<LayerDescriptor>> {
        match self {
            Self::Once(descriptor) => Some(vec![descriptor.take()?]),
            Self::Store(descriptions) => descriptions.next(),
        }
    }
}

fn read_payload(inherited: Option<File>) -> Result<Option<Payload>> {
    match inherited {
        Some(mut file) => Ok(Payload::read(&mut file, PAYLOAD_PATIENCE)?),
        None => Ok(None),
    }
}

fn search(settings: &LayerSettings, input: &mut File) -> Result<Layer> {
    let found = content_store::find(&settings.stores(), parent_id(), input)?;
    let prefix = found.prefix.reader(&found.file);
    let prefix = prefix.map_err(|source| Error::Stream {
        action: "read the layer",
        source,
    })?;
    Ok(Layer {
        learned_from: "content store",
        media_type: found.descriptions.media_type(),
        descriptions: Described::Store(Box::new(found.descriptions)),
        digest: Some(found.digest),
        prefix: Some(prefix),
        file: Some(found.file),
        held: found.held,
        key_files: Vec::new(),
        private_keys: Vec::new(),
        passwords: Vec::new(),
        openpgp_keys: 0,
        provided: BTreeMap::new(),
        policies: Vec::new(),
    })
}

fn read_descriptor(path: &Path) -> Result<LayerDescriptor> {
    let json = file::read(path, MAX_DESCRIPTOR)?;
    serde_json::from_slice(&json).map_err(|source| Error::InvalidDescriptor {
        path: path.to_owned(),
        source,
    })
}

fn annotation(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "expected KEY=VALUE".to_owned())
}
