//! YAML within bounds. What it may hold is for the caller to say.

use serde::de::DeserializeOwned;

use super::error::{Error, Result};

/// Reads one YAML document. The error names the line alone: the parser's own words quote the text, which may hold
/// a PIN.
pub(super) fn read<T: DeserializeOwned>(name: &str, text: &str) -> Result<T> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: 16,
            max_nodes: 4096,
            max_aliases: 16,
        },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| Error::InvalidYaml {
        name: name.to_owned(),
        line: error.location().map_or(1, |location| location.line()),
    })
}
