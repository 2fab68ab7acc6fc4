//! Tests that cannot run on this machine say so, and fail where skipping is not allowed.

use std::env;
use std::path::PathBuf;

/// Prints `skipped: why`; the caller returns then.
///
/// # Panics
/// With `CI=true` in the environment: nothing is skipped there.
pub fn skipped(why: &str) {
    assert!(
        env::var_os("CI").is_none_or(|value| value != "true"),
        "skipped: {why}"
    );
    eprintln!("skipped: {why}");
}

/// Whether the test runs as root; says that it is skipped if not.
#[must_use]
pub fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skipped("this test needs root");
    }
    root
}

/// Whether every program is on the search path; says which is missing if not.
#[must_use]
pub fn programs(names: &[&str]) -> bool {
    let missing: Vec<_> = names.iter().filter(|name| find(name).is_none()).collect();
    if !missing.is_empty() {
        skipped(&format!("not installed: {missing:?}"));
    }
    missing.is_empty()
}

fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}
