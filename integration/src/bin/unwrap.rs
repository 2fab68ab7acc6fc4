//! `ocihsm::hsm` as a program, since it executes itself as a worker, which a test cannot be.
//!
//! Reads a request as JSON from stdin; prints the outcomes as JSON, secrets as their SHA-256. An error is printed as
//! the product prints it.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ocihsm::Error;
use ocihsm::hsm::unwrap::Outcome;
use ocihsm::hsm::{self, Answer, Client, HsmSettings, NewKey};
use ocihsm::keys::TokenKey;
use ocihsm::keys::key_file::KeyFile;
use ocihsm::keys::packet::{OaepHash, Recipient};
use ocihsm::operation::KeyOperation;
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
    let settings = HsmSettings {
        timeout: Duration::from_millis(request["timeout"].as_u64().unwrap_or(60_000)),
        allow_final_try: request["allow_final_try"] == true,
        ..HsmSettings::default()
    };
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
    let outcomes = hsm::unwrap::unwrap(settings, &keys, &envelopes)?;
    Ok(json!({
        "warning": settings.warning(),
        "outcomes": outcomes.iter().map(outcome).collect::<Vec<_>>(),
    }))
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

fn outcome(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Opened(opened) => json!({
            "sha256": Sha256::digest(opened.private_options.expose()).to_vec(),
            "key": opened.key,
            "recipient": opened.recipient,
            "hash": opened.hash.as_str(),
            "how": format!("{:?}", opened.how),
        }),
        Outcome::Refused(refusals) => json!({
            "refused": refusals.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }),
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text_of(value: &Value) -> &str {
    value.as_str().expect("the test names it")
}
