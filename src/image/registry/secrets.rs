//! What a registry says when it refuses, as far as a message may show it: some say what we have sent them, with the login.

use std::io::Read;
use std::sync::Arc;

use zeroize::Zeroizing;

/// Most characters of an answer that a message shows.
const MAX_SAID: usize = 200;
/// Shortest part of a secret that is looked for: shorter ones are in many a text.
const PIECE: usize = 4;

type Secrets<'a> = &'a [Arc<Zeroizing<String>>];

/// The start of a text; empty if it has something of a secret.
pub(super) fn said(text: &mut impl Read, secrets: Secrets<'_>) -> String {
    // As much more that a secret which begins in what is shown is read to its end.
    let longest = secrets.iter().map(|secret| secret.len()).max();
    let limit = 4 * MAX_SAID + longest.unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::new());
    let _ = text.take(limit as u64).read_to_end(&mut bytes);
    let text = Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
    match has_any(&text, secrets) {
        true => String::new(),
        false => text.chars().take(MAX_SAID).collect(),
    }
}

/// Whether a text has something of a secret in it. Signs of a secret may be written in another way there (`%2B`, `\u002b`);
/// letters and digits stay what they are.
pub(super) fn has_any(text: &str, secrets: Secrets<'_>) -> bool {
    secrets.iter().any(|secret| {
        let secret = ["Basic ", "Bearer "]
            .iter()
            .find_map(|scheme| secret.strip_prefix(scheme))
            .unwrap_or(secret);
        let pieces = secret.split(|it: char| !it.is_ascii_alphanumeric());
        let mut pieces = pieces.filter(|piece| piece.len() >= PIECE).peekable();
        match pieces.peek() {
            None => !secret.is_empty() && text.contains(secret),
            Some(_) => pieces.any(|piece| text.contains(piece)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_not_shown_that_has_something_of_a_secret() {
        let secrets: Vec<_> = ["Basic bWU6b3Blbg+/x==", "open/sesame", "a+b"]
            .map(|secret| Arc::new(Zeroizing::new(secret.to_owned())))
            .into();
        for (text, is_shown) in [
            ("authorization: Basic bWU6b3Blbg+/x==", false),
            (r#"{"authorization":"Basic bWU6b3Blbg+\/x\u003d="}"#, false),
            ("password=open%2Fsesame", false),
            ("it is a+b", false),
            ("denied: no room, a Basic or a Bearer login is fine", true),
        ] {
            for before in ["", &" ".repeat(MAX_SAID - 1), &" ".repeat(MAX_SAID - 16)] {
                let text = format!("{before}{text}");
                let said = said(&mut text.as_bytes(), &secrets);
                let expected: String = text.chars().take(MAX_SAID).collect();
                assert_eq!(said, if is_shown { &*expected } else { "" }, "{text}");
            }
        }
        assert_eq!(said(&mut &b"no"[..], &[]), "no");
    }
}
