//! One attribute of a URI: its name, percent-encoding, and what its value may be (RFC 7512, section 2.3).
//!
//! Which attributes there are, and what they mean, is in the URI itself.

use std::ffi::OsString;
use std::mem;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use zeroize::{Zeroize as _, Zeroizing};

use crate::error::{Error, Result};
use crate::keys::pin_file;
use crate::secret::Pin;

/// What is wrong with a value, without a word of the value itself.
pub(super) type Mistake = &'static str;

/// An attribute as written.
pub(super) struct Attribute<'a> {
    pub(super) name: &'a str,
    value: &'a str,
}

impl<'a> Attribute<'a> {
    /// The attributes of the path or the query, which `component` calls in a message.
    pub(super) fn split(
        text: &'a str,
        separator: char,
        component: &'static str,
    ) -> impl Iterator<Item = Result<Self>> {
        let parts = text.split(separator).filter(|part| !part.is_empty());
        parts.map(move |part| match part.split_once('=') {
            Some((name, value)) => Ok(Self { name, value }),
            None => Err(invalid(component, "has a part without `=`")),
        })
    }

    /// Puts the value where it belongs, unless there is one already.
    pub(super) fn fill<T>(
        &self,
        place: &mut Option<T>,
        read: fn(&str) -> Result<T, Mistake>,
    ) -> Result<()> {
        if place.is_some() {
            return Err(self.invalid("stands there twice"));
        }
        // A wrong separator makes the PIN part of another value, which messages show.
        if self.value.contains("pin-value=") || self.value.contains("pin-source=") {
            return Err(self.invalid(
                "runs into the PIN: `;` joins attributes before the `?`, `&` those after it",
            ));
        }
        *place = Some(read(self.value).map_err(|what| self.invalid(what))?);
        Ok(())
    }

    pub(super) fn invalid(&self, what: Mistake) -> Error {
        invalid(self.name, what)
    }
}

/// What is wrong with a part of the URI, by its name.
pub(super) fn invalid(part: &str, what: Mistake) -> Error {
    Error::InvalidUri {
        part: part.chars().take(40).collect(),
        what,
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986 and `also`.
pub(super) fn encode(bytes: &[u8], also: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || also.contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

pub(super) fn octets(value: &str) -> Result<Vec<u8>, Mistake> {
    // Room for all of it at once, since a PIN passes here and a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(value.len()));
    let mut rest = value.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        let digit = |at: usize| tail.get(at).and_then(|&b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err("has a `%` without two hexadecimal digits (a `%` itself is `%25`)");
        };
        bytes.push((high * 16 + low) as u8);
        rest = &tail[2..];
    }
    Ok(mem::take(&mut *bytes))
}

pub(super) fn text(value: &str) -> Result<String, Mistake> {
    String::from_utf8(octets(value)?).map_err(|error| {
        error.into_bytes().zeroize();
        "is not UTF-8"
    })
}

/// A value that a token shows in a field of fixed length. Some fill it with NULs, and tools print these.
pub(super) fn field(value: &str) -> Result<String, Mistake> {
    let mut value = text(value)?;
    if value.ends_with('\0') {
        value.truncate(value.trim_end_matches(['\0', ' ']).len());
    }
    Ok(value)
}

pub(super) fn number(value: &str) -> Result<u64, Mistake> {
    if value.bytes().all(|octet| octet.is_ascii_digit()) {
        value.parse().map_err(|_| "is not a number of 64 bits")
    } else {
        Err("is not a number")
    }
}

pub(super) fn version(value: &str) -> Result<(u8, u8), Mistake> {
    let (major, minor) = value.split_once('.').unwrap_or((value, "0"));
    match (major.parse(), minor.parse()) {
        (Ok(major), Ok(minor)) => Ok((major, minor)),
        _ => Err("is not a version such as 3.2"),
    }
}

pub(super) fn object_type(value: &str) -> Result<String, Mistake> {
    let value = text(value)?;
    match value.as_str() {
        "private" | "public" | "cert" | "secret-key" | "data" => Ok(value),
        _ => Err("is none of private, public, cert, secret-key, data"),
    }
}

pub(super) fn pin(value: &str) -> Result<Pin, Mistake> {
    // One that is meant is written `%20`, `%22` or `%27`.
    if pin_file::slip(value).is_some() {
        return Err(
            "has quotes or blanks around it (one that is meant is percent-encoded: %20, %22)",
        );
    }
    let pin = Zeroizing::new(text(value)?);
    if pin.contains(['\n', '\r', '\0']) {
        return Err("holds a line break or a NUL, even if percent-encoded");
    }
    Pin::new(pin.to_string()).ok_or("is empty")
}

pub(super) fn module_name(value: &str) -> Result<String, Mistake> {
    let value = text(value)?;
    if value.is_empty() {
        return Err("is empty");
    }
    if value.contains('/') {
        return Err("is a path, which belongs in `module-path`");
    }
    Ok(value)
}

pub(super) fn absolute_path(value: &str) -> Result<PathBuf, Mistake> {
    let bytes = octets(value)?;
    if bytes.first() != Some(&b'/') || bytes.contains(&0) {
        return Err("is not an absolute path");
    }
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

/// A path, or a `file:` URI, which has an encoding of its own within the attribute's.
pub(super) fn pin_source(value: &str) -> Result<PathBuf, Mistake> {
    const NEITHER: Mistake = "is neither an absolute path nor a `file:` URI";
    let source = text(value)?;
    let Some(path) = source.strip_prefix("file:") else {
        return absolute_path(value).map_err(|_| NEITHER);
    };
    let path = match path.strip_prefix("//") {
        Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
        None => path,
    };
    absolute_path(path).map_err(|_| NEITHER)
}
