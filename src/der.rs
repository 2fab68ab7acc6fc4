//! DER (X.690, section 10), walked one element at a time: definite lengths, tags of one byte, nothing nested by itself.
//!
//! For the two structures whose types no released crate has for our versions. A walk never goes deeper than its caller
//! asks, so no input costs more than its length.

/// INTEGER.
pub const INTEGER: u8 = 0x02;
/// OCTET STRING.
pub const OCTET_STRING: u8 = 0x04;
/// OBJECT IDENTIFIER.
pub const OID: u8 = 0x06;
/// SEQUENCE.
pub const SEQUENCE: u8 = 0x30;
/// SET.
pub const SET: u8 = 0x31;
/// `[0]`, primitive.
pub const CONTEXT_0: u8 = 0x80;
/// `[0]`, constructed.
pub const CONTEXT_0_CONSTRUCTED: u8 = 0xa0;

/// What is left of a sequence of elements.
#[derive(Clone, Debug)]
pub struct Elements<'a>(&'a [u8]);

/// One element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// The tag with its class and the bit that says constructed.
    pub tag: u8,
    /// The content.
    pub content: &'a [u8],
    /// Tag, length and content.
    pub whole: &'a [u8],
}

impl<'a> Elements<'a> {
    /// The elements that stand side by side in `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The content of the next one, if it has that tag.
    pub fn content_of(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next_if(tag).map(|element| element.content)
    }

    /// The elements within the next one, if it has that tag.
    pub fn enter(&mut self, tag: u8) -> Option<Elements<'a>> {
        self.content_of(tag).map(Elements)
    }

    /// The next one, if it has that tag; otherwise it stays.
    pub fn next_if(&mut self, tag: u8) -> Option<Element<'a>> {
        let before = self.clone();
        let found = self.next().filter(|element| element.tag == tag);
        if found.is_none() {
            *self = before;
        }
        found
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    /// The next one; `None` at the end, and where DER ends.
    fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let len = octets
                    .iter()
                    .fold(0, |len, &octet| len << 8 | u64::from(octet));
                // The shortest form is the only one.
                if octets[0] == 0 || len < 0x80 {
                    return None;
                }
                (usize::try_from(len).ok()?, rest)
            }
            // 80 would be an indefinite length.
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(len)?;
        let whole = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Some(Element {
            tag,
            content,
            whole,
        })
    }
}

/// Writes one element.
#[must_use]
pub fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    if len < 0x80 {
        out.push(len as u8);
    } else {
        let octets = len.to_be_bytes();
        let zeros = octets.iter().take_while(|octet| **octet == 0).count();
        out.push(0x80 | (octets.len() - zeros) as u8);
        out.extend_from_slice(&octets[zeros..]);
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for len in [0, 1, 127, 128, 255, 256, 70_000] {
            let written = element(SEQUENCE, &[&vec![7; len], b"x"]);
            let mut elements = Elements::new(&written);
            let read = elements.next().unwrap();
            assert_eq!((read.tag, read.content.len()), (SEQUENCE, len + 1));
            assert_eq!(read.whole, written);
            assert!(elements.is_empty() && elements.next().is_none());
        }
    }

    #[test]
    fn what_is_not_der_ends_the_walk() {
        for bad in [
            &[0x30][..],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81, 0x7f],
            &[0x30, 0x82, 0, 0x80],
            &[0x30, 0x85, 1, 1, 1, 1, 1],
            &[0x30, 0xff],
            &[0x30, 3, 1, 2],
            &[0x1f, 0x81, 1, 0],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert!(Elements::new(bad).next().is_none(), "{bad:02x?}");
        }
    }

    #[test]
    fn another_tag_stays() {
        let mut elements = Elements::new(&[2, 1, 5, 4, 0]);
        assert!(elements.content_of(OCTET_STRING).is_none());
        assert_eq!(elements.content_of(INTEGER), Some(&[5][..]));
        assert_eq!(elements.content_of(OCTET_STRING), Some(&[][..]));
    }
}
