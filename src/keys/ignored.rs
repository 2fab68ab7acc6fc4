//! What stands in a key file and counts for nothing: most likely a name that is misspelt.
//!
//! Decoding passes over it, as the reference does. This is for who looks after the files.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use zeroize::Zeroizing;

use super::key_file::MAX_KEY_FILE;
use super::yaml;
use crate::error::{Error, Result};
use crate::file;

type Names = BTreeMap<String, IgnoredAny>;

#[derive(Deserialize)]
struct Sections {
    pkcs11: Option<Names>,
    module: Option<Names>,
}

#[derive(Deserialize)]
struct File {
    pkcs11: Option<Pkcs11>,
    module: Option<Module>,
}

#[derive(Deserialize)]
struct Module {
    env: Option<Names>,
}

#[derive(Deserialize)]
struct Pkcs11 {
    uri: Option<Zeroizing<String>>,
}

/// Attributes that a query may have.
const QUERY: [&str; 4] = ["pin-value", "pin-source", "module-name", "module-path"];

/// Each with where it stands, as a message may name it; none in a file that is as it should be.
///
/// # Errors
/// [`Error::InFile`]; [`Error::InvalidYaml`] for a file that is no key file.
pub fn in_key_file(path: &Path) -> Result<Vec<String>> {
    let bytes = file::read_secret(path, MAX_KEY_FILE)?;
    in_text(&path.display().to_string(), bytes.expose())
}

fn in_text(name: &str, bytes: &[u8]) -> Result<Vec<String>> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::InvalidYaml {
        name: name.to_owned(),
        line: 1,
    })?;
    fn read<T: DeserializeOwned>(name: &str, text: &str) -> Result<T> {
        yaml::read(name, text)
    }
    let top: Names = read(name, text)?;
    let sections: Sections = read(name, text)?;
    let file: File = read(name, text)?;
    let others = |names: &Names, known: &[&str], place: &str| -> Vec<String> {
        names
            .keys()
            .filter(|name| !known.contains(&name.as_str()))
            .map(|name| format!("{}{place}", quoted(name, "a field")))
            .collect()
    };
    let mut ignored = others(&top, &["pkcs11", "module"], "");
    if let Some(pkcs11) = &sections.pkcs11 {
        ignored.extend(others(pkcs11, &["uri"], " under `pkcs11:`"));
    }
    if let Some(module) = &sections.module {
        ignored.extend(others(module, &["env", "init"], " under `module:`"));
    }
    if let Some(env) = file.module.and_then(|module| module.env) {
        let unreadable = env.keys().filter(|name| !is_variable(name));
        ignored.extend(unreadable.map(|name| {
            let name = quoted(name, "a name");
            format!("{name} under `env:`, which no program reads (letters, digits and `_` are a variable's)")
        }));
    }
    if let Some(uri) = file.pkcs11.and_then(|pkcs11| pkcs11.uri) {
        ignored.extend(in_query(&uri));
    }
    Ok(ignored)
}

/// A name is shown where it cannot be a piece of a PIN, whose `&` somebody did not encode.
fn in_query(uri: &str) -> Vec<String> {
    let mut ignored = Vec::new();
    let mut after_pin = false;
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    for part in query.split('&').filter(|part| !part.trim().is_empty()) {
        let name = part.split('=').next().unwrap_or_default();
        if QUERY.contains(&name) {
            after_pin |= name == "pin-value";
            continue;
        }
        ignored.push(match after_pin {
            true => "an attribute after the PIN in the URI's query (a `&` in a PIN is written %26)"
                .to_owned(),
            false => format!("{} in the URI's query", quoted(name, "an attribute")),
        });
        after_pin = true;
    }
    ignored
}

/// A name by which programs find a variable (POSIX, section 8.1; in small letters too).
fn is_variable(name: &str) -> bool {
    let is_one = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty() && name.chars().all(is_one)
}

/// The name, if it looks like one.
fn quoted(name: &str, otherwise: &str) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let begins = |c: char| c.is_ascii_alphabetic();
    if name.len() <= 40 && name.starts_with(begins) && name.chars().all(is_name) {
        format!("`{name}`")
    } else {
        otherwise.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(text: &str) -> Vec<String> {
        in_text("k.yaml", text.as_bytes()).unwrap()
    }

    #[test]
    fn what_counts_is_not_named() {
        let text =
            "pkcs11:\n  uri: pkcs11:token=t?pin-value=1&module-name=m\nmodule:\n  env:\n    A: b\n";
        assert!(ignored(text).is_empty());
        assert!(ignored("pkcs11:\n  uri: pkcs11:token=t\nmodule:\n").is_empty());
    }

    #[test]
    fn what_is_misspelt_is_named_with_its_place() {
        let text = "pkcs11:\n  uri: pkcs11:token=t?pin-valeu=1\n  urn: x\nmodul:\n  env: {A: b}\nmodule:\n  environment: {A: b}\n4711: x\n";
        assert_eq!(
            ignored(text),
            [
                "a field",
                "`modul`",
                "`urn` under `pkcs11:`",
                "`environment` under `module:`",
                "`pin-valeu` in the URI's query"
            ]
        );
    }

    #[test]
    fn a_variable_that_nothing_reads_is_named() {
        let text =
            "pkcs11:\n  uri: pkcs11:token=t\nmodule:\n  env: {A_1: x, MY-VAR: x, 'export A': x}\n";
        let shown = ignored(text);
        assert_eq!(shown.len(), 2, "{shown:?}");
        assert!(shown[0].contains("`MY-VAR` under `env:`"), "{shown:?}");
        assert!(shown[1].contains("a name under `env:`"), "{shown:?}");
    }

    #[test]
    fn a_piece_of_a_pin_is_not_named() {
        for query in ["pin-value=a&secret=b", "pin-valeu=a&secret=b"] {
            let text = format!("pkcs11:\n  uri: pkcs11:token=t?{query}\n");
            let shown = ignored(&text).join(", ");
            assert!(
                shown.contains("after the PIN") && !shown.contains("secret"),
                "{shown}"
            );
        }
    }
}
