//! A reply in memory, and the questions that tests ask about it.

use std::io;

/// An HTTP reply.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The version of HTTP: `1.1` or `1.0`.
    pub version: String,
    /// The status code.
    pub status: u16,
    /// Names (in lower case) and values, in the order of the reply.
    pub headers: Vec<(String, String)>,
    /// The body, without the framing of chunks.
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a header.
    ///
    /// # Panics
    ///
    /// If it occurs twice: a test that asks for one value does not expect several.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(found, _)| found == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} occurs twice: {:?}", self.headers);
        value
    }

    /// The body as text.
    ///
    /// # Panics
    ///
    /// If it is not UTF-8.
    #[track_caller]
    pub fn text(&self) -> String {
        let text = String::from_utf8(self.body.clone());
        assert!(text.is_ok(), "{text:?}");
        text.unwrap_or_default()
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// If it is not JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        let json = serde_json::from_slice(&self.body);
        assert!(json.is_ok(), "{json:?}: {} {}", self.status, self.text());
        json.unwrap_or_default()
    }

    /// The value of a header that framing depends on.
    ///
    /// # Errors
    ///
    /// If it occurs twice.
    pub(super) fn single(&self, name: &str) -> io::Result<Option<&str>> {
        let mut values = self.headers.iter().filter(|(found, _)| found == name);
        let value = values.next().map(|(_, value)| value.as_str());
        match values.next() {
            Some(_) => Err(io::Error::other(format!("{name} occurs twice: {:?}", self.headers))),
            None => Ok(value),
        }
    }
}
