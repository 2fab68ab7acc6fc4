//! The file that names the key providers of a machine (`OCICRYPT_KEYPROVIDER_CONFIG`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Error;
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
        /// `host:port`, or `unix:///path`.
        address: String,
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
}

#[derive(Deserialize)]
struct CommandJson {
    path: PathBuf,
    #[serde(default)]
    args: Option<Vec<String>>,
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
        let mut providers = BTreeMap::new();
        for (name, provider) in config.providers {
            let provider = match (provider.cmd, provider.grpc) {
                (Some(command), None) => Provider::Command {
                    path: command.path,
                    args: command.args.unwrap_or_default(),
                },
                (None, Some(address)) => Provider::Grpc { address },
                (Some(_), Some(_)) => {
                    let name = escaped(&name);
                    return Err(invalid(format!(
                        "provider \"{name}\" has both cmd and grpc"
                    )));
                }
                (None, None) => {
                    let name = escaped(&name);
                    return Err(invalid(format!(
                        "provider \"{name}\" has neither cmd nor grpc"
                    )));
                }
            };
            providers.insert(name, provider);
        }
        Ok(Self(providers))
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
