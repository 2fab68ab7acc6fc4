//! Which of the keys that an OpenPGP file holds is encrypted to: the newest one for encryption that the first key has
//! signed, and that is neither expired nor revoked. Every signature that counts is verified.

use std::ops::RangeInclusive;
use std::time::SystemTime;

use super::revocations::{About, Revocations, Verdict};
use crate::openpgp::KeyId;
use crate::openpgp::fields::Fields;
use crate::openpgp::key::{self, PublicKey, hashed};
use crate::openpgp::packets::{self, Packets};
use crate::openpgp::signature::{self, Signature};

/// Most packets of a file.
const MAX_PACKETS: usize = 4096;
/// That nothing is for encryption.
pub(super) const NONE: &str = "it has no OpenPGP key for encryption";
const BROKEN: &str = "its OpenPGP packets are broken";
/// MD5, SHA-1 and RIPEMD-160: somebody may make another key that the same signature is true of.
const WEAK: [u8; 3] = [1, 2, 3];
/// What goes before a name into a hash.
const NAME_MARK: u8 = 0xb4;
/// For what a key is (RFC 9580, section 5.2.3.29): to encrypt communications, or storage.
const ENCRYPTION: u8 = 0x04 | 0x08;

/// A first key with what belongs to it.
pub(super) struct Group {
    primary: PublicKey,
    own: Vec<Signature>,
    names: Vec<Name>,
    subkeys: Vec<(PublicKey, Vec<Signature>)>,
    revocations: Revocations,
    now: u64,
}

/// A name, or a picture, of the owner.
struct Name {
    /// As it goes into a hash.
    hashed: Vec<u8>,
    signatures: Vec<Signature>,
}

/// Why a subkey does not serve, the reason that explains most last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    OtherUse,
    NotSigned,
    NotYet,
    Expired,
    Unclear,
    Revoked,
    Weak,
}

/// Whether a signature that is true counts.
type Counts = fn(&Group, &Signature) -> bool;
/// A key serves when it does by the signatures that count, and also when those that are weak or have something that we
/// do not know count beside them: those may restrict, and extend nothing.
const VIEWS: [Counts; 2] = [Group::holds, Group::is_in_time];

impl Group {
    /// Reads each key of a file, or of a block of it, with what belongs to it. A block may also have nothing but signatures:
    /// then they are about the key before it.
    pub(super) fn read(bytes: &[u8], groups: &mut Vec<Self>) -> Result<(), &'static str> {
        let mut packets = Packets::new(bytes);
        if packets.is_empty() {
            return Err(BROKEN);
        }
        let mut about = About::Nothing;
        let mut is_begun = false;
        for number in 0.. {
            if packets.is_empty() {
                break;
            }
            let packet = (packets.read())
                .filter(|_| number < MAX_PACKETS)
                .ok_or(BROKEN)?;
            let body = packet.body();
            if packet.kind == packets::PUBLIC_KEY {
                groups.push(Self::new(read(body)?)?);
                about = About::Primary;
                is_begun = true;
                continue;
            }
            let group = groups.last_mut().ok_or(BROKEN)?;
            match packet.kind {
                packets::SIGNATURE => group.take(body, about),
                packets::TRUST | packets::MARKER | packets::PADDING => {}
                _ if !is_begun => return Err(BROKEN),
                packets::USER_ID | packets::USER_ATTRIBUTE => {
                    about = About::Name(group.name(Name::new(packet.kind, body)));
                }
                packets::PUBLIC_SUBKEY => match read(body) {
                    Ok(key) => about = About::Subkey(group.subkey(key)),
                    // One that we do not know takes nothing away from the others.
                    Err(BROKEN) => return Err(BROKEN),
                    Err(_) => about = About::OtherSubkey,
                },
                _ => about = About::Nothing,
            }
        }
        Ok(())
    }

    /// The number of a name, which may come twice.
    fn name(&mut self, name: Name) -> usize {
        let same = (self.names.iter()).position(|known| known.hashed == name.hashed);
        same.unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        })
    }

    /// The number of a subkey, which may come twice.
    fn subkey(&mut self, key: PublicKey) -> usize {
        let same = (self.subkeys.iter()).position(|known| known.0 == key);
        same.unwrap_or_else(|| {
            self.subkeys.push((key, Vec::new()));
            self.subkeys.len() - 1
        })
    }

    fn take(&mut self, body: &[u8], about: About) {
        if let Some(signature::KEY_REVOCATION | signature::SUBKEY_REVOCATION) =
            signature::kind(body)
        {
            return self.revocations.add(body, &self.primary, about);
        }
        let list = match about {
            About::Primary => &mut self.own,
            About::Name(number) => &mut self.names[number].signatures,
            About::Subkey(number) => &mut self.subkeys[number].1,
            About::OtherSubkey | About::Nothing => return,
        };
        list.extend(Signature::parse(body));
    }

    fn new(primary: PublicKey) -> Result<Self, &'static str> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Ok(Self {
            primary,
            own: Vec::new(),
            names: Vec::new(),
            subkeys: Vec::new(),
            revocations: Revocations::default(),
            now: now.map_err(|_| "the clock is before 1970")?.as_secs(),
        })
    }

    /// The newest key for encryption that is in force: a subkey, else the first key itself.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn for_encryption(&self) -> Result<PublicKey, &'static str> {
        let revokers = self.revokers();
        match self.revocations.of_key(&self.primary, &revokers) {
            Verdict::Revoked => return Err("its OpenPGP key is revoked"),
            Verdict::Unclear => {
                return Err("its OpenPGP key has a revocation that cannot be judged");
            }
            Verdict::InForce => {}
        }
        if self.now < u64::from(self.primary.created) {
            return Err("its OpenPGP key is dated in the future");
        }
        let is_for_encryption = self.is_for_encryption()?;
        let (mut newest, mut why): (Option<&PublicKey>, _) = (None, None);
        for (number, (subkey, signatures)) in self.subkeys.iter().enumerate() {
            if !subkey.encrypts() {
                continue;
            }
            let revoked = self
                .revocations
                .of_subkey(&self.primary, number, subkey, &revokers);
            match self.judge(revoked, subkey, signatures) {
                Ok(()) if newest.is_none_or(|newest| newest.created < subkey.created) => {
                    newest = Some(subkey);
                }
                Ok(()) => {}
                Err(reason) => why = why.max(Some(reason)),
            }
        }
        if let Some(newest) = newest {
            return Ok(newest.clone());
        }
        if self.primary.encrypts() && is_for_encryption {
            return Ok(self.primary.clone());
        }
        Err(match why {
            Some(Why::Weak) => "its OpenPGP key for encryption is signed with SHA-1 or MD5",
            Some(Why::Revoked) => "its OpenPGP key for encryption is revoked",
            Some(Why::Unclear) => {
                "its OpenPGP key for encryption has a revocation that cannot be judged"
            }
            Some(Why::Expired) => "its OpenPGP key for encryption is expired",
            Some(Why::NotYet) => "its OpenPGP key for encryption is dated in the future",
            Some(Why::NotSigned) => {
                "its OpenPGP key for encryption is not signed by the first key in the file"
            }
            Some(Why::OtherUse) | None => NONE,
        })
    }

    /// Whether the first key says that it is for encryption; an error where it does not serve for anything.
    fn is_for_encryption(&self) -> Result<bool, &'static str> {
        let mut is_for_encryption = true;
        for counts in VIEWS {
            let words = self.own_words(counts);
            if words.is_empty() {
                let names = self.names.iter().flat_map(|name| &name.signatures);
                let direct = self.own.iter().filter(|one| one.kind == signature::DIRECT);
                return Err(
                    match names.chain(direct).any(|one| WEAK.contains(&one.hash)) {
                        true => "its OpenPGP key is signed with SHA-1 or MD5",
                        false => "its OpenPGP key has no valid signature of its own",
                    },
                );
            }
            if words.iter().any(|one| self.has_expired(&self.primary, one)) {
                return Err("its OpenPGP key is expired");
            }
            let mut flags = words.iter().filter_map(|one| one.flags).peekable();
            is_for_encryption &=
                flags.peek().is_some() && flags.all(|flags| flags & ENCRYPTION != 0);
        }
        Ok(is_for_encryption)
    }

    /// By what the first key says what it is for, and how long it lasts: the newest signature on the key itself, and that
    /// on the name that it calls its first one, or on the one that it signed last. Each may say the half of it. A picture
    /// speaks only where there is no name.
    fn own_words(&self, counts: Counts) -> Vec<&Signature> {
        let primary = hashed(&self.primary.body);
        let primary = parts(&primary);
        // Of two that are as old as each other, the one by which it is expired.
        let order = |one: &&Signature| (one.created, self.has_expired(&self.primary, one));
        let direct = self.own.iter().filter(|one| one.kind == signature::DIRECT);
        let direct = direct
            .filter(|one| counts(self, one) && one.is_by(&self.primary, &primary))
            .max_by_key(|one| (one.flags.is_some() || one.key_lasts.is_some(), order(one)));
        let names = self.names.iter().filter_map(|name| {
            let about = [&primary[..], &[&name.hashed]].concat();
            let newest = |kinds: RangeInclusive<u8>| {
                let signatures = name.signatures.iter();
                let own = signatures.filter(move |one| kinds.contains(&one.kind));
                own.filter(|one| counts(self, one) && one.is_by(&self.primary, &about))
                    .max_by_key(order)
            };
            let revoked = newest(signature::NAME_REVOCATION..=signature::NAME_REVOCATION);
            newest(signature::CERTIFICATIONS)
                .filter(|own| revoked.is_none_or(|it| it.created < own.created))
                .map(|own| (name.hashed[0] == NAME_MARK, own))
        });
        let name = names.max_by_key(|(is_name, one)| (*is_name, one.is_on_first_name, order(one)));
        direct.into_iter().chain(name.map(|(_, one)| one)).collect()
    }

    /// Who else may revoke the key, by what it ever said.
    fn revokers(&self) -> Vec<KeyId> {
        let primary = hashed(&self.primary.body);
        let primary = parts(&primary);
        let own = self.own.iter().map(|one| (one, primary.clone()));
        let names = self.names.iter().flat_map(|name| {
            let about = [&primary[..], &[&name.hashed]].concat();
            let signatures = name.signatures.iter();
            signatures.map(move |one| (one, about.clone()))
        });
        let says = own
            .chain(names)
            .filter(|(one, about)| !one.revokers.is_empty() && one.is_by(&self.primary, about));
        says.flat_map(|(one, _)| one.revokers.clone()).collect()
    }

    /// Whether a subkey serves.
    fn judge(&self, revoked: Verdict, subkey: &PublicKey, list: &[Signature]) -> Result<(), Why> {
        match revoked {
            Verdict::Revoked => return Err(Why::Revoked),
            Verdict::Unclear => return Err(Why::Unclear),
            Verdict::InForce => {}
        }
        if self.now < u64::from(subkey.created) {
            return Err(Why::NotYet);
        }
        let both = [hashed(&self.primary.body), hashed(&subkey.body)].concat();
        let about = parts(&both);
        let bindings = list
            .iter()
            .filter(|one| one.kind == signature::SUBKEY_BINDING);
        let bindings: Vec<_> = bindings
            .filter(|one| one.is_by(&self.primary, &about))
            .collect();
        for counts in VIEWS {
            let bindings_that_count = bindings.iter().filter(|one| counts(self, one));
            let newest = bindings_that_count
                .map(|one| (one.created, self.restricts(one, subkey)))
                .max();
            match newest {
                Some((_, None)) => {}
                Some((_, Some(why))) => return Err(why),
                // One that is true and does not hold is too old, or needs something that we do not know.
                None => {
                    let is_weak = bindings.iter().any(|one| WEAK.contains(&one.hash))
                        || list.iter().any(|one| one.hash == 1);
                    return Err(match is_weak {
                        true => Why::Weak,
                        false => Why::NotSigned,
                    });
                }
            }
        }
        Ok(())
    }

    /// Why a subkey does not serve by this binding. Where nothing is said, a key is for what it can do.
    fn restricts(&self, binding: &Signature, subkey: &PublicKey) -> Option<Why> {
        if binding.flags.is_some_and(|flags| flags & ENCRYPTION == 0) {
            return Some(Why::OtherUse);
        }
        self.has_expired(subkey, binding).then_some(Why::Expired)
    }

    /// Whether a signature that is true counts now.
    fn holds(&self, one: &Signature) -> bool {
        !WEAK.contains(&one.hash) && !one.is_strange && self.is_in_time(one)
    }

    fn is_in_time(&self, one: &Signature) -> bool {
        let created = u64::from(one.created);
        let ends = one.lasts.map(|lasts| created + u64::from(lasts));
        created <= self.now && ends.is_none_or(|ends| self.now < ends)
    }

    /// A key's time begins when it was made.
    fn has_expired(&self, key: &PublicKey, words: &Signature) -> bool {
        let lasts = words.key_lasts.map(u64::from);
        lasts.is_some_and(|lasts| self.now >= u64::from(key.created) + lasts)
    }
}

impl Name {
    /// RFC 9580, section 5.2.4.
    fn new(kind: u8, body: &[u8]) -> Self {
        let mark = match kind {
            packets::USER_ID => NAME_MARK,
            _ => 0xd1,
        };
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
        Self {
            hashed: [&[mark], &length[..], body].concat(),
            signatures: Vec::new(),
        }
    }
}

fn parts(hashed: &[Vec<u8>]) -> Vec<&[u8]> {
    hashed.iter().map(Vec::as_slice).collect()
}

fn read(body: &[u8]) -> Result<PublicKey, &'static str> {
    let mut fields = Fields::new(body);
    match PublicKey::read(&mut fields) {
        Ok(key) if fields.is_empty() => Ok(key),
        Ok(_) | Err(key::Error::Broken) => Err(BROKEN),
        Err(key::Error::Version) => Err("its OpenPGP key is not of version 4"),
        Err(key::Error::Algorithm) => {
            Err("its OpenPGP key is of an algorithm or a curve that we do not know")
        }
    }
}
