//! Who gives out tokens for a registry (Docker's token specification): a password is checked, and a token is signed with a key
//! whose certificate the registry knows. What is in the token, the registry checks.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::program::Program;
use crate::registry::{Guard, PASSWORD, USER};

/// What a login may be in the place of a password.
pub const IDENTITY: &str = "an-identity-nobody-prints";
/// How long the registry takes a token that has expired.
const LEEWAY: i64 = 60;

/// What is given out.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// For how many seconds the registry takes a token.
    pub seconds: i64,
    /// What may be done at most.
    pub actions: &'static [&'static str],
}

/// A server on a port of the loopback interface. It ends with the process.
#[derive(Debug)]
pub struct TokenServer {
    host: String,
    certificate: PathBuf,
    given: Arc<Mutex<Vec<Value>>>,
}

impl TokenServer {
    /// Starts one. Its key and certificate are put into this directory.
    ///
    /// # Panics
    /// If there is no free port, or no openssl.
    #[must_use]
    pub fn start(place: &Path, terms: Terms) -> Self {
        let (key, certificate) = (place.join("signer.key"), place.join("signer.crt"));
        Program::new("openssl")
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            ])
            .args(["-subj", "/CN=signer", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .ok();
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback interface has a port");
        let this = Self {
            host: listener.local_addr().expect("it is bound").to_string(),
            given: Arc::default(),
            certificate,
        };
        let der = Program::new("openssl")
            .args(["x509", "-outform", "DER", "-in"])
            .arg(&this.certificate)
            .ok();
        let signer = Arc::new(Signer {
            key,
            certificate: STANDARD.encode(&der.stdout),
            terms,
        });
        let given = Arc::clone(&this.given);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (signer, given) = (Arc::clone(&signer), Arc::clone(&given));
                thread::spawn(move || {
                    let _ = serve(client, &signer, &given);
                });
            }
        });
        this
    }

    /// A registry that wants its tokens.
    #[must_use]
    pub fn guard(&self) -> Guard {
        Guard {
            token: Some((
                format!("http://{}/token", self.host),
                self.certificate.clone(),
            )),
            ..Guard::default()
        }
    }

    /// What was given out so far: the claims of each token.
    ///
    /// # Panics
    /// If a thread of it has panicked.
    #[must_use]
    pub fn given(&self) -> Vec<Value> {
        self.given.lock().expect("no thread panics").clone()
    }
}

struct Signer {
    key: PathBuf,
    /// In base64.
    certificate: String,
    terms: Terms,
}

impl Signer {
    fn claims(&self, user: &str, scopes: &[String]) -> Value {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = since.expect("the clock is right").as_secs().cast_signed();
        let access: Vec<_> = scopes
            .iter()
            .filter_map(|scope| {
                let (kind, rest) = scope.split_once(':')?;
                let (name, actions) = rest.rsplit_once(':')?;
                let allowed = |action: &&str| self.terms.actions.contains(action);
                let actions: Vec<_> = actions.split(',').filter(allowed).collect();
                Some(json!({"type": kind, "name": name, "actions": actions}))
            })
            .collect();
        json!({
            "iss": "test", "aud": "here", "sub": user, "jti": "1", "access": access,
            "iat": now - 600, "nbf": now - 600, "exp": now - LEEWAY + self.terms.seconds,
        })
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [self.certificate]});
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let text = format!("{}.{}", part(&header), part(claims));
        let signature = Program::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .arg(&self.key)
            .stdin(text.as_bytes())
            .ok();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(&signature.stdout))
    }
}

fn serve(mut client: TcpStream, signer: &Signer, given: &Mutex<Vec<Value>>) -> io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let header = |wanted: &str| {
        head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted)
                .then(|| value.trim().to_owned())
        })
    };
    let length = header("content-length").and_then(|it| it.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    client.read_exact(&mut body)?;
    let line = head.lines().next().unwrap_or_default();
    let query = line.split_once('?').map_or("", |(_, rest)| rest);
    let query = query.split(' ').next().unwrap_or_default();
    let body = String::from_utf8_lossy(&body);
    let pairs: Vec<_> = [query, &body]
        .iter()
        .flat_map(|text| text.split('&'))
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name, decoded(value)))
        .collect();
    let all = |name: &str| {
        let found = pairs.iter().filter(|(key, _)| *key == name);
        found.map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    let password = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let knows = match line.starts_with("POST") {
        true => all("refresh_token") == [IDENTITY] && all("grant_type") == ["refresh_token"],
        false => header("authorization").as_ref() == Some(&password),
    };
    if !knows || all("service") != ["here"] {
        return client
            .write_all(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
    let scopes: Vec<String> = all("scope")
        .iter()
        .flat_map(|scope| scope.split(' '))
        .map(str::to_owned)
        .collect();
    let claims = signer.claims(USER, &scopes);
    let name = match line.starts_with("POST") {
        true => "access_token",
        false => "token",
    };
    let token = signer.sign(&claims);
    given.lock().expect("no thread panics").push(claims);
    let answer = json!({name: token, "expires_in": signer.terms.seconds}).to_string();
    let length = answer.len();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    client.write_all(head.as_bytes())?;
    client.write_all(answer.as_bytes())
}

/// Without percent signs.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at(part.len().min(2));
        plain.push(u8::from_str_radix(code, 16).unwrap_or(b'?').into());
        plain.push_str(rest);
    }
    plain
}
