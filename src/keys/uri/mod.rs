//! PKCS#11 URIs (RFC 7512): what a key file says about token, object, module and PIN.
//!
//! Parses and writes them; reads no file and compares with no token. A URI is displayed without its query, where
//! the PIN may stand, so it can be shown anywhere.

mod attribute;

use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use self::attribute::{
    Attribute, absolute_path, encode, field, invalid, module_name, number, object_type, octets,
    pin, pin_source, text, version,
};
use crate::keys::error::{Error, Result};
use crate::secret::Pin;

/// A parsed URI. Every attribute that is present takes part in matching.
///
/// To write one for a key found on a token, fill in what is known, leave the rest to `Default`, and take
/// [`Pkcs11Uri::with_query`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pkcs11Uri {
    /// `token`: label of the token.
    pub token: Option<String>,
    /// `manufacturer` of the token.
    pub manufacturer: Option<String>,
    /// `model` of the token.
    pub model: Option<String>,
    /// `serial` number of the token.
    pub serial: Option<String>,
    /// `slot-id`.
    pub slot_id: Option<u64>,
    /// `slot-manufacturer`.
    pub slot_manufacturer: Option<String>,
    /// `slot-description`.
    pub slot_description: Option<String>,
    /// `library-manufacturer`.
    pub library_manufacturer: Option<String>,
    /// `library-description`.
    pub library_description: Option<String>,
    /// `library-version`: major and minor.
    pub library_version: Option<(u8, u8)>,
    /// `id`: raw bytes of `CKA_ID`.
    pub id: Option<Vec<u8>>,
    /// `object`: `CKA_LABEL`.
    pub object: Option<String>,
    /// `type`, as written: `private`, `public`, `cert`, `secret-key`, `data`.
    pub object_type: Option<String>,
    /// `pin-value`, percent-decoded.
    pub pin_value: Option<Pin>,
    /// `pin-source`: an absolute path (from a path or a `file:` URI).
    pub pin_source: Option<PathBuf>,
    /// `module-name`.
    pub module_name: Option<String>,
    /// `module-path`: a module's file, or a directory to look in.
    pub module_path: Option<PathBuf>,
}

const SCHEME: &str = "pkcs11:";

impl FromStr for Pkcs11Uri {
    type Err = Error;

    /// Reads a URI. Characters that should have been percent-encoded are taken as they are, as the reference
    /// takes them. An unknown attribute is ignored in the query; in the path it is an error, since a URI that
    /// asks for more than we can compare must match nothing (RFC 7512, section 2.4).
    ///
    /// An error never quotes a value: where the text is damaged, the PIN may stand anywhere in it.
    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let rest = match text.split_at_checked(SCHEME.len()) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => rest,
            _ => return Err(invalid("it", "does not begin with `pkcs11:`")),
        };
        if rest.chars().any(char::is_control) {
            return Err(invalid("it", "has a line break or a control character"));
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut uri = Self::default();
        for attribute in Attribute::split(path, ';', "the path") {
            uri.take_path_attribute(attribute?)?;
        }
        for attribute in Attribute::split(query, '&', "the query") {
            uri.take_query_attribute(attribute?)?;
        }
        if uri.pin_value.is_some() && uri.pin_source.is_some() {
            return Err(invalid("it", "has both `pin-value` and `pin-source`"));
        }
        Ok(uri)
    }
}

impl Pkcs11Uri {
    /// Whether it names a key: one by an empty name, as of a variable that is not set, does not count.
    #[must_use]
    pub fn names_key(&self) -> bool {
        let has_id = self.id.as_ref().is_some_and(|id| !id.is_empty());
        has_id
            || self
                .object
                .as_ref()
                .is_some_and(|object| !object.is_empty())
    }

    /// The token that it names, and nothing of a key, a PIN or a module.
    #[must_use]
    pub fn token_alone(self) -> Self {
        Self {
            id: None,
            object: None,
            object_type: None,
            pin_value: None,
            pin_source: None,
            module_name: None,
            module_path: None,
            ..self
        }
    }

    /// The URI with `pin-source`, `module-name` and `module-path`, ready for a key file; never with a PIN.
    #[must_use]
    pub fn with_query(&self) -> String {
        let module_name = self.module_name.as_deref().map(str::as_bytes);
        let query = [
            ("pin-source", self.pin_source.as_deref().map(path_bytes)),
            ("module-name", module_name),
            ("module-path", self.module_path.as_deref().map(path_bytes)),
        ];
        let query: Vec<String> = query
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", encode(value?, b"/"))))
            .collect();
        if query.is_empty() {
            self.to_string()
        } else {
            format!("{self}?{}", query.join("&"))
        }
    }

    /// What to do where `id` most likely was written without a `%` before each byte, as some tools print it: `a98b`, or
    /// `%a98b`.
    #[must_use]
    pub fn id_hint(&self) -> Option<String> {
        let id = self.id.as_deref()?;
        let is_digit = |octet: &u8| octet.is_ascii_hexdigit();
        let (whole, digits) = match id.iter().all(is_digit) {
            true => (&[][..], id),
            false => id.split_at(1),
        };
        if digits.is_empty() || digits.len() % 2 != 0 || !digits.iter().all(is_digit) {
            return None;
        }
        let whole = whole.iter().map(|octet| format!("%{octet:02X}"));
        let digits = digits.chunks(2).map(|pair| {
            let pair = String::from_utf8_lossy(pair).to_ascii_uppercase();
            format!("%{pair}")
        });
        let meant: String = whole.chain(digits).collect();
        Some(format!(
            "each byte of `id` has a `%` of its own: if the key's id is that of other tools, write id={meant}"
        ))
    }

    fn take_path_attribute(&mut self, attribute: Attribute<'_>) -> Result<()> {
        match attribute.name {
            "token" => attribute.fill(&mut self.token, field),
            "manufacturer" => attribute.fill(&mut self.manufacturer, field),
            "model" => attribute.fill(&mut self.model, field),
            "serial" => attribute.fill(&mut self.serial, field),
            "slot-id" => attribute.fill(&mut self.slot_id, number),
            "slot-manufacturer" => attribute.fill(&mut self.slot_manufacturer, field),
            "slot-description" => attribute.fill(&mut self.slot_description, field),
            "library-manufacturer" => attribute.fill(&mut self.library_manufacturer, field),
            "library-description" => attribute.fill(&mut self.library_description, field),
            "library-version" => attribute.fill(&mut self.library_version, version),
            "id" => attribute.fill(&mut self.id, octets),
            "object" => attribute.fill(&mut self.object, text),
            "type" => attribute.fill(&mut self.object_type, object_type),
            "pin-value" | "pin-source" | "module-name" | "module-path" => {
                Err(attribute.invalid("belongs after a `?`"))
            }
            _ => Err(attribute.invalid("is not an attribute that RFC 7512 knows")),
        }
    }

    fn take_query_attribute(&mut self, attribute: Attribute<'_>) -> Result<()> {
        match attribute.name {
            "pin-value" => attribute.fill(&mut self.pin_value, pin),
            "pin-source" => attribute.fill(&mut self.pin_source, pin_source),
            "module-name" => attribute.fill(&mut self.module_name, module_name),
            "module-path" => attribute.fill(&mut self.module_path, absolute_path),
            "token" | "slot-id" | "id" | "object" | "type" => {
                Err(attribute.invalid("belongs before the `?`"))
            }
            _ => Ok(()),
        }
    }
}

/// The path attributes alone, percent-encoded: what may be shown, and compares as the RFC's section 2.4 asks.
impl fmt::Display for Pkcs11Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = [
            ("library-manufacturer", &self.library_manufacturer),
            ("library-description", &self.library_description),
            ("slot-manufacturer", &self.slot_manufacturer),
            ("slot-description", &self.slot_description),
            ("manufacturer", &self.manufacturer),
            ("model", &self.model),
            ("serial", &self.serial),
            ("token", &self.token),
        ];
        let mut parts: Vec<String> = texts
            .into_iter()
            .filter_map(|(name, value)| written(name, value.as_deref()))
            .collect();
        parts.extend(
            self.library_version
                .map(|(major, minor)| format!("library-version={major}.{minor}")),
        );
        parts.extend(self.slot_id.map(|slot| format!("slot-id={slot}")));
        parts.extend(self.id.as_ref().map(|id| {
            let octets: Vec<String> = id.iter().map(|octet| format!("%{octet:02X}")).collect();
            format!("id={}", octets.concat())
        }));
        parts.extend(written("object", self.object.as_deref()));
        parts.extend(written("type", self.object_type.as_deref()));
        write!(f, "{SCHEME}{}", parts.join(";"))
    }
}

fn written(name: &str, value: Option<&str>) -> Option<String> {
    Some(format!("{name}={}", encode(value?.as_bytes(), b"")))
}

fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

#[cfg(test)]
mod tests;
