//! JSON in which no member stands twice (RFC 7516, section 4: such a header must be refused, or is read differently by
//! two readers).

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::error::{Error, malformed, short};

/// A value; numbers are never looked at here, so none is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Null, a boolean or a number.
    Other,
    /// Text.
    Text(String),
    /// An array.
    List(Vec<Value>),
    /// An object.
    Object(Members),
}

/// The members of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Members(pub(super) BTreeMap<String, Value>);

/// Reads an object.
pub(super) fn object(json: &[u8], what: &'static str) -> Result<Members, Error> {
    match serde_json::from_slice(json) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(malformed(what)),
        Err(error) => Err(duplicate(&error.to_string()).unwrap_or_else(|| malformed(what))),
    }
}

impl Members {
    /// The text of a member; `None` where it is not there.
    pub(super) fn text(&self, name: &str, what: &'static str) -> Result<Option<&str>, Error> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(malformed(what)),
        }
    }

    /// The object that a member is; `None` where it is not there.
    pub(super) fn object(&self, name: &str, what: &'static str) -> Result<Option<&Self>, Error> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(members)),
            Some(_) => Err(malformed(what)),
        }
    }

    /// Adds the members of another header: the names must differ (RFC 7516, section 7.2.1).
    pub(super) fn join(&mut self, other: &Self) -> Result<(), Error> {
        for (name, value) in &other.0 {
            if self.0.insert(name.clone(), value.clone()).is_some() {
                return Err(Error::Duplicate {
                    member: short(name),
                });
            }
        }
        Ok(())
    }
}

/// Marks the name in the parser's message, which has no other way to say more than a sentence.
const TWICE: &str = "\u{0}twice ";

fn duplicate(message: &str) -> Option<Error> {
    let name = message.split_once(TWICE)?.1;
    let name = name.rsplit_once(" at line ").map_or(name, |(name, _)| name);
    Some(Error::Duplicate {
        member: short(name),
    })
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element()? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if members.contains_key(&name) {
                return Err(A::Error::custom(format_args!("{TWICE}{name}")));
            }
            members.insert(name, value);
        }
        Ok(Value::Object(Members(members)))
    }
}
