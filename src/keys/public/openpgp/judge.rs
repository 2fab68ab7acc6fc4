//! Which of the keys that an OpenPGP file holds is encrypted to: the newest one for encryption that the first key has
//! signed, and that is neither expired nor revoked. Every signature that counts is verified.

use std::time::SystemTime;

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
/// For what a key is (RFC 9580, section 5.2.3.29): to encrypt communications, or storage.
const ENCRYPTION: u8 = 0x04 | 0x08;

/// A first key with what belongs to it.
pub(super) struct Group {
    primary: PublicKey,
    own: Vec<Signature>,
    names: Vec<Name>,
    subkeys: Vec<(PublicKey, Vec<Signature>)>,
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
    Expired,
    Revoked,
    Weak,
}

/// What the signatures that follow in the file are about.
enum About {
    Primary,
    Name,
    Subkey,
    /// Something that we do not know.
    Nothing,
}

impl Group {
    /// Each key of a file with what belongs to it.
    pub(super) fn all(bytes: &[u8]) -> Result<Vec<Self>, &'static str> {
        let mut groups: Vec<Self> = Vec::new();
        let mut packets = Packets::new(bytes);
        let mut about = About::Nothing;
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
                continue;
            }
            let group = groups.last_mut().ok_or(BROKEN)?;
            match packet.kind {
                packets::USER_ID | packets::USER_ATTRIBUTE => {
                    group.names.push(Name::new(packet.kind, body));
                    about = About::Name;
                }
                packets::PUBLIC_SUBKEY => match read(body) {
                    Ok(key) => {
                        group.subkeys.push((key, Vec::new()));
                        about = About::Subkey;
                    }
                    // One that we do not know takes nothing away from the others.
                    Err(BROKEN) => return Err(BROKEN),
                    Err(_) => about = About::Nothing,
                },
                packets::SIGNATURE => {
                    let list = match about {
                        About::Primary => Some(&mut group.own),
                        About::Name => group.names.last_mut().map(|name| &mut name.signatures),
                        About::Subkey => group.subkeys.last_mut().map(|subkey| &mut subkey.1),
                        About::Nothing => None,
                    };
                    if let (Some(list), Some(signature)) = (list, Signature::parse(body)) {
                        list.push(signature);
                    }
                }
                packets::TRUST | packets::MARKER | packets::PADDING => {}
                _ => about = About::Nothing,
            }
        }
        match groups.is_empty() {
            true => Err(BROKEN),
            false => Ok(groups),
        }
    }

    fn new(primary: PublicKey) -> Result<Self, &'static str> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Ok(Self {
            primary,
            own: Vec::new(),
            names: Vec::new(),
            subkeys: Vec::new(),
            now: now.map_err(|_| "the clock is before 1970")?.as_secs(),
        })
    }

    /// The newest key for encryption that is in force: a subkey, else the first key itself.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn for_encryption(&self) -> Result<PublicKey, &'static str> {
        let revocations = self.own.iter();
        let mut revocations = revocations.filter(|one| one.kind == signature::KEY_REVOCATION);
        let primary = &hashed(&self.primary.body)[..];
        // Whoever can make another key with the same hash gains nothing by a revocation.
        if revocations.any(|one| one.is_by(&self.primary, &parts(primary))) {
            return Err("its OpenPGP key is revoked");
        }
        let own = self.own_words()?;
        if self.has_expired(&self.primary, own) {
            return Err("its OpenPGP key is expired");
        }
        let subkeys = self.subkeys.iter();
        let (mut newest, mut why): (Option<&PublicKey>, _) = (None, None);
        for (subkey, signatures) in subkeys.filter(|(subkey, _)| subkey.encrypts()) {
            match self.judge(subkey, signatures) {
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
        if self.primary.encrypts() && own.flags.is_some_and(|flags| flags & ENCRYPTION != 0) {
            return Ok(self.primary.clone());
        }
        Err(match why {
            Some(Why::Weak) => "its OpenPGP key for encryption is signed with SHA-1 or MD5",
            Some(Why::Revoked) => "its OpenPGP key for encryption is revoked",
            Some(Why::Expired) => "its OpenPGP key for encryption is expired",
            Some(Why::NotSigned) => {
                "its OpenPGP key for encryption is not signed by the first key in the file"
            }
            Some(Why::OtherUse) | None => NONE,
        })
    }

    /// The newest signature by which the first key says what it is for, and how long it lasts.
    fn own_words(&self) -> Result<&Signature, &'static str> {
        let primary = hashed(&self.primary.body);
        let mut found: Option<&Signature> = None;
        let mut is_weak = false;
        for name in &self.names {
            let about: Vec<&[u8]> = [&parts(&primary)[..], &[&name.hashed]].concat();
            let of_kind = |kinds: std::ops::RangeInclusive<u8>| {
                let signatures = name.signatures.iter();
                let own = signatures.filter(move |one| kinds.contains(&one.kind));
                own.filter(|one| one.is_by(&self.primary, &about))
                    .filter(|one| self.holds(one))
                    .max_by_key(|one| one.created)
            };
            is_weak |= name.signatures.iter().any(|one| WEAK.contains(&one.hash));
            let revoked = of_kind(signature::NAME_REVOCATION..=signature::NAME_REVOCATION);
            let own = of_kind(signature::CERTIFICATIONS);
            let own = own.filter(|own| revoked.is_none_or(|it| it.created < own.created));
            found = found.into_iter().chain(own).max_by_key(|one| one.created);
        }
        let direct = self.own.iter().filter(|one| one.kind == signature::DIRECT);
        is_weak |= direct.clone().any(|one| WEAK.contains(&one.hash));
        let direct = direct.filter(|one| one.is_by(&self.primary, &parts(&primary)));
        for one in direct.filter(|one| self.holds(one)) {
            let says = one.flags.is_some() || one.key_lasts.is_some();
            if found.is_none_or(|found| says && found.created <= one.created) {
                found = Some(one);
            }
        }
        found.ok_or(match is_weak {
            true => "its OpenPGP key is signed with SHA-1 or MD5",
            false => "its OpenPGP key has no valid signature of its own",
        })
    }

    /// Whether a subkey serves.
    fn judge(&self, subkey: &PublicKey, signatures: &[Signature]) -> Result<(), Why> {
        let both = [hashed(&self.primary.body), hashed(&subkey.body)].concat();
        let about = parts(&both);
        let of_kind = |kind: u8| {
            let signatures = signatures.iter().filter(move |one| one.kind == kind);
            signatures.filter(|one| one.is_by(&self.primary, &about))
        };
        if of_kind(signature::SUBKEY_REVOCATION).next().is_some() {
            return Err(Why::Revoked);
        }
        let bindings = of_kind(signature::SUBKEY_BINDING);
        let newest = bindings
            .filter(|one| self.holds(one))
            .max_by_key(|one| one.created);
        let Some(binding) = newest else {
            // One that is true and does not hold is too old, or needs something that we do not know.
            let is_weak = of_kind(signature::SUBKEY_BINDING).any(|one| WEAK.contains(&one.hash))
                || signatures.iter().any(|one| one.hash == 1);
            return Err(match is_weak {
                true => Why::Weak,
                false => Why::NotSigned,
            });
        };
        // Where nothing is said, a key is for what it can do.
        if binding.flags.is_some_and(|flags| flags & ENCRYPTION == 0) {
            return Err(Why::OtherUse);
        }
        match self.has_expired(subkey, binding) {
            true => Err(Why::Expired),
            false => Ok(()),
        }
    }

    /// Whether a signature that is true counts now.
    fn holds(&self, one: &Signature) -> bool {
        let created = u64::from(one.created);
        let ends = one.lasts.map(|lasts| created + u64::from(lasts));
        !WEAK.contains(&one.hash)
            && !one.is_strange
            && created <= self.now
            && ends.is_none_or(|ends| self.now < ends)
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
            packets::USER_ID => 0xb4,
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
