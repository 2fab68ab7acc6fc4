//! The names that the PKCS#11 packet had here, until everybody takes them from where they are.

pub use super::public::Recipient;
pub use crate::operation::OaepHash;
pub use crate::schemes::pkcs11::{parse, to_json};
