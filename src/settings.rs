//! Arguments and environment, once, to settings that are checked. Nothing of ours below reads the environment; libraries
//! do, for the proxy on the way to a registry and the authorities to trust there.
//!
//! A decoder's settings follow from its arguments and its environment alone, so whoever has both of another process can
//! tell what that one works with: `doctor` does.

mod error;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::error::{Error, Result};
use crate::content_store;
use crate::hsm::HsmSettings;
use crate::image::containerd;
use crate::keys::policy::PolicySearch;

/// Lists of paths, with `:` between them.
const KEYS_PATH: &str = "OCIHSM_KEYS_PATH";
const CONTENT_STORE: &str = "OCIHSM_CONTENT_STORE";
/// A layer's annotations, as a JSON object.
const ANNOTATIONS: &str = "OCIHSM_LAYER_ANNOTATIONS";
/// What containerd says of a stream.
const MEDIA_TYPE: &str = "STREAM_PROCESSOR_MEDIATYPE";
const PROVIDERS: &str = "OCICRYPT_KEYPROVIDER_CONFIG";
const POLICY: &str = "OCICRYPT_CONFIG";
const SYSTEM_POLICY: &str = "/etc/ocicrypt.conf";
/// Where containerd listens, and which of its namespaces counts, as `ctr` takes them.
const CONTAINERD: (&str, &str) = ("CONTAINERD_ADDRESS", "/run/containerd/containerd.sock");
const NAMESPACE: (&str, &str) = ("CONTAINERD_NAMESPACE", "default");

/// The environment of a process, ours or that of another one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    /// Where paths begin that are not absolute; `None` where this process's own directory is meant.
    directory: Option<PathBuf>,
}

/// What `decode` was told on its command line.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    /// Directories of key files, and key files.
    pub keys: Vec<PathBuf>,
    /// A file with the layer's descriptor.
    pub descriptor: Option<PathBuf>,
    /// Annotations of the layer.
    pub annotations: Vec<(String, String)>,
    /// Media type of the layer.
    pub media_type: Option<String>,
    /// Content stores.
    pub content_stores: Vec<PathBuf>,
    /// Do not verify a layer before it is streamed.
    pub single_pass: bool,
    /// Time that a module has.
    pub hsm_timeout: Duration,
    /// Log in even when one more wrong PIN locks the token.
    pub allow_final_try: bool,
}

/// What `decode` works with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where keys are.
    pub keys: KeySettings,
    /// What tells which layer it is.
    pub layer: LayerSettings,
    /// How tokens are treated.
    pub hsm: HsmSettings,
    /// Whether a layer is streamed without being verified first.
    pub single_pass: bool,
}

/// Where keys are, and which modules may be loaded for them.
#[derive(Clone, Debug)]
pub struct KeySettings {
    /// Directories of key files, and key files.
    pub paths: Vec<PathBuf>,
    /// What decides which policy counts.
    pub policy: PolicySearch,
    /// The file that names the key providers.
    pub providers: Option<PathBuf>,
}

/// What tells which layer it is, and where else to look.
#[derive(Clone, Debug)]
pub struct LayerSettings {
    /// What the layer was said to be.
    pub told: Told,
    /// Its media type, where arguments or containerd say it.
    pub media_type: Option<String>,
    /// Content stores that were named.
    pub named_stores: Vec<PathBuf>,
}

/// What a layer was said to be by arguments or environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// What this file says.
    Descriptor(PathBuf),
    /// A layer with these annotations.
    Annotations(BTreeMap<String, String>),
    /// Nothing: a payload or a content store has to say.
    Nothing,
}

/// The settings of a decoder with these arguments in this environment.
///
/// # Errors
/// [`Error::UriAsArgument`] for a URI where a path belongs; [`Error::InvalidVariable`] for one that cannot be used.
pub fn resolve(arguments: Arguments, environment: &Environment) -> Result<Settings> {
    let keys = environment.paths(arguments.keys, KEYS_PATH);
    no_uris("--key (--decryption-keys-path)", &keys)?;
    let told =
        match (arguments.descriptor, environment.text(ANNOTATIONS)) {
            (Some(path), _) => Told::Descriptor(environment.absolute(path)),
            _ if !arguments.annotations.is_empty() => {
                Told::Annotations(arguments.annotations.into_iter().collect())
            }
            (None, Some(json)) => Told::Annotations(serde_json::from_str(json).map_err(|_| {
                Error::InvalidVariable {
                    name: ANNOTATIONS,
                    expected: "a JSON object of strings",
                }
            })?),
            (None, None) => Told::Nothing,
        };
    let media_type = arguments.media_type;
    Ok(Settings {
        keys: KeySettings {
            paths: keys,
            policy: policy(environment),
            providers: providers(environment),
        },
        layer: LayerSettings {
            told,
            media_type: media_type
                .or_else(|| environment.text(MEDIA_TYPE).map(str::to_owned))
                .filter(|media_type| !media_type.is_empty()),
            named_stores: environment.paths(arguments.content_stores, CONTENT_STORE),
        },
        hsm: hsm(
            arguments.hsm_timeout,
            arguments.allow_final_try,
            environment,
        ),
        single_pass: arguments.single_pass,
    })
}

/// How tokens are treated by a process with these arguments in this environment.
#[must_use]
pub fn hsm(timeout: Duration, allow_final_try: bool, environment: &Environment) -> HsmSettings {
    HsmSettings {
        timeout,
        allow_final_try,
        runtime_dir: HsmSettings::usual_runtime_dir(|name| environment.variable(name).cloned()),
        environment: crate::hsm::Environment::Inherited {
            softhsm: environment.text("SOFTHSM2_CONF").map(str::to_owned),
        },
    }
}

/// A variable of this process's own, for what no settings tell of; also one that is empty.
#[must_use]
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// What decides which policy counts for a process in this environment.
#[must_use]
pub fn policy(environment: &Environment) -> PolicySearch {
    let variable = |name| environment.variable(name).cloned();
    PolicySearch {
        ocicrypt_config: variable(POLICY).map(|named| match named.to_str() {
            Some("internal") => named,
            _ => environment.absolute(named.into()).into_os_string(),
        }),
        xdg_config_home: variable("XDG_CONFIG_HOME"),
        home: variable("HOME"),
        system_file: SYSTEM_POLICY.into(),
    }
}

/// The file that names the key providers of a process in this environment.
#[must_use]
pub fn providers(environment: &Environment) -> Option<PathBuf> {
    let named = environment.text(PROVIDERS)?;
    Some(environment.absolute(named.into()))
}

/// Which containerd a process in this environment speaks to.
#[must_use]
pub fn containerd(environment: &Environment) -> containerd::Settings {
    let text = |(name, usual)| environment.text(name).unwrap_or(usual);
    let address = text(CONTAINERD);
    containerd::Settings {
        address: environment.absolute(address.strip_prefix("unix://").unwrap_or(address).into()),
        namespace: text(NAMESPACE).to_owned(),
    }
}

/// Where a process in this environment makes files that go with it.
#[must_use]
pub fn temporary(environment: &Environment) -> PathBuf {
    let named = environment.variable("TMPDIR").map(PathBuf::from);
    environment.absolute(named.unwrap_or_else(|| "/tmp".into()))
}

/// Paths of key files or of their directories.
///
/// # Errors
/// [`Error::UriAsArgument`] for a URI, which may hold a PIN, so that nothing else prints it.
pub fn no_uris<'a>(argument: &'static str, given: &'a [PathBuf]) -> Result<&'a [PathBuf]> {
    match given.iter().any(|path| is_uri(&path.to_string_lossy())) {
        true => Err(Error::UriAsArgument { argument }),
        false => Ok(given),
    }
}

/// Whether somebody wrote the URI itself where a file belongs.
#[must_use]
pub fn is_uri(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let uri = text.find("pkcs11:").map(|start| &text[start..]);
    text.contains("pin-value=") || uri.is_some_and(|uri| uri.contains('='))
}

impl LayerSettings {
    /// The stores to look into.
    #[must_use]
    pub fn stores(&self) -> Vec<PathBuf> {
        match self.named_stores.as_slice() {
            [] => content_store::usual_roots(),
            named => named.to_vec(),
        }
    }
}

impl Environment {
    /// This process's own.
    #[must_use]
    pub fn current() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            directory: None,
        }
    }

    /// That of a process with these variables which works in this directory.
    #[must_use]
    pub fn of_other(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        directory: PathBuf,
    ) -> Self {
        Self {
            variables: variables.into_iter().collect(),
            directory: Some(directory),
        }
    }

    /// A variable that is not empty.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&OsString> {
        let value = self.variables.get(OsStr::new(name));
        value.filter(|value| !value.is_empty())
    }

    /// The same, where it is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.variable(name)?.to_str()
    }

    /// Paths that were given, else those of a variable, where `:` stands between them.
    fn paths(&self, given: Vec<PathBuf>, variable: &str) -> Vec<PathBuf> {
        let paths = match (given.is_empty(), self.variable(variable)) {
            (true, Some(value)) => std::env::split_paths(value).collect(),
            _ => given,
        };
        paths
            .into_iter()
            .filter(|path| !path.as_os_str().is_empty())
            .map(|path| self.absolute(path))
            .collect()
    }

    /// The path as the process takes it.
    fn absolute(&self, path: PathBuf) -> PathBuf {
        match &self.directory {
            Some(directory) => directory.join(path),
            None => path,
        }
    }
}

/// Names alone: a value may be a secret.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.variables.keys().map(Path::new).collect();
        write!(f, "Environment({names:?} in {:?})", self.directory)
    }
}

#[cfg(test)]
mod tests;
