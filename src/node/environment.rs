//! What a PKCS#11 module takes from its environment, so that it can stand in a key file: containerd starts us without
//! the variables, and without the home directory, of whoever set the token up.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A variable that a module reads.
struct Variable {
    /// Part of the module's file name.
    module: &'static str,
    name: &'static str,
    /// Its value is a path.
    is_path: bool,
    /// Without the variable, the module takes this below the home directory, if it is there…
    in_home: Option<&'static str>,
    /// …and this is not.
    unless: Option<&'static str>,
}

const VARIABLES: [Variable; 12] = [
    Variable {
        in_home: Some(".config/softhsm2/softhsm2.conf"),
        ..path("softhsm2", "SOFTHSM2_CONF")
    },
    Variable {
        in_home: Some(".tpm2_pkcs11"),
        unless: Some("/etc/tpm2_pkcs11"),
        ..path("tpm2_pkcs11", "TPM2_PKCS11_STORE")
    },
    text("tpm2_pkcs11", "TPM2_PKCS11_TCTI"),
    text("p11-kit-client", "P11_KIT_SERVER_ADDRESS"),
    path("kryoptic", "KRYOPTIC_CONF"),
    path("opensc-pkcs11", "OPENSC_CONF"),
    path("yubihsm_pkcs11", "YUBIHSM_PKCS11_CONF"),
    path("libCryptoki2", "ChrystokiConfigurationPath"),
    path("libcs_pkcs11", "CS_PKCS11_R3_CFG"),
    text("libckteec", "CKTEEC_LOGIN_TYPE"),
    text("libckteec", "CKTEEC_LOGIN_GID"),
    text("pkcs11-proxy", "PKCS11_PROXY_SOCKET"),
];

const fn path(module: &'static str, name: &'static str) -> Variable {
    Variable {
        module,
        name,
        is_path: true,
        in_home: None,
        unless: None,
    }
}

const fn text(module: &'static str, name: &'static str) -> Variable {
    Variable {
        is_path: false,
        ..path(module, name)
    }
}

/// What `module.env` of a key file has to say for this module, as far as an environment tells. Paths are made
/// absolute.
#[must_use]
pub fn of_module(
    module: &Path,
    var: impl Fn(&str) -> Option<OsString>,
) -> BTreeMap<String, String> {
    let file = module.file_name().unwrap_or_default().to_string_lossy();
    let var = |name| var(name).filter(|value| !value.is_empty());
    VARIABLES
        .iter()
        .filter(|variable| file.contains(variable.module))
        .filter_map(|variable| {
            let value = match var(variable.name) {
                Some(value) if variable.is_path => std::path::absolute(value).ok()?.into(),
                Some(value) => value,
                None => variable.default(&PathBuf::from(var("HOME")?))?.into(),
            };
            // Key files are text.
            Some((variable.name.to_owned(), value.into_string().ok()?))
        })
        .collect()
}

impl Variable {
    fn default(&self, home: &Path) -> Option<PathBuf> {
        let path = home.join(self.in_home?);
        let taken = path.exists() && !self.unless.is_some_and(|path| Path::new(path).exists());
        taken.then_some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(module: &str, variables: &[(&str, &str)]) -> BTreeMap<String, String> {
        of_module(Path::new(module), |wanted| {
            let found = variables.iter().find(|(name, _)| *name == wanted)?;
            Some(found.1.into())
        })
    }

    #[test]
    fn a_module_gets_its_own_variables_alone() {
        let all = [
            ("SOFTHSM2_CONF", "/a/softhsm2.conf"),
            ("TPM2_PKCS11_STORE", "/store"),
            ("TPM2_PKCS11_TCTI", "swtpm:port=1"),
            ("P11_KIT_SERVER_ADDRESS", ""),
        ];
        assert_eq!(
            env("/usr/lib/softhsm/libsofthsm2.so", &all),
            BTreeMap::from([("SOFTHSM2_CONF".to_owned(), "/a/softhsm2.conf".to_owned())])
        );
        assert_eq!(env("/x/libtpm2_pkcs11.so.1", &all).len(), 2);
        assert!(env("/x/p11-kit-client.so", &all).is_empty());
    }

    #[test]
    fn relative_paths_become_absolute() {
        let found = env("/x/libsofthsm2.so", &[("SOFTHSM2_CONF", "conf")]);
        assert!(found["SOFTHSM2_CONF"].starts_with('/'));
        assert!(found["SOFTHSM2_CONF"].ends_with("/conf"));
    }

    #[test]
    fn configuration_in_the_home_directory_is_named() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().to_str().unwrap();
        assert!(env("/x/libsofthsm2.so", &[("HOME", path)]).is_empty());
        let directory = home.path().join(".config/softhsm2");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("softhsm2.conf"), "").unwrap();
        let found = env("/x/libsofthsm2.so", &[("HOME", path)]);
        assert_eq!(
            found["SOFTHSM2_CONF"],
            format!("{path}/.config/softhsm2/softhsm2.conf")
        );
    }
}
