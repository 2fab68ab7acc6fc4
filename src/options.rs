//! Public and private options of a layer, as JSON: which cipher, its MAC, its nonce, its key.
//!
//! Public options stand in the clear in an annotation; private options are what each key-wrapping scheme
//! carries. Source: `ocicrypt`'s `blockcipher` package. Nothing here decrypts.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::secret::{LayerKey, SecretBytes};

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

#[derive(Serialize, Deserialize)]
struct PublicJson {
    cipher: String,
    #[serde(default)]
    hmac: Option<String>,
    #[serde(default)]
    cipheroptions: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Serialize, Deserialize)]
struct PrivateJson {
    symkey: Zeroizing<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(default)]
    cipheroptions: Option<BTreeMap<String, Option<String>>>,
}

impl PublicOptions {
    /// Reads the JSON text.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when it is not such JSON, or a value is not base64.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let raw: PublicJson = serde_json::from_slice(json)
            .map_err(|_| invalid("public options are not the JSON we expect"))?;
        let hmac = match raw.hmac.as_deref() {
            None | Some("") => None,
            Some(text) => Some(decode(
                text,
                "the HMAC in the public options is not base64",
            )?),
        };
        Ok(Self {
            cipher_name: raw.cipher,
            hmac,
            cipher_options: decode_map(raw.cipheroptions)?,
        })
    }

    /// The JSON text, as the reference writes it.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let raw = PublicJson {
            cipher: self.cipher_name.clone(),
            hmac: self.hmac.as_ref().map(|mac| STANDARD.encode(mac)),
            cipheroptions: Some(encode_map(&self.cipher_options)),
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

    /// A cipher option, looked up here first and then in the private options, as the reference does.
    #[must_use]
    pub fn cipher_option<'a>(
        &'a self,
        private: &'a PrivateOptions,
        name: &str,
    ) -> Option<&'a [u8]> {
        self.cipher_options
            .get(name)
            .or_else(|| private.cipher_options.get(name))
            .map(Vec::as_slice)
    }
}

impl PrivateOptions {
    /// Reads what a wrapped key held. The message of an error never quotes it.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when it is not such JSON, or the key is not 32 bytes.
    pub fn parse(json: &SecretBytes) -> Result<Self> {
        let raw: PrivateJson = serde_json::from_slice(json.expose())
            .map_err(|_| invalid("private options are not the JSON we expect"))?;
        let key = Zeroizing::new(decode(&raw.symkey, "the layer key is not base64")?);
        let key: &[u8; 32] = key
            .as_slice()
            .try_into()
            .map_err(|_| invalid("the layer key is not 32 bytes long"))?;
        Ok(Self {
            key: LayerKey::new(*key),
            digest: raw.digest.filter(|digest| !digest.is_empty()),
            cipher_options: decode_map(raw.cipheroptions)?,
        })
    }

    /// The JSON text to wrap, as the reference writes it; 193 bytes with the digest, 109 without.
    #[must_use]
    pub fn to_json(&self) -> SecretBytes {
        let raw = PrivateJson {
            symkey: Zeroizing::new(STANDARD.encode(self.key.expose())),
            digest: self.digest.clone(),
            cipheroptions: Some(encode_map(&self.cipher_options)),
        };
        // One allocation that is large enough, so that no half-written copy of the key is left behind.
        let mut json = Vec::with_capacity(512);
        serde_json::to_writer(&mut json, &raw)
            .expect("strings and maps of strings are always JSON");
        SecretBytes::new(json)
    }
}

fn invalid(what: &'static str) -> Error {
    Error::InvalidOptions { what }
}

fn decode(text: &str, what: &'static str) -> Result<Vec<u8>> {
    STANDARD.decode(text).map_err(|_| invalid(what))
}

fn decode_map(map: Option<BTreeMap<String, Option<String>>>) -> Result<BTreeMap<String, Vec<u8>>> {
    map.unwrap_or_default()
        .into_iter()
        .map(|(name, value)| {
            let value = decode(&value.unwrap_or_default(), "a cipher option is not base64")?;
            Ok((name, value))
        })
        .collect()
}

fn encode_map(map: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Option<String>> {
    map.iter()
        .map(|(name, value)| (name.clone(), Some(STANDARD.encode(value))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn private() -> PrivateOptions {
        PrivateOptions {
            key: LayerKey::new([7; 32]),
            digest: Some(format!("sha256:{}", "ab".repeat(32))),
            cipher_options: BTreeMap::from([(NONCE.to_owned(), vec![9; 16])]),
        }
    }

    #[test]
    fn private_options_have_the_lengths_that_the_format_states() {
        let mut options = private();
        assert_eq!(options.to_json().expose().len(), 193);
        options.digest = None;
        assert!(options.to_json().expose().len() <= 110);
    }

    #[test]
    fn private_options_survive_a_round_trip() {
        let back = PrivateOptions::parse(&private().to_json()).unwrap();
        assert_eq!(back.key, private().key);
        assert_eq!(back.digest, private().digest);
        assert_eq!(back.cipher_options, private().cipher_options);
    }

    #[test]
    fn null_cipher_options_and_unknown_fields_are_fine() {
        let json =
            br#"{"cipher":"AES_256_CTR_HMAC_SHA256","hmac":"AAEC","cipheroptions":null,"more":1}"#;
        let options = PublicOptions::parse(json).unwrap();
        assert_eq!(options.cipher().unwrap(), CipherName::Aes256CtrHmacSha256);
        assert_eq!(options.hmac.as_deref(), Some(&[0, 1, 2][..]));
    }

    #[test]
    fn gcm_options_have_a_null_hmac() {
        let options = PublicOptions {
            cipher_name: CipherName::Aes256GcmStream.to_string(),
            hmac: None,
            cipher_options: BTreeMap::new(),
        };
        assert_eq!(
            options.to_json(),
            br#"{"cipher":"AES_256_GCM_STREAM","hmac":null,"cipheroptions":{}}"#
        );
    }

    #[test]
    fn broken_private_options_are_not_quoted() {
        let secret = SecretBytes::new(br#"{"symkey":"c2VjcmV0"}"#.to_vec());
        let error = PrivateOptions::parse(&secret).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("c2Vj"));
    }
}
