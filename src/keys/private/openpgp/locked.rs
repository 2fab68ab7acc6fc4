//! The secret part of an OpenPGP key (RFC 9580, section 5.5.3), and the password that it may be locked with (section 3.7).

use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use super::{Error, Plain};
use crate::openpgp::algorithm::{BLOCK, Cipher, Hash};
use crate::openpgp::fields::Fields;
use crate::openpgp::session::checksum;
use crate::secret::SecretBytes;

/// Not locked.
const PLAIN: u8 = 0;
/// Locked, with SHA-1 over the numbers.
const WITH_HASH: u8 = 254;
/// Locked, with their sum.
const WITH_SUM: u8 = 255;

/// How a password becomes a key: hashed with a salt, so many bytes of both over and over.
struct Stretch {
    hash: Hash,
    salt: [u8; 8],
    count: usize,
}

/// The secret part of a packet.
pub(super) enum SecretPart {
    /// Its numbers, without what they are compared with.
    Plain(Plain),
    /// The same, locked.
    Locked(Locked),
}

/// What a password opens.
pub(super) struct Locked {
    cipher: Cipher,
    stretch: Stretch,
    iv: [u8; BLOCK],
    text: Vec<u8>,
    with_hash: bool,
    password: SecretBytes,
}

/// Reads it. The password is not tried: that takes as long as whoever locked the key wanted.
pub(super) fn read(
    mut fields: Fields<'_>,
    password: Option<&SecretBytes>,
) -> Result<SecretPart, Error> {
    let usage = fields.octet().ok_or(Error::Broken)?;
    if usage == PLAIN {
        let plain = Zeroizing::new(fields.rest().to_vec());
        let plain = without_sum(plain).ok_or(Error::Broken)?;
        return Ok(SecretPart::Plain(plain));
    }
    // Others are the number of a cipher, with one round of MD5, or of AEAD, which hardly anybody writes.
    if !matches!(usage, WITH_HASH | WITH_SUM) {
        return Err(Error::OpenPgpLock);
    }
    let cipher = fields.octet().ok_or(Error::Broken)?;
    let stretch = Stretch::read(&mut fields)?;
    let cipher = Cipher::numbered(cipher).ok_or(Error::OpenPgpLock)?;
    let iv: [u8; BLOCK] = fields.array().ok_or(Error::Broken)?;
    let password = password.ok_or(Error::NeedsPassword)?.clone();
    Ok(SecretPart::Locked(Locked {
        cipher,
        stretch,
        iv,
        text: fields.rest().to_vec(),
        with_hash: usage == WITH_HASH,
        password,
    }))
}

impl Locked {
    /// The numbers; `None` if the password is another one.
    pub(super) fn open(&self) -> Option<Plain> {
        let key = (self.stretch).key(self.password.expose(), self.cipher.key_len());
        let mut plain = Zeroizing::new(self.text.clone());
        let is_decrypted = self.cipher.decrypt(&key, &self.iv, &mut plain);
        let plain = match self.with_hash {
            true => without_hash(plain),
            false => without_sum(plain),
        };
        plain.filter(|_| is_decrypted)
    }
}

fn without_hash(mut plain: Plain) -> Option<Plain> {
    let (numbers, hash) = plain.split_last_chunk::<20>()?;
    let is_right = Hash::Sha1.of([numbers]).ct_eq(hash);
    let length = numbers.len();
    plain.truncate(length);
    bool::from(is_right).then_some(plain)
}

fn without_sum(mut plain: Plain) -> Option<Plain> {
    let (numbers, sum) = plain.split_last_chunk::<2>()?;
    let is_right = checksum(numbers).to_be_bytes().ct_eq(sum);
    let length = numbers.len();
    plain.truncate(length);
    bool::from(is_right).then_some(plain)
}

impl Stretch {
    fn read(fields: &mut Fields<'_>) -> Result<Self, Error> {
        let [kind, hash] = fields.array().ok_or(Error::Broken)?;
        match kind {
            1 | 3 => {}
            // GnuPG's own: nothing, or the number of a card.
            101 => {
                return Err(match fields.array() {
                    Some([b'G', b'N', b'U', 2]) => Error::OnCard,
                    _ => Error::LeftOut,
                });
            }
            _ => return Err(Error::OpenPgpLock),
        }
        Ok(Self {
            hash: Hash::numbered(hash).ok_or(Error::OpenPgpLock)?,
            salt: fields.array().ok_or(Error::Broken)?,
            count: match kind {
                1 => 0,
                _ => {
                    // At most 65 million, a second of SHA-1 on a slow machine.
                    let coded = fields.octet().ok_or(Error::Broken)?;
                    (16 + usize::from(coded & 15)) << (6 + (coded >> 4))
                }
            },
        })
    }

    fn key(&self, password: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
        match self.hash {
            Hash::Sha1 => self.with::<Sha1>(password, length),
            Hash::Sha224 => self.with::<Sha224>(password, length),
            Hash::Sha256 => self.with::<Sha256>(password, length),
            Hash::Sha384 => self.with::<Sha384>(password, length),
            Hash::Sha512 => self.with::<Sha512>(password, length),
        }
    }

    fn with<D: Digest>(&self, password: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
        let once = Zeroizing::new([&self.salt, password].concat());
        let count = self.count.max(once.len());
        // As many at once as make hashing quick.
        let block = Zeroizing::new(once.repeat((4096 / once.len()).max(1)));
        let mut key = Zeroizing::new(Vec::with_capacity(length + 64));
        for zeros in 0.. {
            if key.len() >= length {
                break;
            }
            let mut hash = D::new();
            hash.update(&[0; 32][..zeros]);
            let mut left = count;
            while left > 0 {
                let part = &block[..left.min(block.len())];
                hash.update(part);
                left -= part.len();
            }
            let mut digest = hash.finalize();
            key.extend_from_slice(&digest);
            digest.as_mut_slice().zeroize();
        }
        key.truncate(length);
        key
    }
}
