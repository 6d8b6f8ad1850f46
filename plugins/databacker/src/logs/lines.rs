//! Log lines as they come, and as they are kept: one JSON object per line, without secrets.
//!
//! A body is one object, or several one after another, each usually on a line of its own, or an array of objects. One bad
//! line makes the whole body bad.

use std::borrow::Cow;

use keepgate_sdk::{Timestamp, json};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};

use crate::instance::is_uuid;
use crate::problem::Problem;
use crate::telemetry::mask;

/// The most runs that the lines of a body are of.
const MOST_RUNS: usize = 16;
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
    let mut current = 0;
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
        if groups.len() > MOST_RUNS {
            return Err(Problem::new(400, format!("lines of more than {MOST_RUNS} runs at once")));
        }
        groups.get_mut(current).map_or(Ok(()), |group| group.push(sent, now))
    };
    if body.trim_ascii_start().starts_with(b"[") {
        for sent in json::parse::<Vec<Sent>>("the body", body)? {
            take(sent)?;
        }
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RUN: &str = "550e8400-e29b-41d4-a716-446655440000";
    const NOW: Timestamp = Timestamp(1_769_817_600_000_000_000);

    fn said(body: &str) -> String {
        let Problem::Failure(failure) = parse(body.as_bytes(), NOW).unwrap_err() else { panic!() };
        assert_eq!(failure.status(), 400);
        failure.message().to_owned()
    }

    #[test]
    fn three_shapes_are_the_same_lines() {
        let (one, two) = (
            format!(
                r#"{{"run":"{}","timestamp":"2026-01-31T01:00:00+01:00","level":"WARNING","message":"a"}}"#,
                RUN.to_uppercase()
            ),
            r#"{"run":"","level":"critical","fields":{"token":"x","n":1},"message":"b://c:d@e","more":[]}"#,
        );
        let kept = format!(
            "{{\"level\":\"warn\",\"timestamp\":\"2026-01-31T00:00:00.000Z\",\"run\":\"{RUN}\",\"message\":\"a\"}}\n\
             {{\"level\":\"fatal\",\"timestamp\":\"2026-01-31T00:00:00.000Z\",\"message\":\"b://***@e\",\
             \"fields\":{{\"token\":\"***\",\"n\":1}}}}\n"
        );
        for body in [
            format!("{one}\n{two}"),
            format!("\n{one}\r\n\n{two}\n"),
            format!(" [{one},\n{two}]"),
            format!("{one}{two}"),
        ] {
            let groups = parse(body.as_bytes(), NOW).unwrap();
            assert_eq!(groups.len(), 1, "{body}");
            assert_eq!(String::from_utf8_lossy(&groups[0].bytes), kept);
            assert_eq!(
                (groups[0].run.as_deref(), groups[0].count, groups[0].failed),
                (Some(RUN), 2, true)
            );
        }
        let pretty = "{\n  \"message\": \"x\"\n}";
        let groups = parse(pretty.as_bytes(), NOW).unwrap();
        assert_eq!((groups.len(), &groups[0].run, groups[0].first), (1, &None, NOW));
    }

    #[test]
    fn lines_are_of_the_run_that_was_named_last() {
        let other = RUN.replace('5', "6");
        let line =
            |run: &str, message: &str| format!("{{\"run\":{run},\"message\":\"{message}\"}}\n");
        let body = [
            line("\"\"", "0"),
            line(&format!("\"{RUN}\""), "1"),
            line("null", "2"),
            line(&format!("\"{other}\""), "3"),
            line("\"\"", "4"),
            line(&format!("\"{RUN}\""), "5"),
        ];
        let groups = parse(body.concat().as_bytes(), NOW).unwrap();
        let told: Vec<_> =
            groups.iter().map(|group| (group.run.as_deref().unwrap(), group.count)).collect();
        assert_eq!(told, [(RUN, 4), (other.as_str(), 2)]);
    }

    #[test]
    fn a_bad_line_is_named() {
        let good = r#"{"message":"x"}"#;
        for (body, expected) in [
            (format!("{good}\n{{\"level\":\"info\"}}\n{good}"), "line 2: missing field `message`"),
            (
                format!("{good}\n{good}\n{{\"message\":\"x\",\"level\":\"loud\"}}"),
                "line 3: the level \"loud\"",
            ),
            (format!("{good}\n{{\"message\":1}}"), "line 2: invalid type"),
            (format!("{good}\nhello"), "line 2: expected value"),
            (
                format!("{{\"message\":\"x\",\"run\":\"7\"}}\n{good}"),
                "line 1: the run \"7\" is not a UUID",
            ),
            (
                format!("{good}\n{{\"message\":\"x\",\"timestamp\":\"soon\"}}"),
                "line 2: \"soon\" is not a time",
            ),
            (format!("{good}\n{{\"message\":\"x\",\"fields\":[1]}}"), "line 2: invalid type"),
            (format!("{good}\n{{\"message\":\"x"), "line 2: EOF"),
            (format!("[{good},{{}}]"), "the body: [1]: missing field `message`"),
            (
                format!("[{good},{{\"message\":\"x\",\"level\":\"loud\"}}]"),
                "the body: [1].level: the level",
            ),
            (format!("[{good}] x"), "the body: trailing characters"),
            (String::new(), "the body has no lines"),
            (" \n".to_owned(), "the body has no lines"),
            ("[]".to_owned(), "the body has no lines"),
            (format!("{good}\n{}", "[".repeat(100_000)), "line 2:"),
            (
                format!("{{\"message\":\"x\",\"fields\":{{\"a\":{}", "[".repeat(100_000)),
                "line 1: recursion",
            ),
        ] {
            let message = said(&body);
            assert!(message.starts_with(expected), "{message}");
        }
    }

    #[test]
    fn lines_are_shown_to_people() {
        let body = br#"{"level":"warning","message":"a\nb\n","fields":{"n":1,"s":"t"}}"#;
        let kept = parse(body, NOW).unwrap().remove(0).bytes;
        let text = plain(kept.trim_ascii_end());
        assert_eq!(
            String::from_utf8_lossy(&text),
            "2026-01-31T00:00:00.000Z WARN  a\n    b n=1 s=\"t\""
        );
        assert_eq!(Level::of(&kept), Some(Level::Warn));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes, NOW);
        }

        #[test]
        fn whatever_is_kept_has_one_line_for_each(messages in prop::collection::vec(any::<String>(), 1..5)) {
            let body: Vec<Value> = messages.iter().map(|one| serde_json::json!({"message": one})).collect();
            let kept = parse(Value::from(body).to_string().as_bytes(), NOW).unwrap().remove(0);
            let lines: Vec<_> = kept.bytes.split_inclusive(|byte| *byte == b'\n').collect();
            prop_assert_eq!(lines.len(), messages.len());
            prop_assert!(lines.iter().all(|line| Level::of(line) == Some(Level::Info) && json::is_valid(line)));
        }
    }
}
