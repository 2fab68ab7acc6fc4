//! Writing a message, as every program reads it that knows OpenPGP: AES-256 with protection against changes (RFC 9580,
//! section 5.13.1), not compressed, not signed, one packet for each recipient.

use zeroize::Zeroizing;

use super::Error;
use super::content::{HASH, PREFIX};
use crate::keys::public::openpgp::OpenPgpPublicKey;
use crate::openpgp::algorithm::{self, BLOCK, Hash};
use crate::openpgp::packets::{LITERAL, PROTECTED, PUBLIC_KEY_SESSION_KEY, packet};

/// Encrypts `plain` for the holders of those keys, of whom there is at least one.
///
/// # Errors
/// [`Error::NoRandomness`].
pub fn seal(plain: &[u8], recipients: &[OpenPgpPublicKey]) -> Result<Vec<u8>, Error> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(key.as_mut_slice()).map_err(|_| Error::NoRandomness)?;
    let mut message = Vec::new();
    for recipient in recipients {
        let wrapped = recipient.wrap(&key).ok_or(Error::NoRandomness)?;
        message.extend(packet(PUBLIC_KEY_SESSION_KEY, &wrapped));
    }
    // Binary, without a name and a date.
    let literal = Zeroizing::new([&[b'b', 0, 0, 0, 0, 0], plain].concat());
    let literal = Zeroizing::new(packet(LITERAL, &literal));
    let content = protected(&key, &literal)?;
    message.extend(packet(PROTECTED, &content));
    Ok(message)
}

/// The body of a protected packet around those packets.
pub(super) fn protected(key: &[u8; 32], packets: &[u8]) -> Result<Vec<u8>, Error> {
    let mut prefix = [0; PREFIX];
    getrandom::fill(&mut prefix[..BLOCK]).map_err(|_| Error::NoRandomness)?;
    prefix.copy_within(BLOCK - 2..BLOCK, BLOCK);
    let mut text = Zeroizing::new(Vec::with_capacity(PREFIX + packets.len() + 22));
    text.extend_from_slice(&prefix);
    text.extend_from_slice(packets);
    text.extend_from_slice(&HASH);
    let hash = Hash::Sha1.of([text.as_slice()]);
    text.extend_from_slice(&hash);
    algorithm::encrypt(key, &[0; BLOCK], &mut text);
    Ok([&[1], text.as_slice()].concat())
}
