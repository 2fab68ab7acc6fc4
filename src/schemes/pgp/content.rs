//! The content of a message (RFC 9580, section 5.13.1): decrypted, its integrity compared before anything of it is read,
//! and unpacked within bounds.

use flate2::{Decompress, FlushDecompress, Status};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{Error, MAX_CONTENT};
use crate::openpgp::algorithm::{BLOCK, Cipher, Hash, cipher_name};
use crate::openpgp::fields::Fields;
use crate::openpgp::packets::{self, Packet, Packets};
use crate::openpgp::session::CANDIDATE;
use crate::secret::SecretBytes;

/// Random bytes before the text: one block, and its last two bytes once more.
pub(super) const PREFIX: usize = BLOCK + 2;
/// Packet and length of the hash at the end.
pub(super) const HASH: [u8; 2] = [0xd3, 20];
/// Most times that the text is compressed.
const MAX_DEPTH: usize = 4;
/// Most signatures, markers and padding around the text.
const MAX_AROUND: usize = 16;

/// Opens the content with the candidates for its session key.
pub(super) fn open(content: &[u8], candidates: &[u8]) -> Result<SecretBytes, Error> {
    let mut told = Error::NotAuthentic;
    for candidate in candidates.chunks_exact(CANDIDATE) {
        match decrypt(content, candidate) {
            Ok(text) => return unpack(&text),
            Err(Error::NotAuthentic) => {}
            Err(error) => told = error,
        }
    }
    Err(told)
}

/// The packets in the content. The two repeated bytes are not compared, which would tell something of what is not yet
/// known to be authentic.
fn decrypt(content: &[u8], candidate: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let (number, key) = (candidate[0], &candidate[1..]);
    let cipher = Cipher::numbered(number).ok_or(Error::Cipher {
        name: cipher_name(number),
    })?;
    let mut text = Zeroizing::new(content.to_vec());
    let is_decrypted = cipher.decrypt(&key[..cipher.key_len()], &[0; BLOCK], &mut text);
    let (hashed, hash) = text.split_last_chunk::<20>().ok_or(Error::NotAuthentic)?;
    let (packets, name) = hashed.split_last_chunk::<2>().ok_or(Error::NotAuthentic)?;
    let is_right = Hash::Sha1.of([hashed]).ct_eq(hash) & name.ct_eq(&HASH);
    match packets.get(PREFIX..) {
        Some(packets) if is_decrypted && bool::from(is_right) => {
            Ok(Zeroizing::new(packets.to_vec()))
        }
        _ => Err(Error::NotAuthentic),
    }
}

/// The text of the literal packet, however deep it is packed.
fn unpack(packed: &[u8]) -> Result<SecretBytes, Error> {
    let mut unpacked: Zeroizing<Vec<u8>> = Zeroizing::default();
    for depth in 0..=MAX_DEPTH {
        let packets = match depth {
            0 => Packets::new(packed),
            _ => Packets::new(&unpacked),
        };
        let packet = the_one(packets).ok_or(Error::NoText)?;
        match packet.kind {
            packets::LITERAL => return literal(packet.body()).ok_or(Error::NoText),
            packets::COMPRESSED => {
                let more = decompressed(packet.body())?;
                drop(packet);
                unpacked = more;
            }
            _ => return Err(Error::NoText),
        }
    }
    Err(Error::TooDeep)
}

/// The one packet beside signatures and markers.
fn the_one(mut packets: Packets<'_>) -> Option<Packet<'_>> {
    let mut found = None;
    for _ in 0..=MAX_AROUND {
        let packet = packets.read()?;
        match packet.kind {
            packets::SIGNATURE
            | packets::ONE_PASS_SIGNATURE
            | packets::MARKER
            | packets::PADDING => {}
            _ if found.is_none() => found = Some(packet),
            _ => return None,
        }
        if packets.is_empty() {
            return found;
        }
    }
    None
}

/// Section 5.9: format, name, date, text.
fn literal(body: &[u8]) -> Option<SecretBytes> {
    let mut fields = Fields::new(body);
    let _format = fields.octet()?;
    let _name = fields.prefixed(1)?;
    let _date = fields.take(4)?;
    Some(SecretBytes::new(fields.rest().to_vec()))
}

/// Section 5.6. A little of a bomb is unpacked, and nothing of what is beyond the bound.
fn decompressed(body: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let (method, packed) = body.split_first().ok_or(Error::NoText)?;
    let mut unpacker = match method {
        0 => return Ok(Zeroizing::new(packed.to_vec())),
        1 => Decompress::new(false),
        2 => Decompress::new(true),
        3 => return Err(Error::BZip2),
        _ => return Err(Error::Compression),
    };
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_CONTENT + 1));
    // All of it in one call goes into the vector alone, which is wiped; a second call would go by a window, which is not.
    let status = unpacker.decompress_vec(packed, &mut text, FlushDecompress::Finish);
    let used = unpacker.total_in() == packed.len() as u64;
    match status {
        _ if text.len() > MAX_CONTENT => Err(Error::Bomb { limit: MAX_CONTENT }),
        Ok(Status::StreamEnd) if used => Ok(text),
        _ => Err(Error::NoText),
    }
}
