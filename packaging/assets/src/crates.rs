//! The crates that are in the program, as cargo resolves them for its target.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::Error;

/// One crate.
#[derive(Clone, Debug)]
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) version: String,
    /// An SPDX expression.
    pub(crate) licence: String,
    pub(crate) description: String,
    pub(crate) repository: String,
    /// Where its sources are on this machine.
    pub(crate) directory: PathBuf,
    /// SHA-256 of the archive that it came in, if it came in one.
    pub(crate) checksum: Option<String>,
    /// Names and versions of what it is built on.
    pub(crate) needs: Vec<Key>,
}

/// Name and version.
pub(crate) type Key = (String, String);

/// The program and the crates in it.
#[derive(Debug)]
pub(crate) struct Crates {
    pub(crate) program: Crate,
    pub(crate) libraries: Vec<Crate>,
}

impl Crates {
    /// Those of a program that is built for this target; not what only builds or tests it.
    pub(crate) fn of_program(target: &str) -> Result<Self, Error> {
        let linked = linked(target)?;
        let metadata = cargo(&[
            "metadata",
            "--locked",
            "--offline",
            "--format-version=1",
            "--filter-platform",
            target,
        ])?;
        let metadata: Value = serde_json::from_str(&metadata).map_err(|error| Error::Printed {
            what: error.to_string(),
        })?;
        let path = PathBuf::from(word(&metadata, "workspace_root")).join("Cargo.lock");
        let lock = std::fs::read_to_string(&path).map_err(|source| Error::Read { path, source })?;
        let checksums = checksums(&lock);
        let mut crates = BTreeMap::new();
        for package in metadata["packages"].as_array().into_iter().flatten() {
            let key = (word(package, "name"), word(package, "version"));
            if linked.contains(&key) {
                crates.insert(key.clone(), read(package, checksums.get(&key)));
            }
        }
        for node in metadata["resolve"]["nodes"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let id = &node["id"];
            let Some(key) = key_of(&metadata, id) else {
                continue;
            };
            let needs = node["dependencies"].as_array().into_iter().flatten();
            let needs = needs
                .filter_map(|id| key_of(&metadata, id))
                .filter(|need| linked.contains(need))
                .collect();
            if let Some(found) = crates.get_mut(&key) {
                found.needs = needs;
            }
        }
        if let Some(missing) = linked.iter().find(|key| !crates.contains_key(*key)) {
            return Err(Error::Printed {
                what: format!("nothing on {} {}", missing.0, missing.1),
            });
        }
        let program = linked.first().and_then(|key| crates.remove(key));
        Ok(Self {
            program: program.ok_or_else(|| Error::Printed {
                what: "no crate is in the program".to_owned(),
            })?,
            libraries: crates.into_values().collect(),
        })
    }
}

/// What is linked into the program, itself first.
fn linked(target: &str) -> Result<Vec<Key>, Error> {
    let tree = cargo(&[
        "tree",
        "--locked",
        "--offline",
        "--package=ocihsm",
        "--edges=normal,no-proc-macro",
        "--prefix=none",
        "--format={p}",
        "--no-dedupe",
        "--target",
        target,
    ])?;
    let mut linked = Vec::new();
    for line in tree.lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            let key = (name.to_owned(), version.trim_start_matches('v').to_owned());
            if !linked.contains(&key) {
                linked.push(key);
            }
        }
    }
    Ok(linked)
}

fn read(package: &Value, checksum: Option<&String>) -> Crate {
    Crate {
        name: word(package, "name"),
        version: word(package, "version"),
        // Some old crates still write the alternatives with a slash.
        licence: word(package, "license").replace('/', " OR "),
        description: word(package, "description")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" "),
        repository: word(package, "repository"),
        directory: PathBuf::from(word(package, "manifest_path"))
            .parent()
            .map(PathBuf::from)
            .unwrap_or_default(),
        checksum: checksum.cloned(),
        needs: Vec::new(),
    }
}

/// Those of `Cargo.lock`, whose lines are `name = "…"`, `version = "…"` and `checksum = "…"` in this order.
fn checksums(lock: &str) -> BTreeMap<Key, String> {
    let mut checksums = BTreeMap::new();
    for entry in lock.split("[[package]]") {
        let value = |name: &str| {
            let mut lines = entry.lines();
            let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
            line.map(|value| value.trim_matches('"').to_owned())
        };
        if let (Some(name), Some(version), Some(checksum)) =
            (value("name"), value("version"), value("checksum"))
        {
            checksums.insert((name, version), checksum);
        }
    }
    checksums
}

fn key_of(metadata: &Value, id: &Value) -> Option<Key> {
    let package = metadata["packages"]
        .as_array()?
        .iter()
        .find(|package| package["id"] == *id)?;
    Some((word(package, "name"), word(package, "version")))
}

fn word(package: &Value, name: &str) -> String {
    package[name].as_str().unwrap_or_default().to_owned()
}

fn cargo(arguments: &[&str]) -> Result<String, Error> {
    let output = Command::new("cargo")
        .args(arguments)
        .output()
        .map_err(Error::Start)?;
    if !output.status.success() {
        return Err(Error::Cargo {
            command: arguments.join(" "),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_built_on_the_cipher_and_not_on_what_tests_it() {
        let crates = Crates::of_program("x86_64-unknown-linux-gnu").unwrap();
        let names: Vec<_> = crates.libraries.iter().map(|found| &*found.name).collect();
        assert_eq!(crates.program.name, "ocihsm");
        assert!(names.contains(&"aes"), "{names:?}");
        assert!(!names.contains(&"divan"), "{names:?}");
        assert!(!names.contains(&"trycmd"), "{names:?}");
        assert!(
            crates
                .libraries
                .iter()
                .all(|found| found.checksum.is_some())
        );
    }
}
