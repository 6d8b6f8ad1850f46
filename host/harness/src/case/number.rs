//! Numbers in a case, which may contain placeholders: `status = 200`, `cut = "{half}"`.

use serde::Deserialize;

use super::Values;

/// A number, or a text with placeholders that becomes one. In rules, `"*"` matches any number.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "serde_json::Value")]
pub struct Number(String);

/// The rule that matches any number.
const ANY: &str = "*";

impl TryFrom<serde_json::Value> for Number {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Self, String> {
        match value {
            serde_json::Value::Number(number) if number.is_u64() => Ok(Self(number.to_string())),
            serde_json::Value::String(text) if text == ANY || Values::has_placeholder(&text) => {
                Ok(Self(text))
            }
            other => Err(format!(
                "invalid type: {other}; expected a number, or a text with placeholders"
            )),
        }
    }
}

impl Number {
    /// Returns the number, with placeholders filled in.
    ///
    /// # Errors
    ///
    /// If a placeholder is unknown, or the text is not a number.
    pub fn get(&self, values: &Values) -> Result<u64, String> {
        let text = values.fill(&self.0)?;
        text.parse().map_err(|_| format!("expected a number, found {text:?}"))
    }

    /// Like [`get`](Self::get), for lengths in memory.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn size(&self, values: &Values) -> Result<usize, String> {
        usize::try_from(self.get(values)?).map_err(|error| error.to_string())
    }

    /// Whether this is the rule that matches any number.
    pub fn is_any(&self) -> bool {
        self.0 == ANY
    }
}
