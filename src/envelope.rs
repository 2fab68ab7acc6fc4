//! The encryption annotations of a layer: its public options, and its key as each scheme wrapped it.
//!
//! Annotations in, annotations out. What a wrapped key holds is known to the scheme alone (`keys`); a scheme
//! that we cannot open is carried along untouched.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::options::{self, PublicOptions};

/// Most bytes that one annotation may have.
pub const MAX_ANNOTATION: usize = 1 << 20;
/// Most wrapped keys that one layer may have, over all schemes.
pub const MAX_RECIPIENTS: usize = 256;

/// How the names of the schemes of key providers begin.
pub const PROVIDED: &str = "provider.";

const PUBLIC_OPTIONS: &str = "org.opencontainers.image.enc.pubopts";
const KEYS: &str = "org.opencontainers.image.enc.keys.";

/// What is wrong with a layer's annotations.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// They hold no public options or no wrapped key.
    #[error("the layer has no encryption annotations")]
    NotEncrypted,
    /// One annotation is larger than the bound.
    #[error("annotation {name} is over the limit of {limit} bytes")]
    AnnotationTooLarge {
        /// Name of the annotation.
        name: String,
        /// The bound in bytes.
        limit: usize,
    },
    /// More wrapped keys than the bound.
    #[error("number of wrapped keys of a layer is over the limit of {limit}")]
    TooManyKeys {
        /// The bound.
        limit: usize,
    },
    /// Public options that cannot be read.
    #[error(transparent)]
    Options(#[from] options::Error),
}

/// Result with this room's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// One sentence on what to do about it, where we can know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Options(error) => error.hint(),
            _ => None,
        }
    }
}

/// A key-wrapping scheme, by the end of its annotation's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scheme(String);

impl Scheme {
    /// RSA-OAEP with the private key in a PKCS#11 token.
    #[must_use]
    pub fn pkcs11() -> Self {
        Self("pkcs11".to_owned())
    }

    /// The scheme of that name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The key provider that it belongs to, if it does.
    #[must_use]
    pub fn provider(&self) -> Option<&str> {
        self.0.strip_prefix(PROVIDED)
    }

    /// The end of its annotation's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the annotations of an encrypted layer say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Cipher and MAC.
    pub public_options: PublicOptions,
    /// Wrapped keys by scheme, each still in base64.
    wrapped: BTreeMap<Scheme, Vec<String>>,
}

impl Envelope {
    /// A new envelope that nobody can open yet.
    #[must_use]
    pub fn new(public_options: PublicOptions) -> Self {
        Self {
            public_options,
            wrapped: BTreeMap::new(),
        }
    }

    /// Reads a layer's annotations.
    ///
    /// # Errors
    /// [`Error::NotEncrypted`] without public options or without any wrapped key; [`Error::AnnotationTooLarge`] or
    /// [`Error::TooManyKeys`] over a bound; [`Error::Options`] for public options that cannot be read.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Self> {
        let public = annotations.get(PUBLIC_OPTIONS).ok_or(Error::NotEncrypted)?;
        bounded(PUBLIC_OPTIONS, public)?;
        let not_base64 = options::Error::Invalid {
            what: "the public options are not base64",
        };
        let public = STANDARD.decode(public).map_err(|_| not_base64)?;
        let mut envelope = Self::new(PublicOptions::parse(&public)?);
        for (name, value) in annotations {
            let Some(scheme) = name.strip_prefix(KEYS) else {
                continue;
            };
            bounded(name, value)?;
            let blobs: Vec<String> = value
                .split(',')
                .filter(|blob| !blob.is_empty())
                .map(str::to_owned)
                .collect();
            if !blobs.is_empty() {
                envelope.wrapped.insert(Scheme(scheme.to_owned()), blobs);
            }
        }
        match envelope.recipients() {
            0 => Err(Error::NotEncrypted),
            count if count > MAX_RECIPIENTS => Err(Error::TooManyKeys {
                limit: MAX_RECIPIENTS,
            }),
            _ => Ok(envelope),
        }
    }

    /// Writes the envelope into a layer's annotations, beside whatever else stands there.
    pub fn write_to(&self, annotations: &mut BTreeMap<String, String>) {
        annotations.insert(
            PUBLIC_OPTIONS.to_owned(),
            STANDARD.encode(self.public_options.to_json()),
        );
        for (scheme, blobs) in &self.wrapped {
            annotations.insert(format!("{KEYS}{scheme}"), blobs.join(","));
        }
    }

    /// Removes every encryption annotation, which leaves those that are not ours.
    pub fn remove_from(annotations: &mut BTreeMap<String, String>) {
        annotations.retain(|name, _| name != PUBLIC_OPTIONS && !name.starts_with(KEYS));
    }

    /// Adds a wrapped key.
    pub fn push(&mut self, scheme: Scheme, packet: &[u8]) {
        self.wrapped
            .entry(scheme)
            .or_default()
            .push(STANDARD.encode(packet));
    }

    /// The wrapped keys of one scheme; `None` in the place of one that is not base64.
    pub fn blobs(&self, scheme: &Scheme) -> impl Iterator<Item = Option<Vec<u8>>> {
        let blobs = self.wrapped.get(scheme).into_iter().flatten();
        blobs.map(|blob| STANDARD.decode(blob).ok())
    }

    /// The schemes on this layer, each with its number of wrapped keys.
    pub fn schemes(&self) -> impl Iterator<Item = (&Scheme, usize)> {
        self.wrapped
            .iter()
            .map(|(scheme, blobs)| (scheme, blobs.len()))
    }

    /// Number of wrapped keys over all schemes.
    #[must_use]
    pub fn recipients(&self) -> usize {
        self.wrapped.values().map(Vec::len).sum()
    }
}

fn bounded(name: &str, value: &str) -> Result<()> {
    if value.len() > MAX_ANNOTATION {
        return Err(Error::AnnotationTooLarge {
            name: name.chars().take(80).collect(),
            limit: MAX_ANNOTATION,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations() -> BTreeMap<String, String> {
        let public = br#"{"cipher":"AES_256_CTR_HMAC_SHA256","hmac":"AAEC","cipheroptions":{}}"#;
        BTreeMap::from([
            (PUBLIC_OPTIONS.to_owned(), STANDARD.encode(public)),
            (format!("{KEYS}pkcs11"), "YQ==,Yg==".to_owned()),
            (format!("{KEYS}jwe"), "not ours".to_owned()),
            ("org.example".to_owned(), "stays".to_owned()),
        ])
    }

    #[test]
    fn reads_joined_keys_and_leaves_other_schemes_alone() {
        let envelope = Envelope::from_annotations(&annotations()).unwrap();
        let blobs: Vec<_> = envelope.blobs(&Scheme::pkcs11()).flatten().collect();
        assert_eq!(blobs, [b"a", b"b"]);
        assert_eq!(envelope.recipients(), 3);
        let mut written = annotations();
        envelope.write_to(&mut written);
        assert_eq!(written, annotations());
    }

    #[test]
    fn remove_leaves_foreign_annotations() {
        let mut left = annotations();
        Envelope::remove_from(&mut left);
        assert_eq!(left.keys().collect::<Vec<_>>(), ["org.example"]);
    }

    #[test]
    fn too_many_wrapped_keys() {
        let mut many = annotations();
        many.insert(format!("{KEYS}pkcs11"), vec!["YQ=="; 300].join(","));
        let error = Envelope::from_annotations(&many).unwrap_err();
        assert!(error.to_string().contains("256"), "{error}");
    }

    #[test]
    fn huge_annotation() {
        let mut huge = annotations();
        huge.insert(format!("{KEYS}pkcs11"), "Y".repeat(MAX_ANNOTATION + 1));
        assert!(matches!(
            Envelope::from_annotations(&huge),
            Err(Error::AnnotationTooLarge { .. })
        ));
    }
}
