//! What revokes a key or one of its subkeys. It counts wherever it stands in the file: whoever puts a file together may
//! have put it anywhere.

use crate::openpgp::key::{PublicKey, hashed};
use crate::openpgp::signature::{self, Signature};

/// What the signatures that follow in the file are about.
#[derive(Clone, Copy)]
pub(super) enum About {
    Primary,
    Name(usize),
    Subkey(usize),
    /// A subkey that we do not know.
    OtherSubkey,
    /// Something that we do not know.
    Nothing,
}

/// The revocations of a first key and of its subkeys.
#[derive(Default)]
pub(super) struct Revocations {
    /// Those that are true or false.
    clear: Vec<Signature>,
    /// What those are about that nobody can tell of whether they are true.
    unclear: Vec<Of>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Key,
    Subkey(usize),
    EachSubkey,
}

/// What the revocations say of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    InForce,
    Unclear,
    Revoked,
}

impl Revocations {
    /// Takes a signature that revokes a key or a subkey, and stands behind that.
    pub(super) fn add(&mut self, body: &[u8], primary: &PublicKey, about: About) {
        match Signature::parse(body) {
            Some(signature) if signature.has_known_hash() => self.clear.push(signature),
            // Of one that somebody else says he made, the first key knows nothing.
            _ if !signature::may_be_by(body, &primary.id()) => {}
            _ if signature::kind(body) == Some(signature::KEY_REVOCATION) => {
                self.unclear.push(Of::Key);
            }
            _ => match about {
                About::Subkey(number) => self.unclear.push(Of::Subkey(number)),
                About::OtherSubkey => {}
                About::Primary | About::Name(_) | About::Nothing => {
                    self.unclear.push(Of::EachSubkey);
                }
            },
        }
    }

    /// Of the first key.
    pub(super) fn of_key(&self, primary: &PublicKey) -> Verdict {
        let about = hashed(&primary.body);
        self.verdict(signature::KEY_REVOCATION, primary, &about, &[Of::Key])
    }

    /// Of the subkey with that number.
    pub(super) fn of_subkey(
        &self,
        primary: &PublicKey,
        number: usize,
        subkey: &PublicKey,
    ) -> Verdict {
        let about = [hashed(&primary.body), hashed(&subkey.body)].concat();
        let of = [Of::EachSubkey, Of::Subkey(number)];
        self.verdict(signature::SUBKEY_REVOCATION, primary, &about, &of)
    }

    /// Whoever can make another key with the same hash gains nothing by a revocation, so a weak one counts.
    fn verdict(&self, kind: u8, primary: &PublicKey, about: &[Vec<u8>], of: &[Of]) -> Verdict {
        let about: Vec<&[u8]> = about.iter().map(Vec::as_slice).collect();
        let mut clear = self.clear.iter().filter(|one| one.kind == kind);
        if clear.any(|one| one.is_by(primary, &about)) {
            return Verdict::Revoked;
        }
        match self.unclear.iter().any(|one| of.contains(one)) {
            true => Verdict::Unclear,
            false => Verdict::InForce,
        }
    }
}
