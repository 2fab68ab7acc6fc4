//! The PKCS#11 packet: the private options under RSA-OAEP, once per recipient, as JSON.
//!
//! Reads and writes the packet alone; who made a blob is `keys::public`, who opens it is a key holder. A recipient
//! carries no key identifier, so a reader has to try.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::Error;
use crate::envelope::MAX_RECIPIENTS;
use crate::json::object;
pub use crate::keys::public::Recipient;
pub use crate::operation::OaepHash;

#[derive(Serialize)]
struct PacketJson {
    version: u64,
    recipients: Vec<RecipientJson>,
}

#[derive(Serialize)]
struct RecipientJson {
    version: u64,
    blob: String,
    hash: &'static str,
}

object! {
    Packet {
        version: u64 = "version",
        recipients: Vec<Option<Member>> = "recipients",
    }
}

object! {
    Member {
        version: u64 = "version",
        blob: String = "blob",
        hash: String = "hash",
    }
}

/// Reads a packet: each of its recipients, or what is wrong with it.
///
/// # Errors
/// [`Error::InvalidPacket`] when it is not such JSON, has another version than 0 or no recipient at all;
/// [`Error::TooManyRecipients`] over [`MAX_RECIPIENTS`].
pub fn recipients(json: &[u8]) -> Result<Vec<Result<Recipient, Error>>, Error> {
    let packet: Packet =
        serde_json::from_slice(json).map_err(|_| invalid("it is not the JSON we expect"))?;
    let recipients = packet.recipients.unwrap_or_default();
    if packet.version != Some(0) {
        return Err(invalid("its version is not 0"));
    }
    if recipients.is_empty() {
        return Err(invalid("it has no recipient"));
    }
    if recipients.len() > MAX_RECIPIENTS {
        return Err(Error::TooManyRecipients {
            limit: MAX_RECIPIENTS,
        });
    }
    let read =
        |member: Option<Member>| member.map_or(Err(invalid("a recipient is null")), recipient);
    Ok(recipients.into_iter().map(read).collect())
}

/// Reads a packet of which every recipient can be read.
///
/// # Errors
/// As [`recipients`]; [`Error::InvalidPacket`] also for a recipient of another version than 0, with an unknown hash, or
/// with a blob that is not base64.
pub fn parse(json: &[u8]) -> Result<Vec<Recipient>, Error> {
    recipients(json)?.into_iter().collect()
}

/// Writes a packet, as the reference does.
#[must_use]
pub fn to_json(recipients: &[Recipient]) -> Vec<u8> {
    let packet = PacketJson {
        version: 0,
        recipients: recipients
            .iter()
            .map(|recipient| RecipientJson {
                version: 0,
                blob: STANDARD.encode(&recipient.blob),
                hash: recipient.hash.as_str(),
            })
            .collect(),
    };
    serde_json::to_vec(&packet).expect("strings and numbers are always JSON")
}

fn recipient(member: Member) -> Result<Recipient, Error> {
    if member.version != Some(0) {
        return Err(invalid("a recipient's version is not 0"));
    }
    let hash = match member.hash.as_deref() {
        None | Some("") => OaepHash::Sha1,
        Some(name) => {
            OaepHash::parse(name).ok_or(invalid("a recipient's hash is neither sha1 nor sha256"))?
        }
    };
    let blob = STANDARD
        .decode(member.blob.unwrap_or_default())
        .map_err(|_| invalid("a recipient's blob is not base64"))?;
    Ok(Recipient { hash, blob })
}

fn invalid(what: &'static str) -> Error {
    Error::InvalidPacket { what }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use serde::Deserialize;

    use super::*;
    use crate::envelope::{Envelope, Scheme};

    #[test]
    fn packet_round_trips_byte_for_byte() {
        let json = br#"{"version":0,"recipients":[{"version":0,"blob":"AAEC","hash":"sha256"},{"version":0,"blob":"Aw==","hash":"sha1"}]}"#;
        let recipients = parse(json).unwrap();
        assert_eq!(recipients[0].hash, OaepHash::Sha256);
        assert_eq!(recipients[0].blob, [0, 1, 2]);
        assert_eq!(to_json(&recipients), json);
    }

    #[test]
    fn absent_hash_is_sha1_and_unknown_fields_are_fine() {
        for hash in ["", r#","hash":"""#, r#","hash":null,"more":[1]"#] {
            let json =
                format!(r#"{{"version":0,"recipients":[{{"version":0,"blob":"AA=="{hash}}}]}}"#);
            assert_eq!(parse(json.as_bytes()).unwrap()[0].hash, OaepHash::Sha1);
        }
    }

    #[test]
    fn what_we_do_not_know_is_refused() {
        for json in [
            "",
            "[]",
            r#"{"version":0}"#,
            r#"{"version":0,"recipients":[]}"#,
            r#"{"version":1,"recipients":[{"version":0,"blob":"AA=="}]}"#,
            r#"{"version":0,"recipients":[{"version":1,"blob":"AA=="}]}"#,
            r#"{"version":0,"recipients":[{"version":0,"blob":"AA==","hash":"sha512"}]}"#,
            r#"{"version":0,"recipients":[{"version":0,"blob":"no base64"}]}"#,
        ] {
            assert!(
                matches!(parse(json.as_bytes()), Err(Error::InvalidPacket { .. })),
                "{json}"
            );
        }
    }

    #[test]
    fn a_broken_recipient_hides_no_other_one() {
        let json = br#"{"version":0,"recipients":[{"version":1,"blob":"AA=="},null,{"version":0,"blob":"AQ==","hash":"x"},{"version":0,"blob":"AQ=="}]}"#;
        let read = recipients(json).unwrap();
        assert_eq!(read.iter().filter(|one| one.is_err()).count(), 3);
        assert_eq!(read[3].as_ref().unwrap().blob, [1]);
    }

    #[test]
    fn too_many_recipients() {
        let recipient = Recipient {
            hash: OaepHash::Sha1,
            blob: vec![1],
        };
        let at_bound = to_json(&vec![recipient.clone(); MAX_RECIPIENTS]);
        assert_eq!(parse(&at_bound).unwrap().len(), MAX_RECIPIENTS);
        let over = to_json(&vec![recipient; MAX_RECIPIENTS + 1]);
        assert!(matches!(
            parse(&over),
            Err(Error::TooManyRecipients { limit: 256 })
        ));
    }

    #[test]
    fn message_lengths_of_the_specification() {
        assert_eq!(OaepHash::Sha256.max_message_len(256), Some(190));
        assert_eq!(OaepHash::Sha1.max_message_len(256), Some(214));
        assert_eq!(OaepHash::Sha256.max_message_len(66), Some(0));
        assert_eq!(OaepHash::Sha256.max_message_len(65), None);
    }

    #[test]
    fn hash_names_in_any_case() {
        assert_eq!(OaepHash::parse("SHA256"), Some(OaepHash::Sha256));
        assert_eq!(OaepHash::parse("sha-1"), None);
    }

    /// The recipients of every PKCS#11 packet on the layers of an image that other tools encrypted.
    fn recipients_in(image: &str) -> Vec<Recipient> {
        let blobs = format!(
            "{}/integration/vectors/images/{image}/blobs/sha256",
            env!("CARGO_MANIFEST_DIR")
        );
        let mut recipients = Vec::new();
        for blob in fs::read_dir(blobs).unwrap() {
            let blob = fs::read(blob.unwrap().path()).unwrap();
            let Ok(manifest) = serde_json::from_slice::<Manifest>(&blob) else {
                continue;
            };
            for layer in manifest.layers {
                let envelope = Envelope::from_annotations(&layer.annotations).unwrap();
                for packet in envelope.blobs(&Scheme::pkcs11()).flatten() {
                    recipients.extend(parse(&packet).unwrap());
                }
            }
        }
        recipients
    }

    #[derive(Deserialize)]
    struct Manifest {
        layers: Vec<Layer>,
    }

    #[derive(Deserialize)]
    struct Layer {
        annotations: BTreeMap<String, String>,
    }

    #[test]
    fn packets_of_other_tools() {
        for (image, hash, len) in [
            ("sha1-rsa2048", OaepHash::Sha1, 256),
            ("sha1-token", OaepHash::Sha1, 384),
            ("sha256-pubkey", OaepHash::Sha256, 384),
        ] {
            let recipients = recipients_in(image);
            assert_eq!(recipients.len(), 3, "{image}");
            for recipient in recipients {
                assert_eq!(
                    (recipient.hash, recipient.blob.len()),
                    (hash, len),
                    "{image}"
                );
            }
        }
        assert!(recipients_in("multi-recipient").len() > 3);
    }
}
