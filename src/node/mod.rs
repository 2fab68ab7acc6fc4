//! A machine that runs containerd, as its operator sees it: containerd's configuration and the PKCS#11 modules
//! that are installed.
//!
//! Says what is there and what should stand in its files. It changes nothing and loads no module.

pub mod containerd;
mod document;
pub mod environment;
mod error;
pub mod modules;
pub mod running;
pub mod section;
pub mod stanza;

use std::path::Path;

pub use self::error::{Error, Result};

/// Directory of key files that we tell containerd, as its built-in configuration has it.
pub const KEYS: &str = "/etc/containerd/ocicrypt/keys";

/// Where the program is installed by hand, and by the DaemonSet.
pub const PROGRAM: &str = "/usr/local/bin/ocihsm";

/// Where packages of distributions have it.
pub const PACKAGED_PROGRAM: &str = "/usr/bin/ocihsm";

/// Where containerd finds the program: where a package put it, if it is that one which runs.
#[must_use]
pub fn program() -> &'static str {
    match std::env::current_exe() {
        Ok(path) if path == Path::new(PACKAGED_PROGRAM) => PACKAGED_PROGRAM,
        _ => PROGRAM,
    }
}

/// The file that names key providers, as containerd's built-in configuration has it. Without it there are none.
pub const PROVIDERS: &str = "/etc/containerd/ocicrypt/ocicrypt_keyprovider.conf";

/// The module policy, also the last place where it is looked for.
pub const POLICY: &str = "/etc/ocicrypt.conf";
