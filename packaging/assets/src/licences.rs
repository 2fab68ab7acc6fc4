//! The licences of the crates in the program: which crate has which, and every text once.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use crate::Error;
use crate::crates::{Crate, Crates};

/// How files begin that a licence or what it asks to pass on stands in.
const NAMES: [&str; 6] = [
    "licen",
    "copying",
    "copyright",
    "notice",
    "unlicense",
    "authors",
];

/// Of the crates that name a licence and forgot its text.
const APACHE: &str = include_str!("../../../LICENSE");

/// All of it.
pub(crate) fn text(crates: &Crates) -> Result<String, Error> {
    let mut table = String::from(
        "ocihsm contains the Rust standard library (MIT OR Apache-2.0) and these crates, each under the licence\n\
         beside it. The texts follow.\n\n",
    );
    let mut texts: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    for library in &crates.libraries {
        let name = format!("{} {}", library.name, library.version);
        let _ = writeln!(
            table,
            "{name}\n    {}\n    {}",
            library.licence, library.repository
        );
        for text in texts_for(library, crates)? {
            // Files that differ in line ends and indents are one text.
            let key = text.split_whitespace().collect::<Vec<_>>().join(" ");
            texts
                .entry(key)
                .or_insert_with(|| (text, Vec::new()))
                .1
                .push(name.clone());
        }
    }
    for (text, names) in texts.values() {
        let rule = "-".repeat(72);
        let _ = write!(table, "\n{rule}\n");
        for name in names {
            let _ = writeln!(table, "{name}");
        }
        let _ = write!(table, "{rule}\n\n{}\n", text.trim_matches('\n'));
    }
    Ok(table)
}

/// Those of a crate; one of a family that came without any is under the text that its siblings have.
fn texts_for(library: &Crate, crates: &Crates) -> Result<Vec<String>, Error> {
    let is_sibling = |other: &&Crate| {
        other.repository == library.repository
            && !other.repository.is_empty()
            && other.licence == library.licence
    };
    let siblings = crates.libraries.iter().filter(is_sibling);
    for one in [library].into_iter().chain(siblings) {
        let texts = texts_of(one)?;
        if !texts.is_empty() {
            return Ok(texts);
        }
    }
    if library.licence.contains("Apache-2.0") {
        return Ok(vec![APACHE.to_owned()]);
    }
    Err(Error::NoText {
        name: library.name.clone(),
        licence: library.licence.clone(),
    })
}

fn texts_of(library: &Crate) -> Result<Vec<String>, Error> {
    let unreadable = |source| Error::Read {
        path: library.directory.clone(),
        source,
    };
    let mut files: Vec<_> = fs::read_dir(&library.directory)
        .map_err(unreadable)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.to_lowercase();
            path.is_file() && NAMES.iter().any(|start| name.starts_with(start))
        })
        .collect();
    files.sort();
    let mut texts = Vec::new();
    for file in files {
        let bytes = fs::read(&file).map_err(|source| Error::Read { path: file, source })?;
        let text = String::from_utf8_lossy(&bytes).replace('\r', "");
        let lines = text.lines().map(str::trim_end);
        texts.push(lines.collect::<Vec<_>>().join("\n"));
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crate_has_the_text_of_its_licence() {
        for target in ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"] {
            let crates = Crates::of_program(target).unwrap();
            let text = text(&crates).unwrap();
            let (table, texts) = text.split_once("\n---").unwrap();
            for library in &crates.libraries {
                let name = format!("{} {}\n", library.name, library.version);
                assert!(table.contains(&name), "{name}");
                assert!(texts.contains(&name), "{name}");
            }
        }
    }
}
