//! Signatures of keys on keys and names (RFC 9580, section 5.2), of version 4: what they say, and whether it is true.
//!
//! Only what was signed is read: the part that anybody may change counts for nothing, but to tell whose a signature may be
//! that cannot be verified.

use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use ring::signature::{ED25519, UnparsedPublicKey};
use rsa::BoxedUint;
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::KeyId;
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
    /// Whether the owner calls the name that it is on his first one.
    pub is_on_first_name: bool,
    /// Who else may revoke the key.
    pub revokers: Vec<KeyId>,
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
            is_on_first_name: false,
            revokers: Vec::new(),
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
            let (kind, mut fields) = subpacket(&mut subpackets)?;
            match kind & 0x7f {
                2 => created = Some(fields.number(4)?),
                3 => self.lasts = earlier(self.lasts, fields.number(4)?),
                9 => self.key_lasts = earlier(self.key_lasts, fields.number(4)?),
                25 => self.is_on_first_name = fields.octet()? != 0,
                27 => self.flags = Some(fields.octet().unwrap_or(0)),
                // Who signed, what the owner prefers and where, whether it may be handed on, a reason, the features of his
                // program, another signature in it: nothing that changes what we ask.
                4 | 7 | 11 | 16 | 21..=24 | 28..=30 | 32..=34 | 39 => {}
                // Section 5.2.3.23: a class, an algorithm and a fingerprint, of whose end the name is made.
                12 => {
                    fields.take(14)?;
                    self.revokers.push(fields.array()?);
                    self.is_strange |= kind & 0x80 != 0;
                }
                // Notations, policies, trust with bounds, and what is new: whoever marks one as
                // critical says that the signature is not for those who cannot judge it.
                _ => self.is_strange |= kind & 0x80 != 0,
            }
        }
        self.created = created?;
        Some(())
    }

    /// Whether it can be said at all who made it.
    #[must_use]
    pub fn has_known_hash(&self) -> bool {
        Hash::numbered(self.hash).is_some()
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

/// What a signature is about, also one that is not to be parsed.
#[must_use]
pub fn kind(body: &[u8]) -> Option<u8> {
    match body {
        // In these the length of what is signed stands before it.
        [2 | 3, _, kind, ..] | [_, kind, ..] => Some(*kind),
        _ => None,
    }
}

/// Whether the key with that name may have made it, by what it says itself, which anybody may have written.
#[must_use]
pub fn may_be_by(body: &[u8], id: &KeyId) -> bool {
    issuers(body).is_none_or(|issuers| issuers.is_empty() || issuers.contains(id))
}

/// The names of those who made it, as the signed part and the other one have them; `None` for what is broken.
#[must_use]
pub fn issuers(body: &[u8]) -> Option<Vec<KeyId>> {
    let mut fields = Fields::new(body);
    match fields.octet()? {
        2 | 3 => {
            fields.take(6)?;
            return Some(vec![fields.array()?]);
        }
        4 => fields.take(3)?,
        _ => return None,
    };
    let mut issuers = Vec::new();
    for _ in 0..2 {
        let mut subpackets = Fields::new(fields.prefixed(2)?);
        while !subpackets.is_empty() {
            let (kind, mut fields) = subpacket(&mut subpackets)?;
            match kind & 0x7f {
                16 => issuers.push(fields.array()?),
                // The name of a key of version 4 is the end of its fingerprint.
                33 if fields.octet()? == 4 => {
                    fields.take(12)?;
                    issuers.push(fields.array()?);
                }
                _ => {}
            }
        }
    }
    Some(issuers)
}

/// Of two ends the one that comes first; 0 stands for none.
fn earlier(one: Option<u32>, other: u32) -> Option<u32> {
    let other = Some(other).filter(|end| *end != 0);
    one.into_iter().chain(other).min()
}

/// The next of the subpackets: its kind, with the bit that says whether it is critical, and its content.
fn subpacket<'a>(subpackets: &mut Fields<'a>) -> Option<(u8, Fields<'a>)> {
    let length = match subpackets.octet()? {
        length @ ..192 => u32::from(length),
        high @ 192..255 => ((u32::from(high) - 192) << 8) + subpackets.number(1)? + 192,
        255 => subpackets.number(4)?,
    };
    let mut fields = Fields::new(subpackets.take(usize::try_from(length).ok()?)?);
    Some((fields.octet()?, fields))
}

/// A number with zeros before it, as long as that.
fn padded(number: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut padded = vec![0; length.checked_sub(number.len())?];
    padded.extend_from_slice(number);
    Some(padded)
}
