//! The two lists of a policy, as YAML has them, and every way they can be wrong.
//!
//! A mistake is an error that says where the key or the entry belongs: passed over, it would silently allow nothing.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::Allowed;
use crate::keys::error::{Error, Result};
use crate::keys::yaml;

const DIRECTORIES: &str = "module-directories";
const ALLOWED: &str = "allowed-module-paths";

/// What a policy says.
pub(super) struct Lists {
    pub(super) module_directories: Vec<PathBuf>,
    pub(super) allowed: Vec<Allowed>,
}

impl Lists {
    /// Reads `ocicrypt.conf`, with the lists under `pkcs11:`, and compares the entries with what is on disk.
    pub(super) fn of_node(policy: &str, bytes: &[u8]) -> Result<Self> {
        let mut top = parse(policy, bytes)?;
        let section = match top.remove("pkcs11") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(section)) => section,
            Some(_) => return Err(key(policy, "pkcs11", "is no mapping with lists below it")),
        };
        // The reference keeps its key providers in a file of their own, which may be this very one.
        top.remove("key-providers");
        if let Some(name) = top.keys().next() {
            return Err(match name.as_str() {
                DIRECTORIES | ALLOWED => key(policy, name, "belongs under `pkcs11:`"),
                _ => key(policy, name, "is unknown; the lists belong under `pkcs11:`"),
            });
        }
        let lists = Self::from_section(policy, section)?;
        lists.compare_with_disk(policy)?;
        Ok(lists)
    }

    /// Reads what a client sends: the lists alone. Its directories need not exist on this machine.
    pub(super) fn of_client(policy: &str, bytes: &[u8]) -> Result<Self> {
        Self::from_section(policy, parse(policy, bytes)?)
    }

    fn from_section(policy: &str, mut section: Map<String, Value>) -> Result<Self> {
        let directories = paths(policy, DIRECTORIES, section.remove(DIRECTORIES))?;
        let allowed = paths(policy, ALLOWED, section.remove(ALLOWED))?;
        if let Some(name) = section.keys().next() {
            let what = "is unknown; there are `module-directories` and `allowed-module-paths`";
            return Err(key(policy, name, what));
        }
        Ok(Self {
            module_directories: directories.iter().map(|path| trimmed(path)).collect(),
            allowed: allowed
                .iter()
                .map(|path| match path.ends_with('/') {
                    true => Allowed::Directory(trimmed(path)),
                    false => Allowed::File(PathBuf::from(path)),
                })
                .collect(),
        })
    }

    fn compare_with_disk(&self, policy: &str) -> Result<()> {
        let files = self
            .module_directories
            .iter()
            .filter(|path| path.is_file())
            .map(|path| (DIRECTORIES, path, "is a file, not a directory"));
        let of_wrong_kind = self.allowed.iter().filter_map(|entry| match entry {
            Allowed::Directory(path) if path.is_file() => {
                Some((ALLOWED, path, "is a file: remove the last `/`"))
            }
            Allowed::File(path) if path.is_dir() => Some((
                ALLOWED,
                path,
                "is a directory: without a `/` at its end it allows nothing",
            )),
            _ => None,
        });
        match files.chain(of_wrong_kind).next() {
            Some((list, path, what)) => Err(entry(policy, list, path, what)),
            None => Ok(()),
        }
    }
}

fn parse(policy: &str, bytes: &[u8]) -> Result<Map<String, Value>> {
    let broken = || Error::InvalidYaml {
        name: policy.to_owned(),
        line: 1,
    };
    let text = std::str::from_utf8(bytes).map_err(|_| broken())?;
    match yaml::read(policy, text)? {
        Value::Null => Ok(Map::new()),
        Value::Object(map) => Ok(map),
        _ => Err(broken()),
    }
}

fn paths(policy: &str, list: &'static str, value: Option<Value>) -> Result<Vec<String>> {
    let no_list = || key(policy, list, "is no list of paths");
    let entries = match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err(no_list()),
    };
    entries
        .into_iter()
        .map(|value| match value {
            Value::String(path) if path.starts_with('/') => Ok(path),
            Value::String(path) => Err(entry(
                policy,
                list,
                Path::new(&path),
                "is not an absolute path",
            )),
            _ => Err(no_list()),
        })
        .collect()
}

/// Without the slashes at its end, of which `/` keeps its own.
fn trimmed(path: &str) -> PathBuf {
    match path.trim_end_matches('/') {
        "" => PathBuf::from("/"),
        path => PathBuf::from(path),
    }
}

fn key(policy: &str, key: &str, what: &'static str) -> Error {
    Error::PolicyKey {
        policy: policy.to_owned(),
        key: key.chars().take(80).collect(),
        what,
    }
}

fn entry(policy: &str, list: &'static str, entry: &Path, what: &'static str) -> Error {
    Error::PolicyEntry {
        policy: policy.to_owned(),
        list,
        entry: entry.to_owned(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named_with_where_they_belong() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let (dir, file) = (dir.path().display(), file.display());
        for (text, part) in [
            (
                "module-directories:\n  - /x/\n",
                r#""module-directories" belongs under `pkcs11:`"#,
            ),
            (
                "allowed-module-paths:\n",
                r#""allowed-module-paths" belongs under `pkcs11:`"#,
            ),
            ("pkcs12:\n", r#""pkcs12" is unknown"#),
            ("pkcs11: /x/\n", r#""pkcs11" is no mapping"#),
            (
                "pkcs11:\n  module-directory:\n    - /x/\n",
                r#""module-directory" is unknown"#,
            ),
            (
                "pkcs11:\n  module-directories: /x/\n",
                "is no list of paths",
            ),
            (
                "pkcs11:\n  allowed-module-paths: [1]\n",
                "is no list of paths",
            ),
            (
                "pkcs11:\n  allowed-module-paths: [lib.so]\n",
                "lib.so in allowed-module-paths is not an absolute",
            ),
            (
                "pkcs11:\n  allowed-module-paths: ['']\n",
                "is not an absolute path",
            ),
            (
                &format!("pkcs11:\n  module-directories: [{file}]\n"),
                "is a file, not a directory",
            ),
            (
                &format!("pkcs11:\n  allowed-module-paths: [{dir}]\n"),
                "without a `/` at its end",
            ),
            (
                &format!("pkcs11:\n  allowed-module-paths: [{file}/]\n"),
                "remove the last `/`",
            ),
            ("- a\n", "line 1"),
            ("pkcs11:\n\tx\n", "line 2"),
            ("pkcs11:\npkcs11:\n", "line 2"),
        ] {
            let error = Lists::of_node("ocicrypt.conf", text.as_bytes()).err();
            let shown = error.expect(text).to_string();
            assert!(shown.contains(part), "{text}: {shown}");
            assert!(shown.starts_with("ocicrypt.conf: "), "{shown}");
        }
    }

    #[test]
    fn a_client_has_no_section_and_its_disk_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("allowed-module-paths: [{}]\n", dir.path().display());
        let lists = Lists::of_client("the payload", text.as_bytes()).unwrap();
        assert_eq!(lists.allowed, [Allowed::File(dir.path().into())]);
        let nested = Lists::of_client("the payload", b"pkcs11:\n  module-directories: [/b/]\n");
        let shown = nested.err().unwrap().to_string();
        assert!(
            shown.starts_with("the payload: \"pkcs11\" is unknown"),
            "{shown}"
        );
    }
}
