//! What stands in a packet, field after field: numbers, strings of a length, multiprecision integers.

/// Reads one field after the other; `None` where the bytes end before it does.
#[derive(Clone, Debug)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Begins with the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// One byte.
    pub fn octet(&mut self) -> Option<u8> {
        self.0.split_off_first().copied()
    }

    /// So many bytes.
    pub fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        self.0.split_off(..length)
    }

    /// So many bytes, where that is known beforehand.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// A number of up to four bytes, big-endian.
    pub fn number(&mut self, octets: usize) -> Option<u32> {
        let octets = self.take(octets)?;
        Some((octets.iter()).fold(0, |number, octet| number << 8 | u32::from(*octet)))
    }

    /// Bytes behind their length, which has so many bytes.
    pub fn prefixed(&mut self, octets: usize) -> Option<&'a [u8]> {
        let length = self.number(octets)?;
        self.take(usize::try_from(length).ok()?)
    }

    /// A multiprecision integer (RFC 9580, section 3.2), without zeros before it. Not all writers count its bits right,
    /// so their number is taken for that of the bytes alone.
    pub fn integer(&mut self) -> Option<&'a [u8]> {
        let bits = self.number(2)?;
        let integer = self.take(bits.div_ceil(8) as usize)?;
        let zeros = integer.iter().take_while(|octet| **octet == 0).count();
        Some(&integer[zeros..])
    }

    /// How many bytes are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that is left.
    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// A multiprecision integer of these bytes, of which there are not more than 8191.
#[must_use]
pub fn integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|octet| **octet == 0).count();
    let number = &number[zeros..];
    let first = number.first().map_or(0, |octet| octet.leading_zeros());
    let bits = (number.len() * 8) as u32 - first;
    let mut integer = (bits as u16).to_be_bytes().to_vec();
    integer.extend_from_slice(number);
    integer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_as_the_standard_has_them() {
        for (number, written) in [
            (&[1][..], &[0, 1, 1][..]),
            (&[1, 0xff], &[0, 9, 1, 0xff]),
            (&[0, 0, 1], &[0, 1, 1]),
            (&[], &[0, 0]),
        ] {
            assert_eq!(integer(number), written);
            let read = Fields::new(written).integer().unwrap();
            assert!(number.ends_with(read) && !read.starts_with(&[0]));
        }
        // Counted by the byte.
        assert_eq!(Fields::new(&[0, 16, 0, 1]).integer(), Some(&[1][..]));
        assert_eq!(Fields::new(&[0, 17, 1, 1]).integer(), None);
        assert_eq!(Fields::new(&[0]).integer(), None);
    }
}
