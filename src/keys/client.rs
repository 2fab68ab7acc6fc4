//! What a client's key file may not say: variables by which whoever asks for a pull would have code run as root here.
//!
//! The node's policy decides which modules are loaded. The loader, the C library and some modules load more, by what
//! their environment says; in the node's own key files that is the operator's to decide, in a payload's it is refused.

use std::collections::BTreeMap;

/// Beginnings of names.
const FAMILIES: [&str; 4] = ["LD_", "MALLOC_", "OPENSSL_", "PKCS11SPY"];

/// What glibc drops where a program has more rights than its caller, and the search path of programs.
const NAMES: [&str; 14] = [
    "GCONV_PATH",
    "GETCONF_DIR",
    "GLIBC_TUNABLES",
    "HOSTALIASES",
    "LOCALDOMAIN",
    "LOCPATH",
    "NIS_PATH",
    "NLSPATH",
    "PATH",
    "RESOLV_HOST_CONF",
    "RES_OPTIONS",
    "SSLKEYLOGFILE",
    "TMPDIR",
    "TZDIR",
];

/// Variables that name the library by which a TPM is reached, and what may stand there.
const TPM: [&str; 2] = ["TPM2_PKCS11_TCTI", "TPM2TOOLS_TCTI"];
const TPM_LIBRARIES: [&str; 4] = ["device", "mssim", "swtpm", "tabrmd"];

/// The first variable that a client may not set.
pub(super) fn refused(env: &BTreeMap<String, String>) -> Option<&str> {
    let is_refused = |name: &str, value: &str| {
        FAMILIES.iter().any(|family| name.starts_with(family))
            || NAMES.contains(&name)
            || (TPM.contains(&name) && !is_known_library(value))
    };
    env.iter()
        .find(|(name, value)| is_refused(name, value))
        .map(|(name, _)| name.as_str())
}

fn is_known_library(tcti: &str) -> bool {
    let library = tcti.split(':').next().unwrap_or_default();
    TPM_LIBRARIES.contains(&library)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decides_on_code_is_refused_and_nothing_else() {
        let refused = |name: &str, value: &str| {
            let env = BTreeMap::from([
                ("A".to_owned(), String::new()),
                (name.to_owned(), value.to_owned()),
            ]);
            super::refused(&env).map(str::to_owned)
        };
        for (name, value) in [
            ("LD_PRELOAD", "/x.so"),
            ("LD_LIBRARY_PATH", ""),
            ("LD_AUDIT", "/x.so"),
            ("GCONV_PATH", "/x"),
            ("MALLOC_CHECK_", "3"),
            ("GLIBC_TUNABLES", "x"),
            ("OPENSSL_CONF", "/x"),
            ("PKCS11SPY", "/x.so"),
            ("TPM2_PKCS11_TCTI", "/x.so"),
            ("TPM2_PKCS11_TCTI", "cmd:sh"),
        ] {
            assert_eq!(refused(name, value).as_deref(), Some(name));
        }
        for (name, value) in [
            ("SOFTHSM2_CONF", "/x"),
            ("TPM2_PKCS11_TCTI", "device:/dev/tpmrm0"),
            ("TPM2_PKCS11_STORE", "/x"),
            ("OLD_LD_PATH", "x"),
            ("NSS_LIB_PARAMS", "x"),
        ] {
            assert_eq!(refused(name, value), None, "{name}");
        }
    }
}
