//! Session keys by agreement on a curve (RFC 6637, section 8; RFC 9580, sections 5.1.5 and 11.5): what both sides agree
//! on becomes a key by a hash, and that one unwraps the session key.
//!
//! The wrapped key is authentic or it is not, so that nothing is told by which of them.

use x25519_dalek::{PublicKey as Point, StaticSecret};
use zeroize::Zeroizing;

use super::Fingerprint;
use super::algorithm::{Cipher, Hash};
use super::fields::{Fields, integer};
use super::key::{ECDH, Error, name_of, named_curve};
use crate::elliptic::{self, PrivateScalar};
use crate::key_wrap;
use crate::operation::Curve;
use crate::secret::SecretBytes;

/// Curve25519 as keys for agreement name it.
const CURVE25519: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x97, 0x55, 0x01, 0x05, 0x01];
/// What a point on it begins with.
const NATIVE: u8 = 0x40;
/// Who sends is not told.
const SENDER: &[u8] = b"Anonymous Sender    ";

/// The public half of a key for agreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    group: Group,
    /// As it stands in the packet.
    point: Vec<u8>,
    hash: Hash,
    cipher: Cipher,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Nist(Curve),
    Curve25519,
}

/// The private half. Wiped when dropped.
#[derive(Clone)]
pub enum PrivateHalf {
    /// On one of NIST's curves.
    Nist(PrivateScalar),
    /// On Curve25519.
    Curve25519(Box<StaticSecret>),
}

impl Agreement {
    /// Reads the fields of such a key: curve, point, and how a key comes of what is agreed on.
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, Error> {
        let group = match fields.prefixed(1).ok_or(Error::Broken)? {
            CURVE25519 => Group::Curve25519,
            name => named_curve(name).map(Group::Nist).ok_or(Error::Algorithm)?,
        };
        let point = fields.integer().ok_or(Error::Broken)?.to_vec();
        let [1, hash, cipher] = *fields.prefixed(1).ok_or(Error::Broken)? else {
            return Err(Error::Algorithm);
        };
        let hash = Hash::numbered(hash).filter(|hash| hash.number() >= Hash::Sha256.number());
        let hash = hash
            .filter(|hash| *hash != Hash::Sha224)
            .ok_or(Error::Algorithm)?;
        let cipher = Cipher::numbered(cipher).ok_or(Error::Algorithm)?;
        match group.takes(&point) {
            true => Ok(Self {
                group,
                point,
                hash,
                cipher,
            }),
            false => Err(Error::Broken),
        }
    }

    /// The private half of that number, big-endian; `None` unless the halves belong together.
    #[must_use]
    pub fn private_half(&self, number: &[u8]) -> Option<PrivateHalf> {
        let length = match self.group {
            Group::Nist(curve) => curve.field_len(),
            Group::Curve25519 => 32,
        };
        let mut padded = Zeroizing::new(vec![0; length.checked_sub(number.len())?]);
        padded.reserve_exact(number.len());
        padded.extend_from_slice(number);
        let half = match self.group {
            Group::Nist(curve) => PrivateHalf::Nist(PrivateScalar::from_bytes(curve, &padded)?),
            Group::Curve25519 => {
                // Here alone its bytes stand in the other order.
                let mut native = Zeroizing::new([0; 32]);
                native
                    .iter_mut()
                    .zip(padded.iter().rev())
                    .for_each(|(to, from)| *to = *from);
                PrivateHalf::Curve25519(Box::new(StaticSecret::from(*native)))
            }
        };
        (half.point() == self.point).then_some(half)
    }

    /// Wraps an encoded session key: the rest of the packet behind the name of the algorithm. `None` when the system gives
    /// no randomness.
    #[must_use]
    pub fn wrap(&self, fingerprint: &Fingerprint, encoded: &[u8]) -> Option<Vec<u8>> {
        let ephemeral = match self.group {
            Group::Nist(curve) => PrivateHalf::Nist(PrivateScalar::generate(curve)?),
            Group::Curve25519 => {
                let mut number = Zeroizing::new([0; 32]);
                getrandom::fill(&mut *number).ok()?;
                PrivateHalf::Curve25519(Box::new(StaticSecret::from(*number)))
            }
        };
        let shared = ephemeral.agree(&self.point)?;
        let key = self.derive(&shared, fingerprint);
        // Filled up to 40 bytes, so that the length does not tell the cipher.
        let padding = 40_usize
            .checked_sub(encoded.len())
            .filter(|padding| *padding > 0)?;
        let mut text = Zeroizing::new(encoded.to_vec());
        text.resize(40, u8::try_from(padding).ok()?);
        let wrapped = key_wrap::wrap(&key, &text)?;
        let mut values = integer(&ephemeral.point());
        values.push(48);
        values.extend_from_slice(&wrapped);
        Some(values)
    }

    /// Unwraps an encoded session key from what stands behind the name of the algorithm; `None` if it is for another key,
    /// or altered.
    #[must_use]
    pub fn unwrap(
        &self,
        fingerprint: &Fingerprint,
        half: &PrivateHalf,
        values: &[u8],
    ) -> Option<SecretBytes> {
        let mut values = Fields::new(values);
        let point = values.integer()?;
        let wrapped = values.prefixed(1)?;
        if !values.is_empty() {
            return None;
        }
        let shared = half.agree(point)?;
        let key = self.derive(&shared, fingerprint);
        let mut text = key_wrap::unwrap(&key, wrapped)?;
        let padding = *text.last()?;
        let length = text.len().checked_sub(usize::from(padding))?;
        if padding == 0 || text[length..].iter().any(|octet| *octet != padding) {
            return None;
        }
        text.truncate(length);
        Some(SecretBytes::new(std::mem::take(&mut text)))
    }

    /// RFC 6637, section 7.
    fn derive(&self, shared: &SecretBytes, fingerprint: &Fingerprint) -> Zeroizing<Vec<u8>> {
        let name = match self.group {
            Group::Nist(curve) => name_of(curve),
            Group::Curve25519 => CURVE25519,
        };
        let mut key = self.hash.of([
            &[0, 0, 0, 1][..],
            shared.expose(),
            &[name.len() as u8],
            name,
            &[ECDH, 3, 1, self.hash.number(), self.cipher.number()],
            SENDER,
            fingerprint,
        ]);
        key.truncate(self.cipher.key_len());
        key
    }
}

impl Group {
    fn takes(self, point: &[u8]) -> bool {
        match self {
            Self::Nist(curve) => elliptic::is_on_curve(curve, point),
            // A point of low order gives every key the same to agree on.
            Self::Curve25519 => PrivateHalf::Curve25519(Box::new(StaticSecret::from([9; 32])))
                .agree(point)
                .is_some(),
        }
    }
}

impl PrivateHalf {
    fn point(&self) -> Vec<u8> {
        match self {
            Self::Nist(scalar) => scalar.public_point(),
            Self::Curve25519(secret) => [&[NATIVE][..], Point::from(&**secret).as_bytes()].concat(),
        }
    }

    /// What both sides have; `None` for a point that would give the other side something about the key.
    fn agree(&self, point: &[u8]) -> Option<SecretBytes> {
        match (self, point) {
            (Self::Nist(scalar), point) => scalar.agree(point),
            (Self::Curve25519(secret), [NATIVE, point @ ..]) => {
                let point: [u8; 32] = point.try_into().ok()?;
                let shared = secret.diffie_hellman(&Point::from(point));
                let is_good = shared.was_contributory();
                is_good.then(|| SecretBytes::new(shared.as_bytes().to_vec()))
            }
            _ => None,
        }
    }
}
