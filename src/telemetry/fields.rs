//! The values of an event or a span, as text that is safe in a log and on a terminal.

use std::error::Error;
use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};

use crate::escape::escaped;

/// Most characters of one value: an error's text may quote what a module said.
const MAX_TEXT: usize = 2048;

/// Values by their names, in order. No text has a line break.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(pub(super) Map<String, Value>);

impl Fields {
    /// Takes a value out.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        Some(bare(&self.0.shift_remove(name)?))
    }

    /// `name=value` pairs, with quotes where a value could be taken for several.
    pub(super) fn pairs(&self) -> String {
        let pairs: Vec<String> = self
            .0
            .iter()
            .map(|(name, value)| {
                let bare = bare(value);
                if bare.contains([' ', '"', '=']) {
                    format!("{name}={}", Value::from(bare))
                } else {
                    format!("{name}={bare}")
                }
            })
            .collect();
        pairs.join(" ")
    }

    pub(super) fn insert(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field.name(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field.name(), clean(value).into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.insert(field.name(), clean(&value.to_string()).into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field.name(), clean(&format!("{value:?}")).into());
    }
}

/// A value without the quotes of JSON.
pub(super) fn bare(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) fn clean(text: &str) -> String {
    let short: String = text.chars().take(MAX_TEXT).collect();
    escaped(&short)
}
