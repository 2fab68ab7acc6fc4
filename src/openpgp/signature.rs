//! Signatures of keys on keys and names (RFC 9580, section 5.2), of version 4: what they say, and whether it is true.
//!
//! Only what was signed is read: the part that anybody may change counts for nothing.

use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use ring::signature::{ED25519, UnparsedPublicKey};
use rsa::BoxedUint;
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::algorithm::Hash;
use super::fields::Fields;
use super::key::{Material, PublicKey};
use crate::operation::Curve;

/// On a name, by whoever vouches for it: four kinds of it.
pub const CERTIFICATIONS: std::ops::RangeInclusive<u8> = 0x10..=0x13;
/// On a subkey.
pub const SUBKEY_BINDING: u8 = 0x18;
/// On the key itself.
pub const DIRECT: u8 = 0x1f;
/// That the key is not to be used any more.
pub const KEY_REVOCATION: u8 = 0x20;
/// That a subkey is not.
pub const SUBKEY_REVOCATION: u8 = 0x28;
/// That a name is not the owner's any more.
pub const NAME_REVOCATION: u8 = 0x30;

/// The sizes of RSA keys that may sign, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=16384;

/// A signature, before anybody asked whether it is true.
#[derive(Clone, Debug)]
pub struct Signature {
    /// What it is about.
    pub kind: u8,
    /// The number of its hash.
    pub hash: u8,
    /// When it was made, in seconds since 1970.
    pub created: u32,
    /// For how long it is valid, in seconds; for ever, if nothing stands there.
    pub lasts: Option<u32>,
    /// For how long the key is valid, from when that was made.
    pub key_lasts: Option<u32>,
    /// What the key is for.
    pub flags: Option<u8>,
    /// Whether something must be understood that we do not know.
    pub is_strange: bool,
    /// The part that is signed with the rest.
    hashed: Vec<u8>,
    /// The first bytes of the hash.
    begin: [u8; 2],
    values: Vec<u8>,
}

impl Signature {
    /// Reads the body of a packet; `None` for what is broken or of another version.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(body);
        if fields.octet()? != 4 {
            return None;
        }
        let [kind, _algorithm, hash] = fields.array()?;
        let subpackets = fields.prefixed(2)?;
        let hashed = body[..6 + subpackets.len()].to_vec();
        let _changeable = fields.prefixed(2)?;
        let mut signature = Self {
            kind,
            hash,
            created: 0,
            lasts: None,
            key_lasts: None,
            flags: None,
            is_strange: false,
            hashed,
            begin: fields.array()?,
            values: fields.rest().to_vec(),
        };
        signature.read(Fields::new(subpackets))?;
        Some(signature)
    }

    /// Section 5.2.3.
    fn read(&mut self, mut subpackets: Fields<'_>) -> Option<()> {
        let mut created = None;
        while !subpackets.is_empty() {
            let length = match subpackets.octet()? {
                length @ ..192 => u32::from(length),
                high @ 192..255 => ((u32::from(high) - 192) << 8) + subpackets.number(1)? + 192,
                255 => subpackets.number(4)?,
            };
            let mut fields = Fields::new(subpackets.take(usize::try_from(length).ok()?)?);
            let kind = fields.octet()?;
            match kind & 0x7f {
                2 => created = Some(fields.number(4)?),
                3 => self.lasts = Some(fields.number(4)?).filter(|lasts| *lasts != 0),
                9 => self.key_lasts = Some(fields.number(4)?).filter(|lasts| *lasts != 0),
                27 => self.flags = Some(fields.octet().unwrap_or(0)),
                // Preferences, who signed, a reason, features: nothing that changes what we ask.
                4 | 7 | 11 | 16 | 20..=26 | 28..=30 | 32..=35 | 39 => {}
                // Trust that is handed on, embedded policies, another owner who may revoke: not for us to judge.
                5 | 6 | 12 => {}
                _ => self.is_strange |= kind & 0x80 != 0,
            }
        }
        self.created = created?;
        Some(())
    }

    /// Whether the owner of `signer` made it, about what is given, in the order in which it is hashed.
    #[must_use]
    pub fn is_by(&self, signer: &PublicKey, about: &[&[u8]]) -> bool {
        let Some(hash) = Hash::numbered(self.hash) else {
            return false;
        };
        let Ok(length) = u32::try_from(self.hashed.len()) else {
            return false;
        };
        let end = [&[4, 0xff][..], &length.to_be_bytes()].concat();
        let parts = about.iter().copied().chain([&self.hashed[..], &end]);
        let digest = hash.of(parts);
        digest.starts_with(&self.begin) && self.verify(signer, hash, &digest).is_some()
    }

    fn verify(&self, signer: &PublicKey, hash: Hash, digest: &[u8]) -> Option<()> {
        let algorithm = self.hashed[2];
        let mut values = Fields::new(&self.values);
        match (&signer.material, algorithm) {
            (Material::Rsa { n, e, signs, .. }, 1 | 3) if *signs => {
                let number = BoxedUint::from_be_slice_vartime;
                let key =
                    rsa::PublicKey::new_with_size_limits(number(n), number(e), RSA_BITS).ok()?;
                let signature = padded(values.integer()?, n.len())?;
                match hash {
                    Hash::Sha1 => key.pkcs1v15_verify_prehash::<Sha1>(digest, &signature),
                    Hash::Sha224 => key.pkcs1v15_verify_prehash::<Sha224>(digest, &signature),
                    Hash::Sha256 => key.pkcs1v15_verify_prehash::<Sha256>(digest, &signature),
                    Hash::Sha384 => key.pkcs1v15_verify_prehash::<Sha384>(digest, &signature),
                    Hash::Sha512 => key.pkcs1v15_verify_prehash::<Sha512>(digest, &signature),
                }
                .ok()?;
            }
            (Material::Ecdsa { curve, point }, 19) => {
                let length = curve.field_len();
                let r = padded(values.integer()?, length)?;
                let signature = [r, padded(values.integer()?, length)?].concat();
                macro_rules! verify {
                    ($curve:ident) => {
                        $curve::ecdsa::VerifyingKey::from_sec1_bytes(point)
                            .ok()?
                            .verify_prehash(
                                digest,
                                &$curve::ecdsa::Signature::from_slice(&signature).ok()?,
                            )
                            .ok()?
                    };
                }
                match curve {
                    Curve::P256 => verify!(p256),
                    Curve::P384 => verify!(p384),
                    Curve::P521 => verify!(p521),
                }
            }
            (Material::Ed25519(point), 22 | 27) => {
                let signature = match algorithm {
                    22 => {
                        let r = padded(values.integer()?, 32)?;
                        [r, padded(values.integer()?, 32)?].concat()
                    }
                    _ => values.take(64)?.to_vec(),
                };
                let key = UnparsedPublicKey::new(&ED25519, point);
                key.verify(digest, &signature).ok()?;
            }
            _ => return None,
        }
        values.is_empty().then_some(())
    }
}

/// A number with zeros before it, as long as that.
fn padded(number: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut padded = vec![0; length.checked_sub(number.len())?];
    padded.extend_from_slice(number);
    Some(padded)
}
