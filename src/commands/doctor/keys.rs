//! The keys that a decoder works with: what their files say, and who may read or change them.

use std::path::Path;
use std::slice;

use super::access::{check_owner, others_may_read};
use super::findings::Findings;
use super::setup::Setup;
use super::{kind, policy};
use crate::commands::image_args;
use crate::commands::unwrapping::refusals::{NO_KEY_FILE, no_key_in};
use crate::keys;
use crate::keys::key_dir::KeyDir;
use crate::keys::key_file::KeyFile;
use crate::keys::private::PrivateKey;
use crate::keys::{TokenKey, ignored};
use crate::settings;

/// Checks policy and keys, and returns the keys whose modules may be loaded.
pub(super) fn check(findings: &mut Findings, setup: &Setup) -> Vec<TokenKey> {
    let is_needed = (setup.keys.iter())
        .filter_map(|directory| KeyDir::read(directory).ok())
        .any(|found| !found.keys.is_empty());
    let policy = policy::check(findings, setup, is_needed);
    let mut resolved: Vec<TokenKey> = Vec::new();
    for directory in &setup.keys {
        for file in check_directory(findings, directory) {
            check_access(findings, &file);
            check_fields(findings, &file);
            let Some(policy) = &policy else {
                findings.warn(
                    kind::KEY_UNTRIED,
                    format!(
                        "{}: not tried, since no policy allows its module",
                        file.name
                    ),
                    "mend the policy first",
                );
                continue;
            };
            match policy.resolve(file) {
                Ok(key) => {
                    check_owner(findings, kind::MODULE_OWNER, &key.module);
                    resolved.push(key);
                }
                Err(error) => {
                    findings.error(kind::KEY_MODULE, &error, "correct the URI in the key file")
                }
            }
        }
    }
    resolved
}

fn check_directory(findings: &mut Findings, directory: &Path) -> Vec<KeyFile> {
    if image_args::is_uri(&directory.to_string_lossy()) {
        let argument = "--decryption-keys-path";
        let error = settings::Error::UriAsArgument { argument };
        findings.error(
            kind::KEYS_UNREADABLE,
            &error,
            "name the directory of the key files there",
        );
        return Vec::new();
    }
    let found = KeyDir::read(directory);
    // From here on it is named, and its password is not.
    let directory = &keys::shown(directory);
    let found = match found {
        Ok(found) => found,
        Err(error) if directory.exists() => {
            findings.error(
                kind::KEYS_UNREADABLE,
                &error,
                "name a PKCS#11 key file, or a directory of them, with --key",
            );
            return Vec::new();
        }
        Err(error) => {
            findings.fail(
                kind::KEYS_UNREADABLE,
                error.to_string(),
                mend_absent(directory),
            );
            return Vec::new();
        }
    };
    if found.keys.is_empty() && found.private_keys.is_empty() {
        findings.fail(
            kind::KEYS_EMPTY,
            no_key_in(slice::from_ref(directory), &found.certificate_files),
            NO_KEY_FILE,
        );
    } else {
        let names: Vec<_> = (found.private_keys.iter().map(PrivateKey::name))
            .chain(found.keys.iter().map(|key| key.name.as_str()))
            .collect();
        findings.ok(
            kind::KEYS,
            format!("{} holds {}", directory.display(), names.join(", ")),
        );
    }
    for key in &found.private_keys {
        let path = Path::new(key.name());
        check_owner(findings, kind::KEY_OWNER, path);
        check_secret(findings, path, "and it is a private key");
    }
    for skipped in &found.skipped {
        match &skipped.why {
            keys::Error::NotAKeyFile { .. } => {
                findings.ok(kind::KEYS_IGNORED, format!("passed over: {skipped}"))
            }
            error => findings.error(kind::KEYS_BROKEN, error, "correct the file, or remove it"),
        }
    }
    found.keys
}

/// What to do about a path where nothing is.
fn mend_absent(path: &Path) -> String {
    let is_named_like_a_file = (path.extension())
        .and_then(|ending| ending.to_str())
        .is_some_and(|ending| {
            ["yaml", "yml", "json", "conf", "pem", "key", "der"].contains(&ending)
        });
    if is_named_like_a_file {
        "put the key file there, or correct --key".to_owned()
    } else {
        format!(
            "mkdir -m 700 -p {}, and put key files there",
            path.display()
        )
    }
}

fn check_access(findings: &mut Findings, file: &KeyFile) {
    let path = Path::new(&file.name);
    check_owner(findings, kind::KEY_OWNER, path);
    if file.uri.pin_value.is_some() {
        check_secret(findings, path, "and the PIN is in it");
    }
    if let Some(pin) = &file.uri.pin_source {
        check_secret(findings, pin, "and it is a PIN");
        check_owner(findings, kind::KEY_OWNER, pin);
    }
}

/// The decoder passes over what it does not know.
fn check_fields(findings: &mut Findings, file: &KeyFile) {
    for field in ignored::in_key_file(Path::new(&file.name)).unwrap_or_default() {
        findings.warn(
            kind::KEY_FIELD,
            format!("{}: {field} means nothing there, and is passed over", file.name),
            "a key file has `uri` under `pkcs11:`, `env` and `init` under `module:`, a URI's query pin-value, pin-source, \
             module-name and module-path",
        );
    }
}

fn check_secret(findings: &mut Findings, path: &Path, what: &str) {
    if others_may_read(path).unwrap_or(false) {
        findings.fail(
            kind::PIN_READABLE,
            format!("others than root may read {}, {what}", path.display()),
            format!("chmod 600 {}", path.display()),
        );
    }
}
