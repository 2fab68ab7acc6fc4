//! Parts of messages that name something of an image.

use crate::descriptor::Digest;

pub(super) fn layer(digest: Option<&Digest>) -> String {
    digest.map_or_else(
        || "the layer".to_owned(),
        |digest| format!("layer {}", digest.short()),
    )
}
