//! Key-wrapping schemes: wrapped bytes to private-key operations, and answers to private options.

pub mod jwe;
