//! Public and private options of a layer, as JSON: which cipher, its MAC, its nonce, its key.
//!
//! Public options stand in the clear in an annotation; private options are what each key-wrapping scheme
//! carries. Source: `ocicrypt`'s `blockcipher` package. Nothing here decrypts.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::json::{InPlace, object};
use crate::secret::{LayerKey, SecretBytes, scrub_stack};

/// What is wrong with options. Holds none of their values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Public or private options that cannot be read.
    #[error("broken encryption options: {what}")]
    Invalid {
        /// What is wrong with them.
        what: &'static str,
    },
    /// A cipher that we do not know.
    #[error("unknown cipher {name:?}")]
    UnknownCipher {
        /// Its name, shortened.
        name: String,
    },
    /// A cipher option that both have, with different values.
    #[error("the public option {name:?} contradicts the private one")]
    Contradiction {
        /// Name of the option, shortened.
        name: String,
    },
    /// A cipher option that the public options have and the private ones do not.
    #[error("the cipher option {name:?} is public alone, where nothing protects it")]
    Unprotected {
        /// Name of the option, shortened.
        name: String,
    },
}

/// Result with this room's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// One sentence on what to do about it, where we can know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::UnknownCipher { .. } => "a newer ocihsm may know this cipher",
            Self::Contradiction { .. } | Self::Unprotected { .. } => {
                "somebody changed the annotations: remove the image from this node and pull it anew"
            }
            Self::Invalid { .. } => return None,
        };
        Some(text.to_owned())
    }
}

/// Name of a cipher option's key: the initial counter block, or the nonce prefix.
pub const NONCE: &str = "nonce";

/// The ciphers we know, by the name that stands in the public options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CipherName {
    /// AES-256 in CTR mode, HMAC-SHA-256 over the ciphertext. What every tool reads.
    #[serde(rename = "AES_256_CTR_HMAC_SHA256")]
    Aes256CtrHmacSha256,
    /// AES-256-GCM in segments of 64 KiB. Ours alone.
    #[serde(rename = "AES_256_GCM_STREAM")]
    Aes256GcmStream,
}

impl CipherName {
    /// All that we know.
    pub const ALL: [Self; 2] = [Self::Aes256CtrHmacSha256, Self::Aes256GcmStream];

    /// The name as it stands in the public options.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aes256CtrHmacSha256 => "AES_256_CTR_HMAC_SHA256",
            Self::Aes256GcmStream => "AES_256_GCM_STREAM",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}

impl fmt::Display for CipherName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the annotation `org.opencontainers.image.enc.pubopts` holds, once decoded from base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicOptions {
    /// The cipher's name as written; [`PublicOptions::cipher`] says whether we know it.
    pub cipher_name: String,
    /// HMAC-SHA-256 over the ciphertext, absent for a cipher that has none.
    pub hmac: Option<Vec<u8>>,
    /// Cipher options that stand in the clear; usually empty.
    pub cipher_options: BTreeMap<String, Vec<u8>>,
}

/// The plaintext that a key-wrapping scheme carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateOptions {
    /// Key of the layer.
    pub key: LayerKey,
    /// Digest of the plain layer blob. Informative; left out where the wrapped message must stay short.
    pub digest: Option<String>,
    /// Cipher options that are kept with the key; usually the nonce.
    pub cipher_options: BTreeMap<String, Vec<u8>>,
}

#[derive(Serialize)]
struct PublicJson<'a> {
    cipher: &'a str,
    hmac: Option<String>,
    cipheroptions: BTreeMap<&'a str, String>,
}

#[derive(Serialize)]
struct PrivateJson<'a> {
    symkey: Zeroizing<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a str>,
    cipheroptions: BTreeMap<&'a str, String>,
}

object! {
    PublicMembers {
        cipher: String = "cipher",
        hmac: Base64 = "hmac",
        options: CipherOptions = "cipheroptions",
    }
}

object! {
    PrivateMembers {
        key: KeyText = "symkey",
        digest: String = "digest",
        options: CipherOptions = "cipheroptions",
    }
}

impl PublicOptions {
    /// Reads the JSON text.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is not such JSON, or a value is not base64.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let members: PublicMembers = serde_json::from_slice(json)
            .map_err(|_| invalid("public options are not the JSON we expect"))?;
        Ok(Self {
            cipher_name: members.cipher.unwrap_or_default(),
            hmac: members
                .hmac
                .map(|Base64(mac)| mac)
                .filter(|mac| !mac.is_empty()),
            cipher_options: members.options.unwrap_or_default().0,
        })
    }

    /// The JSON text, as the reference writes it.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let raw = PublicJson {
            cipher: &self.cipher_name,
            hmac: self.hmac.as_ref().map(|mac| STANDARD.encode(mac)),
            cipheroptions: encoded(&self.cipher_options),
        };
        serde_json::to_vec(&raw).expect("strings and maps of strings are always JSON")
    }

    /// The cipher.
    ///
    /// # Errors
    /// [`Error::UnknownCipher`] for a name that we do not know.
    pub fn cipher(&self) -> Result<CipherName> {
        CipherName::parse(&self.cipher_name).ok_or_else(|| Error::UnknownCipher {
            name: self.cipher_name.chars().take(80).collect(),
        })
    }

    /// The cipher options that count: the private ones.
    ///
    /// The reference looks into the public options first. Those stand in the clear and no MAC covers them, so whoever
    /// passes the manifest on could choose the nonce, and with it a plaintext that the MAC still accepts. Every tool
    /// writes the nonce into the private options alone; a public option is taken only where a private one says the same.
    ///
    /// # Errors
    /// [`Error::Contradiction`] or [`Error::Unprotected`] for a public option, also one that we do not know.
    pub fn cipher_options<'a>(
        &self,
        private: &'a PrivateOptions,
    ) -> Result<&'a BTreeMap<String, Vec<u8>>> {
        for (name, value) in &self.cipher_options {
            let short = || name.chars().take(80).collect();
            match private.cipher_options.get(name) {
                Some(own) if own == value => {}
                Some(_) => return Err(Error::Contradiction { name: short() }),
                None => return Err(Error::Unprotected { name: short() }),
            }
        }
        Ok(&private.cipher_options)
    }
}

impl PrivateOptions {
    /// Reads what a wrapped key held. The message of an error never quotes it.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is not such JSON, or the key is not 32 bytes.
    pub fn parse(json: &SecretBytes) -> Result<Self> {
        let members: Result<PrivateMembers, _> = serde_json::from_slice(json.expose());
        scrub_stack();
        let members = members.map_err(|_| invalid("private options are not the JSON we expect"))?;
        let key = members.key.ok_or(invalid("there is no layer key"))?;
        Ok(Self {
            key: key.0.ok_or(invalid("the layer key is not 32 bytes long"))?,
            digest: members.digest.filter(|digest| !digest.is_empty()),
            cipher_options: members.options.unwrap_or_default().0,
        })
    }

    /// The JSON text to wrap, as the reference writes it; 193 bytes with the digest, 109 without.
    #[must_use]
    pub fn to_json(&self) -> SecretBytes {
        let raw = PrivateJson {
            symkey: Zeroizing::new(STANDARD.encode(self.key.expose())),
            digest: self.digest.as_deref(),
            cipheroptions: encoded(&self.cipher_options),
        };
        // One allocation that is large enough, so that no half-written copy of the key is left behind.
        let mut json = Vec::with_capacity(512);
        serde_json::to_writer(&mut json, &raw)
            .expect("strings and maps of strings are always JSON");
        SecretBytes::new(json)
    }
}

fn invalid(what: &'static str) -> Error {
    Error::Invalid { what }
}

fn encoded(options: &BTreeMap<String, Vec<u8>>) -> BTreeMap<&str, String> {
    let options = options.iter();
    options
        .map(|(name, value)| (name.as_str(), STANDARD.encode(value)))
        .collect()
}

/// A value of bytes.
#[derive(Default)]
struct Base64(Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text.as_bytes());
        bytes
            .map(Self)
            .map_err(|_| serde::de::Error::custom("not base64"))
    }
}

/// The layer key; `None` where the bytes are not 32.
struct KeyText(Option<LayerKey>);

impl<'de> Deserialize<'de> for KeyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let InPlace(text) = InPlace::deserialize(deserializer)?;
        // As many as the text may hold, at once: a vector that grows leaves copies behind.
        let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
        let length = STANDARD
            .decode_slice(text, &mut bytes)
            .map_err(|_| serde::de::Error::custom("not base64"))?;
        Ok(Self(LayerKey::from_slice(&bytes[..length])))
    }
}

/// Names and values, each name once. A null is an empty value, as in the reference.
#[derive(Default)]
struct CipherOptions(BTreeMap<String, Vec<u8>>);

impl<'de> Deserialize<'de> for CipherOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Options;
        impl<'de> Visitor<'de> for Options {
            type Value = CipherOptions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of base64 texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<CipherOptions, A::Error> {
                let mut options = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Option<Base64>>()? {
                    if options.insert(name, value.unwrap_or_default().0).is_some() {
                        return Err(serde::de::Error::custom("an option stands there twice"));
                    }
                }
                Ok(CipherOptions(options))
            }
        }
        deserializer.deserialize_map(Options)
    }
}

#[cfg(test)]
mod tests;
