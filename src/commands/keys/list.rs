//! `ocihsm keys list`: tokens and their RSA keys, each with the URI that belongs in a key file.

use std::path::Path;

use serde::Serialize;

use super::survey::{self, Asked, Survey};
use crate::commands::Result;
use crate::commands::args::HsmArgs;
use crate::commands::pin::PinArgs;
use crate::commands::print;
use crate::escape::escaped;
use crate::hsm::{self, Patience, Permission, RsaKey, Token};
use crate::keys::policy::Policy;
use crate::keys::uri::Pkcs11Uri;

/// Arguments of `keys list`.
#[derive(clap::Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// PKCS#11 module, by its path or by the name that a URI's module-name would give; else all that the module
    /// policy leads to
    #[arg(long, value_name = "NAME|PATH")]
    pub module: Option<String>,
    /// Only this token
    #[arg(long, value_name = "LABEL|URI")]
    pub token: Option<String>,
    /// Where its PIN is.
    #[command(flatten)]
    pub pin: PinArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// How to treat the token.
    #[command(flatten)]
    pub hsm: HsmArgs,
}

const AFTER_HELP: &str = "\
Most tokens hide private keys until somebody logs in, and show public keys to everybody. With --token and its PIN the \
private keys are listed too; without --token no PIN is used. The modules find their tokens as always, SoftHSM by \
SOFTHSM2_CONF for example.

Examples:
  ocihsm keys list
  ocihsm keys list --token prod --pin-file pin --json";

/// What is printed as JSON.
#[derive(Serialize)]
struct Listing {
    version: u32,
    modules: Vec<ListedModule>,
}

#[derive(Serialize)]
struct ListedModule {
    module: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    tokens: Vec<ListedToken>,
}

#[derive(Serialize)]
struct ListedToken {
    label: String,
    manufacturer: String,
    model: String,
    serial: String,
    slot: u64,
    uri: String,
    login: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    keys: Vec<ListedKey>,
}

#[derive(Serialize)]
struct ListedKey {
    label: String,
    /// Hexadecimal.
    id: String,
    bits: u32,
    /// Which halves were seen.
    public: bool,
    private: bool,
    may: Vec<Permission>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let policy = survey::policy()?;
    let settings = args.hsm.settings();
    let uri = match &args.token {
        Some(token) => survey::token_uri(token)?,
        None => Pkcs11Uri::default(),
    };
    // A PIN is for one token, so without --token it is not even looked at.
    let pin = match args.token {
        Some(_) => args.pin.given()?,
        None => None,
    };
    let mut survey = Survey::new(&settings, &policy, args.module.as_deref(), &uri)?;
    if pin.is_some() {
        let (module, _) = survey.only(&uri)?;
        let key = survey::token_key(&uri, module, pin.as_ref());
        let tokens = hsm::tokens(&settings, &key, Patience::Some);
        survey.modules = vec![Asked {
            tokens: Ok(tokens?),
            module: key.module,
        }];
    }
    let listing = Listing::new(&policy, &survey);
    if args.json {
        let text = serde_json::to_string_pretty(&listing);
        return print(&text.expect("strings, numbers and lists are always JSON"));
    }
    for problem in listing.problems() {
        tracing::warn!("{problem}");
    }
    print(&listing.to_text())
}

impl Listing {
    fn new(policy: &Policy, survey: &Survey) -> Self {
        let modules = survey.modules.iter().map(|Asked { module, tokens }| {
            let (tokens, error) = match tokens {
                Ok(tokens) => (tokens.as_slice(), None),
                Err(error) => (&[][..], Some(error.to_string())),
            };
            ListedModule {
                module: module.display().to_string(),
                error,
                tokens: tokens
                    .iter()
                    .map(|token| ListedToken::new(policy, module, token, tokens))
                    .collect(),
            }
        });
        Self {
            version: 1,
            modules: modules.collect(),
        }
    }

    /// What could not be listed, and why.
    fn problems(&self) -> Vec<String> {
        let tokens = self.modules.iter().flat_map(|module| &module.tokens);
        let of_modules = self
            .modules
            .iter()
            .filter_map(|module| module.error.clone());
        of_modules
            .chain(tokens.filter_map(|token| token.error.clone()))
            .collect()
    }

    fn to_text(&self) -> String {
        let mut rows = vec![["TOKEN", "LOGIN", "KEY", "SEEN", "MAY", "URI"].map(str::to_owned)];
        for token in self.modules.iter().flat_map(|module| &module.tokens) {
            for key in &token.keys {
                rows.push(row(token, Some(key)));
            }
            if token.keys.is_empty() {
                rows.push(row(token, None));
            }
        }
        if rows.len() == 1 {
            return match self.modules.len() {
                0 => "the module policy leads to no PKCS#11 module".to_owned(),
                1 => format!("no token in {}", escaped(&self.modules[0].module)),
                several => format!("no token in any of {several} modules"),
            };
        }
        lined_up(&rows)
    }
}

impl ListedToken {
    /// A token, with a URI that tells it from the others of its module, as far as anything does.
    fn new(policy: &Policy, module: &Path, token: &Token, all: &[Token]) -> Self {
        let several = |same: fn(&Token, &Token) -> bool| {
            all.iter().filter(|other| same(token, other)).count() > 1
        };
        let shares_label = several(|a, b| a.label == b.label);
        let shares_serial = several(|a, b| (&a.label, &a.serial) == (&b.label, &b.serial));
        let is_shown_twice = several(|a, b| {
            (&a.label, &a.serial, &a.model, &a.manufacturer)
                == (&b.label, &b.serial, &b.model, &b.manufacturer)
        });
        let where_shared = |text: &String| {
            Some(text.clone()).filter(|text| shares_serial && !is_shown_twice && !text.is_empty())
        };
        let (keys, error) = match &token.keys {
            Ok(keys) => (keys.as_slice(), None),
            Err(error) => (&[][..], Some(error.to_string())),
        };
        let label = Some(&token.label).filter(|label| !label.is_empty());
        let mut uri = Pkcs11Uri {
            token: label.cloned(),
            serial: Some(token.serial.clone()).filter(|serial| shares_label && !serial.is_empty()),
            model: where_shared(&token.model),
            manufacturer: where_shared(&token.manufacturer),
            slot_id: (label.is_none() || is_shown_twice).then_some(token.slot),
            ..Pkcs11Uri::default()
        };
        survey::name_module(policy, module, &mut uri);
        Self {
            label: token.label.clone(),
            manufacturer: token.manufacturer.clone(),
            model: token.model.clone(),
            serial: token.serial.clone(),
            slot: token.slot,
            login: login(token),
            error,
            keys: keys.iter().map(|key| ListedKey::new(&uri, key)).collect(),
            uri: uri.with_query(),
        }
    }
}

impl ListedKey {
    fn new(token: &Pkcs11Uri, key: &RsaKey) -> Self {
        let uri = Pkcs11Uri {
            id: Some(key.id.clone()).filter(|id| !id.is_empty()),
            object: Some(key.label.clone()).filter(|label| !label.is_empty()),
            object_type: Some("private".to_owned()),
            ..token.clone()
        };
        Self {
            label: key.label.clone(),
            id: key.id.iter().map(|byte| format!("{byte:02x}")).collect(),
            bits: key.bits,
            public: key.public,
            private: key.private,
            may: key.may.clone(),
            // One with neither cannot be told from others.
            uri: (uri.id.is_some() || uri.object.is_some()).then(|| uri.with_query()),
        }
    }
}

/// What private keys take to be seen and used.
fn login(token: &Token) -> &'static str {
    match token {
        Token {
            needs_login: false, ..
        } => "none",
        Token {
            is_locked: true, ..
        } => "PIN locked",
        Token {
            is_final_try: true, ..
        } => "PIN, last try",
        Token {
            has_pin_pad: true, ..
        } => "PIN pad",
        _ => "PIN",
    }
}

fn row(token: &ListedToken, key: Option<&ListedKey>) -> [String; 6] {
    let none = || "-".to_owned();
    let (size, seen, may, uri) = match key {
        None if token.error.is_some() => ("unknown".to_owned(), none(), none(), none()),
        None => ("none".to_owned(), none(), none(), none()),
        Some(key) => {
            let seen = match (key.public, key.private) {
                (true, true) => "pair",
                (true, false) => "public",
                _ => "private",
            };
            let may: Vec<_> = key.may.iter().map(ToString::to_string).collect();
            let size = match key.bits {
                0 => "RSA".to_owned(),
                bits => format!("RSA-{bits}"),
            };
            let uri = key.uri.clone().unwrap_or_else(none);
            (size, seen.to_owned(), may.join(", "), uri)
        }
    };
    let may = if may.is_empty() { none() } else { may };
    [
        escaped(&token.label),
        token.login.to_owned(),
        size,
        seen,
        may,
        escaped(&uri),
    ]
}

/// The columns at one width each; the last one as long as it is.
fn lined_up<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..N).map(width).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths);
        let line: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        line.join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::policy::Policy;

    fn token(label: &str, keys: Vec<RsaKey>) -> Token {
        Token {
            label: label.to_owned(),
            manufacturer: "m".to_owned(),
            model: "x".to_owned(),
            serial: "s1".to_owned(),
            slot: 7,
            needs_login: true,
            has_pin_pad: false,
            is_locked: false,
            is_final_try: false,
            keys: Ok(keys),
        }
    }

    fn key(label: &str) -> RsaKey {
        RsaKey {
            id: vec![0xab],
            label: label.to_owned(),
            bits: 3072,
            public: true,
            private: true,
            may: vec![Permission::Encrypt, Permission::Decrypt],
        }
    }

    fn listing(tokens: Vec<Token>) -> Listing {
        let survey = Survey {
            modules: vec![Asked {
                module: "/nowhere/m.so".into(),
                tokens: Ok(tokens),
            }],
        };
        Listing::new(&Policy::built_in(), &survey)
    }

    #[test]
    fn columns_line_up_and_labels_cannot_reach_the_terminal() {
        let text = listing(vec![
            token("a\u{1b}[2Jb", vec![key("k")]),
            token("long label", Vec::new()),
        ])
        .to_text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(!text.contains('\u{1b}'));
        for column in ["LOGIN", "KEY", "SEEN", "MAY", "URI"] {
            let at = lines[0].find(column).unwrap();
            for line in &lines {
                assert_eq!(&line[at - 2..at], "  ", "{column} in {line:?}");
            }
        }
        assert!(
            lines[1].contains(
                "RSA-3072  pair  encrypt, decrypt  pkcs11:token=a%1B%5B2Jb;id=%AB;object=k"
            )
        );
        assert!(lines[1].ends_with(";type=private?module-path=/nowhere/m.so"));
        assert!(lines[2].contains("none"));
    }

    #[test]
    fn uris_of_tokens_with_one_label_tell_them_apart() {
        let mut second = token("same", vec![key("k")]);
        second.serial = "s2".to_owned();
        let text = listing(vec![token("same", vec![key("k")]), second]).to_text();
        assert!(text.contains("pkcs11:serial=s1;token=same;"));
        assert!(text.contains("pkcs11:serial=s2;token=same;"));
        let alone = listing(vec![token("same", vec![key("k")])]).to_text();
        assert!(!alone.contains("serial"));
        let mut second = token("same", vec![key("k")]);
        second.slot = 8;
        let text = listing(vec![token("same", vec![key("k")]), second]).to_text();
        assert!(
            text.contains("slot-id=7") && text.contains("slot-id=8"),
            "{text}"
        );
        let mut second = token("same", vec![key("k")]);
        second.model = "y".to_owned();
        let text = listing(vec![token("same", vec![key("k")]), second]).to_text();
        assert!(
            text.contains("model=x") && text.contains("model=y"),
            "{text}"
        );
        assert!(!text.contains("slot-id"), "{text}");
    }

    #[test]
    fn what_has_no_name_is_named_by_its_slot_or_not_at_all() {
        let mut nameless = key("");
        nameless.id.clear();
        let text = listing(vec![token("", vec![key("k"), nameless])]).to_text();
        assert!(text.contains("pkcs11:slot-id=7;id=%AB"));
        assert!(text.lines().nth(2).unwrap().ends_with(" -"));
    }
}
