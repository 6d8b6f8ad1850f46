//! Placeholders: `{name}` in paths, headers, keys and expectations. `{kilo}` is the SHA-256 of the body
//! `kilo`, `{kilo.size}` its length, `{kilo.2}` the first two digits of the hash. Parts of replies that a
//! step saves have the names that it chose. Braces around anything that is not a name are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// How deeply placeholders may refer to texts with placeholders.
const DEPTH: usize = 8;

/// The values of placeholders.
#[derive(Clone, Debug, Default)]
pub struct Values {
    texts: BTreeMap<String, Text>,
    bodies: BTreeMap<String, Named>,
}

#[derive(Clone, Debug)]
enum Text {
    /// A text without placeholders.
    Plain(String),
    /// A text with placeholders of its own.
    Template(String),
}

#[derive(Clone, Debug)]
struct Named {
    bytes: Arc<Vec<u8>>,
    /// The SHA-256 in lower-case hexadecimal digits.
    id: String,
}

impl Values {
    /// Names a body.
    pub fn name_body(&mut self, name: &str, bytes: Vec<u8>) {
        let id = hex::encode(Sha256::digest(&bytes));
        self.bodies.insert(name.to_owned(), Named { bytes: Arc::new(bytes), id });
    }

    /// Names a text without placeholders.
    pub fn save(&mut self, name: &str, text: String) {
        self.texts.insert(name.to_owned(), Text::Plain(text));
    }

    /// Names a text that may contain placeholders. If it is the name of a body, `{name.id}`, `{name.size}`
    /// and the like refer to that body.
    pub fn template(&mut self, name: &str, text: String) {
        self.texts.insert(name.to_owned(), Text::Template(text));
    }

    /// Returns the body of this name, in which placeholders are filled in.
    ///
    /// # Errors
    ///
    /// If there is no such body.
    pub fn body(&self, name: &str) -> Result<Arc<Vec<u8>>, String> {
        let name = self.fill(name)?;
        let known = || self.bodies.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let missing = || format!("`bodies` has no {name:?}; it has: {}", known());
        self.bodies.get(&name).map(|named| named.bytes.clone()).ok_or_else(missing)
    }

    /// Fills in the placeholders of a text.
    ///
    /// # Errors
    ///
    /// If a placeholder is unknown.
    pub fn fill(&self, text: &str) -> Result<String, String> {
        self.fill_within(text, DEPTH)
    }

    fn fill_within(&self, text: &str, depth: usize) -> Result<String, String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            rest = after;
            match rest.split_once('}').filter(|(name, _)| is_name(name)) {
                Some((name, behind)) => {
                    filled.push_str(&self.value(name, depth)?);
                    rest = behind;
                }
                None => filled.push('{'),
            }
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// Whether [`fill`](Self::fill) would change this text, or fail.
    pub fn has_placeholder(text: &str) -> bool {
        let names = text.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
        names.into_iter().any(|(name, _)| is_name(name))
    }

    /// Fills in the placeholders in the strings of a JSON value.
    ///
    /// # Errors
    ///
    /// As [`fill`](Self::fill).
    pub fn fill_json(&self, json: &Value) -> Result<Value, String> {
        Ok(match json {
            Value::String(text) => Value::String(self.fill(text)?),
            Value::Array(list) => {
                Value::Array(list.iter().map(|one| self.fill_json(one)).collect::<Result<_, _>>()?)
            }
            Value::Object(fields) => {
                let filled = fields
                    .iter()
                    .map(|(name, value)| Ok::<_, String>((name.clone(), self.fill_json(value)?)));
                Value::Object(filled.collect::<Result<_, _>>()?)
            }
            other => other.clone(),
        })
    }

    fn value(&self, name: &str, depth: usize) -> Result<String, String> {
        if let Some(text) = self.text(name, depth)? {
            return Ok(text);
        }
        let unknown = || format!("unknown placeholder {{{name}}}");
        let (body, what) = name.split_once('.').unwrap_or((name, "id"));
        let named = self.text(body, depth)?.unwrap_or_else(|| body.to_owned());
        let Named { bytes, id } = self.bodies.get(&named).ok_or_else(unknown)?;
        match what {
            "id" => Ok(id.clone()),
            "size" => Ok(bytes.len().to_string()),
            "2" => Ok(id.chars().take(2).collect()),
            "upper" => Ok(id.to_uppercase()),
            _ => Err(unknown()),
        }
    }

    fn text(&self, name: &str, depth: usize) -> Result<Option<String>, String> {
        match self.texts.get(name) {
            None => Ok(None),
            Some(Text::Plain(text)) => Ok(Some(text.clone())),
            Some(Text::Template(_)) if depth == 0 => {
                Err(format!("placeholder {{{name}}} refers to itself, or too deeply to others"))
            }
            Some(Text::Template(text)) => self.fill_within(text, depth - 1).map(Some),
        }
    }
}

fn is_name(text: &str) -> bool {
    let word =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.');
    text.starts_with(|first: char| first.is_ascii_lowercase()) && text.chars().all(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_and_other_braces_stay() {
        let mut values = Values::default();
        values.name_body("abc", b"abc".to_vec());
        values.save("job", "01X".to_owned());
        let filled = values.fill("/data/{abc.2}/{job}?{6}{ {abc.size}").unwrap();
        assert_eq!(filled, "/data/ba/01X?{6}{ 3");
        assert!(values.fill("{abc}").unwrap().starts_with("ba7816bf"));
        assert!(values.fill("{none}").unwrap_err().contains("{none}"));
        assert!(values.body("other").unwrap_err().contains("abc"));
        values.template("each", "abc".to_owned());
        assert_eq!(values.fill("{each}/{each.2}/{each.size}").unwrap(), "abc/ba/3");
        assert_eq!(**values.body("{each}").unwrap(), *b"abc");
        values.template("each", "{abc.2}/{other}".to_owned());
        values.template("other", "{job}".to_owned());
        assert_eq!(values.fill("{each}").unwrap(), "ba/01X");
        values.template("other", "{each}".to_owned());
        assert!(values.fill("{each}").unwrap_err().contains("refers to itself"));
        values.save("reply", "{each}".to_owned());
        assert_eq!(values.fill("{reply}").unwrap(), "{each}", "replies are not templates");
        let json = values.fill_json(&serde_json::json!({"a": ["{job}", null]})).unwrap();
        assert_eq!(json, serde_json::json!({"a": ["01X", null]}));
    }
}
