//! The keys and the policy that a decoder works with: what they say, and who may read or change them.

use std::path::{Path, PathBuf};

use super::Setup;
use super::access::{others_may_change, others_may_read};
use super::findings::Findings;
use crate::commands::image_args;
use crate::error::Error;
use crate::keys::TokenKey;
use crate::keys::key_dir::KeyDir;
use crate::keys::key_file::KeyFile;
use crate::keys::policy::{Allowed, Origin, Policy, PolicySearch};
use crate::node::POLICY;

const POLICY_FILE: &str = "policy";
const KEYS: &str = "keys";
const KEY: &str = "key";
const MODULE: &str = "module";

/// Checks policy and keys, and returns the keys whose modules may be loaded.
pub(super) fn check(findings: &mut Findings, setup: &Setup) -> Vec<TokenKey> {
    let policy = check_policy(findings, setup);
    let mut resolved: Vec<TokenKey> = Vec::new();
    for directory in &setup.keys {
        for file in check_directory(findings, directory) {
            check_access(findings, &file);
            let Some(policy) = &policy else { continue };
            match policy.resolve(file) {
                Ok(key) => {
                    let known = |other: &TokenKey| other.module == key.module;
                    if !resolved.iter().any(known) {
                        check_owner(findings, MODULE, &key.module);
                    }
                    resolved.push(key);
                }
                Err(error) => findings.error(KEY, &error, "correct the URI in the key file"),
            }
        }
    }
    resolved
}

/// The policy as the decoder finds it. A service under systemd has no home directory to look in.
fn check_policy(findings: &mut Findings, setup: &Setup) -> Option<Policy> {
    let search = PolicySearch {
        ocicrypt_config: setup.policy.clone().map(Into::into),
        xdg_config_home: None,
        home: None,
        system_file: PathBuf::from(POLICY),
    };
    let policy = match Policy::discover(&search) {
        Ok(policy) => policy,
        Err(error) => {
            let mend = match &setup.policy {
                Some(path) => format!(
                    "compare with `ocihsm config policy`, or: ocihsm config policy > {path}"
                ),
                None => "compare with `ocihsm config policy`".to_owned(),
            };
            findings.error(POLICY_FILE, &error, &mend);
            return None;
        }
    };
    let allowed: Vec<_> = policy.allowed.iter().map(ToString::to_string).collect();
    let directories: Vec<_> = policy
        .module_directories
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    if allowed.is_empty() {
        let mend = "list modules under allowed-module-paths, as `ocihsm config policy` prints";
        findings.fail(
            POLICY_FILE,
            format!("{} allows no module", policy.origin),
            mend,
        );
        return Some(policy);
    }
    findings.ok(
        POLICY_FILE,
        format!(
            "{} allows {}; modules are looked for in {}",
            policy.origin,
            allowed.join(", "),
            if directories.is_empty() {
                "no directory".to_owned()
            } else {
                directories.join(", ")
            }
        ),
    );
    if let Origin::File(path) = &policy.origin {
        check_owner(findings, POLICY_FILE, path);
    }
    for entry in &policy.allowed {
        if let Allowed::Directory(path) = entry
            && path.is_dir()
        {
            check_owner(findings, POLICY_FILE, path);
        }
    }
    Some(policy)
}

fn check_directory(findings: &mut Findings, directory: &Path) -> Vec<KeyFile> {
    if image_args::is_uri(&directory.to_string_lossy()) {
        let argument = "--decryption-keys-path";
        let error = Error::UriAsArgument { argument };
        findings.error(KEYS, &error, "name the directory of the key files there");
        return Vec::new();
    }
    let found = match KeyDir::read(directory) {
        Ok(found) => found,
        Err(error) => {
            let mend = format!(
                "mkdir -m 700 -p {}, and put key files there",
                directory.display()
            );
            findings.error(KEYS, &error, &mend);
            return Vec::new();
        }
    };
    if found.keys.is_empty() {
        findings.fail(
            KEYS,
            format!("{} holds no key file", directory.display()),
            "put a PKCS#11 key file there: YAML with `pkcs11:` and below it `uri:`",
        );
    } else {
        let names: Vec<_> = found.keys.iter().map(|key| key.name.as_str()).collect();
        findings.ok(
            KEYS,
            format!("{} holds {}", directory.display(), names.join(", ")),
        );
    }
    for skipped in &found.skipped {
        match &skipped.why {
            Error::NotAKeyFile { .. } => findings.ok(KEYS, format!("passed over: {skipped}")),
            error => findings.error(KEYS, error, "correct the file, or remove it"),
        }
    }
    found.keys
}

fn check_access(findings: &mut Findings, file: &KeyFile) {
    let path = Path::new(&file.name);
    check_owner(findings, KEY, path);
    if file.uri.pin_value.is_some() {
        check_secret(findings, path, "and the PIN is in it");
    }
    if let Some(pin) = &file.uri.pin_source {
        check_secret(findings, pin, "and it is a PIN");
        check_owner(findings, KEY, pin);
    }
}

/// A file that decides what is loaded, or what is sent to a token, belongs to root alone.
fn check_owner(findings: &mut Findings, subject: &'static str, path: &Path) {
    if others_may_change(path).unwrap_or(false) {
        findings.fail(
            subject,
            format!("others than root may change {}", path.display()),
            format!(
                "chown root:root {0}; chmod go-w {0}, and the directories above it",
                path.display()
            ),
        );
    }
}

fn check_secret(findings: &mut Findings, path: &Path, what: &str) {
    if others_may_read(path).unwrap_or(false) {
        findings.fail(
            KEY,
            format!("others than root may read {}, {what}", path.display()),
            format!("chmod 600 {}", path.display()),
        );
    }
}
