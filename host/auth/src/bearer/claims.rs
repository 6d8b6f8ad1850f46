//! The claims of a token: a JSON object, and how single ones are read.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

/// The claim with what its bearer may do, separated by spaces.
pub(super) const SCOPE: &str = "scope";

/// The claims of a token. A token in which a name occurs twice cannot be read: programs disagree on which one counts.
#[derive(Debug)]
pub(super) struct Claims(Value);

impl Claims {
    /// The claim with this name; if that begins with a slash, the value at this JSON pointer (RFC 6901).
    fn get(&self, name: &str) -> Option<&Value> {
        match name.starts_with('/') {
            true => self.0.pointer(name),
            false => self.0.get(name),
        }
    }

    /// A claim that is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// What a claim holds: one text, or those of a list. Numbers and booleans are written as in JSON; anything else has
    /// no values. `scope` is split at spaces.
    pub(super) fn values(&self, name: &str) -> Vec<String> {
        let values = match self.get(name) {
            None => return Vec::new(),
            Some(Value::Array(values)) => values.as_slice(),
            Some(value) => std::slice::from_ref(value),
        };
        let texts = values.iter().filter_map(|value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        });
        match name {
            SCOPE => {
                let scopes: Vec<_> = texts.collect();
                scopes.iter().flat_map(|text| text.split_whitespace()).map(str::to_owned).collect()
            }
            _ => texts.collect(),
        }
    }

    /// A time, in seconds since 1970, possibly with a fraction.
    pub(super) fn time(&self, name: &'static str) -> Result<Option<f64>, String> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => {
                let seconds = value.as_f64().filter(|seconds| seconds.is_finite());
                let wrong = || format!("its claim {name:?} is not a time in seconds");
                seconds.map(Some).ok_or_else(wrong)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ClaimsVisitor).map(Claims)
    }
}

struct ClaimsVisitor;

impl<'de> Visitor<'de> for ClaimsVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with claims")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut claims = Map::new();
        while let Some((name, value)) = access.next_entry::<String, Value>()? {
            if claims.contains_key(&name) {
                return Err(de::Error::custom(format!("the claim {name:?} occurs twice")));
            }
            claims.insert(name, value);
        }
        Ok(Value::Object(claims))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(text: &str) -> Claims {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_claim_is_found_by_its_name_or_by_a_pointer() {
        let claims = claims(
            r#"{"sub": "ann", "https://example.org/roles": ["a", 7, true, null, {}, ["b"]], "n": 1.5, "o": {},
                "kubernetes.io": {"serviceaccount": {"name": "backup"}}, "realm": {"roles": ["x", "y"]}}"#,
        );
        assert_eq!(claims.text("sub"), Some("ann"));
        assert_eq!(claims.text("/kubernetes.io/serviceaccount/name"), Some("backup"));
        assert_eq!(claims.values("https://example.org/roles"), ["a", "7", "true"]);
        assert_eq!(claims.values("/realm/roles"), ["x", "y"]);
        assert_eq!(claims.values("n"), ["1.5"]);
        for nothing in ["o", "realm", "none", "/realm/none", "/", "roles"] {
            assert_eq!(claims.text(nothing), None, "{nothing}");
            assert!(claims.values(nothing).is_empty(), "{nothing}");
        }
        assert_eq!(claims.text("n"), None);
    }

    #[test]
    fn scopes_are_single() {
        assert_eq!(claims(r#"{"scope": " read  write"}"#).values(SCOPE), ["read", "write"]);
        assert_eq!(claims(r#"{"scope": ["read", "a b"]}"#).values(SCOPE), ["read", "a", "b"]);
        assert!(claims(r#"{"scope": ""}"#).values(SCOPE).is_empty());
        assert_eq!(claims(r#"{"groups": "not split"}"#).values("groups"), ["not split"]);
    }

    #[test]
    fn times_are_numbers() {
        assert_eq!(claims(r#"{"exp": 12}"#).time("exp"), Ok(Some(12.0)));
        assert_eq!(claims(r#"{"exp": 12.5}"#).time("exp"), Ok(Some(12.5)));
        assert_eq!(claims("{}").time("exp"), Ok(None));
        for wrong in [r#"{"exp": "12"}"#, r#"{"exp": null}"#, r#"{"exp": [12]}"#] {
            assert!(claims(wrong).time("exp").is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_occurs_twice_cannot_be_read() {
        let twice = serde_json::from_str::<Claims>(r#"{"sub": "ann", "a": 1, "sub": "bob"}"#);
        assert!(twice.unwrap_err().to_string().contains("the claim \"sub\" occurs twice"));
        for other in ["[]", "\"x\"", "null", "1"] {
            assert!(serde_json::from_str::<Claims>(other).is_err(), "{other}");
        }
    }
}
