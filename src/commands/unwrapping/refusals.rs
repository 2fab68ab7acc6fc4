//! Why none of the keys opens a layer, as one sentence of a bounded length, and what to do about it.

use std::fmt;
use std::path::PathBuf;

use crate::error::fitted;
use crate::escape::escaped;
use crate::keys;
use crate::words::listed;

/// How many reasons are told of keys, and of files; and how many schemes.
const TOLD: usize = 3;
/// Most bytes of the reasons of keys together, and of files.
const REASONS: usize = 330;
/// Most bytes of a scheme's name.
const SCHEME: usize = 24;
/// Most bytes of where keys were looked for.
const SEARCHED: usize = 120;
/// Most bytes of a certificate's name.
const CERTIFICATE: usize = 60;

/// What was tried, and why it was in vain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Whether the layer's key is wrapped with a scheme that we open at all.
    pub for_pkcs11: bool,
    /// The schemes that we open, of those that it is wrapped with.
    pub schemes: Vec<String>,
    /// The other schemes that it is wrapped with.
    pub other_schemes: Vec<String>,
    /// Where keys were looked for.
    pub searched: Vec<PathBuf>,
    /// Files there that hold certificates and nothing else.
    pub certificates: Vec<PathBuf>,
    /// What each key says, in order.
    pub keys: Vec<Reason>,
    /// Files that are no keys, and keys without a module.
    pub skipped: Vec<Reason>,
}

/// Why one key, or one file, is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Which it is and what is wrong with it.
    pub text: String,
    /// What may mend it.
    pub cure: Cure,
}

/// What to do about a place without a key, of which `doctor` says the same.
pub(crate) const NO_KEY_FILE: &str =
    "put a PKCS#11 key file there: YAML with `pkcs11:` and below it `uri:`";

/// What may mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cure {
    /// Another key: nothing is wrong with this one, or it is no key.
    AnotherKey,
    /// What this hint says.
    Hint(String),
    /// Nobody knows.
    Unknown,
}

impl Refusals {
    /// What to do about it.
    pub(crate) fn hint(&self) -> String {
        if !self.for_pkcs11 {
            return "whoever encrypts the image has to name this node's public key as well, as a recipient \
                    pkcs11:FILE or jwe:FILE"
                .to_owned();
        }
        if self.keys.is_empty() && self.skipped.is_empty() && !self.searched.is_empty() {
            return NO_KEY_FILE.to_owned();
        }
        self.hint_about_keys().unwrap_or_else(|| {
            "give this node a key that the image was encrypted for, or the image one more recipient"
                .to_owned()
        })
    }

    /// What to do about keys that could not be tried; `None` where there are none of these.
    pub(crate) fn hint_about_keys(&self) -> Option<String> {
        let mut cures: Vec<&Cure> = Vec::new();
        for Reason { cure, .. } in self.keys.iter().chain(&self.skipped) {
            if *cure != Cure::AnotherKey && !cures.contains(&cure) {
                cures.push(cure);
            }
        }
        match cures.as_slice() {
            [] => None,
            [Cure::Hint(hint)] => Some(hint.clone()),
            _ => Some(
                "run `ocihsm doctor` on the node: it checks each key file and its token".to_owned(),
            ),
        }
    }
}

impl Reason {
    /// What an error says, and what its hint.
    pub(crate) fn new(error: &impl fmt::Display, hint: Option<String>) -> Self {
        Self {
            text: error.to_string(),
            cure: hint.map_or(Cure::Unknown, Cure::Hint),
        }
    }
}

impl From<&keys::Error> for Reason {
    fn from(error: &keys::Error) -> Self {
        match error {
            keys::Error::NotAKeyFile { .. } => Self {
                text: error.to_string(),
                cure: Cure::AnotherKey,
            },
            error => Self::new(error, error.hint()),
        }
    }
}

pub(crate) fn sentence(refusals: &Refusals) -> String {
    let others = names(&refusals.other_schemes);
    if !refusals.for_pkcs11 {
        return format!("its key is wrapped with {others} alone, which this program does not open");
    }
    // Most layers are wrapped for tokens, and nobody needs to be told.
    let mut sentence = match &refusals.schemes[..] {
        [] => String::new(),
        [only] if only == "pkcs11" => String::new(),
        schemes => format!("its key is wrapped with {}: ", names(schemes)),
    };
    sentence += &match refusals.keys[..] {
        [] => nothing_usable(refusals),
        ref keys => told(keys) + &skipped(refusals),
    };
    if !others.is_empty() {
        sentence += &format!("; it is also wrapped with {others}");
    }
    sentence
}

/// That there is no key to try, and why.
pub(crate) fn nothing_usable(refusals: &Refusals) -> String {
    let place = match &refusals.searched[..] {
        [] => "there is no key".to_owned(),
        searched => no_key_in(searched, &refusals.certificates),
    };
    place + &skipped(refusals)
}

/// The same of these places, of which `doctor` says it too; a certificate there is most likely taken for a key.
pub(crate) fn no_key_in(places: &[PathBuf], certificates: &[PathBuf]) -> String {
    let places = fitted(&listed(places), SEARCHED);
    let name = |path: &PathBuf| {
        let name = path.file_name().unwrap_or(path.as_os_str());
        fitted(&name.to_string_lossy(), CERTIFICATE)
    };
    let certificates = match certificates {
        [] => String::new(),
        [one] => format!(": {} is a certificate (public), not a key", name(one)),
        [first, others @ ..] => format!(
            ": {} and {} more are certificates (public), not keys",
            name(first),
            others.len()
        ),
    };
    format!("there is no usable key in {places}{certificates}")
}

fn skipped(refusals: &Refusals) -> String {
    match &refusals.skipped[..] {
        [] => String::new(),
        skipped => format!("; skipped {}", told(skipped)),
    }
}

/// Names of schemes are parts of annotations' names, so whoever wrote the manifest chose them.
fn names(schemes: &[String]) -> String {
    let more = schemes.len().saturating_sub(TOLD);
    let mut names: Vec<String> = schemes
        .iter()
        .take(TOLD)
        .map(|name| fitted(&escaped(name), SCHEME))
        .collect();
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}

fn told(reasons: &[Reason]) -> String {
    let mut distinct: Vec<&str> = Vec::new();
    for reason in reasons {
        if !distinct.contains(&reason.text.as_str()) {
            distinct.push(&reason.text);
        }
    }
    let more = distinct.len().saturating_sub(TOLD);
    distinct.truncate(TOLD);
    let each = REASONS / distinct.len().max(1);
    let mut sentence: Vec<String> = distinct.iter().map(|text| fitted(text, each)).collect();
    if more > 0 {
        sentence.push(format!("and {more} more"));
    }
    sentence.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::Error;

    fn reason(text: &str, cure: Cure) -> Reason {
        Reason {
            text: text.to_owned(),
            cure,
        }
    }

    fn hint(text: &str) -> Cure {
        Cure::Hint(text.to_owned())
    }

    fn refusals(keys: Vec<Reason>, skipped: Vec<Reason>) -> Refusals {
        Refusals {
            for_pkcs11: true,
            keys,
            skipped,
            ..Refusals::default()
        }
    }

    #[test]
    fn many_long_reasons_have_a_bound() {
        let reasons: Vec<Reason> = (0..50)
            .map(|n| reason(&format!("token {n} {}", "x".repeat(400)), Cure::Unknown))
            .collect();
        let refusals = Refusals {
            other_schemes: vec!["jwe".to_owned()],
            ..refusals(reasons.clone(), reasons)
        };
        let sentence = sentence(&refusals);
        assert!(
            sentence.len() < 800 && sentence.contains("and 47 more"),
            "{sentence}"
        );
    }

    #[test]
    fn a_reason_is_told_once() {
        let a = reason("a", Cure::Unknown);
        assert_eq!(sentence(&refusals(vec![a.clone(), a], Vec::new())), "a");
    }

    #[test]
    fn another_key_is_asked_for_only_where_each_was_tried_or_there_was_none() {
        let another = || reason("a: the wrapped keys are for other keys", Cure::AnotherKey);
        for nothing_wrong in [
            refusals(vec![another(), another()], Vec::new()),
            refusals(Vec::new(), vec![another()]),
            refusals(Vec::new(), Vec::new()),
        ] {
            assert!(nothing_wrong.hint().starts_with("give this node a key"));
        }
    }

    #[test]
    fn a_place_without_keys_is_no_matter_of_recipients() {
        let refusals = Refusals {
            searched: vec!["/keys".into()],
            ..refusals(Vec::new(), Vec::new())
        };
        assert_eq!(refusals.hint(), NO_KEY_FILE);
    }

    #[test]
    fn a_certificate_is_told_where_there_is_no_key() {
        let told = |certificates: &[&str]| {
            let certificates: Vec<_> = certificates.iter().map(PathBuf::from).collect();
            no_key_in(&["/keys".into()], &certificates)
        };
        assert_eq!(
            told(&["/keys/deep/cert.pem"]),
            "there is no usable key in /keys: cert.pem is a certificate (public), not a key"
        );
        assert!(
            told(&["/keys/a", "/keys/b", "/keys/c"]).contains(": a and 2 more are certificates")
        );
        let long = format!("/keys/{}", "x".repeat(250));
        assert!(told(&[long.as_str()]).len() < 150);
    }

    #[test]
    fn the_one_hint_of_the_reasons_is_passed_on() {
        let another = reason("a", Cure::AnotherKey);
        let absent = reason("b: no token", hint("start it"));
        let refused = refusals(vec![another, absent.clone()], vec![absent.clone()]);
        assert_eq!(refused.hint(), "start it");
        for several in [
            refusals(
                vec![absent.clone(), reason("c", hint("load it"))],
                Vec::new(),
            ),
            refusals(vec![absent], vec![reason("c", Cure::Unknown)]),
            refusals(Vec::new(), vec![reason("c", Cure::Unknown)]),
        ] {
            assert!(several.hint().starts_with("run `ocihsm doctor`"));
        }
    }

    #[test]
    fn the_scheme_is_told_before_the_keys_where_it_is_not_the_usual_one() {
        let with = |schemes: &[&str]| Refusals {
            schemes: schemes.iter().map(|&name| name.to_owned()).collect(),
            ..refusals(vec![reason("a", Cure::Unknown)], Vec::new())
        };
        assert_eq!(sentence(&with(&["pkcs11"])), "a");
        assert_eq!(
            sentence(&with(&["jwe", "pkcs11"])),
            "its key is wrapped with jwe, pkcs11: a"
        );
    }

    #[test]
    fn a_layer_for_others_says_so() {
        let refusals = Refusals {
            other_schemes: vec!["pgp".to_owned(), "tpm".to_owned()],
            ..Refusals::default()
        };
        assert_eq!(
            sentence(&refusals),
            "its key is wrapped with pgp, tpm alone, which this program does not open"
        );
        assert!(refusals.hint().contains("pkcs11:FILE"));
    }

    #[test]
    fn a_scheme_cannot_write_to_the_terminal_or_fill_an_event() {
        let refusals = Refusals {
            other_schemes: vec!["\u{1b}[2J\u{202e}x".repeat(1000); 20],
            ..Refusals::default()
        };
        let sentence = sentence(&refusals);
        assert!(!sentence.contains(['\u{1b}', '\u{202e}']), "{sentence:?}");
        assert!(sentence.len() < 200, "{sentence}");
    }

    #[test]
    fn the_longest_refusal_keeps_its_reason_and_its_hint() {
        let name = |n: usize| format!("/{}/{n}.yaml", "very long name ".repeat(100));
        let reasons = |hint: &str| -> Vec<Reason> {
            let reason = |n| Reason {
                text: format!("{}: no token matches pkcs11:{}", name(n), "ü".repeat(3000)),
                cure: Cure::Hint(hint.to_owned()),
            };
            (0..50).map(reason).collect()
        };
        let error = Error::NoKeyOpens {
            digest: Some(format!("sha256:{}", "ab".repeat(32)).parse().unwrap()),
            refusals: Box::new(Refusals {
                for_pkcs11: true,
                schemes: vec!["jwe".to_owned()],
                other_schemes: vec!["\u{202e}scheme ".repeat(500); 50],
                searched: vec![PathBuf::from(name(0)); 50],
                certificates: vec![PathBuf::from(name(0)); 50],
                keys: reasons("one"),
                skipped: reasons("another"),
            }),
        };
        let line = error.event_line();
        assert!(line.len() <= 600, "{} bytes: {line}", line.len());
        assert!(line.starts_with("ocihsm: error: cannot open layer sha256:abab"));
        assert!(line.contains("no token matches pkcs11:"), "{line}");
        assert!(line.contains("; hint: run `ocihsm doctor`"), "{line}");
    }
}
