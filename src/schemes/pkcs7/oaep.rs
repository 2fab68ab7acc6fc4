//! How a recipient's key is padded: PKCS#1 v1.5, or OAEP with its parameters (RFC 8017, appendix A.2.1; RFC 3560).

use super::{Error, RSA_ENCRYPTION, dotted};
use crate::der::{self, Elements};
use crate::operation::OaepHash;

/// `id-RSAES-OAEP`.
const OAEP: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x07];
/// `id-mgf1`.
const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
/// `id-pSpecified`.
const SPECIFIED: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x09];
const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// `[1]` and `[2]`, constructed.
const CONTEXT: [u8; 2] = [0xa1, 0xa2];

/// The padding of a wrapped key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    Pkcs1,
    Oaep(OaepHash),
}

/// Reads an AlgorithmIdentifier. OAEP is taken as tokens have it: one hash for both purposes, and no label.
pub(super) fn padding(mut algorithm: Elements<'_>) -> Result<Padding, Error> {
    let oid = algorithm.content_of(der::OID).ok_or(Error::Malformed)?;
    match oid {
        RSA_ENCRYPTION => Ok(Padding::Pkcs1),
        OAEP => hash(algorithm).map(Padding::Oaep).ok_or(Error::Oaep),
        _ => Err(Error::UnknownAlgorithm {
            what: "the key's",
            oid: dotted(oid),
        }),
    }
}

/// `RSAES-OAEP-params`, each of which has a default.
fn hash(mut algorithm: Elements<'_>) -> Option<OaepHash> {
    let mut parameters = algorithm.enter(der::SEQUENCE)?;
    let digest = match parameters.enter(der::CONTEXT_0_CONSTRUCTED) {
        Some(inner) => named(inner)?,
        None => OaepHash::Sha1,
    };
    let mask = match parameters.enter(CONTEXT[0]) {
        Some(mut inner) => {
            let mut mask = inner.enter(der::SEQUENCE)?;
            (mask.content_of(der::OID)? == MGF1).then_some(())?;
            named(mask)?
        }
        None => OaepHash::Sha1,
    };
    if let Some(mut inner) = parameters.enter(CONTEXT[1]) {
        let mut source = inner.enter(der::SEQUENCE)?;
        (source.content_of(der::OID)? == SPECIFIED).then_some(())?;
        source
            .content_of(der::OCTET_STRING)?
            .is_empty()
            .then_some(())?;
    }
    (digest == mask && parameters.is_empty() && algorithm.is_empty()).then_some(digest)
}

/// The hash of an AlgorithmIdentifier, whose parameters are NULL or left out.
fn named(mut outer: Elements<'_>) -> Option<OaepHash> {
    match outer.enter(der::SEQUENCE)?.content_of(der::OID)? {
        SHA1 => Some(OaepHash::Sha1),
        SHA256 => Some(OaepHash::Sha256),
        _ => None,
    }
}
