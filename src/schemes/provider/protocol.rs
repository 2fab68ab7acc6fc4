//! The key-provider protocol: one JSON object there, one back. Both sides of it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::secret::SecretBytes;

/// Most bytes of a request or an answer.
pub const MAX_MESSAGE: usize = 4 << 20;

/// What a provider is asked.
#[derive(Deserialize, Serialize)]
pub struct Request {
    /// `keywrap` or `keyunwrap`.
    pub op: String,
    #[serde(default)]
    keywrapparams: Option<WrapParams>,
    #[serde(default)]
    keyunwrapparams: Option<UnwrapParams>,
}

type Parameters = BTreeMap<String, Option<Vec<Option<Zeroizing<String>>>>>;

#[derive(Default, Deserialize, Serialize)]
struct WrapParams {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ec: Option<Config>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    optsdata: Option<Zeroizing<String>>,
}

#[derive(Default, Deserialize, Serialize)]
struct UnwrapParams {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dc: Option<Config>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotation: Option<String>,
}

#[derive(Default, Deserialize, Serialize)]
struct Config {
    #[serde(rename = "Parameters", default)]
    parameters: Option<Parameters>,
}

/// What a request wants, decoded.
#[derive(Debug)]
pub enum Wanted {
    /// Wrap the private options for the recipients that the texts name, by the provider's name.
    Wrap {
        /// Texts behind `provider:NAME:`.
        parameters: BTreeMap<String, Vec<SecretBytes>>,
        /// The private options.
        options: SecretBytes,
    },
    /// Unwrap what an earlier answer gave.
    Unwrap {
        /// That answer.
        annotation: Vec<u8>,
    },
}

impl Request {
    /// Asks for private options to be wrapped.
    #[must_use]
    pub fn wrap(name: &str, texts: &[SecretBytes], options: &SecretBytes) -> Self {
        Self {
            op: "keywrap".to_owned(),
            keywrapparams: Some(WrapParams {
                ec: Some(config(name, texts)),
                optsdata: Some(Zeroizing::new(STANDARD.encode(options.expose()))),
            }),
            keyunwrapparams: Some(UnwrapParams::default()),
        }
    }

    /// Asks for what was wrapped to be opened.
    #[must_use]
    pub fn unwrap(name: &str, annotation: &[u8], parameters: &[SecretBytes]) -> Self {
        Self {
            op: "keyunwrap".to_owned(),
            keywrapparams: Some(WrapParams::default()),
            keyunwrapparams: Some(UnwrapParams {
                dc: Some(config(name, parameters)),
                annotation: Some(STANDARD.encode(annotation)),
            }),
        }
    }

    /// Whether something is to be wrapped.
    #[must_use]
    pub fn is_wrap(&self) -> bool {
        self.op == "keywrap"
    }

    /// The JSON text.
    #[must_use]
    pub fn to_json(&self) -> SecretBytes {
        let mut json = Vec::with_capacity(16 << 10);
        serde_json::to_writer(&mut json, self)
            .expect("strings and maps of strings are always JSON");
        SecretBytes::new(json)
    }

    /// Reads one that somebody else wrote; `None` where it is none.
    #[must_use]
    pub fn parse(json: &[u8]) -> Option<Wanted> {
        let request: Self = serde_json::from_slice(json).ok()?;
        match request.op.as_str() {
            "keywrap" => {
                let params = request.keywrapparams?;
                let mut parameters = BTreeMap::new();
                let given = params.ec.and_then(|config| config.parameters);
                for (name, texts) in given.unwrap_or_default() {
                    let texts = texts.unwrap_or_default().into_iter().flatten();
                    let texts = texts
                        .map(|text| decode(&text))
                        .collect::<Option<Vec<_>>>()?;
                    parameters.insert(name, texts);
                }
                Some(Wanted::Wrap {
                    parameters,
                    options: decode(&params.optsdata?)?,
                })
            }
            "keyunwrap" => {
                let annotation = request.keyunwrapparams?.annotation?;
                Some(Wanted::Unwrap {
                    annotation: STANDARD.decode(annotation).ok()?,
                })
            }
            _ => None,
        }
    }
}

fn config(name: &str, texts: &[SecretBytes]) -> Config {
    let texts = texts
        .iter()
        .map(|text| Some(Zeroizing::new(STANDARD.encode(text.expose()))))
        .collect();
    Config {
        parameters: Some(BTreeMap::from([(name.to_owned(), Some(texts))])),
    }
}

fn decode(text: &str) -> Option<SecretBytes> {
    STANDARD.decode(text).ok().map(SecretBytes::new)
}

/// What a provider answers.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The wrapped private options, which only the provider can read.
    Wrapped(Vec<u8>),
    /// The private options.
    Unwrapped(SecretBytes),
}

#[derive(Deserialize, Serialize)]
struct AnswerJson {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keywrapresults: Option<WrapResults>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keyunwrapresults: Option<UnwrapResults>,
}

#[derive(Deserialize, Serialize)]
struct WrapResults {
    #[serde(default)]
    annotation: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct UnwrapResults {
    #[serde(default)]
    optsdata: Option<Zeroizing<String>>,
}

impl Answer {
    /// Reads one; `None` where there is none. Of two that are there, the one that holds something counts.
    #[must_use]
    pub fn parse(json: &SecretBytes) -> Option<Self> {
        let answer: AnswerJson = serde_json::from_slice(json.expose()).ok()?;
        let wrapped = answer.keywrapresults.and_then(|results| results.annotation);
        let opened = answer.keyunwrapresults.and_then(|results| results.optsdata);
        if let Some(opened) = opened.filter(|text| !text.is_empty()) {
            return decode(&opened).map(Self::Unwrapped);
        }
        let wrapped = wrapped.filter(|text| !text.is_empty())?;
        STANDARD.decode(wrapped).ok().map(Self::Wrapped)
    }

    /// The JSON text.
    #[must_use]
    pub fn to_json(&self) -> SecretBytes {
        let answer = match self {
            Self::Wrapped(annotation) => AnswerJson {
                keywrapresults: Some(WrapResults {
                    annotation: Some(STANDARD.encode(annotation)),
                }),
                keyunwrapresults: None,
            },
            Self::Unwrapped(options) => AnswerJson {
                keywrapresults: None,
                keyunwrapresults: Some(UnwrapResults {
                    optsdata: Some(Zeroizing::new(STANDARD.encode(options.expose()))),
                }),
            },
        };
        let mut json = Vec::with_capacity(4 << 10);
        serde_json::to_writer(&mut json, &answer).expect("strings are always JSON");
        SecretBytes::new(json)
    }
}
