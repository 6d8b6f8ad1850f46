//! A run, derived from the spans of its trace that have come so far.
//!
//! Spans arrive when they have ended: children before the root, and the root `run` last. Until it comes, the run is
//! `running`, begins with its first span, and is called by the id of its trace. What the client's own conventions do not
//! say follows from the names of its spans: a run that dumps and then prunes is a dump.

use std::collections::{BTreeMap, BTreeSet};

use keepgate_sdk::Timestamp;
use serde_json::Value;

use super::spans::{Outcome, Span, length};
use crate::run::{Kind, Run, Status, Target};

/// The most bytes of the names of a run's databases, and of its targets, in JSON: a run is a record, and lists have many.
const MOST_DATABASES: usize = 16 << 10;
const MOST_TARGETS: usize = 8 << 10;
const LONGEST_ID: usize = 64;
/// Names of spans that only a dump has, ...
const OF_DUMPS: [&str; 9] = [
    "dump",
    "database_dump",
    "output_tar",
    "upload",
    "pre-backup",
    "post-backup",
    "snapshot",
    "verify",
    "cleanup",
];
/// ... and a restore.
const OF_RESTORES: [&str; 6] =
    ["restore", "database_restore", "pull file", "input_tar", "pre-restore", "post-restore"];

/// The spans, each once, by their beginning. Of one that came twice, the one that ended last counts.
pub(crate) fn once(spans: impl IntoIterator<Item = Span>) -> Vec<Span> {
    let mut by_id: BTreeMap<String, Span> = BTreeMap::new();
    for span in spans {
        match by_id.get(&span.id) {
            Some(known) if known.end >= span.end => {}
            _ => drop(by_id.insert(span.id.clone(), span)),
        }
    }
    let mut spans: Vec<Span> = by_id.into_values().collect();
    spans.sort_by(|a, b| (a.start, a.end, &a.id).cmp(&(b.start, b.end, &b.id)));
    spans
}

/// The run of these spans, under the id that it wants; none if they are of no run: the start of a client is a trace, too.
pub(crate) fn run(instance: &str, trace: &str, spans: &[Span]) -> Option<Run> {
    let root =
        spans.iter().filter(|span| span.parent.is_empty()).max_by_key(|span| span.name == "run");
    if root.is_some_and(|root| root.name == "startup") || !spans.iter().any(is_of_run) {
        return None;
    }
    let kind = kind(spans);
    let status = root.map_or(Status::Running, |root| outcome(root, spans));
    let start =
        root.map_or_else(|| spans.iter().map(|span| span.start).min(), |root| Some(root.start));
    Some(Run {
        id: id(root, spans).unwrap_or(trace).to_owned(),
        instance: instance.to_owned(),
        kind,
        status,
        start: Timestamp(start.unwrap_or_default()),
        end: root.map(|root| Timestamp(root.end)),
        bytes: bytes(root, spans),
        exit_code: root.and_then(|root| root.number("backup.exit_code")),
        message: if status == Status::Error { message(root, spans) } else { String::new() },
        databases: databases(spans),
        targets: targets(kind, spans),
    })
}

/// How a span ended.
pub(crate) fn status(span: &Span) -> Status {
    let said = span.text("backup.status");
    let failed = span.outcome == Outcome::Error
        || said.is_some_and(|said| said.eq_ignore_ascii_case("error"))
        || span.text("otel.status_code").is_some_and(|code| code.eq_ignore_ascii_case("error"));
    if failed { Status::Error } else { Status::Ok }
}

/// How a run ended, whose root says so or leaves it to its parts.
fn outcome(root: &Span, spans: &[Span]) -> Status {
    let is_silent = root.outcome == Outcome::Unset
        && root.text("backup.status").is_none_or(|said| said == "running")
        && root.number("backup.exit_code").is_none();
    let failed = status(root) == Status::Error
        || root.number("backup.exit_code").is_some_and(|code| code != 0)
        || (is_silent && spans.iter().any(|span| status(span) == Status::Error));
    if failed { Status::Error } else { Status::Ok }
}

fn is_of_run(span: &Span) -> bool {
    let name = span.name.as_str();
    matches!(name, "run" | "prune" | "connect")
        || name.starts_with("pruneTarget")
        || OF_DUMPS.contains(&name)
        || OF_RESTORES.contains(&name)
        || span.attributes.contains_key("backup.run_id")
}

fn kind(spans: &[Span]) -> Kind {
    let any = |is: &dyn Fn(&str) -> bool| spans.iter().any(|span| is(&span.name));
    if any(&|name| OF_RESTORES.contains(&name)) {
        Kind::Restore
    } else if any(&|name| name.starts_with("prune")) && !any(&|name| OF_DUMPS.contains(&name)) {
        Kind::Prune
    } else {
        Kind::Dump
    }
}

/// What the client calls the run, if that can be part of a URL.
fn id<'a>(root: Option<&'a Span>, spans: &'a [Span]) -> Option<&'a str> {
    let named = |span: &'a Span| span.text("backup.run_id");
    let id = root.and_then(named).or_else(|| spans.iter().find_map(named))?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (id.len() <= LONGEST_ID && id.bytes().all(is_plain)).then_some(id)
}

/// What was written to all targets: the root knows, or else its uploads, or else the dump.
fn bytes(root: Option<&Span>, spans: &[Span]) -> Option<u64> {
    let of = |span: &Span| span.number("backup.bytes").and_then(|bytes| u64::try_from(bytes).ok());
    let sum = |name: &str| {
        let mut found = spans.iter().filter(|span| span.name == name).filter_map(of).peekable();
        found.peek().is_some().then(|| found.fold(0_u64, u64::saturating_add))
    };
    root.and_then(of).or_else(|| sum("upload")).or_else(|| sum("dump"))
}

/// Why a run failed, as the root says it, or else the part that failed first. Of that part and those that it is in, which
/// fail with it, the innermost one ends first.
fn message(root: Option<&Span>, spans: &[Span]) -> String {
    let mut failed: Vec<&Span> =
        spans.iter().filter(|span| status(span) == Status::Error).collect();
    failed.sort_by_key(|span| span.end);
    let why = root.into_iter().chain(failed).find_map(reason);
    why.unwrap_or("the run failed, and did not say why").to_owned()
}

fn reason(span: &Span) -> Option<&str> {
    let exception = || {
        let texts = span.events.iter().rev().filter(|event| event.name == "exception");
        texts.filter_map(|event| event.attributes.get("exception.message")?.as_str()).next()
    };
    let said = Some(span.message.as_str())
        .filter(|text| !text.is_empty() && span.outcome == Outcome::Error);
    said.or_else(exception)
        .or_else(|| span.text("otel.status_description"))
        .or_else(|| span.text("backup.event.message").filter(|_| status(span) == Status::Error))
}

fn databases(spans: &[Span]) -> Vec<String> {
    let mut names = Vec::new();
    for span in spans {
        names.extend(list(span.attributes.get("actual-schemas")));
        names.extend(list(span.attributes.get("backup.protected_target.databases")));
        names.extend(span.text("db.name").map(str::to_owned));
    }
    if names.is_empty() {
        let chosen = |span: &&Span| {
            span.text("backup.protected_target.selection_mode")
                .is_some_and(|mode| mode == "include")
        };
        for span in spans.iter().filter(chosen) {
            names.extend(list(span.attributes.get("backup.protected_target.configured_databases")));
        }
    }
    let (mut known, mut room) = (BTreeSet::new(), MOST_DATABASES);
    names.retain(|name| {
        !known.contains(name) && has_room(&mut room, &[name]) && known.insert(name.clone())
    });
    names
}

/// Whether there is still room for these texts, which then take it.
fn has_room(room: &mut usize, texts: &[&str]) -> bool {
    let needed: usize = texts.iter().map(|text| 8 + length(text)).sum();
    let left = room.checked_sub(needed);
    *room = left.unwrap_or(*room);
    left.is_some()
}

/// A list of texts, which may be written as JSON in a text.
fn list(value: Option<&Value>) -> Vec<String> {
    let texts = |elements: &Vec<Value>| {
        elements.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect()
    };
    match value {
        Some(Value::Array(elements)) => texts(elements),
        Some(Value::String(json)) => match serde_json::from_str(json) {
            Ok(Value::Array(elements)) => texts(&elements),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// The targets, in the order in which they were first written to. What became of a target in the end counts.
fn targets(kind: Kind, spans: &[Span]) -> Vec<Target> {
    let (mut targets, mut room): (Vec<(u64, Target)>, _) = (Vec::new(), MOST_TARGETS);
    for span in spans {
        let Some(target) = target(kind, span) else { continue };
        let known = targets
            .iter_mut()
            .find(|(_, known)| (&known.name, &known.url) == (&target.name, &target.url));
        match known {
            Some(known) if span.end >= known.0 => *known = (span.end, target),
            None if has_room(&mut room, &[&target.name, &target.kind, &target.url]) => {
                targets.push((span.end, target));
            }
            _ => {}
        }
    }
    targets.into_iter().map(|(_, target)| target).collect()
}

fn target(kind: Kind, span: &Span) -> Option<Target> {
    let pruned = || {
        let url = span.name.strip_prefix("pruneTarget ")?;
        (kind == Kind::Prune).then_some(url)
    };
    let restored = || span.text("target").filter(|_| kind == Kind::Restore);
    let named = span.text("backup.target.name");
    let url = span.text("backup.target.url").or_else(pruned).or_else(restored);
    let url = url.or(named)?;
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    Some(Target {
        name: named.unwrap_or(url).to_owned(),
        kind: span.text("backup.target.type").unwrap_or(scheme).to_owned(),
        url: url.to_owned(),
        status: status(span),
    })
}
