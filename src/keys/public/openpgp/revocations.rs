//! What revokes a key or one of its subkeys. It counts wherever it stands in the file: whoever puts a file together may
//! have put it anywhere.

use crate::openpgp::KeyId;
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
    /// Who says that he made one, and what it is about. Whether it is true only his key would tell, which we have not.
    claims: Vec<(Of, Vec<KeyId>)>,
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
        let of = match (signature::kind(body), about) {
            (Some(signature::KEY_REVOCATION), _) => Some(Of::Key),
            (_, About::Subkey(number)) => Some(Of::Subkey(number)),
            (_, About::OtherSubkey) => None,
            (_, About::Primary | About::Name(_) | About::Nothing) => Some(Of::EachSubkey),
        };
        let issuers = signature::issuers(body).unwrap_or_default();
        self.claims.extend(of.map(|of| (of, issuers)));
        match Signature::parse(body) {
            Some(signature) if signature.has_known_hash() => self.clear.push(signature),
            // Of one that somebody else says he made, the first key knows nothing.
            _ if !signature::may_be_by(body, &primary.id()) => {}
            _ => self.unclear.extend(of),
        }
    }

    /// Of the first key. `revokers` are those who may revoke it as well.
    pub(super) fn of_key(&self, primary: &PublicKey, revokers: &[KeyId]) -> Verdict {
        let about = hashed(&primary.body);
        let kind = signature::KEY_REVOCATION;
        self.verdict(kind, primary, &about, (&[Of::Key], revokers))
    }

    /// Of the subkey with that number.
    pub(super) fn of_subkey(
        &self,
        primary: &PublicKey,
        number: usize,
        subkey: &PublicKey,
        revokers: &[KeyId],
    ) -> Verdict {
        let about = [hashed(&primary.body), hashed(&subkey.body)].concat();
        let of = [Of::EachSubkey, Of::Subkey(number)];
        let kind = signature::SUBKEY_REVOCATION;
        self.verdict(kind, primary, &about, (&of, revokers))
    }

    /// Whoever can make another key with the same hash gains nothing by a revocation, so a weak one counts.
    fn verdict(
        &self,
        kind: u8,
        primary: &PublicKey,
        about: &[Vec<u8>],
        (of, revokers): (&[Of], &[KeyId]),
    ) -> Verdict {
        let about: Vec<&[u8]> = about.iter().map(Vec::as_slice).collect();
        let mut clear = self.clear.iter().filter(|one| one.kind == kind);
        if clear.any(|one| one.is_by(primary, &about)) {
            return Verdict::Revoked;
        }
        let is_revoker = |issuers: &[KeyId]| issuers.iter().any(|one| revokers.contains(one));
        let mut claims = self.claims.iter();
        let is_claimed = claims.any(|(one, by)| of.contains(one) && is_revoker(by));
        match is_claimed || self.unclear.iter().any(|one| of.contains(one)) {
            true => Verdict::Unclear,
            false => Verdict::InForce,
        }
    }
}
