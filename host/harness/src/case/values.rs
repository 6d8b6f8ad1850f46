//! Placeholders: `{name}` in paths, headers, keys and expectations. `{kilo}` is the SHA-256 of the
//! body `kilo`, `{kilo.size}` its length, `{kilo.2}` the hash's first two digits; what a step saves
//! has the name that it gave. Braces around anything that is no name stay as they are.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// What placeholders stand for.
#[derive(Clone, Debug, Default)]
pub struct Values {
    texts: BTreeMap<String, String>,
    bodies: BTreeMap<String, Vec<u8>>,
}

impl Values {
    /// Names bytes.
    pub fn name_body(&mut self, name: &str, bytes: Vec<u8>) {
        self.texts.insert(name.to_owned(), hex::encode(Sha256::digest(&bytes)));
        self.bodies.insert(name.to_owned(), bytes);
    }

    /// Names a text.
    pub fn save(&mut self, name: &str, text: String) {
        self.texts.insert(name.to_owned(), text);
    }

    /// The bytes of this name.
    ///
    /// # Errors
    ///
    /// Where there are none.
    pub fn body(&self, name: &str) -> Result<Vec<u8>, String> {
        let known = || self.bodies.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let missing = || format!("`bodies` has no {name:?}; it has: {}", known());
        self.bodies.get(name).cloned().ok_or_else(missing)
    }

    /// A text without placeholders.
    ///
    /// # Errors
    ///
    /// Where nothing has a name in it.
    pub fn fill(&self, text: &str) -> Result<String, String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            rest = after;
            match rest.split_once('}').filter(|(name, _)| is_name(name)) {
                Some((name, behind)) => {
                    filled.push_str(&self.value(name)?);
                    rest = behind;
                }
                None => filled.push('{'),
            }
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// Whether [`fill`](Self::fill) would change a text, or fail.
    pub fn has_placeholder(text: &str) -> bool {
        let names = text.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
        names.into_iter().any(|(name, _)| is_name(name))
    }

    /// JSON whose texts have no placeholders.
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

    fn value(&self, name: &str) -> Result<String, String> {
        if let Some(text) = self.texts.get(name) {
            return Ok(text.clone());
        }
        let unknown = || format!("nothing is called {{{name}}} here");
        let (body, what) = name.split_once('.').ok_or_else(unknown)?;
        let (bytes, id) = self.bodies.get(body).zip(self.texts.get(body)).ok_or_else(unknown)?;
        match what {
            "size" => Ok(bytes.len().to_string()),
            "2" => Ok(id.chars().take(2).collect()),
            "upper" => Ok(id.to_uppercase()),
            _ => Err(unknown()),
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
        let json = values.fill_json(&serde_json::json!({"a": ["{job}", null]})).unwrap();
        assert_eq!(json, serde_json::json!({"a": ["01X", null]}));
    }
}
