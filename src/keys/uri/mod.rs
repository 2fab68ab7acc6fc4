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
use crate::error::{Error, Result};
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
mod tests {
    use super::*;

    fn parse(text: &str) -> Pkcs11Uri {
        text.parse().unwrap()
    }

    fn mistake(text: &str) -> String {
        let error = text.parse::<Pkcs11Uri>().unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("1234"), "{shown}");
        error.to_string()
    }

    #[test]
    fn reads_what_the_specification_shows() {
        let uri = parse(
            "pkcs11:token=mytoken;id=%A9%8B;object=imagekey;type=private?pin-value=my-pin&module-name=softhsm2",
        );
        assert_eq!(uri.token.as_deref(), Some("mytoken"));
        assert_eq!(uri.id.as_deref(), Some(&[0xa9, 0x8b][..]));
        assert_eq!(uri.object.as_deref(), Some("imagekey"));
        assert_eq!(uri.object_type.as_deref(), Some("private"));
        assert_eq!(uri.pin_value, Pin::new("my-pin".to_owned()));
        assert_eq!(uri.module_name.as_deref(), Some("softhsm2"));
    }

    #[test]
    fn path_attributes_round_trip() {
        let text = "pkcs11:library-manufacturer=Snake%20Oil;library-description=l;slot-manufacturer=s;\
                    slot-description=d;manufacturer=%C3%9Cbermut;model=m;serial=%3B%3F%26%25;token=The%20token;\
                    library-version=3.2;slot-id=18446744073709551615;id=%00%61%FF;object=a%2Fb~c;type=cert";
        let uri = parse(text);
        assert_eq!(uri.manufacturer.as_deref(), Some("Übermut"));
        assert_eq!(uri.serial.as_deref(), Some(";?&%"));
        assert_eq!(uri.library_version, Some((3, 2)));
        assert_eq!(uri.to_string(), text);
        assert_eq!(parse(&uri.to_string()), uri);
    }

    #[test]
    fn display_and_debug_hold_no_pin() {
        let uri = parse("pkcs11:token=t;object=o?module-name=m&pin-value=%31234");
        assert_eq!(uri.to_string(), "pkcs11:token=t;object=o");
        assert_eq!(uri.with_query(), "pkcs11:token=t;object=o?module-name=m");
        assert_eq!(uri.pin_value.as_ref().unwrap().expose(), "1234");
        assert!(!format!("{uri:?}").contains("1234"));
    }

    #[test]
    fn query_for_a_key_file_round_trips() {
        let uri = Pkcs11Uri {
            token: Some("prod 1".to_owned()),
            id: Some(vec![1]),
            pin_source: Some("/run/pin & more".into()),
            module_path: Some("/opt/h?sm/lib.so".into()),
            ..Pkcs11Uri::default()
        };
        let text = "pkcs11:token=prod%201;id=%01?pin-source=/run/pin%20%26%20more&module-path=/opt/h%3Fsm/lib.so";
        assert_eq!(uri.with_query(), text);
        assert_eq!(parse(text), uri);
    }

    #[test]
    fn pin_sources() {
        for (source, path) in [
            ("/etc/pin", "/etc/pin"),
            ("/etc/my%20pin", "/etc/my pin"),
            ("file:/etc/pin", "/etc/pin"),
            ("file:///etc/pin", "/etc/pin"),
            ("file://localhost/etc/pin", "/etc/pin"),
            ("file%3A%2Fetc%2Fmy%2520pin", "/etc/my pin"),
        ] {
            let uri = parse(&format!("pkcs11:token=t;object=o?pin-source={source}"));
            assert_eq!(uri.pin_source, Some(path.into()), "{source}");
        }
        for source in [
            "1234",
            "",
            "etc/1234",
            "file:1234",
            "file://host/1234",
            "|/bin/1234",
            "/1234%00",
        ] {
            let shown = mistake(&format!("pkcs11:token=t;object=o?pin-source={source}"));
            assert!(shown.contains("pin-source is neither"), "{shown}");
        }
    }

    #[test]
    fn nuls_that_fill_a_field_do_not_count() {
        let uri = parse(
            "pkcs11:model=SW%20%20%20TPM%00%00;manufacturer=Intel;token=a%00%20%00;serial=0%00%00;object=o",
        );
        assert_eq!(uri.model.as_deref(), Some("SW   TPM"));
        assert_eq!(uri.token.as_deref(), Some("a"));
        assert_eq!(uri.serial.as_deref(), Some("0"));
        // Within it they do.
        assert_eq!(
            parse("pkcs11:token=a%00b;object=o").token.as_deref(),
            Some("a\0b")
        );
    }

    #[test]
    fn an_id_that_is_not_escaped_byte_by_byte_is_noticed() {
        let hint = |id: &str| parse(&format!("pkcs11:token=t;id={id}")).id_hint();
        for id in ["%a98b", "a98b", "A98B", "%A9%38%62"] {
            assert!(hint(id).unwrap().ends_with("write id=%A9%8B"), "{id}");
        }
        for id in ["%a9%8b", "%a9", "%a98", "layers", "%01%02", "%a9%8b01"] {
            assert_eq!(hint(id), None, "{id}");
        }
        assert_eq!(parse("pkcs11:token=t;object=o").id_hint(), None);
    }

    #[test]
    fn slips_beside_a_pin_are_refused_and_what_is_encoded_is_meant() {
        for pin in ["\"1234\"", "'1234'", " 1234", "1234 "] {
            let text = format!("pkcs11:token=t;object=o?pin-value={pin}&module-name=m");
            assert!(mistake(&text).contains("quotes or blanks around"), "{text}");
        }
        assert!(mistake("pkcs11:token=t?pin-value=1234%0A").contains("line break"));
        for (pin, expected) in [("%22%22", "\"\""), ("%2012%20", " 12 "), ("1 2", "1 2")] {
            let uri = parse(&format!("pkcs11:token=t?pin-value={pin}&module-name=m"));
            assert_eq!(uri.pin_value.unwrap().expose(), expected);
        }
    }

    #[test]
    fn unknown_attributes_are_ignored_in_the_query_alone() {
        assert_eq!(
            parse("pkcs11:token=t?x-vendor=1&module-name=m")
                .module_name
                .as_deref(),
            Some("m")
        );
        assert!(mistake("pkcs11:token=t;lable=l").contains("lable is not an attribute"));
    }

    #[test]
    fn unencoded_characters_are_taken_as_they_are() {
        let uri = parse(" pkcs11:token=my token;object=a=b/c&d?pin-value=p?/;=| \n");
        assert_eq!(uri.token.as_deref(), Some("my token"));
        assert_eq!(uri.object.as_deref(), Some("a=b/c&d"));
        assert_eq!(uri.pin_value.unwrap().expose(), "p?/;=|");
    }

    #[test]
    fn mistakes_are_named_and_no_value_is_quoted() {
        for (text, part) in [
            ("", "does not begin with `pkcs11:`"),
            ("token=1234", "does not begin with `pkcs11:`"),
            ("ü1234567", "does not begin with `pkcs11:`"),
            ("pkcs11:token=a\nb1234", "line break"),
            ("pkcs11:token=t;token=1234", "token stands there twice"),
            (
                "pkcs11:token=t?pin-value=1234&pin-value=1234",
                "pin-value stands there twice",
            ),
            (
                "pkcs11:token=t?pin-value=1234&pin-source=/1234",
                "both `pin-value` and `pin-source`",
            ),
            ("pkcs11:token", "the path has a part without `=`"),
            (
                "pkcs11:token=t?pin-value=1&1234",
                "the query has a part without `=`",
            ),
            ("pkcs11:token=%1;object=1234", "token has a `%`"),
            ("pkcs11:token=%ff1234", "token is not UTF-8"),
            ("pkcs11:token=t?pin-value=%ff1234", "pin-value is not UTF-8"),
            ("pkcs11:slot-id=1234x", "slot-id is not a number"),
            ("pkcs11:slot-id=-1234", "slot-id is not a number"),
            (
                "pkcs11:library-version=1234",
                "library-version is not a version",
            ),
            ("pkcs11:type=1234", "type is none of"),
            ("pkcs11:token=t?pin-value=", "pin-value is empty"),
            (
                "pkcs11:token=t?module-name=/lib/1234.so",
                "belongs in `module-path`",
            ),
            (
                "pkcs11:token=t?module-path=1234.so",
                "module-path is not an absolute path",
            ),
            (
                "pkcs11:token=t;pin-value=1234",
                "pin-value belongs after a `?`",
            ),
            (
                "pkcs11:token=t?pin-value=a&object=1234",
                "object belongs before the `?`",
            ),
            (
                "pkcs11:token=t;object=o&pin-value=1234",
                "object runs into the PIN",
            ),
            (
                "pkcs11:token=t?module-name=m;pin-value=1234",
                "module-name runs into the PIN",
            ),
        ] {
            let shown = mistake(text);
            assert!(shown.contains(part), "{text}: {shown}");
        }
    }
}
