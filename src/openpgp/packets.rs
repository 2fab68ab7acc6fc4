//! Packets one after the other (RFC 9580, section 4.2): what each is, and its body, whole or in parts.

use zeroize::Zeroizing;

use super::fields::Fields;

/// Public-Key Encrypted Session Key.
pub const PUBLIC_KEY_SESSION_KEY: u8 = 1;
/// A signature.
pub const SIGNATURE: u8 = 2;
/// Symmetric-Key Encrypted Session Key: for a password.
pub const PASSWORD_SESSION_KEY: u8 = 3;
/// What stands before signed text whose signature stands behind it.
pub const ONE_PASS_SIGNATURE: u8 = 4;
/// A secret key.
pub const SECRET_KEY: u8 = 5;
/// A public key.
pub const PUBLIC_KEY: u8 = 6;
/// A secret key that another one vouches for.
pub const SECRET_SUBKEY: u8 = 7;
/// Packets that are compressed.
pub const COMPRESSED: u8 = 8;
/// Symmetrically Encrypted Data, without any protection of its integrity.
pub const UNPROTECTED: u8 = 9;
/// A marker, which means nothing.
pub const MARKER: u8 = 10;
/// The text.
pub const LITERAL: u8 = 11;
/// What GnuPG thinks of a key.
pub const TRUST: u8 = 12;
/// A name of a key's owner.
pub const USER_ID: u8 = 13;
/// A public key that another one vouches for.
pub const PUBLIC_SUBKEY: u8 = 14;
/// A picture of a key's owner.
pub const USER_ATTRIBUTE: u8 = 17;
/// Symmetrically Encrypted and Integrity Protected Data.
pub const PROTECTED: u8 = 18;
/// What GnuPG writes for itself; another form of protected data.
pub const GNUPG_AEAD: u8 = 20;
/// Padding, which means nothing.
pub const PADDING: u8 = 21;

/// Most parts that a body may come in.
const MAX_PARTS: usize = 4096;

/// One packet.
#[derive(Debug)]
pub struct Packet<'a> {
    /// What it is.
    pub kind: u8,
    whole: &'a [u8],
    /// What came in parts, which may be a secret.
    joined: Zeroizing<Vec<u8>>,
}

impl Packet<'_> {
    /// What is in it.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        match self.joined.is_empty() {
            true => self.whole,
            false => &self.joined,
        }
    }
}

/// Reads one packet after the other.
#[derive(Clone, Debug)]
pub struct Packets<'a>(Fields<'a>);

impl<'a> Packets<'a> {
    /// Begins with the first.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(Fields::new(bytes))
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next packet; `None` where there is none, or it is broken.
    pub fn read(&mut self) -> Option<Packet<'a>> {
        let first = self.0.octet()?;
        match first {
            0xc0.. => self.new_format(first & 0x3f),
            0x80.. => self.old_format(first >> 2 & 0x0f, first & 3),
            _ => None,
        }
    }

    fn old_format(&mut self, kind: u8, length: u8) -> Option<Packet<'a>> {
        let whole = match length {
            0 => self.0.prefixed(1)?,
            1 => self.0.prefixed(2)?,
            2 => self.0.prefixed(4)?,
            // To the end of the message.
            _ => self.0.take(self.0.len())?,
        };
        Some(Packet {
            kind,
            whole,
            joined: Zeroizing::default(),
        })
    }

    /// The standard wants the first part of several to have 512 bytes. Go's library writes 128, and that length harms
    /// nobody.
    fn new_format(&mut self, kind: u8) -> Option<Packet<'a>> {
        let mut joined = Zeroizing::default();
        for number in 0..MAX_PARTS {
            let (length, more) = match self.0.octet()? {
                length @ ..192 => (u32::from(length), false),
                high @ 192..224 => {
                    let low = self.0.number(1)?;
                    (((u32::from(high) - 192) << 8) + low + 192, false)
                }
                power @ 224..255 => (1 << (power & 0x1f), true),
                255 => (self.0.number(4)?, false),
            };
            let whole = self.0.take(usize::try_from(length).ok()?)?;
            if number == 0 && more {
                // As much as all the parts may have, at once: a vector that grows leaves copies behind.
                joined = Zeroizing::new(Vec::with_capacity(whole.len() + self.0.len()));
            }
            if number > 0 || more {
                joined.extend_from_slice(whole);
            }
            if !more {
                return Some(Packet {
                    kind,
                    whole,
                    joined,
                });
            }
        }
        None
    }
}

/// Whether the bytes begin with a packet of that kind, which is a key's: its version comes first.
#[must_use]
pub fn begin_with_key(bytes: &[u8], kind: u8) -> bool {
    let packet = Packets::new(bytes).read();
    packet.is_some_and(|packet| packet.kind == kind && matches!(packet.body().first(), Some(2..=6)))
}

/// A packet in the new format, with its length in five bytes.
#[must_use]
pub fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a packet of ours is short");
    let mut packet = Vec::with_capacity(6 + body.len());
    packet.extend_from_slice(&[0xc0 | kind, 0xff]);
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(body);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Option<Vec<(u8, Vec<u8>)>> {
        let mut packets = Packets::new(bytes);
        let mut found = Vec::new();
        while !packets.is_empty() {
            let packet = packets.read()?;
            found.push((packet.kind, packet.body().to_vec()));
        }
        Some(found)
    }

    #[test]
    fn lengths_in_every_form() {
        let long = |len: usize| vec![7; len];
        let with = |header: &[u8], len| [header, &long(len)].concat();
        for (bytes, kind, len) in [
            (with(&[0x84, 3], 3), 1, 3),
            (with(&[0x85, 1, 0], 256), 1, 256),
            (with(&[0x86, 0, 0, 1, 0], 256), 1, 256),
            (with(&[0xa7], 9), 9, 9),
            (with(&[0xc1, 191], 191), 1, 191),
            (with(&[0xc1, 192, 0], 192), 1, 192),
            (with(&[0xc1, 223, 255], 8383), 1, 8383),
            (with(&[0xd2, 255, 0, 0, 1, 0], 256), 18, 256),
            ([with(&[0xd2, 0xe1], 2), with(&[1], 1)].concat(), 18, 3),
            ([with(&[0xd2, 0xe0], 1), with(&[0], 0)].concat(), 18, 1),
            (
                [with(&[0xd2, 0xe7], 128), with(&[0xe0], 1), with(&[3], 3)].concat(),
                18,
                132,
            ),
            (packet(11, &long(5)), 11, 5),
        ] {
            let header = bytes[..bytes.len().min(6)].to_vec();
            assert_eq!(read(&bytes), Some(vec![(kind, long(len))]), "{header:x?}");
            // One that has no length of its own ends wherever the bytes do.
            if header[0] != 0xa7 {
                assert_eq!(read(&bytes[..bytes.len() - 1]), None, "{header:x?}");
            }
        }
        assert_eq!(read(&[0x7f, 0]), None);
        assert_eq!(read(&[0xc1, 255, 0xff, 0xff, 0xff, 0xff, 0]), None);
        assert_eq!(read(&[0xd2, 0xfe, 1, 1]), None, "a part of a gigabyte");
        assert_eq!(read(&[0xd2, 0xe0, 1].repeat(5000)), None, "too many parts");
    }
}
