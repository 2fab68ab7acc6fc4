//! What a decoder works with, as the section of containerd's configuration that starts it says: keys, policy,
//! environment. Not what this process's own environment says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::geteuid;

use crate::commands::decode;
use crate::commands::image_args;
use crate::hsm::{Environment, HsmSettings};
use crate::node::section::{self, Section};

/// What one group of stream processors decodes with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setup {
    /// Directories of key files.
    pub(super) keys: Vec<PathBuf>,
    /// `OCICRYPT_CONFIG`.
    pub(super) policy: Option<String>,
    /// `OCIHSM_RUNTIME_DIR`.
    runtime_dir: Option<String>,
    /// Time that a module has.
    timeout: Option<Duration>,
    /// What else is in its environment, for modules to read.
    pub(super) environment: BTreeMap<String, String>,
}

impl Setup {
    /// Of a decoder with this environment, and with the arguments that it makes of its section's.
    pub(super) fn new(mut variables: BTreeMap<String, String>, arguments: &decode::Args) -> Self {
        let named = arguments.keys.decryption_keys_path.clone();
        let keys = paths(named, variables.get("OCIHSM_KEYS_PATH"));
        let policy = variables.remove("OCICRYPT_CONFIG");
        let runtime_dir = variables.remove("OCIHSM_RUNTIME_DIR");
        // No module reads ours.
        variables.retain(|name, _| !name.starts_with("OCIHSM_") && !name.starts_with("OCICRYPT_"));
        Self {
            policy,
            runtime_dir,
            timeout: Some(arguments.hsm.hsm_timeout),
            keys,
            environment: variables,
        }
    }

    /// Of a decoder that no section says more of.
    pub(super) fn with_keys(keys: Vec<PathBuf>) -> Self {
        Self {
            keys,
            policy: None,
            runtime_dir: None,
            timeout: None,
            environment: usual_environment(),
        }
    }

    /// The same decoder with other keys.
    pub(super) fn but_with_keys(self, keys: Vec<PathBuf>) -> Self {
        Self { keys, ..self }
    }

    /// Where the decoder remembers rejected PINs, if its section says so.
    pub(super) fn named_runtime_dir(&self) -> Option<&str> {
        let named = self.runtime_dir.as_deref();
        named.filter(|directory| !directory.is_empty())
    }

    /// How the decoder treats tokens, no more boldly and no longer than doctor is told to.
    pub(super) fn settings(&self, ours: &HsmSettings) -> HsmSettings {
        HsmSettings {
            timeout: self
                .timeout
                .map_or(ours.timeout, |timeout| timeout.min(ours.timeout)),
            allow_final_try: ours.allow_final_try,
            runtime_dir: HsmSettings::usual_runtime_dir(|name| match name {
                "OCIHSM_RUNTIME_DIR" => self.runtime_dir.as_ref().map(Into::into),
                _ => self.environment.get(name).map(Into::into),
            }),
            environment: Environment::Only(self.environment.clone()),
        }
    }
}

/// The environment of a decoder whose containerd does not run, or cannot be looked at.
pub(super) fn usual_environment() -> BTreeMap<String, String> {
    let mut environment = section::usual_environment();
    if !geteuid().is_root() {
        // systemd tells a service of another user.
        let ours = ["HOME", "XDG_RUNTIME_DIR"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
        environment.extend(ours);
    }
    environment
}

/// Paths as the decoder takes them: from its arguments, else from a variable, where `:` stands between them.
pub(super) fn paths(named: Vec<PathBuf>, variable: Option<&String>) -> Vec<PathBuf> {
    let named = match (named.is_empty(), variable) {
        (true, Some(value)) => std::env::split_paths(value).collect(),
        _ => named,
    };
    named
        .into_iter()
        .filter(|path| !path.as_os_str().is_empty())
        .map(|path| match is_uri(&path) {
            true => path,
            false => Section::absolute(path),
        })
        .collect()
}

fn is_uri(path: &Path) -> bool {
    image_args::is_uri(&path.to_string_lossy())
}
