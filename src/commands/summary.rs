//! What `encrypt`, `decrypt` and `rekey` say at their end: the digest; what became of each layer, where JSON is wanted; and
//! what stays plain, and what no longer holds.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Result, print, to_json};
use crate::descriptor::Digest;
use crate::envelope::Envelope;
use crate::image::Descriptor;
use crate::image::choice::{Left, PassedOver, Plan, Why};
use crate::telemetry;

/// Most layers that are told one by one.
const MAX_TOLD: usize = 20;

/// What happened to an image.
#[derive(Debug, Default)]
pub(super) struct Summary {
    layers: Vec<LayerChange>,
    /// Lines for the user, each a sentence without its end.
    notes: Vec<String>,
}

/// What became of a layer; its place in JSON is `docs/schemas/image.json`.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Change {
    Encrypted,
    Decrypted,
    /// The same bytes, with other recipients.
    Rewrapped,
    /// Other bytes, under a new key.
    Reencrypted,
}

#[derive(Debug, Serialize)]
struct LayerChange {
    change: Change,
    from: String,
    digest: String,
    size: u64,
}

#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    digest: String,
    layers: &'a [LayerChange],
    notes: &'a [String],
}

impl Summary {
    pub(super) fn add(&mut self, line: String) {
        if !self.notes.contains(&line) {
            self.notes.push(line);
        }
    }

    /// A layer is another one now, or has other recipients.
    pub(super) fn changed(
        &mut self,
        change: Change,
        from: &Descriptor,
        digest: &Digest,
        size: u64,
    ) {
        self.layers.push(LayerChange {
            change,
            from: from.digest.to_string(),
            digest: digest.to_string(),
            size,
        });
    }

    /// Says what stays plain, and why.
    pub(super) fn stays_plain(&mut self, plan: &Plan) {
        let mut by_reason: BTreeMap<Why, Vec<&Left>> = BTreeMap::new();
        for left in &plan.left {
            let others = by_reason.entry(left.why).or_default();
            if !others.iter().any(|other| other.digest == left.digest) {
                others.push(left);
            }
        }
        for (why, left) in by_reason {
            if why == Why::Attestation {
                let (twice, left): (Vec<_>, Vec<_>) = left
                    .into_iter()
                    .partition(|left| is_encrypted_too(left, plan));
                for left in twice {
                    self.add(sentence(left, plan));
                }
                let count = left.len();
                if count == 0 {
                    continue;
                }
                let noun = if count == 1 {
                    "attestation stays"
                } else {
                    "attestations stay"
                };
                self.add(format!("{count} {noun} plain, as attestations always do"));
                continue;
            }
            for left in left.iter().take(MAX_TOLD) {
                self.add(sentence(left, plan));
            }
            if let Some(more @ 1..) = left.len().checked_sub(MAX_TOLD) {
                self.add(format!("and {more} more stay plain for the same reason"));
            }
        }
    }

    /// Says which of the layers that nobody chose are called encrypted, for nobody has opened them.
    pub(super) fn not_opened(&mut self, plan: &Plan) {
        let mut others = 0;
        for PassedOver { layer, form } in &plan.passed_over {
            let why = match (form, Envelope::from_annotations(&layer.annotations)) {
                (Some(form), _) => format!("is plain: it begins as {form} does"),
                (None, Err(error)) => format!("may be plain: {error}"),
                (None, Ok(_)) if others == MAX_TOLD => continue,
                (None, Ok(_)) => {
                    others += 1;
                    "was not opened, so it may be plain".to_owned()
                }
            };
            let media_type: String = layer.media_type.chars().take(80).collect();
            self.add(format!(
                "layer {} ({media_type}) stays as it is, and {why}",
                layer.digest.short()
            ));
        }
    }

    /// Says which manifests the image names that are not here, and which documents name more than can be read.
    pub(super) fn not_here(&mut self, plan: &Plan) {
        for manifest in plan.absent.iter().take(MAX_TOLD) {
            let platform = manifest.platform();
            let platform = platform.map_or_else(String::new, |platform| format!(" ({platform})"));
            self.add(format!(
                "manifest {}{platform} is not here and stays as it is: nothing chose it",
                manifest.name()
            ));
        }
        if let Some(more @ 1..) = plan.absent.len().checked_sub(MAX_TOLD) {
            self.add(format!("and {more} more manifests are not here"));
        }
        for document in &plan.unread {
            self.add(format!(
                "manifest {} names more than can be read, and that is not copied",
                document.short()
            ));
        }
    }

    /// Says which annotations were dropped with the plain bytes that they describe.
    pub(super) fn dropped(&mut self, annotations: Vec<String>) {
        for name in annotations {
            self.add(format!(
                "annotation {name} is dropped: it describes the plain layer"
            ));
        }
    }

    /// Prints the digest, or all of it as JSON; without JSON the notes are told on standard error.
    pub(super) fn print(self, digest: &Digest, json: bool) -> Result<()> {
        if json {
            return print(&to_json(&Report {
                version: 1,
                digest: digest.to_string(),
                layers: &self.layers,
                notes: &self.notes,
            }));
        }
        for note in &self.notes {
            telemetry::note(note);
        }
        print(digest)
    }
}

fn sentence(left: &Left, plan: &Plan) -> String {
    let Left {
        what,
        digest,
        media_type,
        why,
    } = left;
    let media_type: String = media_type.chars().take(80).collect();
    let why = match why {
        Why::Type => "as --leave-plain says",
        Why::Config => "as configs always do",
        Why::Elsewhere => "it is not in the image, but to be fetched from elsewhere",
        Why::Attestation => "as attestations always do",
        Why::NotChosen => "nothing chose it",
    };
    let twice = match is_encrypted_too(left, plan) {
        true => "; the same bytes are encrypted elsewhere in the image",
        false => "",
    };
    format!(
        "{what} {} ({media_type}) stays plain: {why}{twice}",
        digest.short()
    )
}

fn is_encrypted_too(left: &Left, plan: &Plan) -> bool {
    let mut layers = plan.plain.descriptors();
    layers.any(|layer| layer.digest == left.digest)
}
