//! PEM (RFC 7468) as OpenSSL and Go read it: any line length, text before, between and after the blocks, headers,
//! several blocks in one file. The armor of OpenPGP (RFC 9580, section 6) is such a block.
//!
//! Says what the blocks are called and what is in them, not what that means. A block may be a private key, so what is
//! decoded is wiped.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::memmem;
use zeroize::Zeroizing;

use crate::secret::SecretBytes;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// Longest label that is taken, in bytes.
const MAX_LABEL: usize = 64;

/// Padding may be missing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What stands between two lines of dashes.
#[derive(Debug)]
pub struct Block {
    /// What the block calls itself: `PUBLIC KEY`.
    pub label: String,
    /// Whether a header says that it is encrypted as OpenSSL did it before PKCS#8 (RFC 1421, section 4.6.1.1).
    pub is_encrypted: bool,
    /// With what, then: the cipher and its initialisation vector, as the header `DEK-Info` has them.
    pub dek_info: Option<String>,
    /// Its content; `None` where that is no base64, or the block has no end.
    pub der: Option<SecretBytes>,
}

/// Whether a line of the text begins a block.
#[must_use]
pub fn is_in(text: &[u8]) -> bool {
    text.split(|byte| matches!(byte, b'\n' | b'\r'))
        .any(|line| line.trim_ascii_start().starts_with(BEGIN))
}

/// The blocks of a text in order.
pub fn blocks(text: &[u8]) -> impl Iterator<Item = Block> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let begin = memmem::find(rest, BEGIN)?;
            rest = &rest[begin + BEGIN.len()..];
            let Some(label) = label(rest) else { continue };
            let body = &rest[label.len() + DASHES.len()..];
            let ending = [END, label.as_bytes(), DASHES].concat();
            let end = memmem::find(body, &ending)
                .filter(|&end| memmem::find(&body[..end], BEGIN).is_none());
            rest = match end {
                Some(end) => &body[end + ending.len()..],
                None => body,
            };
            let (is_encrypted, dek_info, der) = match end {
                Some(end) => content(&body[..end]),
                None => (false, None, None),
            };
            return Some(Block {
                label: label.to_owned(),
                is_encrypted,
                dek_info,
                der,
            });
        }
    })
}

fn label(text: &[u8]) -> Option<&str> {
    let end = memmem::find(&text[..text.len().min(MAX_LABEL + DASHES.len())], DASHES)?;
    let label = std::str::from_utf8(&text[..end]).ok()?;
    let printable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    label.bytes().all(printable).then_some(label)
}

fn content(body: &[u8]) -> (bool, Option<String>, Option<SecretBytes>) {
    let (mut is_encrypted, mut dek_info) = (false, None);
    let mut text = Zeroizing::new(Vec::with_capacity(body.len()));
    let mut in_headers = false;
    for line in body.split(|byte| matches!(byte, b'\n' | b'\r')) {
        // No base64 has a colon. A header may go on in lines that begin with a blank.
        let is_header = line.contains(&b':');
        in_headers = is_header || (in_headers && line.starts_with(b" "));
        if in_headers {
            is_encrypted |= line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED");
            if let Some(value) = line.strip_prefix(b"DEK-Info:") {
                dek_info = Some(String::from_utf8_lossy(value).trim().to_owned());
            }
            continue;
        }
        // OpenPGP has a sum behind the content, which its standard says is not to be checked (RFC 9580, section 6.1).
        let line = line.trim_ascii();
        if matches!(line, [b'=', sum @ ..] if sum.len() == 4 && !sum.contains(&b'=')) {
            continue;
        }
        text.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
    }
    let mut der = Zeroizing::new(vec![0; text.len() / 4 * 3 + 3]);
    let decoded = BASE64.decode_slice(&*text, &mut der).ok().map(|length| {
        der.truncate(length);
        SecretBytes::new(std::mem::take(&mut der))
    });
    (is_encrypted, dek_info, decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "AAECAwQFBgcICQoLDA0ODw==";

    fn read(text: &str) -> Vec<(String, Option<Vec<u8>>)> {
        blocks(text.as_bytes())
            .map(|block| {
                let der = block.der.map(|der| der.expose().to_vec());
                (block.label, der)
            })
            .collect()
    }

    fn bytes() -> Option<Vec<u8>> {
        Some((0..16).collect())
    }

    #[test]
    fn one_block_in_every_layout() {
        for text in [
            format!("-----BEGIN A B-----\n{BODY}\n-----END A B-----\n"),
            format!("-----BEGIN A B-----\r\n{BODY}\r\n-----END A B-----\r\n"),
            format!("-----BEGIN A B-----\r{BODY}\r-----END A B-----"),
            format!("\n\nsubject=/CN=x\n-----BEGIN A B-----\n{BODY}\n-----END A B-----\n\nmore\n"),
            format!("\u{feff}-----BEGIN A B-----\n{BODY}\n\n-----END A B-----\n\n"),
            format!("-----BEGIN A B-----{BODY}-----END A B-----"),
            format!("  -----BEGIN A B-----\n  {BODY}\n  -----END A B-----\n"),
            format!("-----BEGIN A B-----  \n{BODY}  \n-----END A B-----\n"),
            "-----BEGIN A B-----\nAAECAwQFBg\ncICQoLDA\n0ODw\n-----END A B-----\n".to_owned(),
            format!(
                "-----BEGIN A B-----\nComment: \"x\"\nKey: a\n b\n\n{BODY}\n-----END A B-----\n"
            ),
            format!("see -----BEGIN X and\n-----BEGIN A B-----\n{BODY}\n-----END A B-----\n"),
        ] {
            assert_eq!(read(&text), [("A B".to_owned(), bytes())], "{text:?}");
        }
    }

    #[test]
    fn a_broken_block_hides_no_other() {
        let good = format!("-----BEGIN B-----\n{BODY}\n-----END B-----\n");
        for broken in [
            "-----BEGIN A-----\nAA*=\n-----END A-----\n",
            "-----BEGIN A-----\nAAEC\n",
            "-----BEGIN A-----\nAAEC\n-----END C-----\n",
        ] {
            let expected = [("A".to_owned(), None), ("B".to_owned(), bytes())];
            assert_eq!(read(&format!("{broken}{good}")), expected, "{broken}");
        }
        assert!(read("").is_empty() && read("-----BEGIN A").is_empty());
        assert!(read(&format!("-----BEGIN {}-----", "A".repeat(100))).is_empty());
    }

    #[test]
    fn old_encryption_is_seen() {
        let block = |headers: &str| {
            let text = format!("-----BEGIN K-----\n{headers}\n{BODY}\n-----END K-----\n");
            blocks(text.as_bytes()).next().unwrap().is_encrypted
        };
        assert!(block("Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n"));
        assert!(!block("Comment: ENCRYPTED\n"));
    }

    #[test]
    fn only_a_line_of_its_own_makes_a_text_pem() {
        assert!(is_in(
            b"Object 0:\n\turl: pkcs11:x\n-----BEGIN PUBLIC KEY-----\n"
        ));
        assert!(!is_in(b"a: \"-----BEGIN PUBLIC KEY-----\"\n"));
    }
}
