//! OpenPGP public keys (RFC 9580, section 10.1), armored or binary, and session keys wrapped for their owners.
//!
//! Whether the file is the right person's is not asked: who names it, knows. What is in the file is: the first key has to
//! have signed the others, or anybody could have put one of his own there.

mod judge;
mod revocations;
#[cfg(test)]
mod tests;

use self::judge::Group;
use super::{RsaPublicKey, invalid};
use crate::keys::error::{Error, Result};
use crate::keys::pem;
use crate::openpgp::agreement::Agreement;
use crate::openpgp::fields::integer;
use crate::openpgp::key::{Material, PublicKey};
use crate::openpgp::packets;
use crate::openpgp::session::{self, Way, Wrapped};
use crate::openpgp::{Fingerprint, KeyId, PUBLIC_KEY_LABEL, SECRET_KEY_LABEL, SIGNATURE_LABEL};
use zeroize::Zeroizing;

/// The smallest RSA key that a layer is encrypted to (NIST SP 800-131A).
const MIN_BITS: u32 = 2048;

/// A public key that session keys are wrapped for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenPgpPublicKey {
    id: KeyId,
    fingerprint: Fingerprint,
    material: Wrapping,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wrapping {
    Rsa(RsaPublicKey),
    Agreement(Agreement),
}

/// Whether the bytes look like an OpenPGP key, public or secret: its armor, or a packet of such a key.
#[must_use]
pub fn is_one(bytes: &[u8]) -> bool {
    packets::begin_with_key(bytes, packets::PUBLIC_KEY)
        || is_secret(bytes)
        || pem::blocks(bytes).any(|block| block.label == PUBLIC_KEY_LABEL)
}

/// Whether it is a secret key.
fn is_secret(bytes: &[u8]) -> bool {
    packets::begin_with_key(bytes, packets::SECRET_KEY)
        || pem::blocks(bytes).any(|block| block.label == SECRET_KEY_LABEL)
}

impl OpenPgpPublicKey {
    /// Reads the one key in `bytes`, and takes the newest of those in it that are for encryption and in force; `name` is
    /// what messages call it.
    ///
    /// # Errors
    /// [`Error::InvalidPublicKey`] for anything else; [`Error::KeySize`] for an RSA key that is too short.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        if is_secret(bytes) {
            return Err(invalid(name, "it is an OpenPGP secret key"));
        }
        if !is_one(bytes) {
            return Err(invalid(
                name,
                "it is not an OpenPGP key, which the scheme pgp takes",
            ));
        }
        let mut groups = Vec::new();
        if pem::is_in(bytes) {
            for block in pem::blocks(bytes)
                .filter(|block| [PUBLIC_KEY_LABEL, SIGNATURE_LABEL].contains(&&*block.label))
            {
                let packets = block
                    .der
                    .ok_or_else(|| invalid(name, "its armor is broken"))?;
                Group::read(packets.expose(), &mut groups).map_err(|what| invalid(name, what))?;
            }
        } else {
            Group::read(bytes, &mut groups).map_err(|what| invalid(name, what))?;
        }
        let [group] = &groups[..] else {
            return Err(invalid(
                name,
                "it holds several OpenPGP keys, and each is a recipient of its own",
            ));
        };
        let key = group.for_encryption().map_err(|what| invalid(name, what))?;
        Self::of(name, &key)
    }

    fn of(name: &str, key: &PublicKey) -> Result<Self> {
        let material = match &key.material {
            Material::Rsa { n, e, .. } => {
                let key = RsaPublicKey::from_components(name, n, e)?;
                if key.bits() < MIN_BITS {
                    return Err(Error::KeySize {
                        name: name.to_owned(),
                        bits: key.bits(),
                        min: MIN_BITS,
                        max: 16384,
                    });
                }
                Wrapping::Rsa(key)
            }
            Material::Agreement(agreement) => Wrapping::Agreement(agreement.clone()),
            _ => return Err(invalid(name, judge::NONE)),
        };
        Ok(Self {
            id: key.id(),
            fingerprint: key.fingerprint,
            material,
        })
    }

    /// The body of a packet that holds this AES-256 key for the owner; `None` when the system gives no randomness.
    #[must_use]
    pub fn wrap(&self, key: &[u8; 32]) -> Option<Vec<u8>> {
        let mut encoded = Zeroizing::new([0; 35]);
        session::encode(key, &mut encoded);
        let (way, values) = match &self.material {
            Wrapping::Rsa(public) => {
                let wrapped = public.library().pkcs1v15_encrypt(&*encoded).ok()?;
                (Way::Rsa, integer(&wrapped))
            }
            Wrapping::Agreement(agreement) => (
                Way::Agreement,
                agreement.wrap(&self.fingerprint, &*encoded)?,
            ),
        };
        let id = self.id;
        let values = &values;
        Some(Wrapped { id, way, values }.to_body())
    }
}
