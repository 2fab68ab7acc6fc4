//! PEM as OpenSSL and Go read it (RFC 7468, lax): lines of any length, text before and after, several blocks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// One block: what stands between `-----BEGIN LABEL-----` and `-----END LABEL-----`.
pub(super) struct Block<'a> {
    /// The label: `PRIVATE KEY`.
    pub(super) label: &'a str,
    /// The lines before the base64 that have a colon (RFC 1421): the encryption of a traditional key.
    pub(super) headers: Vec<(&'a str, &'a str)>,
    /// The content. It may be a secret.
    pub(super) der: Zeroizing<Vec<u8>>,
}

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// Whether there is a block at all.
pub(super) fn is_pem(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, BEGIN.as_bytes()).is_some()
}

/// Every block of a text; `None` stands where one is broken.
pub(super) fn blocks(bytes: &[u8]) -> Vec<Option<Block<'_>>> {
    let mut blocks = Vec::new();
    let mut rest = bytes;
    while let Some(start) = memchr::memmem::find(rest, BEGIN.as_bytes()) {
        rest = &rest[start + BEGIN.len()..];
        match block(rest) {
            Some((block, end)) => {
                blocks.push(Some(block));
                rest = &rest[end..];
            }
            None => blocks.push(None),
        }
    }
    blocks
}

/// Reads a block from behind its `-----BEGIN `; gives where it ends, too.
fn block(text: &[u8]) -> Option<(Block<'_>, usize)> {
    let label_end = memchr::memmem::find(text, DASHES.as_bytes())?;
    let label = std::str::from_utf8(&text[..label_end]).ok()?;
    let start = label_end + DASHES.len();
    let end_line = format!("{DASHES}END {label}{DASHES}");
    let len = memchr::memmem::find(&text[start..], end_line.as_bytes())?;
    let body = std::str::from_utf8(&text[start..start + len]).ok()?;

    let mut headers = Vec::new();
    let mut base64 = Zeroizing::new(String::with_capacity(body.len()));
    for line in body.lines() {
        match line.split_once(':') {
            Some((name, value)) if base64.is_empty() => headers.push((name.trim(), value.trim())),
            _ => base64.extend(line.chars().filter(|char| !char.is_ascii_whitespace())),
        }
    }
    let der = Zeroizing::new(STANDARD.decode(base64.as_bytes()).ok()?);
    let block = Block {
        label,
        headers,
        der,
    };
    Some((block, start + len + end_line.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_any_length_text_around_and_several_blocks() {
        let text = b"words\n-----BEGIN A KEY-----\r\nProc-Type: 4,ENCRYPTED\nDEK-Info: X,00\n\nAA\nEC\n-----END A KEY-----\
            more\n-----BEGIN B-----AAEC-----END B-----\n-----BEGIN C-----\n***\n-----END C-----\n-----BEGIN D-----\nAAEC\n";
        let blocks = blocks(text);
        assert_eq!(blocks.len(), 4);
        let first = blocks[0].as_ref().unwrap();
        assert_eq!(
            (first.label, first.der.as_slice()),
            ("A KEY", &[0, 1, 2][..])
        );
        assert_eq!(
            first.headers,
            [("Proc-Type", "4,ENCRYPTED"), ("DEK-Info", "X,00")]
        );
        assert_eq!(blocks[1].as_ref().unwrap().label, "B");
        assert!(blocks[2].is_none() && blocks[3].is_none());
    }
}
