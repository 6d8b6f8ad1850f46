//! Log lines as they come, and as they are kept: one JSON object per line, without secrets.
//!
//! A body is one object, or several one after another, each usually on a line of its own, or an array of objects. One bad
//! line makes the whole body bad.

use std::borrow::Cow;
use std::fmt;

use keepgate_sdk::{Timestamp, json};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};

use crate::instance::is_uuid;
use crate::problem::Problem;
use crate::telemetry::mask;

/// The most runs that the lines of a body are of.
const MOST_RUNS: usize = 16;
/// The most lines of a body. A short one gets longer than it came.
const MOST_LINES: usize = 50_000;
/// What a kept line begins with, before the name of its level.
const BEGIN: &[u8] = b"{\"level\":\"";

/// How serious a line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Trace,
    Debug,
    #[default]
    Info,
    Warn,
    Error,
    Fatal,
}

impl Level {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "trace" => Self::Trace,
            "debug" => Self::Debug,
            "info" => Self::Info,
            "warn" | "warning" => Self::Warn,
            "error" => Self::Error,
            "fatal" | "panic" | "critical" => Self::Fatal,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    /// Of a line as it is kept.
    pub(crate) fn of(line: &[u8]) -> Option<Self> {
        let name = line.strip_prefix(BEGIN)?.split(|byte| *byte == b'"').next()?;
        Self::parse(std::str::from_utf8(name).ok()?)
    }
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(format!(
                "the level {text:?} is none of trace, debug, info, warn, error and fatal"
            ))
        })
    }
}

/// A line as it comes.
#[derive(Debug, Deserialize)]
struct Sent {
    #[serde(default, deserialize_with = "run")]
    run: Option<String>,
    #[serde(default)]
    timestamp: Option<Timestamp>,
    #[serde(default)]
    level: Level,
    #[serde(default)]
    fields: Option<Map<String, Value>>,
    message: String,
}

/// The id of a run; outside of a run, old clients send an empty text.
fn run<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let run = Option::<String>::deserialize(deserializer)?.unwrap_or_default().to_ascii_lowercase();
    match run.as_str() {
        "" => Ok(None),
        id if is_uuid(id) => Ok(Some(run)),
        _ => Err(de::Error::custom(format!("the run {run:?} is not a UUID"))),
    }
}

/// A line as it is kept. The level comes first, where it is found without parsing.
#[derive(Debug, Serialize, Deserialize)]
struct Line<'a> {
    level: Level,
    timestamp: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<Cow<'a, str>>,
    message: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    fields: Map<String, Value>,
}

/// Lines of one run that came together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lines {
    /// None if they name none.
    pub(crate) run: Option<String>,
    /// As they are kept, each with a line feed at its end.
    pub(crate) bytes: Vec<u8>,
    pub(crate) count: u64,
    /// The earliest and the latest time.
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    /// Whether there is an error among them.
    pub(crate) failed: bool,
}

impl Lines {
    fn new(run: Option<String>) -> Self {
        let (first, last) = (Timestamp(u64::MAX), Timestamp(0));
        Self { run, bytes: Vec::new(), count: 0, first, last, failed: false }
    }

    fn push(&mut self, sent: Sent, now: Timestamp) -> Result<(), Problem> {
        let timestamp = sent.timestamp.unwrap_or(now);
        let mut fields = sent.fields.unwrap_or_default();
        for (name, value) in &mut fields {
            mask::value(name, value);
        }
        let line = Line {
            level: sent.level,
            timestamp,
            run: sent.run.as_deref().map(Cow::Borrowed),
            message: mask::text(&sent.message),
            fields,
        };
        self.bytes.extend(json::to_vec(&line)?);
        self.bytes.push(b'\n');
        self.count += 1;
        self.first = self.first.min(timestamp);
        self.last = self.last.max(timestamp);
        self.failed |= sent.level >= Level::Error;
        Ok(())
    }

    /// Adds lines of the same log.
    pub(crate) fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.count += other.count;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.failed |= other.failed;
    }
}

/// The lines of a body, by their runs. A line that names no run is of that of the line before it, or else of the first one
/// that is named. Fails with a 400 that names the line, or the index in the array.
pub(crate) fn parse(body: &[u8], now: Timestamp) -> Result<Vec<Lines>, Problem> {
    let mut groups = vec![Lines::new(None)];
    let (mut current, mut count) = (0, 0);
    let mut take = |sent: Sent| -> Result<(), Problem> {
        if let Some(run) = &sent.run {
            let known = groups.iter().position(|group| group.run.as_ref() == Some(run));
            match (known, groups.first_mut()) {
                (Some(known), _) => current = known,
                (None, Some(first)) if first.run.is_none() => first.run = Some(run.clone()),
                _ => {
                    current = groups.len();
                    groups.push(Lines::new(Some(run.clone())));
                }
            }
        }
        count += 1;
        if groups.len() > MOST_RUNS || count > MOST_LINES {
            let most = format!("{MOST_LINES} lines, of at most {MOST_RUNS} runs");
            return Err(Problem::new(413, format!("send at most {most}, at once")));
        }
        groups.get_mut(current).map_or(Ok(()), |group| group.push(sent, now))
    };
    if body.trim_ascii_start().starts_with(b"[") {
        let (mut index, mut problem) = (0, None);
        let mut array = serde_json::Deserializer::from_slice(body);
        let read = array.deserialize_seq(Each(&mut |sent| {
            index += 1;
            take(sent).map_err(|why| problem = Some(why)).is_ok()
        }));
        let read = read.and_then(|()| array.end());
        if let Some(problem) = problem {
            return Err(problem);
        }
        read.map_err(|error| {
            Problem::new(400, format!("element {index} of the array, counted from 0: {error}"))
        })?;
    } else {
        for sent in serde_json::Deserializer::from_slice(body).into_iter::<Sent>() {
            take(sent.map_err(|error| at_line(&error))?)?;
        }
    }
    groups.retain(|group| group.count > 0);
    match groups.is_empty() {
        true => Err(Problem::new(400, "the body has no lines")),
        false => Ok(groups),
    }
}

/// Hands over the elements of an array one by one, until it is not wanted any more.
struct Each<'a>(&'a mut dyn FnMut(Sent) -> bool);

impl<'de> de::Visitor<'de> for Each<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of log lines")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(sent) = elements.next_element()? {
            if !(self.0)(sent) {
                return Err(de::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

fn at_line(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    Problem::new(400, format!("line {}: {what}", error.line()))
}

/// A kept line as text for people.
pub(crate) fn plain(line: &[u8]) -> Vec<u8> {
    let Ok(parsed) = serde_json::from_slice::<Line<'_>>(line) else { return line.to_vec() };
    let level = parsed.level.name().to_ascii_uppercase();
    // What belongs to a line is indented.
    let message = parsed.message.trim_end().replace('\n', "\n    ");
    let mut text = format!("{} {level:5} {message}", parsed.timestamp);
    for (name, value) in &parsed.fields {
        text.push_str(&format!(" {name}={value}"));
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests;
