//! The small words of case files: times, patterns, requests, things that can be written short. What
//! is wrong with one is said where it is read, so that the message has its line.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use regex::Regex;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A time of day, as in `2026-01-31T23:59:58Z`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Clock(pub SystemTime);

impl TryFrom<String> for Clock {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let read: Result<jiff::Timestamp, _> = text.parse();
        read.map(|time| Self(time.into()))
            .map_err(|_| format!("{text:?} is no time; write \"2026-01-31T23:59:58Z\", say"))
    }
}

/// A length of time, as in `90s` or `2h`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        humantime::parse_duration(&text)
            .map(Self)
            .map_err(|_| format!("{text:?} is no length of time; write \"90s\" or \"2h\", say"))
    }
}

/// A regular expression, found anywhere.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(pub Regex);

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Regex::new(&text).map(Self).map_err(|error| error.to_string())
    }
}

/// `METHOD /path?query`; the path may hold placeholders.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct RequestLine {
    /// In upper case.
    pub method: String,
    /// As it goes over the wire.
    pub target: String,
}

impl TryFrom<String> for RequestLine {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for RequestLine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(' ') {
            Some((method, target)) if target.starts_with('/') && !method.is_empty() => {
                Ok(Self { method: method.to_owned(), target: target.to_owned() })
            }
            _ => Err(format!("{text:?} is no request; write \"GET /path\", say")),
        }
    }
}

/// A value of JSON: a text is read as JSON, which can say `null`; anything else is taken as it is.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "serde_json::Value")]
pub struct Json(pub serde_json::Value);

impl TryFrom<serde_json::Value> for Json {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Self, String> {
        match value {
            serde_json::Value::String(text) => serde_json::from_str(&text)
                .map(Self)
                .map_err(|error| format!("this text is no JSON: {error}")),
            value => Ok(Self(value)),
        }
    }
}

/// One of something, or a list.
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

/// Something with fields that is mostly written as a text, or as true or false.
#[derive(Clone, Debug, Default)]
pub struct Short<T>(pub T);

/// What a short form means.
pub trait FromShort: Sized {
    /// Of a text.
    fn from_text(text: &str) -> Self;

    /// Of true or false; none where that means nothing.
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
