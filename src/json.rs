//! JSON objects as Go reads them, since Go wrote them: a name in any case, a null as if it were not there.
//!
//! One difference is on purpose. Of a name that stands there twice, in whatever case, Go takes the last and merges maps;
//! two readers that disagree about which one counts are an attack, so here it is an error.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Name of a member.
#[derive(Deserialize)]
pub(crate) struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl Name<'_> {
    /// As it is written.
    pub(crate) fn into_string(self) -> String {
        self.0.into_owned()
    }

    /// Whether Go takes it for this name, which is in lower-case ASCII. Unicode folds two more characters to ASCII
    /// letters, and Go goes by that (`encoding/json`, `foldName`).
    pub(crate) fn is(&self, name: &str) -> bool {
        folded(&self.0).eq(name.chars())
    }
}

fn folded(name: &str) -> impl Iterator<Item = char> {
    name.chars().map(|char| match char {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        char => char.to_ascii_lowercase(),
    })
}

/// Whether an object has a member that Go takes for one of these names, and that we would pass over.
pub(crate) fn has_variant(object: &Map<String, Value>, known: &[&str]) -> bool {
    let is_variant = |name: &String| {
        known
            .iter()
            .any(|known| name != known && folded(name).eq(folded(known)))
    };
    object.keys().any(is_variant)
}

/// A value in which no object has a name twice.
pub(crate) struct Once(pub(crate) Value);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Once;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Once, E> {
                Ok(Once(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Once, E> {
                Ok(Once(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Once, E> {
                Ok(Once(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Once, E> {
                Ok(Once(
                    Number::from_f64(value).map_or(Value::Null, Value::Number),
                ))
            }

            fn visit_str<E>(self, value: &str) -> Result<Once, E> {
                Ok(Once(value.into()))
            }

            fn visit_string<E>(self, value: String) -> Result<Once, E> {
                Ok(Once(value.into()))
            }

            fn visit_unit<E>(self) -> Result<Once, E> {
                Ok(Once(Value::Null))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Once, A::Error> {
                let mut values = Vec::new();
                while let Some(Once(value)) = list.next_element()? {
                    values.push(value);
                }
                Ok(Once(values.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Once, A::Error> {
                let mut members = Map::new();
                while let Some(name) = map.next_key::<String>()? {
                    let Once(value) = map.next_value()?;
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom(TWICE));
                    }
                }
                Ok(Once(members.into()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// What the error of [`Once`] begins with where that is the reason.
pub(crate) const TWICE: &str = "a name stands twice in one object";

/// A struct of members that may each be absent, and how it is read. What else the object holds is passed over, or is kept by
/// its name in a field after two dots.
macro_rules! object {
    ($(#[$meta:meta])* $name:ident {
        $($(#[$doc:meta])* $field:ident: $kind:ty = $text:literal,)*
        $(.. $(#[$other_doc:meta])* $others:ident: $other:ty,)?
    }) => {
        $(#[$meta])*
        struct $name {
            $($(#[$doc])* $field: Option<$kind>,)*
            $($(#[$other_doc])* $others: std::collections::BTreeMap<String, $other>,)?
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Members;
                impl<'de> serde::de::Visitor<'de> for Members {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    #[allow(unreachable_code)]
                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        $(let mut $field: Option<Option<$kind>> = None;)*
                        $(let mut $others = std::collections::BTreeMap::new();)?
                        while let Some(name) = map.next_key::<$crate::json::Name<'de>>()? {
                            $(if name.is($text) {
                                if $field.replace(map.next_value()?).is_some() {
                                    return Err(serde::de::Error::duplicate_field($text));
                                }
                                continue;
                            })*
                            $(
                                let value: Option<$other> = map.next_value()?;
                                if $others.insert(name.into_string(), value.unwrap_or_default()).is_some() {
                                    return Err(serde::de::Error::custom("a name stands there twice"));
                                }
                                continue;
                            )?
                            map.next_value::<serde::de::IgnoredAny>()?;
                        }
                        Ok($name { $($field: $field.flatten(),)* $($others,)? })
                    }
                }
                deserializer.deserialize_map(Members)
            }
        }
    };
}
pub(crate) use object;

/// A text that is looked at where it stands and never copied, since it is a secret in some encoding. What is written
/// with escapes has no such place, and no tool writes base64 so.
pub(crate) struct InPlace<'a>(pub(crate) &'a str);

impl<'de: 'a, 'a> Deserialize<'de> for InPlace<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = &'de str;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text without escapes")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<&'de str, E> {
                Ok(text)
            }
        }
        // What serde says of a text that is none quotes it.
        deserializer
            .deserialize_str(Text)
            .map(Self)
            .map_err(|_| serde::de::Error::custom("not a text as it should be"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    object! {
        Pair {
            first: u8 = "first",
            risk: String = "risk",
        }
    }

    fn read(text: &str) -> Option<(Option<u8>, Option<String>)> {
        let pair: Pair = serde_json::from_str(text).ok()?;
        Some((pair.first, pair.risk))
    }

    #[test]
    fn names_are_folded_as_go_does() {
        for text in [
            r#"{"first":1,"risk":"x"}"#,
            r#"{"FIRST":1,"Risk":"x","more":[{"first":2}]}"#,
            r#"{"fir\u017ft":1,"ri\u017f\u212a":"x"}"#,
        ] {
            assert_eq!(read(text), Some((Some(1), Some("x".to_owned()))), "{text}");
        }
        assert_eq!(read(r#"{"first":null}"#), Some((None, None)));
        assert_eq!(read(r#"{" first":1}"#), Some((None, None)));
    }

    #[test]
    fn a_name_twice_is_an_error_in_whatever_case() {
        for text in [
            r#"{"first":1,"first":1}"#,
            r#"{"first":1,"First":2}"#,
            r#"{"first":null,"fir\u017ft":2}"#,
            r#"{"first":1} x"#,
            "[]",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_value_is_what_it_was_but_for_a_name_that_stands_twice() {
        for text in [
            r#"{"a":[1,-1,1.5,true,null,"x",{}],"A":{"a":{}},"b":18446744073709551615}"#,
            "[]",
            r#""\u00e9""#,
        ] {
            let Once(value) = serde_json::from_str(text).unwrap();
            assert_eq!(
                value,
                serde_json::from_str::<Value>(text).unwrap(),
                "{text}"
            );
        }
        for text in [r#"{"a":1,"a":1}"#, r#"[{"x":{"a":1,"b":2,"\u0061":1}}]"#] {
            let error = serde_json::from_str::<Once>(text).err().unwrap();
            assert!(error.to_string().starts_with(TWICE), "{text}: {error}");
        }
    }

    #[test]
    fn variants_of_a_name_are_those_that_go_takes_for_it() {
        let object = |name: &str| serde_json::json!({name: 1}).as_object().unwrap().clone();
        for name in ["LAYERS", "Layers", "layer\u{17f}"] {
            assert!(has_variant(&object(name), &["layers"]), "{name}");
        }
        for name in ["layers", "layer", "l\u{e4}yers"] {
            assert!(!has_variant(&object(name), &["layers"]), "{name}");
        }
    }

    #[test]
    fn a_secret_is_not_copied_nor_quoted() {
        let text = r#""c2VjcmV0""#;
        assert_eq!(
            serde_json::from_str::<InPlace<'_>>(text).unwrap().0,
            "c2VjcmV0"
        );
        for text in [r#""c2Vj\u0063""#, "1234"] {
            let error = serde_json::from_str::<InPlace<'_>>(text).err().unwrap();
            assert!(!format!("{error}").contains("1234"), "{error}");
        }
    }
}
