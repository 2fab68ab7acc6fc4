//! Why none of the keys opens a layer, as one sentence that fits in a Kubernetes event.

use std::path::PathBuf;

use crate::escape::escaped;

/// How many reasons are told.
const TOLD: usize = 3;
/// Most bytes of one reason.
const LONGEST: usize = 120;

/// What was tried, and why it was in vain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Whether the layer's key is wrapped for PKCS#11 keys at all.
    pub for_pkcs11: bool,
    /// The other schemes that it is wrapped with.
    pub other_schemes: Vec<String>,
    /// Where keys were looked for.
    pub searched: Vec<PathBuf>,
    /// What each key says, in order.
    pub keys: Vec<String>,
    /// Files that are no keys, each with the reason.
    pub skipped: Vec<String>,
}

pub(super) fn sentence(refusals: &Refusals) -> String {
    let others = names(&refusals.other_schemes);
    if !refusals.for_pkcs11 {
        return format!("its key is wrapped with {others} alone, not with pkcs11");
    }
    let mut sentence = if refusals.keys.is_empty() {
        no_key(&refusals.searched)
    } else {
        told(&refusals.keys)
    };
    if !refusals.skipped.is_empty() {
        sentence += &format!("; skipped {}", told(&refusals.skipped));
    }
    if !others.is_empty() {
        sentence += &format!("; it is also wrapped with {others}");
    }
    sentence
}

/// Names of schemes are parts of annotations' names, so whoever wrote the manifest chose them.
fn names(schemes: &[String]) -> String {
    let more = schemes.len().saturating_sub(TOLD);
    let mut names: Vec<String> = schemes
        .iter()
        .take(TOLD)
        .map(|name| shortened(&escaped(name)))
        .collect();
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}

fn no_key(searched: &[PathBuf]) -> String {
    match searched {
        [] => "there is no key file".to_owned(),
        _ => format!(
            "there is no usable key file in {}",
            shortened(&super::listed(searched))
        ),
    }
}

fn told(reasons: &[String]) -> String {
    let mut told: Vec<&str> = Vec::new();
    for reason in reasons {
        if !told.contains(&reason.as_str()) {
            told.push(reason);
        }
    }
    let more = told.len().saturating_sub(TOLD);
    let mut sentence: Vec<String> = told
        .iter()
        .take(TOLD)
        .map(|reason| shortened(reason))
        .collect();
    if more > 0 {
        sentence.push(format!("and {more} more"));
    }
    sentence.join("; ")
}

fn shortened(reason: &str) -> String {
    if reason.len() <= LONGEST {
        return reason.to_owned();
    }
    let end = (0..LONGEST)
        .rev()
        .find(|at| reason.is_char_boundary(*at))
        .unwrap_or_default();
    format!("{}…", &reason[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_long_reasons_still_fit_in_an_event() {
        let reasons: Vec<String> = (0..50)
            .map(|n| format!("token {n} {}", "x".repeat(400)))
            .collect();
        let refusals = Refusals {
            for_pkcs11: true,
            other_schemes: vec!["jwe".to_owned()],
            searched: Vec::new(),
            keys: reasons.clone(),
            skipped: reasons,
        };
        let sentence = sentence(&refusals);
        assert!(
            sentence.len() < 1024 - 20 && sentence.contains("and 47 more"),
            "{sentence}"
        );
    }

    #[test]
    fn a_reason_is_told_once() {
        let refusals = Refusals {
            for_pkcs11: true,
            keys: vec!["a".to_owned(), "a".to_owned()],
            ..Refusals::default()
        };
        assert_eq!(sentence(&refusals), "a");
    }

    #[test]
    fn a_layer_for_others_says_so() {
        let refusals = Refusals {
            other_schemes: vec!["jwe".to_owned(), "pgp".to_owned()],
            ..Refusals::default()
        };
        assert_eq!(
            sentence(&refusals),
            "its key is wrapped with jwe, pgp alone, not with pkcs11"
        );
    }

    #[test]
    fn a_scheme_cannot_write_to_the_terminal_or_fill_an_event() {
        let refusals = Refusals {
            other_schemes: vec!["\u{1b}[2J\u{202e}x".repeat(1000); 20],
            ..Refusals::default()
        };
        let sentence = sentence(&refusals);
        assert!(!sentence.contains(['\u{1b}', '\u{202e}']), "{sentence:?}");
        assert!(sentence.len() < 600, "{sentence}");
    }
}
