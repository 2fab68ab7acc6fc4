//! A PKCS#11 key file: YAML with a URI and the module's environment.
//!
//! Says what stands in the file and reads the PIN that it points to. Whether the module may be loaded is `policy`,
//! whether the key is there only its token knows.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::error::{Error, Result};
use super::uri::Pkcs11Uri;
use super::{pem, pin_file, yaml};
use crate::file;
use crate::openpgp::PUBLIC_KEY_LABEL;
use crate::secret::Pin;

/// Most bytes that a key file may have.
pub const MAX_KEY_FILE: usize = 64 << 10;

/// Name of a key file that a client sent with a layer.
pub const OF_PAYLOAD: &str = "key of the payload";

/// What to call a key that no file describes.
pub const COMMAND_LINE: &str = "the command line";

/// What one key file says.
#[derive(Clone, Debug)]
pub struct KeyFile {
    /// What to call it in a message: its path, or `key 1 of the payload`.
    pub name: String,
    /// `pkcs11.uri`.
    pub uri: Pkcs11Uri,
    /// Where the URI's `pin-value` is from, as messages call it, if somebody gave it beside the file.
    pub pin_place: Option<String>,
    /// `module.env`.
    pub env: BTreeMap<String, String>,
    /// `module.init`: the initialization string that the module wants in `C_Initialize` (its `pReserved`). NSS is told so
    /// where its database is. An extension: other readers of key files pass over it.
    pub init: Option<String>,
}

#[derive(Deserialize)]
struct KeyYaml {
    pkcs11: Option<Pkcs11Yaml>,
    module: Option<ModuleYaml>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Pkcs11Yaml {
    uri: Option<Zeroizing<String>>,
    module_directories: Option<IgnoredAny>,
    allowed_module_paths: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct ModuleYaml {
    env: Option<BTreeMap<String, Option<String>>>,
    init: Option<String>,
}

impl KeyFile {
    /// Reads a key file's text; `name` is what messages call it.
    ///
    /// # Errors
    /// [`Error::NotAKeyFile`] for a file of some other kind, which may lie beside keys; for a key file with a
    /// mistake in it [`Error::InvalidKeyFile`], [`Error::InKeyFile`] or [`Error::InvalidYaml`].
    pub fn parse(name: impl Into<String>, bytes: &[u8]) -> Result<Self> {
        let name = name.into();
        let text = match std::str::from_utf8(bytes) {
            Ok(text) if bytes.len() <= MAX_KEY_FILE => text,
            Ok(_) => return Err(another_kind(&name, "it is over the limit of 65536 bytes")),
            Err(_) => return Err(another_kind(&name, "it is not text")),
        };
        if pem::is_in(bytes) {
            let is_openpgp = pem::blocks(bytes).any(|block| block.label == PUBLIC_KEY_LABEL);
            let what = match is_openpgp {
                true => "it is an OpenPGP public key",
                false => "it is PEM",
            };
            return Err(another_kind(&name, what));
        }
        if !text.contains("pkcs11:") {
            return Err(another_kind(&name, "there is no `pkcs11:` in it"));
        }
        if is_bare_uri(text) {
            return Err(mistake(
                &name,
                "the URI must stand under `pkcs11:`, as `uri:`",
            ));
        }

        let yaml: KeyYaml = yaml::read(&name, text)?;
        let Some(pkcs11) = yaml.pkcs11 else {
            return Err(mistake(&name, "it has no section `pkcs11:`"));
        };
        let Some(uri) = pkcs11.uri else {
            if pkcs11.module_directories.is_some() || pkcs11.allowed_module_paths.is_some() {
                return Err(another_kind(&name, "it is a module policy"));
            }
            return Err(mistake(&name, "it has no `uri:` under `pkcs11:`"));
        };
        let uri: Pkcs11Uri = uri.parse().map_err(|source| Error::InKeyFile {
            name: name.clone(),
            source: Box::new(source),
        })?;
        names_one_key(&name, &uri)?;
        let (env, init) = yaml
            .module
            .map(|module| (module.env.unwrap_or_default(), module.init))
            .unwrap_or_default();
        if env
            .iter()
            .any(|(variable, value)| !can_be_set(variable, value))
        {
            return Err(mistake(
                &name,
                "`module.env` has an empty name, one with `=`, or a value with a NUL, which no environment can hold",
            ));
        }
        if init.as_ref().is_some_and(|init| init.contains('\0')) {
            return Err(mistake(&name, "`module.init` has a NUL"));
        }
        Ok(Self {
            name,
            uri,
            pin_place: None,
            env: env
                .into_iter()
                .map(|(variable, value)| (variable, value.unwrap_or_default()))
                .collect(),
            init: init.filter(|init| !init.is_empty()),
        })
    }

    /// Reads a key file from disk.
    ///
    /// # Errors
    /// As [`KeyFile::parse`]; [`Error::InFile`] when it cannot be read, or is no regular file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = file::read_secret(path, MAX_KEY_FILE)?;
        Self::parse(path.display().to_string(), bytes.expose())
    }

    /// Whether a client sent it, who is not to decide what this node loads.
    #[must_use]
    pub fn comes_from_payload(&self) -> bool {
        self.name.starts_with("key ") && self.name.ends_with(" of the payload")
    }

    /// Takes a PIN, unless the file has one or names a place for it. `place` is what messages call where it is from.
    pub fn give_pin(&mut self, pin: &Pin, place: &str) {
        if self.lacks_pin() {
            self.uri.pin_value = Some(pin.clone());
            self.pin_place = Some(place.to_owned());
        }
    }

    /// Whether it says nothing of a PIN.
    #[must_use]
    pub fn lacks_pin(&self) -> bool {
        self.uri.pin_value.is_none() && self.uri.pin_source.is_none()
    }

    /// What to call the place that the PIN is in, or should be.
    #[must_use]
    pub fn pin_name(&self) -> &str {
        self.pin_place.as_deref().unwrap_or(&self.name)
    }

    /// The PIN, from the URI or from the file that it names, less one line end. `None` where it has neither: the
    /// token may need none, or have a keypad of its own.
    ///
    /// # Errors
    /// Within [`Error::InKeyFile`]: [`Error::InFile`] when the PIN file cannot be read, or is no regular file;
    /// [`Error::InvalidPinFile`] when it cannot be a PIN, or hardly can be meant. Such a one is never tried, since each
    /// try may lock the token.
    pub fn pin(&self) -> Result<Option<Pin>> {
        if let Some(pin) = &self.uri.pin_value {
            return Ok(Some(pin.clone()));
        }
        let Some(path) = &self.uri.pin_source else {
            return Ok(None);
        };
        let pin = pin_file::read(path).map_err(|source| Error::InKeyFile {
            name: self.name.clone(),
            source: Box::new(source),
        })?;
        Ok(Some(pin))
    }

    /// The text of a key file; never with a PIN, only with `pin-source`.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        #[derive(Serialize)]
        struct Written {
            pkcs11: WrittenUri,
            #[serde(skip_serializing_if = "Option::is_none")]
            module: Option<WrittenModule>,
        }
        #[derive(Serialize)]
        struct WrittenUri {
            uri: String,
        }
        #[derive(Serialize)]
        struct WrittenModule {
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            env: BTreeMap<String, String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            init: Option<String>,
        }
        let written = Written {
            pkcs11: WrittenUri {
                uri: self.uri.with_query(),
            },
            module: (!self.env.is_empty() || self.init.is_some()).then(|| WrittenModule {
                env: self.env.clone(),
                init: self.init.clone(),
            }),
        };
        // On one line, however long, since people edit it.
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        serde_saphyr::to_string_with_options(&written, options)
            .expect("strings and maps of strings are always YAML")
    }
}

/// A file that holds nothing but the URI. In a key file, white space follows the first `pkcs11:`.
fn is_bare_uri(text: &str) -> bool {
    text.trim_start()
        .strip_prefix("pkcs11:")
        .is_some_and(|rest| !rest.starts_with(char::is_whitespace))
}

fn names_one_key(name: &str, uri: &Pkcs11Uri) -> Result<()> {
    let has = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    if uri.slot_id.is_none() && !has(&uri.token) {
        return Err(mistake(name, "its URI needs a `token` or a `slot-id`"));
    }
    if !uri.names_key() {
        return Err(mistake(
            name,
            "its URI needs an `id` or an `object` (a shell cuts a URI at `;` unless it is quoted)",
        ));
    }
    Ok(())
}

/// What `setenv` takes (POSIX): a name that is not empty and has no `=`, and no NUL anywhere.
fn can_be_set(variable: &str, value: &Option<String>) -> bool {
    let value = value.as_deref().unwrap_or_default();
    !variable.is_empty() && !variable.contains(['=', '\0']) && !value.contains('\0')
}

fn another_kind(name: &str, what: &'static str) -> Error {
    Error::NotAKeyFile {
        name: name.to_owned(),
        what,
    }
}

fn mistake(name: &str, what: &'static str) -> Error {
    Error::InvalidKeyFile {
        name: name.to_owned(),
        what,
    }
}

#[cfg(test)]
mod tests;
