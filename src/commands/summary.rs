//! What `encrypt` and `decrypt` say beside the digest, on standard error: what stays plain, and what no longer holds.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use crate::escape::escaped;
use crate::image::choice::{Left, Plan, Why};

/// Most layers that are told one by one.
const MAX_TOLD: usize = 20;

/// Lines for the user, each a sentence without its end.
#[derive(Debug, Default)]
pub(super) struct Summary(Vec<String>);

impl Summary {
    pub(super) fn add(&mut self, line: String) {
        if !self.0.contains(&line) {
            self.0.push(line);
        }
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
                let count = left.len();
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

    /// Says which annotations were dropped with the plain bytes that they describe.
    pub(super) fn dropped(&mut self, annotations: Vec<String>) {
        for name in annotations {
            self.add(format!(
                "annotation {name} is dropped: it describes the plain layer"
            ));
        }
    }

    /// Writes the lines. A closed standard error is no reason to fail.
    pub(super) fn print(self) {
        let mut stderr = io::stderr().lock();
        for line in self.0 {
            let _ = writeln!(stderr, "ocihsm: note: {}", escaped(&line));
        }
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
        Why::Elsewhere => "it is not in the image, but to be fetched from elsewhere",
        Why::NotChosen | Why::Attestation => "nothing chose it",
    };
    let mut layers = plan.plain.descriptors();
    let twice = match layers.any(|layer| layer.digest == *digest) {
        true => "; the same bytes are encrypted elsewhere in the image",
        false => "",
    };
    format!(
        "{what} {} ({media_type}) stays plain: {why}{twice}",
        digest.short()
    )
}
