//! The policy that a decoder works with: which file it is, and what it allows.

use super::access::check_owner;
use super::findings::Findings;
use super::kind;
use super::setup::Setup;
use crate::keys::policy::{Allowed, Origin, Policy};

const COMPARE: &str = "compare it with what `ocihsm config policy` prints";

/// Reports on the policy as the decoder finds it; `None` if it allows nothing that could be understood. `is_needed` tells
/// whether any key is in a token.
pub(super) fn check(findings: &mut Findings, setup: &Setup, is_needed: bool) -> Option<Policy> {
    let policy = match Policy::discover(&setup.policy) {
        Ok(policy) => policy,
        Err(error) => {
            findings.error(kind::POLICY_BROKEN, &error, COMPARE);
            return None;
        }
    };
    match policy.require_any() {
        Err(error) if is_needed => {
            findings.error(kind::POLICY_EMPTY, &error, COMPARE);
            return None;
        }
        Err(error) => findings.warn(
            kind::POLICY_EMPTY,
            format!("{error}, and no key file needs one"),
            "leave it, unless keys in tokens are to be used, too",
        ),
        Ok(()) => describe(findings, &policy),
    }
    if let Origin::File(path) = &policy.origin {
        check_owner(findings, kind::POLICY_OWNER, path);
    }
    for entry in &policy.allowed {
        if let Allowed::Directory(path) = entry
            && path.is_dir()
        {
            check_owner(findings, kind::POLICY_OWNER, path);
        }
    }
    Some(policy)
}

fn describe(findings: &mut Findings, policy: &Policy) {
    let allowed: Vec<_> = policy.allowed.iter().map(ToString::to_string).collect();
    let directories: Vec<_> = policy
        .module_directories
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let directories = match directories.as_slice() {
        [] => "no directory".to_owned(),
        some => some.join(", "),
    };
    findings.ok(
        kind::POLICY,
        format!(
            "{} allows {}; modules are looked for in {directories}",
            policy.origin,
            allowed.join(", "),
        ),
    );
}
