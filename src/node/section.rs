//! A section `[stream_processors.ID]` of containerd's configuration: for which layers it is, and which program it runs.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};
use serde::Deserialize;

/// containerd's directory for add-ons, and the search path of a service under systemd.
const SEARCH_PATH: [&str; 7] = [
    ADDED_PROGRAMS,
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// Where containerd looks for programs first.
pub(super) const ADDED_PROGRAMS: &str = "/opt/containerd/bin";

/// Where containerd lets its stream processors find libraries first, whatever its own environment says.
pub const ADDED_LIBRARIES: &str = "/opt/containerd/lib";

/// The program of containerd's built-in sections, and its arguments.
pub(super) const DECODER: &str = "ctd-decoder";
pub(super) const BUILT_IN_ARGS: [&str; 2] = ["--decryption-keys-path", super::KEYS];

/// A section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Section {
    /// The file that it stands in; none if it is built into containerd.
    #[serde(skip)]
    pub file: Option<PathBuf>,
    /// Media types of the layers that it is for.
    pub accepts: Vec<String>,
    /// Media type of what comes out.
    pub returns: String,
    /// The program: a path, or a name that is searched for.
    pub path: String,
    /// Arguments of the program.
    pub args: Vec<String>,
    /// What is added to its environment, each as `NAME=value`.
    pub env: Vec<String>,
}

impl Section {
    /// Whether it says what containerd has built in, as each file does that `containerd config default` prints.
    #[must_use]
    pub fn is_as_built_in(&self) -> bool {
        self.path == DECODER && self.args == BUILT_IN_ARGS
    }

    /// The program's file, looked up as a containerd with this environment does; `None` if there is none.
    #[must_use]
    pub fn program(&self, environment: &BTreeMap<String, String>) -> Option<PathBuf> {
        find(&self.path, environment)
    }

    /// A path as the program takes it: containerd's current directory, and with it the program's, is the root.
    #[must_use]
    pub fn absolute(path: impl AsRef<Path>) -> PathBuf {
        Path::new("/").join(path)
    }

    /// The variables that the section sets; of several of one name, the last one counts.
    #[must_use]
    pub fn variables(&self) -> BTreeMap<String, String> {
        let pairs = self.env.iter().filter_map(|entry| entry.split_once('='));
        pairs
            .filter(|(name, value)| !name.is_empty() && !value.contains('\0'))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }
}

/// The environment of a program that containerd under systemd starts, without what a section adds.
#[must_use]
pub fn usual_environment() -> BTreeMap<String, String> {
    // The element after the colon is empty, and containerd's.
    let variables = [
        ("PATH", SEARCH_PATH.join(":")),
        ("LD_LIBRARY_PATH", format!("{ADDED_LIBRARIES}:")),
    ];
    variables
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

/// The file of a program, looked up as it is in this environment from the root directory; `None` if there is none.
#[must_use]
pub fn find(program: &str, environment: &BTreeMap<String, String>) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(Section::absolute(program)).filter(|path| path.is_file());
    }
    let search = environment.get("PATH").map_or("", String::as_str);
    let files = || {
        std::env::split_paths(search)
            .map(|directory| Section::absolute(directory).join(program))
            .filter(|path| path.is_file())
    };
    files()
        .find(|path| is_executable(path))
        .or_else(|| files().next())
}

/// Whether anybody may run a file; root may then.
#[must_use]
pub fn is_executable(path: &Path) -> bool {
    let is_allowed = path
        .metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0);
    is_allowed && !is_on_noexec(path)
}

/// Whether the file system that a file is on is mounted `noexec`.
#[must_use]
pub fn is_on_noexec(path: &Path) -> bool {
    statvfs(path).is_ok_and(|system| system.flags().contains(FsFlags::ST_NOEXEC))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_looked_for_from_the_root_directory() {
        let found = |program: &str, path: &str| {
            let environment = [("PATH".to_owned(), path.to_owned())].into();
            find(program, &environment)
        };
        let env = Some(PathBuf::from("/usr/bin/env"));
        for (program, path) in [
            ("env", "/usr/bin"),
            ("env", "/nowhere:usr/bin"),
            ("usr/bin/env", ""),
            ("/usr/bin/env", ""),
        ] {
            assert_eq!(found(program, path), env, "{program} in {path}");
        }
        // This directory has it, and the root directory not.
        assert_eq!(found("Cargo.toml", ":/usr/bin"), None);
    }

    #[test]
    fn the_last_value_of_a_variable_counts() {
        let section = Section {
            env: ["A=1", "AB=2", "A=3=4", "=5", "B"]
                .map(str::to_owned)
                .into(),
            ..Section::default()
        };
        let variables = section.variables();
        assert_eq!(variables["A"], "3=4");
        assert_eq!(variables.len(), 2);
    }
}
