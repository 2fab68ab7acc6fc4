//! Key-wrapping schemes: wrapped bytes to operations of a private key, and their answers to private options.
//!
//! A scheme is one file, an arm in `read`, and what it needs to make of an answer, in `Opening`. Who answers an
//! operation is not known here.

mod error;
pub mod jwe;
pub mod pgp;
pub mod pkcs11;
pub mod pkcs7;
pub mod provider;

pub use self::error::Error;

use crate::envelope::{Envelope, MAX_RECIPIENTS, Scheme};
use crate::keys::certificate::Certificate;
use crate::operation::KeyOperation;
use crate::options::PrivateOptions;
use crate::secret::SecretBytes;

/// The schemes that we open ourselves, by the ends of their annotations' names. Those of key providers come to it.
pub const OWN: [&str; 4] = ["pkcs11", "jwe", "pkcs7", "pgp"];

/// One wrapped key of a layer: the operation that opens it, and what the answer means.
#[derive(Clone, Debug)]
pub struct WrappedKey {
    /// The scheme that it was wrapped with.
    pub scheme: Scheme,
    /// What a private key has to do.
    pub operation: KeyOperation,
    opening: Opening,
}

/// What is made of an answer.
#[derive(Clone, Debug)]
enum Opening {
    /// It is the private options themselves.
    Packet,
    /// It leads to the content key of a JWE.
    Jwe(Box<jwe::Recipient>),
    /// It is the content key of a PKCS#7 message, or random.
    Pkcs7(Box<pkcs7::Recipient>),
    /// They are the session keys that may be an OpenPGP message's.
    Pgp(Box<pgp::Recipient>),
}

/// The wrapped keys of a layer.
#[derive(Clone, Debug, Default)]
pub struct WrappedKeys {
    /// Those that lead to an operation.
    pub keys: Vec<WrappedKey>,
    /// Those that only a key provider opens, with its name.
    pub provided: Vec<(String, Vec<u8>)>,
    /// Those that cannot be read, and why.
    pub broken: Vec<(Scheme, Error)>,
}

/// Every wrapped key of an envelope that leads to an operation. What cannot be read is kept as a reason, and hides
/// nothing else.
#[must_use]
pub fn wrapped_keys(envelope: &Envelope) -> WrappedKeys {
    let mut found = WrappedKeys::default();
    for (scheme, _) in envelope.schemes() {
        // Each scheme has a bound of its own, so that none takes the others' away.
        let mut left = MAX_RECIPIENTS;
        for blob in envelope.blobs(scheme) {
            if let (Some(provider), Some(blob)) = (scheme.provider(), &blob) {
                if found.provided.len() < MAX_RECIPIENTS {
                    found.provided.push((provider.to_owned(), blob.clone()));
                }
                continue;
            }
            let read = match blob {
                Some(blob) => read(scheme, &blob),
                None => vec![Err(Error::NotBase64)],
            };
            if !found.add(scheme, read, &mut left) {
                break;
            }
        }
    }
    found
}

/// The wrapped keys in one annotation's value, already decoded from base64, of this scheme.
#[must_use]
pub fn wrapped_key(scheme: &Scheme, blob: &[u8]) -> WrappedKeys {
    let mut found = WrappedKeys::default();
    found.add(scheme, read(scheme, blob), &mut MAX_RECIPIENTS.clone());
    found
}

impl WrappedKeys {
    /// Puts what is wrapped for somebody else than the owners of these certificates behind the rest. It is not left out: a
    /// certificate may have been renewed, and the key in it be the same.
    pub fn prefer(&mut self, certificates: &[Certificate]) {
        let is_for_another = |key: &WrappedKey| match &key.opening {
            Opening::Pkcs7(recipient) => !certificates.iter().any(|one| recipient.is_for(one)),
            _ => false,
        };
        if !certificates.is_empty() {
            self.keys.sort_by_key(is_for_another);
        }
    }

    /// Adds what was read, as far as there is room `left`; `false` where there is none.
    fn add(&mut self, scheme: &Scheme, read: Vec<Way>, left: &mut usize) -> bool {
        for key in read {
            match key {
                Ok(_) if *left == 0 => {
                    let limit = MAX_RECIPIENTS;
                    self.broken
                        .push((scheme.clone(), Error::TooManyKeys { limit }));
                    return false;
                }
                Ok((operation, opening)) => {
                    *left -= 1;
                    self.keys.push(WrappedKey {
                        scheme: scheme.clone(),
                        operation,
                        opening,
                    });
                }
                Err(error) => self.broken.push((scheme.clone(), error)),
            }
        }
        true
    }
}

/// An operation and what to make of its answer, or why there is none.
type Way = Result<(KeyOperation, Opening), Error>;

/// The operations that open one wrapped key, any of them; none of a scheme that we do not open.
fn read(scheme: &Scheme, blob: &[u8]) -> Vec<Way> {
    match scheme.name() {
        "pkcs11" => ways(pkcs11::recipients(blob), |recipient| {
            (recipient.into(), Opening::Packet)
        }),
        "jwe" => ways(jwe::parse(blob), |recipient| {
            let operation = recipient.operation.clone();
            (operation, Opening::Jwe(Box::new(recipient)))
        }),
        "pkcs7" => ways(pkcs7::parse(blob), |recipient| {
            let operation = recipient.operation.clone();
            (operation, Opening::Pkcs7(Box::new(recipient)))
        }),
        "pgp" => ways(pgp::parse(blob), |recipient| {
            let operation = recipient.operation.clone();
            (operation, Opening::Pgp(Box::new(recipient)))
        }),
        _ => Vec::new(),
    }
}

/// What is read of a message: something of each recipient, or one reason for all.
fn ways<T, E: Into<Error>>(
    read: Result<Vec<Result<T, E>>, E>,
    way: impl Fn(T) -> (KeyOperation, Opening),
) -> Vec<Way> {
    match read {
        Ok(recipients) => (recipients.into_iter())
            .map(|recipient| recipient.map(&way).map_err(Into::into))
            .collect(),
        Err(error) => vec![Err(error.into())],
    }
}

/// Whether we open keys that were wrapped with this scheme.
#[must_use]
pub fn is_known(scheme: &Scheme) -> bool {
    OWN.contains(&scheme.name()) || scheme.provider().is_some()
}

impl WrappedKey {
    /// The private options, from what the key answered.
    ///
    /// # Errors
    /// [`Error::Options`] when the answer holds none.
    pub fn private_options(&self, answer: &SecretBytes) -> Result<PrivateOptions, Error> {
        match &self.opening {
            Opening::Packet => Ok(PrivateOptions::parse(answer)?),
            Opening::Jwe(recipient) => Ok(PrivateOptions::parse(&recipient.open(answer)?)?),
            // One verdict, whether a padding, a tag or the text is wrong.
            Opening::Pkcs7(recipient) => (recipient.open(answer))
                .and_then(|text| PrivateOptions::parse(&text).ok())
                .ok_or(Error::NotOpened),
            Opening::Pgp(recipient) => Ok(PrivateOptions::parse(&recipient.open(answer)?)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn what_is_wrapped_for_a_certificate_at_hand_comes_first() {
        let [one, other] = [
            include_bytes!("../../integration/vectors/keys/pkcs7-rsa.cert.pem").as_slice(),
            include_bytes!("../../integration/vectors/keys/other3072.cert.pem"),
        ]
        .map(|pem| Certificate::all(pem).remove(0));
        let message = pkcs7::seal(b"plain", &[one.clone(), other.clone()]).unwrap();
        let lengths = |certificates: &[Certificate]| {
            let mut found = wrapped_key(&Scheme::named("pkcs7"), &message);
            found.prefer(certificates);
            let keys = found.keys.iter();
            keys.map(|key| match &key.operation {
                KeyOperation::RsaPkcs1 { ciphertext, .. } => ciphertext.len(),
                operation => panic!("{operation:?}"),
            })
            .collect::<Vec<_>>()
        };
        let written = lengths(&[]);
        assert_eq!(written[1], 384);
        assert_ne!(written[0], written[1]);
        assert_eq!(lengths(&[one]), written);
        assert_eq!(lengths(&[other]), [written[1], written[0]]);
    }

    #[test]
    fn a_crowd_of_one_scheme_takes_no_room_from_another() {
        let packet = |count: usize| {
            let recipient = r#"{"version":0,"blob":"AAEC"}"#;
            let recipients = vec![recipient; count].join(",");
            STANDARD.encode(format!(r#"{{"version":0,"recipients":[{recipients}]}}"#))
        };
        let certificate =
            include_bytes!("../../integration/vectors/keys/pkcs7-rsa.cert.pem").as_slice();
        let message = pkcs7::seal(b"plain", &Certificate::all(certificate)).unwrap();
        for crowd in [MAX_RECIPIENTS - 1, MAX_RECIPIENTS, MAX_RECIPIENTS + 1] {
            let many = [packet(crowd / 2), packet(crowd - crowd / 2)].join(",");
            let annotations = [
                ("pubopts", STANDARD.encode("{}")),
                ("keys.pkcs11", many),
                ("keys.pkcs7", STANDARD.encode(&message)),
            ];
            let annotations = annotations
                .map(|(name, value)| (format!("org.opencontainers.image.enc.{name}"), value));
            let envelope = Envelope::from_annotations(&BTreeMap::from(annotations)).unwrap();
            let found = wrapped_keys(&envelope);
            let of = |name| {
                let keys = found.keys.iter();
                keys.filter(|key| key.scheme.name() == name).count()
            };
            assert_eq!(of("pkcs11"), crowd.min(MAX_RECIPIENTS));
            assert_eq!(of("pkcs7"), 1, "{crowd}");
            assert_eq!(found.broken.len(), usize::from(crowd > MAX_RECIPIENTS));
        }
    }

    #[test]
    fn what_cannot_be_read_hides_nothing_else() {
        let packet = r#"{"version":0,"recipients":[{"version":9},{"version":0,"blob":"AAEC"}]}"#;
        let annotations = BTreeMap::from([
            ("pubopts".to_owned(), STANDARD.encode("{}")),
            ("keys.jwe".to_owned(), "bm90IG9uZQ==".to_owned()),
            ("keys.other".to_owned(), "bm90IG91cnM=".to_owned()),
            (
                "keys.pkcs11".to_owned(),
                format!("***,bm8=,{}", STANDARD.encode(packet)),
            ),
        ]);
        let annotations = annotations
            .into_iter()
            .map(|(name, value)| (format!("org.opencontainers.image.enc.{name}"), value))
            .collect();
        let found = wrapped_keys(&Envelope::from_annotations(&annotations).unwrap());
        assert_eq!(found.broken.len(), 4);
        assert_eq!(found.keys.len(), 1);
        assert_eq!(
            found.keys[0].operation,
            KeyOperation::RsaOaep {
                hash: pkcs11::OaepHash::Sha1,
                ciphertext: vec![0, 1, 2]
            }
        );
    }
}
