//! Bytes that a case supplies: for a blob, a request or a snapshot.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::{Clock, FromShort, Json, Values};

/// The most bytes that `repeat` and `random` make: they are kept in memory.
const MOST: usize = 256 << 20;

/// Bytes from one of the first seven fields, which are the possible sources. Without any of them, there are
/// no bytes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Content {
    /// This text.
    pub text: Option<String>,
    /// Bytes as hexadecimal digits.
    pub hex: Option<String>,
    /// The content of a file beside the case file.
    pub file: Option<String>,
    /// JSON without white space. Its strings may contain placeholders.
    pub json: Option<Json>,
    /// An entry of `bodies`.
    pub named: Option<String>,
    /// This text, repeated `times` times.
    pub repeat: Option<String>,
    /// This many pseudo-random bytes, the same at each run.
    pub random: Option<usize>,
    /// The number of repetitions, for `repeat`.
    pub times: Option<usize>,
    /// The seed for `random`. Each seed gives other bytes.
    pub seed: u64,
    /// The content type of a blob.
    pub content_type: Option<String>,
    /// The metadata of a blob.
    pub metadata: BTreeMap<String, String>,
    /// The time at which a blob was stored; by default when the case starts.
    pub modified: Option<Clock>,
}

impl FromShort for Content {
    fn from_text(text: &str) -> Self {
        Self { text: Some(text.to_owned()), ..Self::default() }
    }
}

impl Content {
    /// Content that consists of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { hex: Some(hex::encode(bytes)), ..Self::default() }
    }

    /// Returns the bytes. Files are looked up in `folder`.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, a name is unknown, there are several sources, or too many bytes would be made.
    pub fn bytes(&self, folder: &Path, values: &Values) -> Result<Vec<u8>, String> {
        let sources = [
            self.text.is_some(),
            self.hex.is_some(),
            self.file.is_some(),
            self.json.is_some(),
            self.named.is_some(),
            self.repeat.is_some(),
            self.random.is_some(),
        ];
        if sources.into_iter().filter(|there| *there).count() > 1 {
            let what = "text, hex, file, json, named, repeat, random";
            return Err(format!("several sources of bytes; expected one of {what}"));
        }
        if self.times.is_some() && self.repeat.is_none() {
            return Err("`times` without `repeat`; add the text to repeat".to_owned());
        }
        if let Some(text) = &self.text {
            return Ok(text.clone().into_bytes());
        }
        if let Some(digits) = &self.hex {
            return hex::decode(digits).map_err(|error| format!("hex {digits:?}: {error}"));
        }
        if let Some(file) = &self.file {
            return read_file(folder, file);
        }
        if let Some(Json(json)) = &self.json {
            return Ok(values.fill_json(json)?.to_string().into_bytes());
        }
        if let Some(name) = &self.named {
            return values.body(name).map(|bytes| bytes.to_vec());
        }
        let too_many = |what: &str| format!("{what} makes more than {} MiB", MOST >> 20);
        if let Some(text) = &self.repeat {
            let times = self.times.unwrap_or(1);
            let fits = text.len().checked_mul(times).is_some_and(|length| length <= MOST);
            let made = fits.then(|| text.repeat(times).into_bytes());
            return made.ok_or_else(|| too_many("`repeat`"));
        }
        let length = self.random.unwrap_or(0);
        let fits = length <= MOST;
        fits.then(|| random(self.seed, length)).ok_or_else(|| too_many("`random`"))
    }
}

pub(super) fn read_file(folder: &Path, file: &str) -> Result<Vec<u8>, String> {
    let path = folder.join(file);
    std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Pseudo-random bytes from a seed (SplitMix64).
pub(crate) fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_cannot_ask_for_more_bytes_than_there_is_memory() {
        let bytes = |text: &str| {
            let content: Content = toml::from_str(text).unwrap();
            content.bytes(Path::new("."), &Values::default())
        };
        assert_eq!(bytes("repeat = 'ab'\ntimes = 2").as_deref(), Ok(&b"abab"[..]));
        assert_eq!(bytes("random = 3").map(|bytes| bytes.len()), Ok(3));
        for text in ["repeat = 'ab'\ntimes = 9223372036854775807", "random = 9223372036854775807"] {
            assert!(bytes(text).unwrap_err().contains("makes more than 256 MiB"), "{text}");
        }
    }
}
