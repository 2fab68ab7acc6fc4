//! Session keys: the packet that wraps one for a key (RFC 9580, section 5.1), and what is in it once it is opened.
//!
//! What a private key gives are candidates, of one length each: the number of a cipher, and its key, filled up to 32
//! bytes. A key that gives nothing else gives a random one, so that the content alone tells.

use super::KeyId;
use super::algorithm::Cipher;
use super::fields::Fields;
use super::key::ECDH;

/// Length of a candidate.
pub const CANDIDATE: usize = 1 + MAX_KEY;
/// Longest session key.
const MAX_KEY: usize = 32;
/// The key that is named where none is.
const ANY: KeyId = [0; 8];

/// A session key that is wrapped for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapped<'a> {
    /// The key's name.
    pub id: KeyId,
    /// How it is wrapped.
    pub way: Way,
    /// What that way needs.
    pub values: &'a [u8],
}

/// How a session key is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// RSA with PKCS#1 v1.5.
    Rsa,
    /// Agreement.
    Agreement,
}

/// Why a packet of a session key leads to none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It ends too early.
    Broken,
    /// Another version than the third.
    Version(u8),
    /// Another algorithm, with its number.
    Algorithm(u8),
}

impl<'a> Wrapped<'a> {
    /// Reads the body of a packet.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(body: &'a [u8]) -> Result<Self, Error> {
        let mut fields = Fields::new(body);
        match fields.octet().ok_or(Error::Broken)? {
            3 => {}
            version => return Err(Error::Version(version)),
        }
        let id = fields.array().ok_or(Error::Broken)?;
        let way = match fields.octet().ok_or(Error::Broken)? {
            1 | 2 => Way::Rsa,
            ECDH => Way::Agreement,
            algorithm => return Err(Error::Algorithm(algorithm)),
        };
        let mut rest = fields.clone();
        let is_whole = match way {
            Way::Rsa => rest.integer().is_some() && rest.is_empty(),
            Way::Agreement => {
                rest.integer().is_some() && rest.prefixed(1).is_some() && rest.is_empty()
            }
        };
        match is_whole {
            true => Ok(Self {
                id,
                way,
                values: fields.rest(),
            }),
            false => Err(Error::Broken),
        }
    }

    /// Whether it names no key.
    #[must_use]
    pub fn is_for_anybody(&self) -> bool {
        self.id == ANY
    }

    /// Whether it is for the key of that name, as far as it tells.
    #[must_use]
    pub fn may_be_for(&self, id: &KeyId) -> bool {
        self.is_for_anybody() || self.id == *id
    }

    /// The body of a packet.
    #[must_use]
    pub fn to_body(&self) -> Vec<u8> {
        let algorithm = match self.way {
            Way::Rsa => 1,
            Way::Agreement => ECDH,
        };
        [&[3], &self.id[..], &[algorithm], self.values].concat()
    }
}

/// The sum behind a session key.
#[must_use]
pub fn checksum(key: &[u8]) -> u16 {
    (key.iter()).fold(0, |sum: u16, octet| sum.wrapping_add(u16::from(*octet)))
}

/// An AES-256 session key as it is wrapped: cipher, key, sum.
pub fn encode(key: &[u8; 32], encoded: &mut [u8; 35]) {
    encoded[0] = Cipher::Aes256.number();
    encoded[1..33].copy_from_slice(key);
    encoded[33..].copy_from_slice(&checksum(key).to_be_bytes());
}

/// The candidate of an encoded session key whose encoding is known to be authentic; `false` if it is none all the same.
pub fn decode(encoded: &[u8], candidate: &mut [u8; CANDIDATE]) -> bool {
    let Some((&cipher, rest)) = encoded.split_first() else {
        return false;
    };
    let Some((key, sum)) = rest.split_last_chunk::<2>() else {
        return false;
    };
    let fits = Cipher::numbered(cipher).is_none_or(|cipher| cipher.key_len() == key.len());
    if !fits || key.len() > MAX_KEY || checksum(key).to_be_bytes() != *sum {
        return false;
    }
    candidate[0] = cipher;
    candidate[1..=key.len()].copy_from_slice(key);
    true
}
