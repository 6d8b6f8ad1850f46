//! Numbers of a case, which may be written as placeholders: `status = 200`, `cut = "{half}"`.

use serde::Deserialize;

use super::Values;

/// A number, or a text with placeholders that becomes one. `"*"` is any number where a rule is meant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "serde_json::Value")]
pub struct Number(String);

/// The rule that any number satisfies.
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
    /// The number, with placeholders filled in.
    ///
    /// # Errors
    ///
    /// If a placeholder is unknown, or the text is no number.
    pub fn get(&self, values: &Values) -> Result<u64, String> {
        let text = values.fill(&self.0)?;
        text.parse().map_err(|_| format!("{text:?} is no number"))
    }

    /// The same for lengths of things in memory.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn size(&self, values: &Values) -> Result<usize, String> {
        usize::try_from(self.get(values)?).map_err(|error| error.to_string())
    }

    /// Whether it is the rule that any number satisfies.
    pub fn is_any(&self) -> bool {
        self.0 == ANY
    }
}
