//! What a module shows, for whoever looks for the URI of a key: its tokens, and the keys on each.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::Error;
use crate::operation::Curve;

/// A token and what it shows of its keys.
#[derive(Debug)]
pub struct Token {
    /// Its label.
    pub label: String,
    /// Who made it.
    pub manufacturer: String,
    /// Its model.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// The slot that it is in.
    pub slot: u64,
    /// Private keys are hidden until somebody logs in.
    pub needs_login: bool,
    /// The PIN is typed at the device.
    pub has_pin_pad: bool,
    /// The token says that its PIN is locked.
    pub is_locked: bool,
    /// The token says that one more wrong PIN locks it.
    pub is_final_try: bool,
    /// What it does of what opens layers, by the names of the standard.
    pub mechanisms: Vec<String>,
    /// Its RSA and EC keys, or why they cannot be listed.
    pub keys: Result<Vec<ShownKey>, Error>,
}

/// A key that may open layers, or the half of it that the token shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownKey {
    /// `CKA_ID`, empty where it has none.
    pub id: Vec<u8>,
    /// `CKA_LABEL`, empty where it has none or one that is not UTF-8.
    pub label: String,
    /// What kind of key it is.
    pub kind: ShownKind,
    /// The public half was seen.
    pub public: bool,
    /// The private half was seen.
    pub private: bool,
    /// What the halves that were seen may do.
    pub may: Vec<Permission>,
}

/// A kind of key, as far as the token shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShownKind {
    /// RSA.
    Rsa {
        /// Size in bits; 0 where the token does not show the modulus.
        bits: u32,
    },
    /// On a curve.
    Ec {
        /// Which one; `None` for one that nobody here knows, or where the token does not show it.
        curve: Option<Curve>,
    },
}

/// Something that a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// `CKA_ENCRYPT`: encrypt with the public half.
    Encrypt,
    /// `CKA_VERIFY`: verify signatures.
    Verify,
    /// `CKA_WRAP`: wrap other keys.
    Wrap,
    /// `CKA_DECRYPT`: decrypt with the private half, all that a layer needs.
    Decrypt,
    /// `CKA_DERIVE`: agree on secrets, all that a layer needs of a key on a curve.
    Derive,
    /// `CKA_SIGN`: sign.
    Sign,
    /// `CKA_UNWRAP`: bring wrapped keys into the token.
    Unwrap,
    /// `CKA_EXTRACTABLE`: leave the token.
    Leave,
}

impl ShownKey {
    /// Adds the private half, whose name is the one that a URI has to give.
    pub(super) fn join(&mut self, private: Self) {
        self.label = private.label;
        self.private = true;
        self.may.extend(private.may);
    }
}

/// The verb.
impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encrypt => "encrypt",
            Self::Verify => "verify",
            Self::Wrap => "wrap",
            Self::Decrypt => "decrypt",
            Self::Derive => "derive",
            Self::Sign => "sign",
            Self::Unwrap => "unwrap",
            Self::Leave => "leave",
        })
    }
}

/// `RSA-3072`, `P-256`, or no more than is known.
impl fmt::Display for ShownKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa { bits: 0 } => f.write_str("RSA"),
            Self::Rsa { bits } => write!(f, "RSA-{bits}"),
            Self::Ec { curve: Some(curve) } => curve.fmt(f),
            Self::Ec { curve: None } => f.write_str("EC"),
        }
    }
}
