//! What a case expects of replies, blobs and jobs.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::content::{Content, read_file};
use super::{Clock, Disk, FromShort, Json, Many, Number, Pattern, Short, Values};

/// What a step must result in.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// The status, or several that are all accepted; `"*"` matches any.
    pub status: Option<Many<Number>>,
    /// Headers of the reply. Others are ignored.
    pub headers: BTreeMap<String, Short<HeaderRule>>,
    /// The body of the reply.
    pub body: Option<Short<Rule>>,
    /// A pattern for the error with which the reply's body breaks off.
    pub broken: Option<Pattern>,
    /// Why the plugin gave no reply, in the host's terms: `failure`, `trap`, `cpu`, `memory`, `time`,
    /// `bad-reply`.
    pub reason: Option<String>,
    /// All calls that the plugin made to its host during the step, in order. A line may end with `*`.
    pub calls: Option<Vec<String>>,
    /// Prefixes of calls that the plugin must not make.
    pub no_calls: Vec<String>,
    /// The job that `run` started.
    pub job: Option<JobRule>,
    /// Whether the server closes the connection after the reply.
    pub closed: bool,
    /// Whether the server may instead close the connection without a reply.
    pub or_closed: bool,
    /// Metrics in the reply, which has Prometheus' text format.
    pub metrics: Vec<SeriesRule>,
    /// The server's disk after this step.
    pub disk: Option<Disk>,
}

/// A metric with labels.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesRule {
    /// The metric's name.
    pub name: String,
    /// Labels that it must have. It may have others.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The expected sum over all matching series; 0 if there are none.
    pub value: f64,
}

/// What a header must be: a text, present, absent, or matching a pattern.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderRule {
    /// A pattern for the value. Several values are joined by commas first.
    #[serde(default)]
    pub matches: Option<Pattern>,
    /// Comma-separated words, in any order and any case.
    #[serde(default)]
    pub words: Option<String>,
    #[serde(skip)]
    pub(crate) exact: Option<String>,
    #[serde(skip)]
    pub(crate) absent: bool,
}

impl FromShort for HeaderRule {
    fn from_text(text: &str) -> Self {
        Self { matches: None, words: None, exact: Some(text.to_owned()), absent: false }
    }

    fn from_flag(there: bool) -> Option<Self> {
        Some(Self { matches: None, words: None, exact: None, absent: !there })
    }
}

/// What bytes must be. All fields that are set must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// This text.
    pub text: Option<String>,
    /// These bytes, as hexadecimal digits.
    pub hex: Option<String>,
    /// The content of a file beside the case file.
    pub file: Option<String>,
    /// An entry of `bodies`.
    pub named: Option<String>,
    /// The part of `named` that is meant: `[offset, length]`, or `"FIRST-LAST"` as in a range.
    pub part: Option<BytePart>,
    /// JSON that is equal to this.
    pub json: Option<Json>,
    /// A JSON array with these elements, in any order.
    pub set: Option<Json>,
    /// JSON with at least these members. Arrays must have the same length.
    pub has: Option<Json>,
    /// A pattern that must match the text.
    pub matches: Option<Pattern>,
    /// A pattern that must not match the text.
    pub lacks: Option<Pattern>,
    /// The SHA-256 in lower-case hexadecimal digits.
    pub sha256: Option<String>,
    /// The size in bytes.
    pub size: Option<u64>,
    /// A rule for the bytes after decompression with gzip.
    pub gunzip: Option<Box<Short<Rule>>>,
    /// All files of a tar archive, by name.
    pub tar: Option<BTreeMap<String, Short<Rule>>>,
}

impl FromShort for Rule {
    fn from_text(text: &str) -> Self {
        Self { text: Some(text.to_owned()), ..Self::default() }
    }
}

impl Rule {
    /// Returns the bytes, if the rule allows exactly one value.
    ///
    /// # Errors
    ///
    /// If a file or body that is named does not exist.
    pub fn exact(
        &self,
        folder: &std::path::Path,
        values: &Values,
    ) -> Result<Option<Vec<u8>>, String> {
        if let Some(text) = &self.text {
            return values.fill(text).map(|text| Some(text.into_bytes()));
        }
        if let Some(digits) = &self.hex {
            return hex::decode(digits).map(Some).map_err(|error| format!("hex: {error}"));
        }
        if let Some(file) = &self.file {
            return read_file(folder, file).map(Some);
        }
        let Some(name) = &self.named else { return Ok(None) };
        let bytes = values.body(name)?;
        let Some(part) = &self.part else { return Ok(Some(bytes.to_vec())) };
        let part = part.of(&bytes, values)?;
        let part = part.ok_or_else(|| format!("{name:?} has only {} bytes", bytes.len()))?;
        Ok(Some(part.to_vec()))
    }
}

/// A part of a body.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum BytePart {
    /// Offset and length.
    Length(usize, usize),
    /// `FIRST-LAST`, both inclusive. May contain placeholders.
    Range(String),
}

impl BytePart {
    fn of<'a>(&self, bytes: &'a [u8], values: &Values) -> Result<Option<&'a [u8]>, String> {
        let text = match self {
            Self::Length(offset, length) => {
                return Ok(bytes.get(*offset..offset.saturating_add(*length)));
            }
            Self::Range(text) => values.fill(text)?,
        };
        let number = |text: &str| text.parse::<usize>().ok();
        let range =
            text.split_once('-').and_then(|(first, last)| Some(number(first)?..=number(last)?));
        let range =
            range.ok_or_else(|| format!("expected a part such as \"0-99\", found {text:?}"))?;
        Ok(bytes.get(range))
    }
}

/// What a blob must be: `false` if it must not exist, `true` if its content is irrelevant.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kept {
    /// A rule for its bytes.
    pub is: Option<Short<Rule>>,
    /// Its text: what `place` writes, or what must be found.
    pub text: Option<String>,
    /// An entry of `bodies`.
    pub named: Option<String>,
    /// As [`Rule::has`].
    pub has: Option<Json>,
    /// As [`Rule::json`].
    pub json: Option<Json>,
    /// As [`Rule::sha256`].
    pub sha256: Option<String>,
    /// As [`Rule::size`].
    pub size: Option<u64>,
    /// As [`Rule::gunzip`].
    pub gunzip: Option<Box<Short<Rule>>>,
    /// The content type that was given to `put`.
    pub content_type: Option<String>,
    /// The metadata that was given to `put`, complete.
    pub metadata: Option<BTreeMap<String, String>>,
    /// For files on disk: the permissions in octal, such as `0600` or `0660 & umask`.
    pub mode: Option<String>,
    /// For `place`: when the blob was stored.
    pub modified: Option<Clock>,
    #[serde(skip)]
    pub(crate) absent: bool,
}

impl FromShort for Kept {
    fn from_text(text: &str) -> Self {
        Self { text: Some(text.to_owned()), ..Self::default() }
    }

    fn from_flag(there: bool) -> Option<Self> {
        Some(Self { absent: !there, ..Self::default() })
    }
}

impl Kept {
    /// The rule for its bytes.
    pub fn rule(&self) -> Rule {
        if let Some(Short(rule)) = &self.is {
            return rule.clone();
        }
        Rule {
            text: self.text.clone(),
            named: self.named.clone(),
            has: self.has.clone(),
            json: self.json.clone(),
            sha256: self.sha256.clone(),
            size: self.size,
            gunzip: self.gunzip.clone(),
            ..Rule::default()
        }
    }

    /// What `place` writes; `None` to remove the blob.
    pub fn content(&self) -> Option<Content> {
        (!self.absent).then(|| Content {
            text: self.text.clone(),
            named: self.named.clone(),
            json: self.json.clone(),
            content_type: self.content_type.clone(),
            metadata: self.metadata.clone().unwrap_or_default(),
            modified: self.modified,
            ..Content::default()
        })
    }
}

/// What a job must be. Fields that are not set are not checked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobRule {
    /// The job's kind.
    pub kind: Option<String>,
    /// The job's key.
    pub key: Option<String>,
    /// `queued`, `running`, `succeeded`, `failed`, `cancelled`.
    pub state: Option<String>,
    /// What started it.
    pub origin: Option<String>,
    /// A pattern for the message that says why the job failed or waits.
    pub message: Option<Pattern>,
    /// The job's output.
    pub output: Option<Short<Rule>>,
    /// The number of the last attempt.
    pub attempt: Option<u32>,
    /// The maximum number of attempts.
    pub attempts: Option<u32>,
    /// The user on whose behalf it runs; empty for none.
    pub user: Option<String>,
}

/// The final state.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct After {
    /// Changed blobs of the store `main`. All others must be unchanged.
    pub blobs: BTreeMap<String, Short<Kept>>,
    /// Changed blobs of further stores.
    pub store: BTreeMap<String, BTreeMap<String, Short<Kept>>>,
    /// Folders that must exist in the store `main`.
    pub folders: Vec<String>,
    /// All jobs, in the order in which they were started.
    pub jobs: Option<Vec<JobRule>>,
    /// Prefixes of calls that the plugin must not make at any time.
    pub no_calls: Vec<String>,
    /// Patterns for lines of the log, such as `warn: …`. Each warning and error must match one.
    pub log: Vec<Pattern>,
    /// All counters, as `name{a,b}` with the values of the labels, and their counts.
    pub counters: Option<BTreeMap<String, CounterRule>>,
    /// All gauges, named like counters, and their last values.
    pub gauges: Option<BTreeMap<String, GaugeRule>>,
    /// The server's disk.
    pub disk: Option<Disk>,
}

impl After {
    /// Whether it checks anything that is only visible from inside.
    pub(crate) fn looks_inside(&self) -> bool {
        let Self { blobs, store, folders, jobs, no_calls, log, counters, gauges, disk: _ } = self;
        let lists = blobs.is_empty() && store.is_empty() && folders.is_empty();
        !(lists && no_calls.is_empty() && log.is_empty())
            || jobs.is_some()
            || counters.is_some()
            || gauges.is_some()
    }
}

/// The expected count; `true` accepts any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "serde_json::Value")]
pub struct CounterRule(pub Option<u64>);

impl TryFrom<serde_json::Value> for CounterRule {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Self, String> {
        match (value.as_u64(), value.as_bool()) {
            (Some(number), _) => Ok(Self(Some(number))),
            (None, Some(true)) => Ok(Self(None)),
            _ => Err(format!("expected a number, or true for any, found {value}")),
        }
    }
}

/// The expected value of a gauge; `true` accepts any.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "serde_json::Value")]
pub struct GaugeRule(pub Option<f64>);

impl TryFrom<serde_json::Value> for GaugeRule {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Self, String> {
        match (value.as_f64(), value.as_bool()) {
            (Some(number), _) => Ok(Self(Some(number))),
            (None, Some(true)) => Ok(Self(None)),
            _ => Err(format!("expected a number, or true for any, found {value}")),
        }
    }
}
