//! One file of containerd's configuration, as far as it matters here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::{Error, Result};
use super::section::Section;
use crate::file;

/// Most bytes that a file may have.
const MAX_FILE: usize = 4 << 20;

#[derive(Deserialize)]
#[serde(default)]
pub(super) struct Document {
    pub(super) version: i64,
    pub(super) root: Option<PathBuf>,
    pub(super) imports: Vec<String>,
    pub(super) stream_processors: BTreeMap<String, Section>,
    disabled_plugins: Vec<String>,
    required_plugins: Vec<String>,
    plugins: BTreeMap<String, IgnoredAny>,
}

impl Default for Document {
    fn default() -> Self {
        Self {
            version: 1,
            root: None,
            imports: Vec::new(),
            stream_processors: BTreeMap::new(),
            disabled_plugins: Vec::new(),
            required_plugins: Vec::new(),
            plugins: BTreeMap::new(),
        }
    }
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::InFile`]; [`Error::RepeatedTomlKey`] and [`Error::InvalidToml`], which place the mistake and
    /// do not quote the file, since it may hold passwords of registries.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes = file::read(path, MAX_FILE)?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            Error::InvalidToml {
                path: path.to_owned(),
                line: 1 + before.iter().filter(|&&byte| byte == b'\n').count() as u64,
            }
        })?;
        toml::from_str(&text).map_err(|error| mistake(path, &text, &error))
    }

    /// Plugins that the file names as only version 1 does: `cri` for `io.containerd.grpc.v1.cri`.
    pub(super) fn short_plugins(&self) -> Vec<String> {
        let lists = [&self.disabled_plugins, &self.required_plugins];
        let mut names: Vec<String> = lists
            .into_iter()
            .flatten()
            .chain(self.plugins.keys())
            .filter(|name| !is_full(name))
            .cloned()
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

/// As containerd 1.x checks it.
fn is_full(plugin: &str) -> bool {
    plugin.starts_with("io.containerd.") && plugin.matches('.').count() >= 3
}

fn mistake(path: &Path, text: &str, error: &toml::de::Error) -> Error {
    let span = error.span().unwrap_or_default();
    let before = text.get(..span.start).unwrap_or_default();
    let line = 1 + before.matches('\n').count() as u64;
    let path = path.to_owned();
    // A name that stands there is no secret, if it is one.
    let key = text.get(span).unwrap_or_default().trim_matches('"');
    let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if error.message().contains("duplicate key")
        && (1..=80).contains(&key.len())
        && key.chars().all(is_name)
    {
        let key = key.to_owned();
        return Error::RepeatedTomlKey { path, line, key };
    }
    Error::InvalidToml { path, line }
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn mistake_in(text: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        Document::read(&path).err().unwrap().to_string()
    }

    #[test]
    fn broken_toml_is_placed_and_not_quoted() {
        let error = mistake_in("version = 2\n[plugins]\npassword = \"secret\n");
        assert!(
            error.contains("config.toml: line 3 ") && !error.contains("secret"),
            "{error}"
        );
    }

    #[test]
    fn a_pipe_among_the_imports_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let error = Document::read(&path).err().unwrap().to_string();
        assert!(error.contains("a.toml: it is a pipe"), "{error}");
    }

    #[test]
    fn text_that_is_not_utf_8_is_placed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, b"version = 2\n# \xfc\n").unwrap();
        let error = Document::read(&path).err().unwrap().to_string();
        assert!(error.contains("line 2 is not the TOML"), "{error}");
    }

    #[test]
    fn a_key_that_stands_there_twice_is_named() {
        for (text, part) in [
            (
                "imports = []\nversion = 2\nimports = [\"/x\"]\n",
                "line 3 defines `imports` a second time",
            ),
            (
                "[a.\"b.c\"]\n[a.\"b.c\"]\n",
                "line 2 defines `b.c` a second time",
            ),
            (
                "\"pass word\" = 1\n\"pass word\" = 2\n",
                "line 2 is not the TOML",
            ),
        ] {
            let error = mistake_in(text);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn plugins_are_named_in_full_or_in_short() {
        let document: Document = toml::from_str(
            "disabled_plugins = [\"cri\", \"io.containerd.grpc.v1.cri\"]\n\
             required_plugins = [\"io.containerd.cri\"]\n\
             [plugins.cri]\n[plugins.\"io.containerd.runtime.v1.linux\"]\n",
        )
        .unwrap();
        assert_eq!(document.short_plugins(), ["cri", "io.containerd.cri"]);
    }
}
