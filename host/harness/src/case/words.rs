//! The small types of case files: times, patterns, request lines, values with a short form. Each is checked
//! when it is read, so that errors have a line.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, SystemTime};

use regex::Regex;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Values;

/// A point in time, such as `2026-01-31T23:59:58Z`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Clock(pub SystemTime);

impl TryFrom<String> for Clock {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let read: Result<jiff::Timestamp, _> = text.parse();
        read.map(|time| Self(time.into())).map_err(|_| {
            format!("expected a time such as \"2026-01-31T23:59:58Z\", found {text:?}")
        })
    }
}

/// A duration, such as `90s` or `2h`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        humantime::parse_duration(&text)
            .map(Self)
            .map_err(|_| format!("expected a duration such as \"90s\" or \"2h\", found {text:?}"))
    }
}

/// A regular expression, not anchored. Its placeholders are filled in before it is compiled.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern {
    text: String,
    /// `None` if it has placeholders.
    compiled: Option<Regex>,
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let compile = |text: &str| Regex::new(text).map_err(|error| error.to_string());
        let compiled = (!Values::has_placeholder(&text)).then(|| compile(&text)).transpose()?;
        Ok(Self { text, compiled })
    }
}

impl Pattern {
    /// Returns the compiled expression.
    ///
    /// # Errors
    ///
    /// If a placeholder is unknown, or its value makes the expression invalid.
    pub fn regex(&self, values: &Values) -> Result<Regex, String> {
        match &self.compiled {
            Some(regex) => Ok(regex.clone()),
            None => Regex::new(&values.fill(&self.text)?).map_err(|error| error.to_string()),
        }
    }

    /// Whether it matches a text. A pattern with placeholders never does: use [`regex`](Self::regex).
    pub fn is_match(&self, text: &str) -> bool {
        self.compiled.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `METHOD /path?query`, which may contain placeholders or be one.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct RequestLine(String);

impl TryFrom<String> for RequestLine {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (method, target) = text.split_once(' ').unwrap_or_default();
        let is_target = target.starts_with(['/', '{']) || target.contains("://");
        if text.starts_with('{') || (!method.is_empty() && is_target) {
            return Ok(Self(text));
        }
        Err(format!("expected a request such as \"GET /path\", found {text:?}"))
    }
}

impl fmt::Display for RequestLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl RequestLine {
    /// Returns method and target, with placeholders filled in. A target that is written with a leading `/` is
    /// below the mount, whose path is `base`. Any other is complete.
    ///
    /// # Errors
    ///
    /// If a placeholder is unknown, or the result is not a request line.
    pub fn fill(&self, values: &Values, base: &str) -> Result<(String, String), String> {
        let filled = values.fill(&self.0)?;
        let parts = filled.split_once(' ').filter(|(method, _)| !method.is_empty());
        let (method, target) = parts
            .ok_or_else(|| format!("expected a request such as \"GET /path\", found {filled:?}"))?;
        let is_below = self.0.split_once(' ').is_some_and(|(_, target)| target.starts_with('/'));
        let base = if is_below { base } else { "" };
        Ok((method.to_owned(), format!("{base}{target}")))
    }
}

/// JSON, written as a text (which can be `null`) or as TOML.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "serde_json::Value")]
pub struct Json(pub serde_json::Value);

impl TryFrom<serde_json::Value> for Json {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Self, String> {
        match value {
            serde_json::Value::String(text) => serde_json::from_str(&text)
                .map(Self)
                .map_err(|error| format!("expected JSON: {error}")),
            value => Ok(Self(value)),
        }
    }
}

/// One value, or a list of them.
#[derive(Clone, Debug, Default)]
pub struct Many<T>(pub Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for One<T> {
            type Value = Many<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value, or a list of them")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Many<T>, E> {
                T::deserialize(text.into_deserializer()).map(|one| Many(vec![one]))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Many<T>, E> {
                T::deserialize(number.into_deserializer()).map(|one| Many(vec![one]))
            }

            fn visit_bool<E: Error>(self, flag: bool) -> Result<Many<T>, E> {
                Err(E::invalid_type(serde::de::Unexpected::Bool(flag), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Many<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = list.next_element()? {
                    all.push(one);
                }
                Ok(Many(all))
            }
        }

        deserializer.deserialize_any(One(PhantomData))
    }
}

/// A table with a short form, which is a text or a boolean.
#[derive(Clone, Debug, Default)]
pub struct Short<T>(pub T);

/// What a short form means.
pub trait FromShort: Sized {
    /// The meaning of a text.
    fn from_text(text: &str) -> Self;

    /// The meaning of a boolean; `None` if it has none.
    fn from_flag(_flag: bool) -> Option<Self> {
        None
    }
}

impl<'de, T: Deserialize<'de> + FromShort> Deserialize<'de> for Short<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de> + FromShort> Visitor<'de> for Form<T> {
            type Value = Short<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or a table in braces")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Short<T>, E> {
                Ok(Short(T::from_text(text)))
            }

            fn visit_bool<E: Error>(self, flag: bool) -> Result<Short<T>, E> {
                let meaning = T::from_flag(flag).map(Short);
                meaning.ok_or_else(|| E::invalid_type(serde::de::Unexpected::Bool(flag), &self))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Short<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Short)
            }
        }

        deserializer.deserialize_any(Form(PhantomData))
    }
}
