//! What a case expects: of a reply, of blobs, of jobs.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::content::{Content, read_file};
use super::{Clock, Disk, FromShort, Json, Many, Number, Pattern, Short, Values};

/// What must come of a step.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// The status, or several of which each is right; `"*"` is any.
    pub status: Option<Many<Number>>,
    /// Of the reply; others are not looked at.
    pub headers: BTreeMap<String, Short<HeaderRule>>,
    /// Of the reply.
    pub body: Option<Short<Rule>>,
    /// The reply's body does not come to its end: a pattern of why.
    pub broken: Option<Pattern>,
    /// Why the plugin gave no reply, in the host's word: `failure`, `trap`, `cpu`, `memory`, `time`,
    /// `bad-reply`.
    pub reason: Option<String>,
    /// What the plugin asked of its host meanwhile, all of it, in order. A line may end with `*`.
    pub calls: Option<Vec<String>>,
    /// What it may not have asked: beginnings of lines.
    pub no_calls: Vec<String>,
    /// What became of the job that `run` started.
    pub job: Option<JobRule>,
    /// The server closes the connection after the reply.
    pub closed: bool,
    /// The server may also close the connection without a reply.
    pub or_closed: bool,
    /// Series in the reply, which is in Prometheus' text format.
    pub metrics: Vec<SeriesRule>,
    /// What is on the server's disk after this step.
    pub disk: Option<Disk>,
}

/// A series of metrics.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesRule {
    /// Its name.
    pub name: String,
    /// Labels that it must have; it may have others.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The sum of all such series; 0 if there is none.
    pub value: f64,
}

/// What a header must be: a text, there or not, or a pattern.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderRule {
    /// Found in its value; several values are joined by commas.
    #[serde(default)]
    pub matches: Option<Pattern>,
    /// Words between commas, in any order and any case.
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

/// What bytes must be: all that is said must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Exactly this text.
    pub text: Option<String>,
    /// Exactly these bytes.
    pub hex: Option<String>,
    /// Those of a file beside the case's.
    pub file: Option<String>,
    /// Those of `bodies`.
    pub named: Option<String>,
    /// Of `named`, only these bytes: `[offset, length]`, or `"FIRST-LAST"` as in a range.
    pub part: Option<BytePart>,
    /// This JSON.
    pub json: Option<Json>,
    /// A JSON list of these elements, in any order.
    pub set: Option<Json>,
    /// JSON with at least these members; lists have as many elements.
    pub has: Option<Json>,
    /// Found in the text.
    pub matches: Option<Pattern>,
    /// Not found in the text.
    pub lacks: Option<Pattern>,
    /// In lower-case hex.
    pub sha256: Option<String>,
    /// In bytes.
    pub size: Option<u64>,
    /// What they are after decompression with gzip.
    pub gunzip: Option<Box<Short<Rule>>>,
    /// The files of a tar archive, all of them, by their names.
    pub tar: Option<BTreeMap<String, Short<Rule>>>,
}

impl FromShort for Rule {
    fn from_text(text: &str) -> Self {
        Self { text: Some(text.to_owned()), ..Self::default() }
    }
}

impl Rule {
    /// The bytes, where exactly one string of bytes is right.
    ///
    /// # Errors
    ///
    /// In words, where what is named is not there.
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

/// Some of the bytes of a body.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum BytePart {
    /// Offset and length.
    Length(usize, usize),
    /// `FIRST-LAST`, both included, perhaps with placeholders.
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
        let range = range.ok_or_else(|| format!("{text:?} is no part; write \"0-99\", say"))?;
        Ok(bytes.get(range))
    }
}

/// What a blob must be: `false`: it is not there; `true`: whatever it holds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kept {
    /// What its bytes must be.
    pub is: Option<Short<Rule>>,
    /// Its bytes, to be put there by `place`, or to be exactly so.
    pub text: Option<String>,
    /// Those of `bodies`.
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
    /// What `put` was given.
    pub content_type: Option<String>,
    /// What `put` was given: all of it.
    pub metadata: Option<BTreeMap<String, String>>,
    /// For files on disk: permissions in octal, as in `0600` or `0660 & umask`.
    pub mode: Option<String>,
    /// For `place`: when it was stored.
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
    /// What its bytes must be.
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

    /// What `place` puts there; none: the blob is removed.
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

/// What a job must be; what is left out is not looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobRule {
    /// Its kind.
    pub kind: Option<String>,
    /// Its key.
    pub key: Option<String>,
    /// `queued`, `running`, `succeeded`, `failed`, `cancelled`.
    pub state: Option<String>,
    /// What started it.
    pub origin: Option<String>,
    /// Found in why it failed or waits.
    pub message: Option<Pattern>,
    /// What it returned.
    pub output: Option<Short<Rule>>,
    /// How often it was tried.
    pub attempt: Option<u32>,
    /// How often it is tried at most.
    pub attempts: Option<u32>,
    /// The user for whom it works; empty: nobody in particular.
    pub user: Option<String>,
}

/// What there is in the end.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct After {
    /// Blobs of the store `main` that are others than before; all others are as they were.
    pub blobs: BTreeMap<String, Short<Kept>>,
    /// The same of further stores.
    pub store: BTreeMap<String, BTreeMap<String, Short<Kept>>>,
    /// Folders of the store `main` that must be there.
    pub folders: Vec<String>,
    /// All jobs, in the order of their starts.
    pub jobs: Option<Vec<JobRule>>,
    /// Beginnings of calls that the plugin may never make in this case.
    pub no_calls: Vec<String>,
    /// Found in the log, as in `warn: …`. Each warning and error must be named by one.
    pub log: Vec<Pattern>,
    /// All counters, as in `name{a,b}` with the values of the labels, and what they count.
    pub counters: Option<BTreeMap<String, CounterRule>>,
    /// All gauges, in the same way, and what they were set to last.
    pub gauges: Option<BTreeMap<String, GaugeRule>>,
    /// What is on the server's disk.
    pub disk: Option<Disk>,
}

impl After {
    /// Whether it says anything that can only be seen from inside.
    pub(crate) fn looks_inside(&self) -> bool {
        let Self { blobs, store, folders, jobs, no_calls, log, counters, gauges, disk: _ } = self;
        let lists = blobs.is_empty() && store.is_empty() && folders.is_empty();
        !(lists && no_calls.is_empty() && log.is_empty())
            || jobs.is_some()
            || counters.is_some()
            || gauges.is_some()
    }
}

/// What a counter must be: a number, or `true` for any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "serde_json::Value")]
pub struct CounterRule(pub Option<u64>);

impl TryFrom<serde_json::Value> for CounterRule {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Self, String> {
        match (value.as_u64(), value.as_bool()) {
            (Some(number), _) => Ok(Self(Some(number))),
            (None, Some(true)) => Ok(Self(None)),
            _ => Err(format!("{value} is no count; write a number, or true for any")),
        }
    }
}

/// What a gauge must be: a number, or `true` for any.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "serde_json::Value")]
pub struct GaugeRule(pub Option<f64>);

impl TryFrom<serde_json::Value> for GaugeRule {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Self, String> {
        match (value.as_f64(), value.as_bool()) {
            (Some(number), _) => Ok(Self(Some(number))),
            (None, Some(true)) => Ok(Self(None)),
            _ => Err(format!("{value} is no value of a gauge; write a number, or true for any")),
        }
    }
}
