//! What a registry wants to see of us: its challenge, and the token that answers it (Docker's token specification).

use serde_json::Value;
use zeroize::Zeroizing;

use super::credentials::Login;

/// Most bytes of an answer with a token.
pub(super) const MAX_TOKEN: u64 = 1 << 20;

/// What a `WWW-Authenticate` header asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

impl Challenge {
    /// Reads a header; `None` for a scheme that we do not know.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let parameters = parameters(rest);
        let find = |name: &str| {
            let mut found = parameters
                .iter()
                .filter(|(key, _)| key.eq_ignore_ascii_case(name));
            found.next().map(|(_, value)| value.clone())
        };
        Some(Self::Bearer {
            realm: find("realm")?,
            service: find("service"),
        })
    }
}

/// `a="b",c=d`: a comma in quotes separates nothing.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, value)) = rest.split_once('=') {
        let value = value.trim_start();
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => value
                .split_once(',')
                .map_or((value, ""), |(value, rest)| (value, rest)),
        };
        found.push((name.trim().to_owned(), value.trim().to_owned()));
        rest = after.trim_start_matches([',', ' ']);
    }
    found
}

/// The question for a token: address, form (for a login that is a token itself), and header.
pub(super) struct Question {
    pub(super) url: String,
    pub(super) form: Option<Zeroizing<String>>,
    pub(super) authorization: Option<Zeroizing<String>>,
}

impl Question {
    pub(super) fn new(
        realm: &str,
        service: Option<&str>,
        scopes: &[String],
        login: Option<&Login>,
    ) -> Self {
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        pairs.extend(service.map(|service| ("service", service)));
        if let Some(Login::Token(token)) = login {
            let scope = scopes.join(" ");
            pairs.extend([("scope", scope.as_str()), ("grant_type", "refresh_token")]);
            pairs.extend([("client_id", "ocihsm"), ("refresh_token", token.as_str())]);
            return Self {
                url: realm.to_owned(),
                form: Some(form(&pairs)),
                authorization: None,
            };
        }
        pairs.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
        let separator = if realm.contains('?') { '&' } else { '?' };
        Self {
            url: format!("{realm}{separator}{}", form(&pairs).as_str()),
            form: None,
            authorization: login.and_then(Login::basic),
        }
    }
}

/// The token in an answer, as the value of a header.
pub(super) fn token(answer: &[u8]) -> Option<Zeroizing<String>> {
    let json: Value = serde_json::from_slice(answer).ok()?;
    let token = ["token", "access_token"]
        .into_iter()
        .find_map(|name| json[name].as_str().filter(|token| !token.is_empty()))?;
    Some(Zeroizing::new(format!("Bearer {token}")))
}

fn form(pairs: &[(&str, &str)]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::new());
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        escape(value, &mut text);
    }
    text
}

/// Percent-encodes all that means something in a query.
pub(super) fn escape(value: &str, text: &mut String) {
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(byte.into());
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_as_registries_write_them() {
        for (header, expected) in [
            (r#"Basic realm="Registry""#, Some(Challenge::Basic)),
            (
                r#"Bearer realm="https://auth.test/token?a=b,c",service="r.test",scope="repository:a/b:pull,push""#,
                Some(Challenge::Bearer {
                    realm: "https://auth.test/token?a=b,c".to_owned(),
                    service: Some("r.test".to_owned()),
                }),
            ),
            (
                "bearer realm=https://auth.test/token, service=\"\"",
                Some(Challenge::Bearer {
                    realm: "https://auth.test/token".to_owned(),
                    service: Some(String::new()),
                }),
            ),
            (r#"Bearer service="x""#, None),
            ("Negotiate", None),
            ("", None),
        ] {
            assert_eq!(Challenge::parse(header), expected, "{header}");
        }
    }

    #[test]
    fn a_password_goes_in_a_header_and_a_token_in_the_form() {
        let login = Login::Password {
            user: "me".to_owned(),
            password: Zeroizing::new("se&cret".to_owned()),
        };
        let scopes = ["repository:a/b:pull,push".to_owned()];
        let question = Question::new("https://auth.test/t", Some("r.test"), &scopes, Some(&login));
        assert_eq!(
            question.url,
            "https://auth.test/t?service=r.test&scope=repository%3Aa%2Fb%3Apull%2Cpush"
        );
        assert!(question.form.is_none() && question.authorization.is_some());
        let login = Login::Token(Zeroizing::new("se&cret".to_owned()));
        let question = Question::new("https://auth.test/t", None, &scopes, Some(&login));
        assert_eq!(question.url, "https://auth.test/t");
        assert!(question.form.unwrap().contains("refresh_token=se%26cret"));
    }
}
