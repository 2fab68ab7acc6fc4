//! A small file, read whole within a bound, and YAML within bounds. What it may hold is for the caller to say.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// Reads a file whose every byte may be secret.
pub(super) fn read(path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>> {
    // The whole room at once, since a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 64));
    File::open(path)
        .and_then(|file| file.take(limit as u64 + 1).read_to_end(&mut bytes))
        .map_err(|source| Error::File {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
    if bytes.len() > limit {
        return Err(Error::FileTooLarge {
            path: path.to_owned(),
            limit: limit as u64,
        });
    }
    Ok(bytes)
}

/// Reads one YAML document. The error names the line alone: the parser's own words quote the text, which may hold
/// a PIN.
pub(super) fn yaml<T: DeserializeOwned>(name: &str, text: &str) -> Result<T> {
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
