//! Documents: read from JSON, and written with their members in order of their names, so that readers of YAML, as the clients
//! are, find the same in them.

use std::cell::Cell;
use std::{fmt, io};

use keepgate_sdk::Failure;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::ser::Formatter;
use serde_json::{Map, Number, Serializer, Value};

/// What kind of configuration a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Local,
    Remote,
    Encrypted,
}

impl Kind {
    /// The names of all of them.
    pub(super) const NAMES: &[&str] = &["local", "remote", "encrypted"];

    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Local, Self::Remote, Self::Encrypted].into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
            Self::Encrypted => "encrypted",
        }
    }
}

/// The most values in a document, so that a small one cannot need much memory.
const MOST_VALUES: usize = 50_000;

/// Reads JSON. The error says what is wrong, with line and column. A member that is there twice is an error, because
/// readers differ in which one they take; so is nesting deeper than 128 levels.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, String> {
    let left = Cell::new(MOST_VALUES);
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = Reader { left: &left }.deserialize(&mut json);
    value.and_then(|value| json.end().map(|()| value)).map_err(|error| error.to_string())
}

/// Writes a document on one line, in UTF-8. What YAML takes for the end of a line, or does not take at all, is escaped.
pub(super) fn to_vec(document: &Value) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    document
        .serialize(&mut Serializer::with_formatter(&mut bytes, ForYaml))
        .map_err(|error| Failure::Internal(format!("a configuration as JSON: {error}")))?;
    Ok(bytes)
}

/// Compact JSON with further escapes.
struct ForYaml;

impl Formatter for ForYaml {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for piece in fragment.split_inclusive(is_escaped) {
            let escaped = piece.chars().next_back().filter(|last| is_escaped(*last));
            let plain = piece.strip_suffix(is_escaped).unwrap_or(piece);
            writer.write_all(plain.as_bytes())?;
            if let Some(escaped) = escaped {
                write!(writer, "\\u{:04x}", u32::from(escaped))?;
            }
        }
        Ok(())
    }
}

/// Line breaks of YAML 1.1, and what it does not count among the printable characters; `serde_json` escapes those below
/// U+0020. None of them needs surrogates.
fn is_escaped(character: char) -> bool {
    matches!(
        character,
        '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
    )
}

/// Reads values none of whose objects has a member twice.
#[derive(Clone, Copy)]
struct Reader<'a> {
    /// How many more values there may be.
    left: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.left.get().checked_sub(1).ok_or_else(|| {
            de::Error::custom(format!("there are more than {MOST_VALUES} values"))
        })?;
        self.left.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            array.push(item);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                let shown: String = name.chars().take(64).collect();
                return Err(de::Error::custom(format!("the member {shown:?} is there twice")));
            }
            let value = members.next_value_seed(self)?;
            object.insert(name, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn members_are_in_order_and_there_once() {
        let text = br#"{"z":[{"b":1,"a":null}],"y":true}"#;
        let sorted = br#"{"y":true,"z":[{"a":null,"b":1}]}"#;
        assert_eq!(to_vec(&parse(text).unwrap()).unwrap(), sorted);
        let twice = parse(b"{\"a\":1,\n \"b\":{\"c\":1,\"c\":2}}").unwrap_err();
        assert_eq!(twice, "the member \"c\" is there twice at line 2 column 15");
        // The same name by another spelling.
        assert!(parse(br#"{"a":1,"\u0061":2}"#).is_err());
    }

    #[test]
    fn what_is_no_json_is_named_with_line_and_column() {
        for (text, said) in [
            (&b""[..], "line 1 column 0"),
            (b"version: config.databack.io/v1\n", "line 1 column 1"),
            (b"{\n\"a\":}", "line 2 column 5"),
            (b"{} {}", "trailing characters at line 1 column 4"),
            (b"\"\xff\"", "line 1 column"),
            (b"\"\\ud800\"", "line 1 column"),
            (
                format!("[{}1]", "1,".repeat(MOST_VALUES)).as_bytes(),
                "more than 50000 values at line 1",
            ),
            (&[b'['; 100_000][..], "recursion limit exceeded at line 1 column 128"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_reader_of_yaml_finds_nothing_that_it_takes_for_something_else() {
        let text = "a/b \u{e9} \u{1f600} \u{85}\u{2028}\u{2029}\u{7f}\u{feff}\u{ffff}\u{1}\n\"\\";
        let written = String::from_utf8(to_vec(&text.into()).unwrap()).unwrap();
        let expected =
            "\"a/b \u{e9} \u{1f600} \\u0085\\u2028\\u2029\\u007f\\ufeff\\uffff\\u0001\\n\\\"\\\\\"";
        assert_eq!(written, expected);
        assert_eq!(parse(written.as_bytes()).unwrap(), text);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_text_comes_back_from_one_line_of_printable_characters(text in any::<String>()) {
            let written = to_vec(&text.clone().into()).unwrap();
            let line = std::str::from_utf8(&written).unwrap();
            let has_odd = line.contains(|c: char| c.is_control() || is_escaped(c));
            prop_assert!(!has_odd, "{}", line);
            prop_assert_eq!(parse(&written).unwrap(), text);
        }
    }
}
