//! Who we are to a registry: from the files of podman, skopeo and Docker, and from the helpers that these name.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use zeroize::Zeroizing;

use super::Result;
use super::error::Error;
use super::name::Name;
use crate::file;

/// Most bytes of a file with credentials, and of what a helper answers.
const LIMIT: usize = 1 << 20;
/// What Docker's files call its own registry.
const DOCKER: [&str; 3] = [
    "index.docker.io",
    "registry-1.docker.io",
    "registry.hub.docker.com",
];
const DOCKER_URL: &str = "https://index.docker.io/v1/";

/// A user and a password, or a token that stands for both.
pub(super) enum Login {
    Password {
        user: String,
        password: Zeroizing<String>,
    },
    Token(Zeroizing<String>),
}

impl Login {
    /// Who we are, for a message.
    pub(super) fn who(&self) -> String {
        match self {
            Self::Password { user, .. } => format!("user {user:?}"),
            Self::Token(_) => "the holder of this token".to_owned(),
        }
    }

    /// All that nobody is to read.
    pub(super) fn secrets(&self) -> Vec<Zeroizing<String>> {
        match self {
            Self::Password { password, .. } => {
                let basic = self.basic().into_iter();
                basic.chain([password.clone()]).collect()
            }
            Self::Token(token) => vec![token.clone()],
        }
    }

    /// The value of an `Authorization` header.
    pub(super) fn basic(&self) -> Option<Zeroizing<String>> {
        let Self::Password { user, password } = self else {
            return None;
        };
        let pair = Zeroizing::new(format!("{user}:{}", password.as_str()));
        let pair = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
        Some(Zeroizing::new(format!("Basic {}", pair.as_str())))
    }
}

/// The login for a repository, from the first file that knows it.
///
/// # Errors
/// [`Error::BadFile`] for a file that is there and cannot be used; [`Error::Helper`].
pub(super) fn find(name: &Name, files: &[std::path::PathBuf]) -> Result<Option<Login>> {
    for path in files {
        let bytes = match file::read_secret(path, LIMIT) {
            Ok(bytes) => bytes,
            Err(error) if error.is_absent() => continue,
            Err(error) => return Err(error.into()),
        };
        let json: Value = serde_json::from_slice(bytes.expose()).map_err(|_| Error::BadFile {
            path: path.clone(),
            what: "is no JSON",
        })?;
        if let Some(login) = in_file(name, path, &json)? {
            return Ok(Some(login));
        }
    }
    Ok(None)
}

fn in_file(name: &Name, path: &Path, json: &Value) -> Result<Option<Login>> {
    let helpers = json["credHelpers"].as_object();
    let helper = helpers.and_then(|helpers| {
        helpers
            .iter()
            .find(|(key, _)| normal(key) == name.host)
            .and_then(|(_, helper)| helper.as_str())
    });
    if let Some(helper) = helper {
        return ask(helper, name);
    }
    if let Some(login) = in_auths(name, path, json)? {
        return Ok(Some(login));
    }
    match json["credsStore"].as_str() {
        Some(helper) if !helper.is_empty() => ask(helper, name),
        _ => Ok(None),
    }
}

/// The entry that says the most of the repository's name.
fn in_auths(name: &Name, path: &Path, json: &Value) -> Result<Option<Login>> {
    let Some(auths) = json["auths"].as_object() else {
        return Ok(None);
    };
    let full = format!("{}/{}", name.host, name.path);
    let mut key = full.as_str();
    loop {
        let found = auths.iter().find(|(other, _)| normal(other) == key);
        if let Some((_, entry)) = found
            && let Some(login) = login(path, entry)?
        {
            return Ok(Some(login));
        }
        match key.rsplit_once('/') {
            Some((shorter, _)) => key = shorter,
            None => return Ok(None),
        }
    }
}

fn login(path: &Path, entry: &Value) -> Result<Option<Login>> {
    if let Some(token) = entry["identitytoken"].as_str().filter(|it| !it.is_empty()) {
        return Ok(Some(Login::Token(Zeroizing::new(token.to_owned()))));
    }
    let Some(auth) = entry["auth"].as_str().filter(|it| !it.is_empty()) else {
        return Ok(None);
    };
    let bad = || Error::BadFile {
        path: path.to_owned(),
        what: "has an `auth` that is not USER:PASSWORD in base64",
    };
    let pair = Zeroizing::new(STANDARD.decode(auth).map_err(|_| bad())?);
    let pair = std::str::from_utf8(&pair).map_err(|_| bad())?;
    let (user, password) = pair.split_once(':').ok_or_else(bad)?;
    Ok(Some(Login::Password {
        user: user.to_owned(),
        password: Zeroizing::new(password.trim_end_matches('\0').to_owned()),
    }))
}

/// Asks a helper, as Docker does: the registry on its standard input, JSON on its standard output.
fn ask(helper: &str, name: &Name) -> Result<Option<Login>> {
    let failed = |what| Error::Helper {
        name: helper.chars().take(80).collect(),
        what,
    };
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !helper.bytes().all(word) {
        return Err(failed("has a name that no program has"));
    }
    let mut child = Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|_| failed("cannot be started"))?;
    let server = match name.host.as_str() {
        "docker.io" => DOCKER_URL,
        host => host,
    };
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read it says so by its status.
        let _ = stdin.write_all(server.as_bytes());
    }
    let mut stdout = Zeroizing::new(Vec::with_capacity(LIMIT + 1));
    // However long it takes: it may ask somebody.
    let read = child
        .stdout
        .take()
        .map(|pipe| pipe.take(LIMIT as u64 + 1).read_to_end(&mut stdout));
    if stdout.len() > LIMIT {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|_| failed("failed"))?;
    if stdout.len() > LIMIT {
        return Err(failed("answers more than 1 MiB"));
    }
    if !status.success() || !matches!(read, Some(Ok(_))) {
        let unknown = String::from_utf8_lossy(&stdout).contains("not found");
        return match unknown {
            true => Ok(None),
            false => Err(failed("failed")),
        };
    }
    let json: Value = serde_json::from_slice(&stdout).map_err(|_| failed("answers no JSON"))?;
    let (user, secret) = (json["Username"].as_str(), json["Secret"].as_str());
    let secret = secret.ok_or_else(|| failed("answers no secret"))?;
    let secret = Zeroizing::new(secret.to_owned());
    Ok(Some(match user {
        Some("<token>") | None => Login::Token(secret),
        Some(user) => Login::Password {
            user: user.to_owned(),
            password: secret,
        },
    }))
}

/// A key of a file as a host with a path: Docker writes addresses there.
fn normal(key: &str) -> String {
    let (key, is_url) = match key.strip_prefix("https://").or(key.strip_prefix("http://")) {
        Some(rest) => (rest, true),
        None => (key, false),
    };
    let key = key.trim_end_matches('/');
    let (host, path) = match key.split_once('/') {
        Some((host, path)) if !is_url => (host, Some(path)),
        Some((host, _)) => (host, None),
        None => (key, None),
    };
    let host = match DOCKER.contains(&host) {
        true => "docker.io",
        false => host,
    };
    match path {
        Some(path) => format!("{host}/{path}"),
        None => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn user(name: &str, json: &Value) -> Option<String> {
        let name = Name::parse(name).unwrap();
        in_file(&name, Path::new("auth.json"), json)
            .unwrap()
            .map(|login| login.who())
    }

    fn auth(user: &str) -> Value {
        json!({"auth": STANDARD.encode(format!("{user}:secret:with colon"))})
    }

    #[test]
    fn the_entry_that_says_the_most_counts() {
        let json = json!({"auths": {
            "r.test": auth("host"), "r.test/a": auth("namespace"), "r.test/a/b": auth("repository"),
            "https://index.docker.io/v1/": auth("docker"), "https://other.test/v2/": auth("address"),
            "empty.test": {},
        }});
        for (name, expected) in [
            ("r.test/x", Some("host")),
            ("r.test/a/x", Some("namespace")),
            ("r.test/a/b:v1", Some("repository")),
            ("busybox", Some("docker")),
            ("other.test/a/b", Some("address")),
            ("empty.test/a", None),
            ("r.test.evil/a", None),
        ] {
            let expected = expected.map(|user| format!("user {user:?}"));
            assert_eq!(user(name, &json), expected, "{name}");
        }
    }

    #[test]
    fn a_password_may_hold_a_colon() {
        let login = login(Path::new(""), &auth("me")).unwrap().unwrap();
        let expected = format!("Basic {}", STANDARD.encode("me:secret:with colon"));
        assert_eq!(login.basic().unwrap().as_str(), expected);
    }

    #[test]
    fn a_broken_entry_is_told_without_its_content() {
        for text in ["c2VjcmV0", "not base64"] {
            let error = login(Path::new("auth.json"), &json!({"auth": text}))
                .err()
                .unwrap();
            assert!(!format!("{error} {error:?}").contains(text), "{error}");
        }
    }

    #[test]
    fn a_helper_is_a_program_and_no_path() {
        let json = json!({"credHelpers": {"r.test": "../../tmp/x"}});
        let name = Name::parse("r.test/a").unwrap();
        assert!(in_file(&name, Path::new(""), &json).is_err());
    }
}
