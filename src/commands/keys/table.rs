//! A listing of keys, for whoever reads it in a terminal.

use super::listing::{ListedKey, ListedToken, Listing};
use crate::escape::escaped;

/// A row for each key, and for each token without any.
pub(super) fn to_text(listing: &Listing) -> String {
    let mut rows = vec![["TOKEN", "LOGIN", "KEY", "SEEN", "MAY", "URI"].map(str::to_owned)];
    for token in listing.modules.iter().flat_map(|module| &module.tokens) {
        for key in &token.keys {
            rows.push(row(token, Some(key)));
        }
        if token.keys.is_empty() {
            rows.push(row(token, None));
        }
    }
    if rows.len() == 1 {
        return match listing.modules.len() {
            0 => "the module policy leads to no PKCS#11 module".to_owned(),
            1 => format!("no token in {}", escaped(&listing.modules[0].module)),
            several => format!("no token in any of {several} modules"),
        };
    }
    lined_up(&rows) + &mechanisms(listing)
}

/// What each token does, below the table.
fn mechanisms(listing: &Listing) -> String {
    let tokens = listing.modules.iter().flat_map(|module| &module.tokens);
    let tell = |token: &ListedToken| {
        let label = escaped(&token.label);
        format!(
            "\ntoken \"{label}\" does {}",
            escaped(&token.mechanisms.join(", "))
        )
    };
    let told: Vec<_> = (tokens.filter(|token| !token.mechanisms.is_empty()))
        .map(tell)
        .collect();
    match told.is_empty() {
        true => String::new(),
        false => format!("\n{}", told.concat()),
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
            let uri = key.uri.clone().unwrap_or_else(none);
            (key.kind.to_string(), seen.to_owned(), may.join(", "), uri)
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
    use crate::commands::keys::survey::{Asked, Survey};
    use crate::hsm::{Permission, ShownKey, ShownKind, Token};
    use crate::keys::policy::Policy;
    use crate::operation::Curve;

    fn token(label: &str, keys: Vec<ShownKey>) -> Token {
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
            mechanisms: Vec::new(),
            keys: Ok(keys),
        }
    }

    fn key(label: &str) -> ShownKey {
        ShownKey {
            id: vec![0xab],
            label: label.to_owned(),
            kind: ShownKind::Rsa { bits: 3072 },
            public: true,
            private: true,
            may: vec![Permission::Encrypt, Permission::Decrypt],
        }
    }

    fn shown(tokens: Vec<Token>) -> String {
        let survey = Survey {
            modules: vec![Asked {
                module: "/nowhere/m.so".into(),
                tokens: Ok(tokens),
            }],
        };
        to_text(&Listing::new(&Policy::built_in(), &survey))
    }

    #[test]
    fn columns_line_up_and_labels_cannot_reach_the_terminal() {
        let text = shown(vec![
            token("a\u{1b}[2Jb", vec![key("k")]),
            token("long label", Vec::new()),
        ]);
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
        let text = shown(vec![token("same", vec![key("k")]), second]);
        assert!(text.contains("pkcs11:serial=s1;token=same;"));
        assert!(text.contains("pkcs11:serial=s2;token=same;"));
        let alone = shown(vec![token("same", vec![key("k")])]);
        assert!(!alone.contains("serial"));
        let mut second = token("same", vec![key("k")]);
        second.slot = 8;
        let text = shown(vec![token("same", vec![key("k")]), second]);
        assert!(
            text.contains("slot-id=7") && text.contains("slot-id=8"),
            "{text}"
        );
        let mut second = token("same", vec![key("k")]);
        second.model = "y".to_owned();
        let text = shown(vec![token("same", vec![key("k")]), second]);
        assert!(
            text.contains("model=x") && text.contains("model=y"),
            "{text}"
        );
        assert!(!text.contains("slot-id"), "{text}");
    }

    #[test]
    fn a_key_on_a_curve_is_shown_with_it() {
        let on = |curve| ShownKey {
            kind: ShownKind::Ec { curve },
            may: vec![Permission::Derive],
            ..key("k")
        };
        let text = shown(vec![token("t", vec![on(Some(Curve::P384)), on(None)])]);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].contains("P-384  pair  derive  pkcs11:token=t;id=%AB"));
        assert!(lines[2].contains("EC     pair  derive  "), "{text}");
    }

    #[test]
    fn what_has_no_name_is_named_by_its_slot_or_not_at_all() {
        let mut nameless = key("");
        nameless.id.clear();
        let text = shown(vec![token("", vec![key("k"), nameless])]);
        assert!(text.contains("pkcs11:slot-id=7;id=%AB"));
        assert!(text.lines().nth(2).unwrap().ends_with(" -"));
    }
}
