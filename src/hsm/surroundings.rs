//! Why a module does not start, where its own answer gives no reason: a file or a directory that it is told of is not there.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::error::{Error, NamedBy};
use super::function::Function;
use super::{Environment, HsmSettings};
use crate::keys::TokenKey;
use crate::keys::key_file::COMMAND_LINE;

/// The variable that names SoftHSM's configuration.
const SOFTHSM: &str = "SOFTHSM2_CONF";
/// Variables by which modules find their configuration or their tokens, which have to be there; not logs, for example.
const PLACES: [&str; 7] = [
    SOFTHSM,
    "CS_PKCS11_R3_CFG",
    "ChrystokiConfigurationPath",
    "KRYOPTIC_CONF",
    "OPENSC_CONF",
    "TPM2_PKCS11_STORE",
    "YUBIHSM_PKCS11_CONF",
];
/// SoftHSM's configuration where no variable names one, as distributions build it.
const SOFTHSM_USUAL: &str = "/etc/softhsm/softhsm2.conf";

/// The error, or what it comes from: nothing is looked for before a module has failed.
pub(super) fn explained(error: Error, key: &TokenKey, settings: &HsmSettings) -> Error {
    let Error::Call { function, .. } = &error else {
        return error;
    };
    if *function != Function::C_Initialize.name() {
        return error;
    }
    let environment = &settings.environment;
    let missing = missing_file(key, environment).or_else(|| missing_tokens(key, environment));
    match missing {
        Some((named_by, path)) => Error::Surroundings {
            module: key.module.clone(),
            named_by,
            path,
        },
        None => error,
    }
}

/// What a variable names that is not there.
fn missing_file(key: &TokenKey, environment: &Environment) -> Option<(NamedBy, PathBuf)> {
    let here = key.file.name == COMMAND_LINE;
    let places = (key.file.env.iter()).filter(|(name, _)| PLACES.contains(&name.as_str()));
    let own = places.map(|(name, value)| {
        let named_by = match here {
            true => NamedBy::Variable(name.clone()),
            false => NamedBy::ModuleEnv(name.clone()),
        };
        (named_by, value.as_str())
    });
    let inherited = inherited(environment)
        .filter(|_| is_softhsm(key) && !key.file.env.contains_key(SOFTHSM))
        .map(|value| (NamedBy::Variable(SOFTHSM.to_owned()), value));
    own.chain(inherited)
        .filter(|(_, value)| !value.is_empty())
        .find(|(_, value)| is_absent(&environment.directory().join(value)))
        .map(|(named_by, value)| (named_by, PathBuf::from(value)))
}

/// SoftHSM's directory of tokens, if its configuration names one that is not there.
fn missing_tokens(key: &TokenKey, environment: &Environment) -> Option<(NamedBy, PathBuf)> {
    if !is_softhsm(key) {
        return None;
    }
    let configuration = match key.file.env.get(SOFTHSM) {
        Some(path) => path.as_str(),
        None => inherited(environment).unwrap_or(SOFTHSM_USUAL),
    };
    let text = fs::read_to_string(environment.directory().join(configuration)).ok()?;
    let tokens = text.lines().find_map(token_directory)?;
    let tokens = PathBuf::from(tokens);
    is_absent(&environment.directory().join(&tokens))
        .then(|| (NamedBy::File(configuration.into()), tokens))
}

fn token_directory(line: &str) -> Option<&str> {
    let (name, value) = line.split_once('=')?;
    (name.trim() == "directories.tokendir").then(|| value.trim())
}

fn is_softhsm(key: &TokenKey) -> bool {
    let file = key.module.file_name().unwrap_or_default();
    file.to_string_lossy().contains("softhsm")
}

/// SoftHSM's variable, as the module's process has it from us.
fn inherited(environment: &Environment) -> Option<&str> {
    let value = match environment {
        Environment::Inherited { softhsm } => softhsm.as_deref(),
        Environment::Only(variables) => variables.get(SOFTHSM).map(String::as_str),
    };
    value.filter(|value| !value.is_empty())
}

/// Surely not there: one that may not be looked at may be.
fn is_absent(path: &Path) -> bool {
    matches!(
        fs::metadata(path).map_err(|error| error.kind()),
        Err(ErrorKind::NotFound | ErrorKind::NotADirectory)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_tokens_is_read_as_softhsm_reads_it() {
        for (line, directory) in [
            (
                "directories.tokendir = /var/lib/softhsm/tokens/",
                Some("/var/lib/softhsm/tokens/"),
            ),
            ("directories.tokendir=/a b", Some("/a b")),
            ("# directories.tokendir = /x", None),
            ("objectstore.backend = file", None),
        ] {
            assert_eq!(token_directory(line), directory);
        }
    }

    #[test]
    fn what_may_not_be_looked_at_is_not_said_to_be_absent() {
        assert!(is_absent(Path::new("/nowhere/at/all")));
        assert!(is_absent(Path::new("/dev/null/below")));
        assert!(!is_absent(Path::new("/")));
    }
}
