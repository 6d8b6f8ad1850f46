//! Placeholders: `{repo}` and the like in the data's texts. A name that nobody knows is a mistake
//! in the data and said so; braces around anything that is no name stay (patterns have them).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::conformance::case::{Scalar, Source};
use crate::data::{Blob, sha256};

/// A body, made once.
#[derive(Debug)]
pub struct Body {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Their SHA-256 in hex.
    pub id: String,
}

impl Body {
    /// Makes it.
    pub fn of(source: &Source) -> Arc<Self> {
        let bytes = match source {
            Source::Text(text) => text.clone().into_bytes(),
            Source::Made(made) => Blob::new(made.seed, made.size).bytes(),
        };
        let id = sha256(bytes.as_slice());
        Arc::new(Self { bytes, id })
    }
}

/// Bodies by their names.
pub type Bodies = BTreeMap<String, Arc<Body>>;

/// What placeholders stand for.
#[derive(Clone, Debug, Default)]
pub struct Values {
    /// Each `{name}` and its text.
    pub texts: BTreeMap<String, String>,
    /// `{name}` is a body's id, `{name.upper}` that in capitals, `{name.2}` its first two digits,
    /// `{name.size}` the length. With a value whose text is the name of a body, `{value.id}` and
    /// the like are that body's.
    pub bodies: Bodies,
}

impl Values {
    /// With one more.
    pub fn set(&mut self, name: &str, text: impl Into<String>) {
        self.texts.insert(name.to_owned(), text.into());
    }

    /// A text without placeholders. What they stand for may have placeholders itself.
    pub fn fill(&self, text: &str) -> Result<String, String> {
        self.fill_within(text, 8)
    }

    fn fill_within(&self, text: &str, depth: usize) -> Result<String, String> {
        if depth == 0 {
            return Err(format!("`{text}` never ends"));
        }
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            filled.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            match rest.find('}').map(|end| &rest[..end]).filter(|name| is_name(name)) {
                Some(name) => {
                    filled.push_str(&self.value(name, depth - 1)?);
                    rest = &rest[name.len() + 1..];
                }
                None => filled.push('{'),
            }
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// A body by its name, which may be a placeholder.
    pub fn body(&self, name: &str) -> Result<Arc<Body>, String> {
        let name = self.fill(name)?;
        self.bodies.get(&name).cloned().ok_or_else(|| format!("there is no body `{name}`"))
    }

    /// A number, where there is one.
    pub fn number(&self, number: Option<&Scalar>) -> Result<Option<u64>, String> {
        let Some(number) = number else { return Ok(None) };
        let text = self.fill(&number.text())?;
        text.parse().map(Some).map_err(|_| format!("`{text}` is no number"))
    }

    fn value(&self, name: &str, depth: usize) -> Result<String, String> {
        if let Some(text) = self.texts.get(name) {
            return self.fill_within(text, depth);
        }
        let (body, what) = name.split_once('.').unwrap_or((name, "id"));
        let unknown = || format!("nothing is called `{{{name}}}`");
        let named = match self.texts.get(body) {
            Some(text) => self.fill_within(text, depth)?,
            None => body.to_owned(),
        };
        let body = self.bodies.get(&named).ok_or_else(unknown)?;
        match what {
            "id" => Ok(body.id.clone()),
            "upper" => Ok(body.id.to_uppercase()),
            "2" => Ok(body.id[..2].to_owned()),
            "size" => Ok(body.bytes.len().to_string()),
            _ => Err(unknown()),
        }
    }
}

fn is_name(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.');
    text.starts_with(|first: char| first.is_ascii_lowercase()) && text.chars().all(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_and_other_braces_stay() {
        let mut values = Values::default();
        values.bodies.insert("abc".into(), Body::of(&Source::Text("abc".into())));
        values.set("repo", "/x");
        let filled = values.fill("GET {repo}/data/{abc.2}?{6}{ {abc.size}").unwrap();
        assert_eq!(filled, "GET /x/data/ba?{6}{ 3");
        assert!(values.fill("{abc}").unwrap().starts_with("ba7816bf"));
        assert!(values.fill("{none}").unwrap_err().contains("{none}"));
        assert!(values.fill("{abc.middle}").is_err());
        values.set("each", "abc");
        assert_eq!(values.fill("{each}/{each.2}/{each.size}").unwrap(), "abc/ba/3");
        values.set("each", "{abc.2}/{other}");
        values.set("other", "{repo}");
        assert_eq!(values.fill("{each}").unwrap(), "ba//x");
        values.set("other", "{each}");
        assert!(values.fill("{each}").is_err());
    }
}
