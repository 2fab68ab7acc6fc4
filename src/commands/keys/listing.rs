//! What `keys list` found, as it is printed in JSON: modules, their tokens, the keys on each.

use std::path::Path;

use serde::Serialize;

use super::survey::{self, Asked, Survey};
use crate::hsm::{Permission, ShownKey, ShownKind, Token};
use crate::keys::policy::Policy;
use crate::keys::uri::Pkcs11Uri;
use crate::operation::Curve;

/// Everything that was found.
#[derive(Serialize)]
pub(super) struct Listing {
    version: u32,
    pub(super) modules: Vec<ListedModule>,
}

#[derive(Serialize)]
pub(super) struct ListedModule {
    pub(super) module: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    pub(super) tokens: Vec<ListedToken>,
}

#[derive(Serialize)]
pub(super) struct ListedToken {
    pub(super) label: String,
    pub(super) manufacturer: String,
    pub(super) model: String,
    pub(super) serial: String,
    pub(super) slot: u64,
    pub(super) uri: String,
    pub(super) login: &'static str,
    /// What the token does of what opens layers.
    pub(super) mechanisms: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    pub(super) keys: Vec<ListedKey>,
}

#[derive(Serialize)]
pub(super) struct ListedKey {
    pub(super) label: String,
    /// Hexadecimal.
    pub(super) id: String,
    /// `RSA` or `EC`.
    pub(super) r#type: &'static str,
    /// Of the modulus, or of the field; 0 where that is not known.
    pub(super) bits: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) curve: Option<String>,
    #[serde(skip)]
    pub(super) kind: ShownKind,
    /// Which halves were seen.
    pub(super) public: bool,
    pub(super) private: bool,
    pub(super) may: Vec<Permission>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uri: Option<String>,
}

impl Listing {
    pub(super) fn new(policy: &Policy, survey: &Survey) -> Self {
        let modules = survey.modules.iter().map(|Asked { module, tokens }| {
            let (tokens, error) = match tokens {
                Ok(tokens) => (tokens.as_slice(), None),
                Err(error) => (&[][..], Some(error.to_string())),
            };
            ListedModule {
                module: module.display().to_string(),
                error,
                tokens: tokens
                    .iter()
                    .map(|token| ListedToken::new(policy, module, token, tokens))
                    .collect(),
            }
        });
        Self {
            version: 1,
            modules: modules.collect(),
        }
    }

    /// Whether a token that wants a PIN, and may well be given one, shows no private key.
    pub(super) fn hides_private_keys(&self) -> bool {
        let mut tokens = self.modules.iter().flat_map(|module| &module.tokens);
        tokens.any(|token| token.login == PIN && token.keys.iter().all(|key| !key.private))
    }

    /// What could not be listed, and why.
    pub(super) fn problems(&self) -> Vec<String> {
        let tokens = self.modules.iter().flat_map(|module| &module.tokens);
        let of_modules = self
            .modules
            .iter()
            .filter_map(|module| module.error.clone());
        of_modules
            .chain(tokens.filter_map(|token| token.error.clone()))
            .collect()
    }
}

impl ListedToken {
    /// A token, with a URI that tells it from the others of its module, as far as anything does.
    fn new(policy: &Policy, module: &Path, token: &Token, all: &[Token]) -> Self {
        let several = |same: fn(&Token, &Token) -> bool| {
            all.iter().filter(|other| same(token, other)).count() > 1
        };
        let shares_label = several(|a, b| a.label == b.label);
        let shares_serial = several(|a, b| (&a.label, &a.serial) == (&b.label, &b.serial));
        let is_shown_twice = several(|a, b| {
            (&a.label, &a.serial, &a.model, &a.manufacturer)
                == (&b.label, &b.serial, &b.model, &b.manufacturer)
        });
        let where_shared = |text: &String| {
            Some(text.clone()).filter(|text| shares_serial && !is_shown_twice && !text.is_empty())
        };
        let (keys, error) = match &token.keys {
            Ok(keys) => (keys.as_slice(), None),
            Err(error) => (&[][..], Some(error.to_string())),
        };
        let label = Some(&token.label).filter(|label| !label.is_empty());
        let mut uri = Pkcs11Uri {
            token: label.cloned(),
            serial: Some(token.serial.clone()).filter(|serial| shares_label && !serial.is_empty()),
            model: where_shared(&token.model),
            manufacturer: where_shared(&token.manufacturer),
            slot_id: (label.is_none() || is_shown_twice).then_some(token.slot),
            ..Pkcs11Uri::default()
        };
        survey::name_module(policy, module, &mut uri);
        Self {
            label: token.label.clone(),
            manufacturer: token.manufacturer.clone(),
            model: token.model.clone(),
            serial: token.serial.clone(),
            slot: token.slot,
            login: login(token),
            mechanisms: token.mechanisms.clone(),
            error,
            keys: keys.iter().map(|key| ListedKey::new(&uri, key)).collect(),
            uri: uri.with_query(),
        }
    }
}

impl ListedKey {
    fn new(token: &Pkcs11Uri, key: &ShownKey) -> Self {
        let uri = Pkcs11Uri {
            id: Some(key.id.clone()).filter(|id| !id.is_empty()),
            object: Some(key.label.clone()).filter(|label| !label.is_empty()),
            object_type: Some("private".to_owned()),
            ..token.clone()
        };
        Self {
            label: key.label.clone(),
            id: key.id.iter().map(|byte| format!("{byte:02x}")).collect(),
            r#type: match key.kind {
                ShownKind::Rsa { .. } => "RSA",
                ShownKind::Ec { .. } => "EC",
            },
            bits: match key.kind {
                ShownKind::Rsa { bits } => bits,
                ShownKind::Ec { curve } => curve.map_or(0, Curve::bits),
            },
            curve: match key.kind {
                ShownKind::Ec { curve } => curve.map(|curve| curve.to_string()),
                ShownKind::Rsa { .. } => None,
            },
            kind: key.kind,
            public: key.public,
            private: key.private,
            may: key.may.clone(),
            // One with neither cannot be told from others.
            uri: (uri.id.is_some() || uri.object.is_some()).then(|| uri.with_query()),
        }
    }
}

/// Of a token that wants a PIN, and has tries left.
const PIN: &str = "PIN";

/// What private keys take to be seen and used.
fn login(token: &Token) -> &'static str {
    match token {
        Token {
            needs_login: false, ..
        } => "none",
        Token {
            is_locked: true, ..
        } => "PIN locked",
        Token {
            is_final_try: true, ..
        } => "PIN, last try",
        Token {
            has_pin_pad: true, ..
        } => "PIN pad",
        _ => PIN,
    }
}
