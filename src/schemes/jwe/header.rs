//! What the joined header of one recipient says: `alg`, `enc`, `epk`, and nothing that changes their meaning.

use super::base64url;
use super::content::Encryption;
use super::error::{Error, malformed, short};
use super::json::{Members, Value};
use crate::elliptic;
use crate::operation::{Curve, OaepHash};

/// Members that would change what we do, if we knew them. `crit` names others of that kind.
const NOT_IGNORED: [&str; 6] = ["zip", "p2s", "p2c", "iv", "tag", "b64"];

/// How the content key comes to a recipient (RFC 7518, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyManagement {
    /// `RSA-OAEP`, `RSA-OAEP-256`.
    RsaOaep(OaepHash),
    /// `ECDH-ES`: the agreed key is the content key.
    Direct,
    /// `ECDH-ES+A128KW`, `+A192KW`, `+A256KW`: the agreed key, of that many bytes, unwraps the content key.
    KeyWrap(usize),
}

impl KeyManagement {
    const ALL: [Self; 6] = [
        Self::RsaOaep(OaepHash::Sha1),
        Self::RsaOaep(OaepHash::Sha256),
        Self::Direct,
        Self::KeyWrap(16),
        Self::KeyWrap(24),
        Self::KeyWrap(32),
    ];

    /// The algorithm of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }

    /// Its name in `alg`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RsaOaep(OaepHash::Sha1) => "RSA-OAEP",
            Self::RsaOaep(OaepHash::Sha256) => "RSA-OAEP-256",
            Self::Direct => "ECDH-ES",
            Self::KeyWrap(16) => "ECDH-ES+A128KW",
            Self::KeyWrap(24) => "ECDH-ES+A192KW",
            Self::KeyWrap(_) => "ECDH-ES+A256KW",
        }
    }
}

/// The header of one recipient, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) management: KeyManagement,
    pub(super) encryption: Encryption,
    /// The ephemeral point; there is one exactly where `management` is an agreement.
    pub(super) ephemeral: Option<(Curve, Vec<u8>)>,
    /// `apu` and `apv`, decoded.
    pub(super) parties: [Vec<u8>; 2],
}

impl Header {
    /// Reads the header that the three places gave together.
    pub(super) fn read(members: &Members) -> Result<Self, Error> {
        if let Some(critical) = members.0.get("crit") {
            return Err(Error::UnknownMember {
                member: match critical {
                    Value::List(names) => match names.first() {
                        Some(Value::Text(name)) => short(name),
                        _ => "crit".to_owned(),
                    },
                    _ => "crit".to_owned(),
                },
            });
        }
        if let Some(name) = NOT_IGNORED
            .iter()
            .find(|&&name| members.0.contains_key(name))
        {
            return Err(Error::UnknownMember {
                member: (*name).to_owned(),
            });
        }
        let alg = text(members, "alg", "it has no `alg`")?;
        let management = KeyManagement::parse(alg).ok_or_else(|| unknown("alg", alg))?;
        let enc = text(members, "enc", "it has no `enc`")?;
        let encryption = Encryption::parse(enc).ok_or_else(|| unknown("enc", enc))?;
        let (ephemeral, parties) = match management {
            KeyManagement::RsaOaep(_) => (None, [Vec::new(), Vec::new()]),
            KeyManagement::Direct | KeyManagement::KeyWrap(_) => {
                let no_point = "its `epk` is no elliptic-curve key";
                let key = members.object("epk", no_point)?;
                let key = key.ok_or(malformed("it has no `epk`"))?;
                (
                    Some(point(key)?),
                    [party(members, "apu")?, party(members, "apv")?],
                )
            }
        };
        Ok(Self {
            management,
            encryption,
            ephemeral,
            parties,
        })
    }
}

fn text<'a>(members: &'a Members, name: &str, what: &'static str) -> Result<&'a str, Error> {
    members.text(name, what)?.ok_or(malformed(what))
}

fn unknown(member: &'static str, name: &str) -> Error {
    Error::UnknownAlgorithm {
        member,
        name: short(name),
    }
}

fn party(members: &Members, name: &str) -> Result<Vec<u8>, Error> {
    let what = "its `apu` or `apv` is not base64url";
    let text = members.text(name, what)?.unwrap_or_default();
    base64url(text).ok_or(malformed(what))
}

/// The point of a public JWK (RFC 7518, section 6.2.1), checked to lie on its curve.
fn point(key: &Members) -> Result<(Curve, Vec<u8>), Error> {
    let what = "its `epk` is no elliptic-curve key";
    if text(key, "kty", what)? != "EC" || key.0.contains_key("d") {
        return Err(malformed(what));
    }
    let name = text(key, "crv", what)?;
    let curve = [Curve::P256, Curve::P384, Curve::P521]
        .into_iter()
        .find(|curve| curve.to_string() == name)
        .ok_or_else(|| unknown("crv", name))?;
    let mut point = vec![4];
    for coordinate in ["x", "y"] {
        let octets = base64url(text(key, coordinate, what)?).ok_or(malformed(what))?;
        // RFC 7518, section 6.2.1.2: as long as the field, zeros in front included.
        if octets.len() != curve.field_len() {
            return Err(Error::BadPoint { curve });
        }
        point.extend(octets);
    }
    if !elliptic::is_on_curve(curve, &point) {
        return Err(Error::BadPoint { curve });
    }
    Ok((curve, point))
}
