//! `ocihsm::hsm` as a program, since it executes itself as a worker, which a test cannot be.
//!
//! Reads a request as JSON from stdin; prints the outcomes as JSON, secrets as their SHA-256. An error is printed as
//! the product prints it.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ocihsm::Error;
use ocihsm::hsm::{self, Answer, Client, HsmSettings, NewKey, Refusal};
use ocihsm::keys::TokenKey;
use ocihsm::keys::key_file::KeyFile;
use ocihsm::keys::public::Recipient;
use ocihsm::operation::KeyOperation;
use ocihsm::operation::OaepHash;
use ocihsm::settings::{self, Environment};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

fn main() -> ExitCode {
    if let Some(status) = hsm::worker_main() {
        return status;
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .expect("the test writes text");
    let request: Value = serde_json::from_str(&text).expect("the test writes JSON");
    let settings = settings::hsm(
        Duration::from_millis(request["timeout"].as_u64().unwrap_or(60_000)),
        request["allow_final_try"] == true,
        &Environment::current(),
    );
    let result = match request["public_key"].as_object() {
        Some(_) => read_key(&request["public_key"])
            .and_then(|key| Ok(hsm::public_key(&settings, &key)?))
            .map(|key| json!({ "pem": key.to_pem() })),
        None if request["generate"].is_object() => generate(&settings, &request["generate"]),
        None if request["operations"].is_array() => operate(&settings, &request),
        None => unwrap(&settings, &request),
    };
    match result {
        Ok(answer) => {
            println!("{answer}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ocihsm: error: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("ocihsm: hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

fn unwrap(settings: &HsmSettings, request: &Value) -> Result<Value, Error> {
    let keys = list(&request["keys"])
        .map(read_key)
        .collect::<Result<Vec<_>, _>>()?;
    let envelopes: Vec<Vec<Recipient>> = list(&request["envelopes"])
        .map(|recipients| list(recipients).map(recipient).collect())
        .collect();
    let mut asked = Asked {
        client: Client::new(settings.clone()),
        opened: envelopes.iter().map(|_| None).collect(),
        said: keys.iter().map(|_| None).collect(),
        keys: &keys,
        envelopes: &envelopes,
    };
    asked.client.start(&keys.iter().collect::<Vec<_>>());
    // What is not there just now is waited for only when no other key serves.
    for _ in 0..keys.len().min(2) {
        asked.round();
    }
    let outcomes = asked.outcomes()?;
    Ok(json!({ "warning": settings.warning(), "outcomes": outcomes }))
}

/// Each key asked about each wrapped key, until every envelope is opened.
struct Asked<'a> {
    client: Client,
    keys: &'a [TokenKey],
    envelopes: &'a [Vec<Recipient>],
    opened: Vec<Option<Value>>,
    /// What each key said: of each envelope, or at all.
    said: Vec<Option<Result<Vec<String>, hsm::Error>>>,
}

impl Asked<'_> {
    fn round(&mut self) {
        for number in 0..self.keys.len() {
            let is_open = match &self.said[number] {
                None => true,
                Some(Ok(_)) => false,
                Some(Err(error)) => error.may_pass(),
            };
            if is_open && self.opened.iter().any(Option::is_none) {
                self.said[number] = Some(self.key(number));
            }
        }
    }

    fn key(&mut self, number: usize) -> Result<Vec<String>, hsm::Error> {
        let key = &self.keys[number];
        let kind = self.client.kind(key)?;
        let mut said = Vec::new();
        for (envelope, opened) in self.envelopes.iter().zip(&mut self.opened) {
            let mut refusals = Vec::new();
            for (recipient, Recipient { hash, blob }) in envelope.iter().enumerate() {
                let operation = KeyOperation::RsaOaep {
                    hash: *hash,
                    ciphertext: blob.clone(),
                };
                if opened.is_some() || !operation.suits(kind) {
                    continue;
                }
                match self.client.answer(key, &operation)? {
                    Answer::Opened(secret, how) => {
                        *opened = Some(json!({
                            "sha256": Sha256::digest(secret.expose()).to_vec(),
                            "key": number,
                            "recipient": recipient,
                            "hash": hash.as_str(),
                            "how": format!("{how:?}"),
                        }));
                    }
                    Answer::Refused(refusal) => refusals.push(refusal),
                }
            }
            let unable = refusals
                .iter()
                .find(|refusal| matches!(refusal, Refusal::Unable { .. }));
            said.push(match unable.or(refusals.last()) {
                Some(refusal) => refusal.to_string(),
                None => format!("suits none of them: {kind:?}"),
            });
        }
        Ok(said)
    }

    /// An error where nothing was opened and more is wrong than a token or key that is not there: a PIN's trouble first.
    fn outcomes(self) -> Result<Vec<Value>, Error> {
        let troubles = || {
            self.said
                .iter()
                .zip(self.keys)
                .filter_map(|(said, key)| match said {
                    Some(Err(
                        hsm::Error::TokenNotFound { .. }
                        | hsm::Error::KeyNotFound { .. }
                        | hsm::Error::PinMissing { .. },
                    )) => None,
                    Some(Err(error)) => Some((key, error)),
                    _ => None,
                })
        };
        let worst = troubles().find(|(_, error)| error.is_about_pin());
        if let Some((key, error)) = worst.or_else(|| troubles().next())
            && self.opened.iter().all(Option::is_none)
        {
            return Err(error.clone().in_key_file(&key.file.name).into());
        }
        let outcomes = self.opened.iter().enumerate().map(|(envelope, opened)| {
            let said = self.said.iter().zip(self.keys);
            let refused = said.filter_map(|(said, key)| {
                let why = match said.as_ref()? {
                    Ok(said) => said[envelope].clone(),
                    Err(error) => error.to_string(),
                };
                Some(format!("{}: {why}", key.file.name))
            });
            opened
                .clone()
                .unwrap_or_else(|| json!({ "refused": refused.collect::<Vec<_>>() }))
        });
        Ok(outcomes.collect())
    }
}

/// A new pair, under a label that is given.
fn generate(settings: &HsmSettings, request: &Value) -> Result<Value, Error> {
    let new = NewKey {
        label: text_of(&request["label"]).to_owned(),
        id: vec![1],
        bits: 2048,
        curve: None,
    };
    let key = read_key(&request["key"])?;
    let public = hsm::generate(settings, &key, &new)?;
    Ok(json!({ "pem": public.to_pem() }))
}

/// What each operation came to, asked of one client.
fn operate(settings: &HsmSettings, request: &Value) -> Result<Value, Error> {
    let keys = list(&request["keys"])
        .map(read_key)
        .collect::<Result<Vec<_>, _>>()?;
    let mut client = Client::new(settings.clone());
    client.start(&keys.iter().collect::<Vec<_>>());
    let answers = list(&request["operations"]).map(|asked| {
        let key = &keys[asked["key"].as_u64().expect("the test names a key") as usize];
        let operation: KeyOperation =
            serde_json::from_value(asked["operation"].clone()).expect("the test makes operations");
        let answer = client
            .kind(key)
            .and_then(|kind| Ok((kind, client.answer(key, &operation)?)));
        match answer {
            Ok((kind, Answer::Opened(secret, how))) => json!({
                "kind": format!("{kind:?}"),
                "opened": secret.expose(),
                "how": format!("{how:?}"),
            }),
            Ok((kind, Answer::Refused(refusal))) => json!({
                "kind": format!("{kind:?}"),
                "refused": refusal.to_string(),
            }),
            Err(error) => json!({ "error": error.to_string(), "hint": error.hint() }),
        }
    });
    Ok(json!({ "answers": answers.collect::<Vec<_>>() }))
}

fn read_key(key: &Value) -> Result<TokenKey, Error> {
    Ok(TokenKey {
        file: KeyFile::read(&PathBuf::from(text_of(&key["file"])))?,
        module: text_of(&key["module"]).into(),
    })
}

fn recipient(value: &Value) -> Recipient {
    Recipient {
        hash: OaepHash::parse(text_of(&value["hash"])).expect("the test names a hash"),
        blob: list(&value["blob"])
            .map(|byte| byte.as_u64().expect("a blob is a list of bytes") as u8)
            .collect(),
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text_of(value: &Value) -> &str {
    value.as_str().expect("the test names it")
}
