//! What `ocihsm --version` says of the build: the target, and the commit where one is known. No times: the same source
//! builds to the same bytes.

use std::env;
use std::path::Path;
use std::process::Command;

/// Set by whoever builds a package, where the source comes without a repository.
const COMMIT: &str = "OCIHSM_COMMIT";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={COMMIT}");
    let target = env::var("TARGET").unwrap_or_default();
    println!("cargo::rustc-env=OCIHSM_BUILD_TARGET={target}");
    let named = env::var(COMMIT).ok().filter(|commit| is_commit(commit));
    if let Some(commit) = named.or_else(commit_of_repository) {
        println!("cargo::rustc-env=OCIHSM_BUILD_COMMIT={commit}");
    }
}

/// The commit that is checked out. A repository that this directory only lies in somewhere below is another project's.
/// Builds for development go without, or each commit would mean to compile everything anew.
fn commit_of_repository() -> Option<String> {
    let root = env::var_os("CARGO_MANIFEST_DIR")?;
    let root = Path::new(&root);
    if env::var("PROFILE").ok()? != "release" || !root.join(".git").exists() {
        return None;
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .current_dir(root)
            .args(arguments)
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    // Both change when another commit is checked out or made.
    for file in ["HEAD", "logs/HEAD"] {
        let path = root.join(git(&["rev-parse", "--git-path", file])?);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    git(&["rev-parse", "HEAD"]).filter(|commit| is_commit(commit))
}

fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
