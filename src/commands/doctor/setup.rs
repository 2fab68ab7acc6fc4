//! What a decoder works with, as the section of containerd's configuration that starts it says: keys, policy,
//! environment. Not what this process's own environment says.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::geteuid;

use crate::commands::Result;
use crate::commands::decode;
use crate::hsm::{Environment as ModuleEnvironment, HsmSettings};
use crate::keys::policy::PolicySearch;
use crate::node::section;
use crate::settings::{self, Environment, Settings};

/// What one group of stream processors decodes with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setup {
    /// Directories of key files.
    pub(super) keys: Vec<PathBuf>,
    /// What decides which policy counts.
    pub(super) policy: PolicySearch,
    /// The file that names its key providers.
    pub(super) providers: Option<PathBuf>,
    /// `OCIHSM_RUNTIME_DIR`, if the section says so.
    pub(super) named_runtime_dir: Option<String>,
    /// Content stores that its arguments or variables name.
    pub(super) stores: Vec<PathBuf>,
    /// Where locks and rejected PINs are kept.
    runtime_dir: Option<PathBuf>,
    /// Time that a module has; `None` where no section says it.
    timeout: Option<Duration>,
    /// Its environment, without what no module reads.
    pub(super) environment: BTreeMap<String, String>,
}

impl Setup {
    /// Of a decoder with this environment, and with the arguments that it makes of its section's.
    ///
    /// # Errors
    /// What the decoder would fail with.
    pub(super) fn new(
        variables: BTreeMap<String, String>,
        arguments: &decode::Args,
    ) -> Result<Self> {
        let environment = of_decoder(&variables);
        let settings = settings::resolve(arguments.raw(), &environment)?;
        let timeout = Some(settings.hsm.timeout);
        Ok(Self {
            timeout,
            ..Self::of(settings, &environment, variables)
        })
    }

    /// Of a decoder that no section says more of.
    pub(super) fn with_keys(keys: Vec<PathBuf>) -> Result<Self> {
        let variables = usual_environment();
        let environment = of_decoder(&variables);
        let settings = settings::resolve(settings::Arguments::default(), &environment)?;
        Ok(Self::of(settings, &environment, variables).but_with_keys(keys))
    }

    /// The same decoder with other keys.
    pub(super) fn but_with_keys(self, keys: Vec<PathBuf>) -> Self {
        Self { keys, ..self }
    }

    fn of(
        settings: Settings,
        environment: &Environment,
        mut variables: BTreeMap<String, String>,
    ) -> Self {
        // No module reads ours.
        variables.retain(|name, _| !name.starts_with("OCIHSM_") && !name.starts_with("OCICRYPT_"));
        Self {
            keys: settings.keys.paths,
            policy: settings.keys.policy,
            providers: settings.keys.providers,
            named_runtime_dir: environment.text("OCIHSM_RUNTIME_DIR").map(str::to_owned),
            stores: settings.layer.named_stores,
            runtime_dir: settings.hsm.runtime_dir,
            timeout: None,
            environment: variables,
        }
    }

    /// How the decoder treats tokens, no more boldly and no longer than doctor is told to.
    pub(super) fn settings(&self, ours: &HsmSettings) -> HsmSettings {
        HsmSettings {
            timeout: self
                .timeout
                .map_or(ours.timeout, |timeout| timeout.min(ours.timeout)),
            allow_final_try: ours.allow_final_try,
            runtime_dir: self.runtime_dir.clone(),
            environment: ModuleEnvironment::Only(self.environment.clone()),
        }
    }
}

/// The environment of a decoder whose containerd does not run, or cannot be looked at.
pub(super) fn usual_environment() -> BTreeMap<String, String> {
    let mut environment = section::usual_environment();
    if !geteuid().is_root() {
        // systemd tells a service of another user.
        let ours = Environment::current();
        environment.extend(
            ["HOME", "XDG_RUNTIME_DIR"]
                .into_iter()
                .filter_map(|name| Some((name.to_owned(), ours.text(name)?.to_owned()))),
        );
    }
    environment
}

/// containerd's current directory, and with it the decoder's, is the root.
fn of_decoder(variables: &BTreeMap<String, String>) -> Environment {
    let pairs = variables.iter();
    Environment::of_other(
        pairs.map(|(name, value)| (OsString::from(name), OsString::from(value))),
        PathBuf::from("/"),
    )
}
