//! Blobs in the documents of an image: a descriptor may hold the blob itself (`data`, OCI image spec, descriptor.md).
//!
//! What stands where we read descriptors is looked at there. Anywhere else it could be a layer that nobody encrypts.

use serde_json::Value;

use super::descriptor::Descriptor;
use super::tree::{Image, Part};

impl Image {
    /// Whether any document, or the image's own entry, holds a blob where we read none.
    pub(super) fn holds_unread_data(&self) -> bool {
        let beside = |part: &Part| match part {
            Part::Manifest(manifest) => {
                stands_beside(&manifest.document.json, &["config", "layers", "blobs"])
            }
            Part::Index { document, .. } => stands_beside(&document.json, &["manifests"]),
        };
        holds_within(&self.entry.to_json())
            || self.absent().any(Descriptor::is_embedded)
            || self.parts.iter().any(beside)
    }
}

/// Whether data stands in a document, but not in the descriptors that these members have.
fn stands_beside(document: &Value, read: &[&str]) -> bool {
    let members = document.as_object().into_iter().flatten();
    members
        .into_iter()
        .any(|(name, member)| match (name.as_str(), member) {
            ("annotations", _) => false,
            ("data", member) => !member.is_null(),
            (name, Value::Array(list)) if read.contains(&name) => list.iter().any(holds_within),
            (name, member) if read.contains(&name) => holds_within(member),
            (_, member) => holds(member),
        })
}

/// Whether data stands in what a descriptor holds beside its own.
fn holds_within(descriptor: &Value) -> bool {
    let members = descriptor.as_object().into_iter().flatten();
    let others = members.filter(|(name, _)| !["data", "annotations"].contains(&name.as_str()));
    others.into_iter().any(|(_, member)| holds(member))
}

fn holds(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(name, member)| match name.as_str() {
            "annotations" => false,
            "data" => !member.is_null(),
            _ => holds(member),
        }),
        Value::Array(list) => list.iter().any(holds),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn data_is_found_wherever_nobody_reads_it() {
        let within = json!({"digest": "d", "data": "eA=="});
        let read = ["config", "layers", "blobs"];
        for (document, expected) in [
            (json!({"config": within, "layers": [within]}), false),
            (json!({"annotations": {"data": "text"}}), false),
            (
                json!({"layers": [{"annotations": {"data": "text"}}]}),
                false,
            ),
            (json!({"subject": {"data": null}}), false),
            (json!({"subject": within}), true),
            (json!({"manifests": [within]}), true),
            (json!({"blobs": [within]}), false),
            (json!({"blobs": {"x": within}}), true),
            (json!({"x": {"y": [[{"data": 1}]]}}), true),
            (json!({"data": "eA=="}), true),
            (json!({"layers": [{"platform": {"data": "eA=="}}]}), true),
        ] {
            assert_eq!(stands_beside(&document, &read), expected, "{document}");
        }
    }
}
