//! What the tests beside this share: the built binary, real tokens, layouts, registries and containerds.
//!
//! Nothing here stands in for a part of `ocihsm` or imitates one: it sets the stage and holds the measure. A stage
//! that cannot be set up is a panic with the reason, since there is then nothing to test.

pub mod authority;
pub mod containerd;
pub mod content_store;
pub mod cri;
pub mod grpc_provider;
pub mod key_provider;
pub mod layer;
pub mod layout;
pub mod made;
pub mod module;
pub mod node;
pub mod pod;
pub mod processor;
pub mod program;
pub mod proxy;
pub mod registry;
pub mod root;
pub mod shell;
pub mod skip;
pub mod stage;
pub mod token;
pub mod token_server;
pub mod unruly;
pub mod unwrapping;
pub mod vectors;

use std::env;
use std::path::{Path, PathBuf};

/// The built `ocihsm`: `OCIHSM_BIN`, else the newer one of the release build and the debug build.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn ocihsm() -> PathBuf {
    if let Some(path) = env::var_os("OCIHSM_BIN") {
        return path.into();
    }
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from);
    ["release", "debug"]
        .map(|profile| target.join(profile).join("ocihsm"))
        .into_iter()
        .filter(|path| path.is_file())
        .max_by_key(|path| path.metadata().and_then(|file| file.modified()).ok())
        .expect(
            "cargo build makes target/debug/ocihsm, cargo build --release target/release/ocihsm",
        )
}

/// The directory that `Cargo.toml` of the product stands in.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate is a directory of the repository")
}

/// A file of the test vectors.
#[must_use]
pub fn vector(name: impl AsRef<Path>) -> PathBuf {
    repository().join("integration/vectors").join(name)
}
