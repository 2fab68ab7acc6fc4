//! Parts of messages that name something of an image.

use crate::descriptor::Digest;
use crate::words::quoted;

pub(super) fn layer(digest: Option<&Digest>) -> String {
    digest.map_or_else(
        || "the layer".to_owned(),
        |digest| format!("layer {}", digest.short()),
    )
}

/// Tags come from the image, so they are escaped.
pub(super) fn tags_there(tags: &[String]) -> String {
    match tags {
        [] => "and no tags at all".to_owned(),
        tags => format!("its tags are {}", quoted(tags)),
    }
}
