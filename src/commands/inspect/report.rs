//! What `inspect` found, as JSON or as a table. All of it comes from the image, so nothing is printed as it is.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use indicatif::BinaryBytes;
use serde::Serialize;
use serde_json::Value;

use super::super::unwrapping::Locked;
use crate::commands::to_json;
use crate::envelope::{Envelope, Scheme};
use crate::escape::escaped;
use crate::image::{Descriptor, Image, Manifest, media_type};
use crate::operation::KeyOperation;

/// Longest text in a cell of the table, in characters.
const MAX_CELL: usize = 64;
/// Most schemes in a cell of the table.
const MAX_SCHEMES: usize = 4;
/// What most layers' media types begin with, and the table leaves out.
const LAYER_TYPES: &str = "application/vnd.oci.image.layer.v1.";

/// An image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    version: u32,
    media_type: String,
    digest: String,
    pub(super) images: Vec<ImageReport>,
    /// Manifests that the index names and that are not here, each with its platform.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    absent: Vec<String>,
    /// Keys that could not be tried, each with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) untried: Vec<String>,
}

/// The image of one platform.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageReport {
    platform: Option<String>,
    digest: String,
    pub(super) layers: Vec<LayerReport>,
}

/// A layer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LayerReport {
    index: usize,
    media_type: String,
    digest: String,
    size: u64,
    #[serde(flatten)]
    encryption: Option<Encryption>,
    /// Names of the keys; `None` where none were tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) opened_by: Option<Vec<String>>,
    /// What is wrong with the layer, though it can be opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
    /// Why the annotations cannot be read, or that the cipher is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

/// How a layer is encrypted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Encryption {
    cipher: String,
    /// Recipients by scheme.
    recipients: BTreeMap<String, usize>,
    /// The OAEP hashes of the PKCS#11 recipients, each once.
    oaep_hashes: Vec<&'static str>,
}

impl Report {
    pub(super) fn new(image: &Image) -> Self {
        let absent = |manifest: &Descriptor| {
            let platform = manifest.platform();
            let platform = platform.map_or("no platform".to_owned(), |it| it.to_string());
            format!("{platform} {}", manifest.name())
        };
        Self {
            version: 1,
            media_type: image.entry.media_type.clone(),
            digest: image.entry.digest.to_string(),
            images: Vec::new(),
            absent: image.absent().map(absent).collect(),
            untried: Vec::new(),
        }
    }

    /// JSON in ASCII alone, so that it is harmless on a terminal as well.
    pub(super) fn to_json(&self) -> String {
        to_json(self)
    }

    /// A table for each platform, and below them the keys that could not be tried.
    pub(super) fn to_table(&self) -> String {
        let mut parts: Vec<_> = self.images.iter().map(ImageReport::to_table).collect();
        for (name, texts) in [("not here", &self.absent), ("untried", &self.untried)] {
            let line = |text: &String| format!("{name}: {}", escaped(text));
            let lines: Vec<_> = texts.iter().map(line).collect();
            if !lines.is_empty() {
                parts.push(lines.join("\n"));
            }
        }
        parts.join("\n\n")
    }
}

impl ImageReport {
    pub(super) fn new(manifest: &Manifest) -> Self {
        Self {
            platform: manifest.platform.as_ref().map(ToString::to_string),
            digest: manifest.digest.to_string(),
            layers: Vec::new(),
        }
    }

    fn to_table(&self) -> String {
        let platform = self.platform.as_deref().map(cell);
        let platform = platform.as_deref().unwrap_or("no platform");
        let mut text = format!("{platform} {}", self.digest);
        let tried = self.layers.iter().any(|layer| layer.opened_by.is_some());
        let mut rows = vec![LayerReport::heading(tried)];
        rows.extend(self.layers.iter().map(|layer| layer.row(tried)));
        let width = |column: usize| {
            let widths = rows.iter().map(|row| row[column].chars().count());
            widths.max().unwrap_or_default()
        };
        let widths: Vec<_> = (0..rows[0].len()).map(width).collect();
        for row in &rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:width$}  ");
            }
            text.push('\n');
            text.push_str(line.trim_end());
        }
        let warnings = self
            .layers
            .iter()
            .filter_map(|layer| layer.warning.as_ref());
        let errors = self.layers.iter().filter_map(|layer| layer.error.as_ref());
        for line in warnings.chain(errors) {
            text.push('\n');
            text.push_str(&escaped(line));
        }
        text
    }
}

impl LayerReport {
    pub(super) fn new(index: usize, layer: &Descriptor) -> Self {
        Self {
            index,
            media_type: layer.media_type.clone(),
            digest: layer.digest.to_string(),
            size: layer.size,
            encryption: None,
            opened_by: None,
            warning: media_type::is_encrypted_docker(&layer.media_type).then(|| {
                format!(
                    "layer {index} has a media type that no containerd opens: `ocihsm encrypt --key` turns it into {}",
                    media_type::normal(&layer.media_type)
                )
            }),
            error: None,
        }
    }

    pub(super) fn describe(&mut self, layer: &Locked) {
        let operations = layer.wrapped.keys.iter().map(|key| &key.operation);
        let mut oaep_hashes: Vec<_> = operations
            .filter_map(|operation| match operation {
                KeyOperation::RsaOaep { hash, .. } => Some(hash.as_str()),
                _ => None,
            })
            .collect();
        oaep_hashes.sort_unstable();
        oaep_hashes.dedup();
        self.encryption = Some(Encryption {
            cipher: layer.envelope.public_options.cipher_name.clone(),
            recipients: layer
                .envelope
                .schemes()
                .map(|(scheme, blobs)| {
                    let count = match *scheme == Scheme::pkcs11() {
                        true => layer.recipients(scheme),
                        // One message of PKCS#7 or OpenPGP is for several, too.
                        false => {
                            let read = layer.recipients(scheme);
                            recipients(&layer.envelope, scheme)
                                .unwrap_or(blobs)
                                .max(read)
                        }
                    };
                    (scheme.to_string(), count)
                })
                .collect(),
            oaep_hashes,
        });
    }

    fn heading(tried: bool) -> Vec<String> {
        let names = [
            "LAYER",
            "DIGEST",
            "MEDIA TYPE",
            "SIZE",
            "CIPHER",
            "RECIPIENTS",
            "OAEP HASH",
            "OPENED BY",
        ];
        let shown = names.len() - usize::from(!tried);
        names[..shown].iter().map(|&name| name.to_owned()).collect()
    }

    fn row(&self, tried: bool) -> Vec<String> {
        let short = self.digest.get(.."sha256:".len() + 12);
        let media_type = &self.media_type;
        let mut row = vec![
            self.index.to_string(),
            short.unwrap_or_default().to_owned(),
            cell(media_type.strip_prefix(LAYER_TYPES).unwrap_or(media_type)),
            BinaryBytes(self.size).to_string(),
        ];
        match (&self.encryption, &self.error) {
            (Some(encryption), _) => row.extend(encryption.cells()),
            (None, Some(_)) => row.extend(["broken", "-", "-"].map(str::to_owned)),
            (None, None) => row.extend(["-", "-", "-"].map(str::to_owned)),
        }
        if tried {
            let names = self.opened_by.as_deref().map(|names| match names {
                [] => "none".to_owned(),
                names => {
                    let names: Vec<_> = names.iter().map(|name| quoted(escaped(name))).collect();
                    names.join(", ")
                }
            });
            row.push(names.unwrap_or_else(|| "-".to_owned()));
        }
        row
    }
}

impl Encryption {
    fn cells(&self) -> [String; 3] {
        let recipients: Vec<_> = self
            .recipients
            .iter()
            .map(|(scheme, count)| format!("{count} {}", cell(scheme)))
            .collect();
        let hashes = match self.oaep_hashes[..] {
            [] => "-".to_owned(),
            ref hashes => hashes.join(", "),
        };
        let mut shown = recipients[..recipients.len().min(MAX_SCHEMES)].join(", ");
        if recipients.len() > MAX_SCHEMES {
            let _ = write!(shown, ", … ({} schemes)", recipients.len());
        }
        [cell(&self.cipher), shown, hashes]
    }
}

/// Recipients of a scheme whose blobs are JSON: a JWE has one, or a list of them (RFC 7516, section 7.2).
fn recipients(envelope: &Envelope, scheme: &Scheme) -> Option<usize> {
    let blobs: Vec<_> = envelope.blobs(scheme).collect::<Option<_>>()?;
    let count = |blob: &Vec<u8>| {
        let json: Value = serde_json::from_slice(blob).ok()?;
        Some(json.get("recipients")?.as_array()?.len())
    };
    Some(blobs.iter().map(|blob| count(blob).unwrap_or(1)).sum())
}

/// Text for the table: harmless, not so long that it fills the screen, and nothing that looks like several cells or
/// like a word of ours.
fn cell(text: &str) -> String {
    let text = escaped(text);
    quoted(match text.char_indices().nth(MAX_CELL) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    })
}

/// In quotes, if it could be taken for something else.
fn quoted(text: String) -> String {
    let ours = ["", "-", "none", "broken"].contains(&text.as_str());
    match ours || text.contains([' ', ',', '"']) {
        true => format!("\"{}\"", text.replace('"', "\\\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn layer(media_type: &str) -> LayerReport {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let json = json!({"mediaType": media_type, "digest": digest, "size": 2048});
        LayerReport::new(0, &Descriptor::parse(&json).unwrap())
    }

    fn report(layer: LayerReport) -> Report {
        Report {
            version: 1,
            media_type: String::new(),
            digest: String::new(),
            images: vec![ImageReport {
                platform: Some("linux/\u{1b}[2Jamd64".to_owned()),
                digest: "sha256:cd".to_owned(),
                layers: vec![layer],
            }],
            absent: Vec::new(),
            untried: Vec::new(),
        }
    }

    #[test]
    fn nothing_from_the_image_acts_on_a_terminal() {
        let report = report(layer("\u{1b}]0;x\u{7}\u{202e}\u{9b}\u{7f}"));
        for text in [report.to_table(), report.to_json()] {
            let harmless = |char: char| char == '\n' || char.is_ascii_graphic() || char == ' ';
            assert!(text.chars().all(harmless), "{text:?}");
        }
        let json: Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(
            json["images"][0]["layers"][0]["mediaType"],
            "\u{1b}]0;x\u{7}\u{202e}\u{9b}\u{7f}"
        );
    }

    #[test]
    fn columns_stand_below_one_another() {
        let mut layer = layer("application/vnd.oci.image.layer.v1.tar+gzip+encrypted");
        layer.encryption = Some(Encryption {
            cipher: "AES_256_CTR_HMAC_SHA256".to_owned(),
            recipients: BTreeMap::from([("jwe".to_owned(), 1), ("pkcs11".to_owned(), 2)]),
            oaep_hashes: vec!["sha1", "sha256"],
        });
        layer.opened_by = Some(vec!["a.yaml".to_owned()]);
        assert_eq!(
            report(layer).to_table(),
            "linux/\\u{1b}[2Jamd64 sha256:cd\n\
             LAYER  DIGEST               MEDIA TYPE          SIZE      CIPHER                   RECIPIENTS       OAEP HASH     OPENED BY\n\
             0      sha256:abababababab  tar+gzip+encrypted  2.00 KiB  AES_256_CTR_HMAC_SHA256  1 jwe, 2 pkcs11  sha1, sha256  a.yaml"
        );
    }

    #[test]
    fn nothing_from_the_image_looks_like_another_cell() {
        let mut layer = layer("tar+gzip+encrypted  2.00 KiB");
        layer.encryption = Some(Encryption {
            cipher: "broken".to_owned(),
            recipients: BTreeMap::from([("a, 3 pkcs11".to_owned(), 1), ("pkcs11".to_owned(), 1)]),
            oaep_hashes: Vec::new(),
        });
        layer.opened_by = Some(vec!["a, b \"c\".yaml".to_owned()]);
        let table = report(layer).to_table();
        for part in [
            "\"tar+gzip+encrypted  2.00 KiB\"  2.00 KiB",
            "  \"broken\"  1 \"a, 3 pkcs11\", 1 pkcs11  -",
            r#""a, b \"c\".yaml""#,
        ] {
            assert!(table.contains(part), "{part} is not in {table}");
        }
    }

    #[test]
    fn each_broken_layer_and_each_untried_key_has_a_line() {
        let broken = |why: &str| LayerReport {
            error: Some(why.to_owned()),
            ..layer("tar+gzip+encrypted")
        };
        let mut report = report(broken("layer one: \u{1b}"));
        report.images[0].layers.push(broken("layer two"));
        report.untried = vec!["a.yaml: absent".to_owned(), "b.yaml\n: absent".to_owned()];
        let table = report.to_table();
        let end = "\nlayer one: \\u{1b}\nlayer two\n\nuntried: a.yaml: absent\nuntried: b.yaml\\u{a}: absent";
        assert!(table.ends_with(end), "{table}");
        assert!(report.to_json().contains("\"untried\": ["));
    }

    #[test]
    fn a_very_long_media_type_is_cut() {
        let table = report(layer(&"x".repeat(100_000))).to_table();
        assert!(table.len() < 1000);
    }
}
