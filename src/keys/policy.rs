//! The module policy (ocicrypt.conf): where modules are looked for and which may be loaded.
