//! A machine that runs containerd, as its operator sees it: containerd's configuration and the PKCS#11 modules
//! that are installed.
//!
//! Says what is there and what should stand in its files. It changes nothing and loads no module.

pub mod containerd;
mod document;
pub mod environment;
pub mod modules;
pub mod running;
pub mod section;
pub mod stanza;

/// Directory of key files that we tell containerd, as its built-in configuration has it.
pub const KEYS: &str = "/etc/containerd/ocicrypt/keys";

/// Where the program is installed.
pub const PROGRAM: &str = "/usr/local/bin/ocihsm";

/// The module policy, also the last place where it is looked for.
pub const POLICY: &str = "/etc/ocicrypt.conf";
