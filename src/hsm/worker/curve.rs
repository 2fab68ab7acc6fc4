//! Which curve `CKA_EC_PARAMS` means (X9.62 and RFC 5480, `ECParameters`): most tokens give an object identifier, some a
//! name, and SoftHSM keeps explicit parameters as they were given.

use crate::operation::Curve;

/// What tells one curve from others, DER where it is that.
struct Known {
    curve: Curve,
    identifier: &'static [u8],
    names: &'static [&'static [u8]],
    /// Order of the base point, a number that no other curve has.
    order: &'static [u8],
}

const KNOWN: [Known; 3] = [
    Known {
        curve: Curve::P256,
        identifier: &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7],
        names: &[b"prime256v1", b"secp256r1", b"P-256"],
        order: b"\xff\xff\xff\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\
                 \xbc\xe6\xfa\xad\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x51",
    },
    Known {
        curve: Curve::P384,
        identifier: &[6, 5, 0x2b, 0x81, 4, 0, 0x22],
        names: &[b"secp384r1", b"P-384"],
        order: b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
                 \xff\xff\xff\xff\xff\xff\xff\xff\xc7\x63\x4d\x81\xf4\x37\x2d\xdf\
                 \x58\x1a\x0d\xb2\x48\xb0\xa7\x7a\xec\xec\x19\x6a\xcc\xc5\x29\x73",
    },
    Known {
        curve: Curve::P521,
        identifier: &[6, 5, 0x2b, 0x81, 4, 0, 0x23],
        names: &[b"secp521r1", b"P-521"],
        order: b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
                 \xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\
                 \xff\xfa\x51\x86\x87\x83\xbf\x2f\x96\x6b\x7f\xcc\x01\x48\xf7\x09\
                 \xa5\xd0\x3b\xb5\xc9\xb8\x89\x9c\x47\xae\xbb\x6f\xb7\x1e\x91\x38\
                 \x64\x09",
    },
];

const PRINTABLE_STRING: u8 = 0x13;
const SEQUENCE: u8 = 0x30;

/// The object identifier by which a token is asked for a key on it, DER.
pub(super) fn parameters(curve: Curve) -> &'static [u8] {
    let known = KNOWN.iter().find(|known| known.curve == curve);
    known.map_or(&[], |known| known.identifier)
}

/// The curve, if it is one that we know.
pub(super) fn curve(parameters: &[u8]) -> Option<Curve> {
    let is = |known: &&Known| match parameters {
        [PRINTABLE_STRING, length, name @ ..] => {
            usize::from(*length) == name.len() && known.names.contains(&name)
        }
        // The order stands near the end of explicit parameters; what comes before it follows from it.
        [SEQUENCE, ..] => parameters
            .windows(known.order.len())
            .any(|part| part == known.order),
        identifier => identifier == known.identifier,
    };
    KNOWN.iter().find(is).map(|known| known.curve)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_known_by_identifier_and_by_name() {
        assert_eq!(curve(&[6, 5, 0x2b, 0x81, 4, 0, 0x22]), Some(Curve::P384));
        assert_eq!(curve(b"\x13\x0aprime256v1"), Some(Curve::P256));
        assert_eq!(curve(b"\x13\x09secp521r1"), Some(Curve::P521));
        // secp256k1, a name cut off, and nothing.
        assert_eq!(curve(&[6, 5, 0x2b, 0x81, 4, 0, 0x0a]), None);
        assert_eq!(curve(b"\x13\x0aprime256v"), None);
        assert_eq!(curve(&[]), None);
    }

    #[test]
    fn explicit_parameters_are_known_by_the_order() {
        for known in &KNOWN {
            let parameters = [
                &[SEQUENCE, 0x81, 0xf7, 2, 1, 1, 2][..],
                known.order,
                &[2, 1, 1],
            ]
            .concat();
            assert_eq!(curve(&parameters), Some(known.curve));
        }
        assert_eq!(curve(&[SEQUENCE, 3, 2, 1, 1]), None);
    }
}
