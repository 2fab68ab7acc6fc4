//! OpenPGP secret keys (RFC 9580, section 10.2), armored or binary: those of a file that can decrypt. One that is locked
//! is unlocked when it is asked for, since that may take a second.
//!
//! Signatures are not looked at: whoever has the secret key can read what was encrypted to it, also after the key was
//! revoked. What is done with the keys is `software`'s.

mod locked;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use rsa::BoxedUint;
use zeroize::Zeroizing;

use self::locked::{Locked, SecretPart};
use super::Error;
use crate::keys::pem;
use crate::openpgp::agreement::{Agreement, PrivateHalf};
use crate::openpgp::fields::Fields;
use crate::openpgp::key::{self, Material, PublicKey};
use crate::openpgp::packets::{self, Packets};
use crate::openpgp::{Fingerprint, KeyId, SECRET_KEY_LABEL};
use crate::secret::SecretBytes;

/// Most keys of a file; those behind them are passed over.
const MAX_KEYS: usize = 64;
/// Most packets of a file.
const MAX_PACKETS: usize = 4096;

/// The secret keys of a file that can decrypt.
pub(crate) struct OpenPgpKeys(Vec<OpenPgpKey>);

/// One of them.
pub(crate) struct OpenPgpKey {
    /// What messages name it by.
    pub(crate) id: KeyId,
    pub(crate) fingerprint: Fingerprint,
    material: Material,
    locked: Option<Locked>,
    secret: OnceLock<Option<OpenPgpSecret>>,
}

/// The key itself. Each kind wipes itself.
pub(crate) enum OpenPgpSecret {
    Rsa(Box<rsa::PrivateKey>),
    Agreement(Agreement, PrivateHalf),
}

/// The keys in bytes that begin with a secret key, or in the blocks of PEM with that label.
///
/// # Errors
/// [`Error::NotAPrivateKey`] where there is no such block; otherwise what is wrong with the first key that is of no use,
/// if none is of use. Whether the password is right shows later.
pub(super) fn read(bytes: &[u8], password: Option<&SecretBytes>) -> Result<OpenPgpKeys, Error> {
    let mut found = Found {
        password,
        keys: Vec::new(),
        wrong: None,
    };
    if packets::begin_with_key(bytes, packets::SECRET_KEY) {
        found.add(bytes);
    } else {
        let mut blocks = pem::blocks(bytes)
            .filter(|block| block.label == SECRET_KEY_LABEL)
            .peekable();
        blocks.peek().ok_or(Error::NotAPrivateKey)?;
        for block in blocks {
            match block.der {
                Some(packets) => found.add(packets.expose()),
                None => found.note(Error::BrokenPem),
            }
        }
    }
    match (found.keys.is_empty(), found.wrong) {
        (false, _) => Ok(OpenPgpKeys(found.keys)),
        (true, Some(error)) => Err(error),
        (true, None) => Err(Error::CannotDecrypt),
    }
}

struct Found<'a> {
    password: Option<&'a SecretBytes>,
    keys: Vec<OpenPgpKey>,
    /// What is wrong with the first key that is of no use.
    wrong: Option<Error>,
}

impl Found<'_> {
    /// The keys of packets that follow one another. One that is of no use takes nothing away from the others.
    fn add(&mut self, bytes: &[u8]) {
        let mut packets = Packets::new(bytes);
        for number in 0.. {
            if packets.is_empty() || self.keys.len() >= MAX_KEYS {
                break;
            }
            let Some(packet) = packets.read().filter(|_| number < MAX_PACKETS) else {
                self.note(Error::Broken);
                break;
            };
            if !matches!(packet.kind, packets::SECRET_KEY | packets::SECRET_SUBKEY) {
                continue;
            }
            match one(packet.body(), self.password) {
                Ok(Some(key)) => self.keys.push(key),
                Ok(None) => {}
                Err(error) => self.note(error),
            }
        }
    }

    fn note(&mut self, error: Error) {
        self.wrong = self.wrong.take().or(Some(error));
    }
}

/// The key of one packet (section 5.5.3); `None` for one that is for signatures.
fn one(body: &[u8], password: Option<&SecretBytes>) -> Result<Option<OpenPgpKey>, Error> {
    let mut fields = Fields::new(body);
    let public = PublicKey::read(&mut fields).map_err(|error| match error {
        key::Error::Broken => Error::Broken,
        key::Error::Version => Error::OpenPgpVersion,
        key::Error::Algorithm => Error::UnknownAlgorithm,
    });
    let public = match public {
        Ok(public) if public.encrypts() => public,
        // Somebody may sign with an algorithm that we do not know.
        Ok(_) | Err(Error::UnknownAlgorithm) => return Ok(None),
        Err(error) => return Err(error),
    };
    let key = OpenPgpKey {
        id: public.id(),
        fingerprint: public.fingerprint,
        material: public.material,
        locked: None,
        secret: OnceLock::new(),
    };
    match locked::read(fields, password)? {
        SecretPart::Locked(locked) => Ok(Some(OpenPgpKey {
            locked: Some(locked),
            ..key
        })),
        SecretPart::Plain(plain) => {
            let secret = key.secret_of(&plain).ok_or(Error::Broken)?;
            Ok(Some(OpenPgpKey {
                secret: OnceLock::from(Some(secret)),
                ..key
            }))
        }
    }
}

impl OpenPgpKey {
    /// The key itself, unlocked the first time; `None` if the password is another one.
    pub(crate) fn secret(&self) -> Option<&OpenPgpSecret> {
        let unlock = || self.secret_of(&self.locked.as_ref()?.open()?);
        self.secret.get_or_init(unlock).as_ref()
    }

    fn secret_of(&self, plain: &[u8]) -> Option<OpenPgpSecret> {
        let mut numbers = Fields::new(plain);
        let secret = match &self.material {
            Material::Rsa { n, e, .. } => rsa(n, e, &mut numbers),
            Material::Agreement(agreement) => (numbers.integer())
                .and_then(|number| agreement.private_half(number))
                .map(|half| OpenPgpSecret::Agreement(agreement.clone(), half)),
            _ => None,
        };
        secret.filter(|_| numbers.is_empty())
    }
}

/// Section 5.5.5.1. The inverse of one prime is made anew.
fn rsa(n: &[u8], e: &[u8], numbers: &mut Fields<'_>) -> Option<OpenPgpSecret> {
    let [d, p, q] = [numbers.integer()?, numbers.integer()?, numbers.integer()?];
    let _inverse = numbers.integer()?;
    let uint = BoxedUint::from_be_slice_vartime;
    rsa::PrivateKey::from_components(uint(n), uint(e), uint(d), vec![uint(p), uint(q)])
        .ok()
        .map(|key| OpenPgpSecret::Rsa(Box::new(key)))
}

impl OpenPgpKeys {
    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &OpenPgpKey> {
        self.0.iter()
    }
}

/// What the secret part of a packet holds, unlocked.
type Plain = Zeroizing<Vec<u8>>;
