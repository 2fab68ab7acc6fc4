//! X.509 certificates, as far as PKCS#7 needs them: whose key it is, and by what the wrapped key names it (RFC 5280).
//!
//! Nothing here says whether a certificate is to be trusted: its signature, its dates and its uses are not looked at.

use super::pem;
use crate::der::{self, Elements};

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The issuer's name, in DER as it stands there.
    pub issuer: Vec<u8>,
    /// The serial number, the content of the INTEGER.
    pub serial: Vec<u8>,
    /// The subject key identifier, if there is one.
    pub subject_key_id: Option<Vec<u8>>,
    /// The `SubjectPublicKeyInfo`, in DER.
    pub public_key: Vec<u8>,
}

/// `id-ce-subjectKeyIdentifier`.
const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 0x0e];

impl Certificate {
    /// Every certificate in PEM, or the one in DER; none where there is none.
    #[must_use]
    pub fn all(bytes: &[u8]) -> Vec<Self> {
        let mut blocks = pem::blocks(bytes).peekable();
        if blocks.peek().is_none() {
            return Self::from_der(bytes).into_iter().collect();
        }
        blocks
            .filter(|block| matches!(block.label.as_str(), "CERTIFICATE" | "X509 CERTIFICATE"))
            .filter_map(|block| Self::from_der(block.der?.expose()))
            .collect()
    }

    /// Reads DER.
    fn from_der(bytes: &[u8]) -> Option<Self> {
        let mut outer = Elements::new(bytes);
        let mut certificate = outer.enter(der::SEQUENCE)?;
        let mut body = certificate.enter(der::SEQUENCE)?;
        // The algorithm and the signature.
        certificate.content_of(der::SEQUENCE)?;
        certificate.content_of(BIT_STRING)?;
        if !certificate.is_empty() || !outer.is_empty() {
            return None;
        }
        let _version = body.content_of(der::CONTEXT_0_CONSTRUCTED);
        let serial = body.content_of(der::INTEGER)?.to_vec();
        let _signature = body.content_of(der::SEQUENCE)?;
        let issuer = body.next_if(der::SEQUENCE)?.whole.to_vec();
        let _validity = body.content_of(der::SEQUENCE)?;
        let _subject = body.content_of(der::SEQUENCE)?;
        let public_key = body.next_if(der::SEQUENCE)?.whole.to_vec();
        let mut subject_key_id = None;
        for part in body {
            if part.tag == EXTENSIONS {
                subject_key_id = Elements::new(part.content)
                    .enter(der::SEQUENCE)
                    .and_then(find_subject_key_id);
            }
        }
        Some(Self {
            issuer,
            serial,
            subject_key_id,
            public_key,
        })
    }
}

const BIT_STRING: u8 = 0x03;
/// `[3]`, constructed.
const EXTENSIONS: u8 = 0xa3;
const BOOLEAN: u8 = 0x01;

fn find_subject_key_id(mut extensions: Elements<'_>) -> Option<Vec<u8>> {
    while let Some(mut extension) = extensions.enter(der::SEQUENCE) {
        if extension.content_of(der::OID)? == SUBJECT_KEY_ID {
            let _critical = extension.content_of(BOOLEAN);
            let mut value = extension.enter(der::OCTET_STRING)?;
            return value.content_of(der::OCTET_STRING).map(<[u8]>::to_vec);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = include_str!("../../integration/vectors/keys/rsa3072.cert.pem");
    const OTHER: &str = include_str!("../../integration/vectors/keys/other3072.cert.pem");

    #[test]
    fn certificates_in_pem_and_der() {
        let all = Certificate::all(format!("words\n{PEM}{OTHER}").as_bytes());
        assert_eq!(all.len(), 2);
        assert_eq!(
            (all[0].serial.as_slice(), all[1].serial.as_slice()),
            (&[7, 0xd1][..], &[7, 0xd2][..])
        );
        assert_eq!(all[0].issuer, all[1].issuer);
        assert_eq!((all[0].issuer.len(), all[0].public_key.len()), (32, 422));
        let block = pem::blocks(PEM.as_bytes()).next().unwrap();
        let der = block.der.unwrap();
        let der = der.expose();
        assert_eq!(Certificate::all(der), all[..1]);
        for cut in 0..der.len() {
            assert!(Certificate::all(&der[..cut]).is_empty());
        }
    }

    #[test]
    fn other_files_hold_none() {
        for bytes in [
            &b""[..],
            b"pkcs11:\n",
            include_bytes!("../../integration/vectors/keys/jwe-p256.pem"),
            include_bytes!("../../integration/vectors/keys/p256.pub.pem"),
        ] {
            assert!(Certificate::all(bytes).is_empty());
        }
    }
}
