//! The file that names the key providers of a machine (`OCICRYPT_KEYPROVIDER_CONFIG`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Address, Error, Tls};
use crate::escape::escaped;
use crate::file;

/// Most bytes that the file may have.
const MAX_CONFIG: usize = 1 << 20;

/// The key providers of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Providers(BTreeMap<String, Provider>);

/// How a provider is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// A program: one request on its standard input, one answer on its standard output.
    Command {
        /// Its file.
        path: PathBuf,
        /// What it is given.
        args: Vec<String>,
    },
    /// A service.
    Grpc {
        /// Where it is.
        address: Address,
        /// How TLS is spoken to it, if it is.
        tls: Option<Tls>,
    },
    /// Not by what its entry says. It is told when it is asked, and takes nothing from the others.
    Unusable {
        /// What is wrong with it.
        what: &'static str,
    },
}

#[derive(Deserialize)]
struct ConfigJson {
    #[serde(rename = "key-providers", default)]
    providers: BTreeMap<String, ProviderJson>,
}

#[derive(Deserialize)]
struct ProviderJson {
    cmd: Option<CommandJson>,
    grpc: Option<String>,
    #[serde(rename = "grpc-tls")]
    tls: Option<Tls>,
}

#[derive(Deserialize)]
struct CommandJson {
    path: PathBuf,
    #[serde(default)]
    args: Option<Vec<String>>,
}

impl From<ProviderJson> for Provider {
    /// A program goes before a service, as for the reference.
    fn from(json: ProviderJson) -> Self {
        let grpc = json.grpc.filter(|target| !target.is_empty());
        match (json.cmd, grpc) {
            (Some(command), _) => Self::Command {
                path: command.path,
                args: command.args.unwrap_or_default(),
            },
            (None, Some(target)) => match Address::parse(&target) {
                Some(address) => Self::Grpc {
                    address,
                    tls: json.tls,
                },
                None => Self::Unusable {
                    what: "grpc is no address of the form host:port or unix:///path",
                },
            },
            (None, None) => Self::Unusable {
                what: "it has neither cmd nor grpc",
            },
        }
    }
}

impl Providers {
    /// Reads the file. One that is not there names nobody, as for the reference.
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Config`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        match file::read_secret(path, MAX_CONFIG) {
            Ok(bytes) => Self::parse(path, bytes.expose()),
            Err(file::Error::Failed { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(Self::default())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn parse(path: &Path, json: &[u8]) -> Result<Self, Error> {
        let invalid = |what: String| Error::Config {
            path: path.to_owned(),
            what,
        };
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err(invalid("it is not a JSON object".to_owned()));
        }
        let config: ConfigJson = serde_json::from_slice(json).map_err(|error| {
            let line = error.line();
            invalid(format!("line {line}: not the JSON of key providers"))
        })?;
        let providers = config.providers.into_iter();
        let providers = providers.map(|(name, provider)| (name, provider.into()));
        Ok(Self(providers.collect()))
    }

    /// The provider of that name.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn get(&self, name: &str) -> Result<&Provider, Error> {
        self.0.get(name).ok_or_else(|| Error::Unknown {
            name: escaped(&name.chars().take(80).collect::<String>()),
        })
    }

    /// Whether there is a provider of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}
