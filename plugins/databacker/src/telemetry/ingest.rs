//! Stores spans, and derives their runs.
//!
//! Spans are stored under a hash of what they are, so a batch that is sent again is stored once. The run follows from all
//! spans of its trace each time, and is written with them in one commit, or in the last of several: whoever has died in
//! between left spans without their run, and the client, which got no answer, sends them again.

use std::time::Duration;

use keepgate_sdk::records::{self, Commit, Record};
use keepgate_sdk::{Failure, Timestamp, environment};
use serde::{Deserialize, Serialize};

use super::derive;
use super::spans::{self, Chunk, Span};
use crate::instance::Instance;
use crate::run::Status;
use crate::runs::keep::{self, Kept};
use crate::{events, layout, logs};

/// How often it is tried while others write to the same trace.
const ATTEMPTS: usize = 10;
/// The most bytes, and the most records, of spans of a trace. A root gets in anyway, up to twice as much.
const MOST_BYTES: usize = 4 << 20;
const MOST_CHUNKS: usize = 1000;
/// The most bytes of spans in one commit.
const COMMIT: usize = 512 << 10;

/// What is known of a trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Trace {
    received: Timestamp,
    /// When spans came last.
    seen: Timestamp,
    /// The id of its run, if it has one.
    #[serde(default)]
    run: Option<String>,
    /// Whether its run has ended, and others were told.
    #[serde(default)]
    ended: bool,
    /// How many spans were dropped.
    #[serde(default)]
    dropped: u64,
}

/// Stores spans of one trace, and returns how many were dropped.
pub(crate) fn store(instance: &Instance, trace: &str, spans: Vec<Span>) -> Result<i64, Failure> {
    let chunks = spans::chunks(spans)?;
    for _ in 0..ATTEMPTS {
        match attempt(instance, trace, &chunks) {
            Err(Failure::PreconditionFailed) => {}
            done => return done,
        }
    }
    let busy = Failure::Busy("others write to the same trace".to_owned());
    Err(busy.retry_after(Duration::from_secs(2)))
}

fn attempt(instance: &Instance, trace: &str, sent: &[Chunk]) -> Result<i64, Failure> {
    let (now, prefix) = (Timestamp::now(), layout::spans(&instance.id, trace));
    // First the record that every commit of the trace compares, and then what it stands for.
    let record = records::get(&layout::trace(&instance.id, trace))?;
    let known: Vec<Record> = records::scan(&prefix).collect::<Result<_, _>>()?;
    let (new, dropped) = admitted(&prefix, sent, &known);
    let mut state = match &record {
        Some(record) => record.json()?,
        None => Trace { received: now, seen: now, run: None, ended: false, dropped: 0 },
    };
    let before = record.is_some().then(|| state.clone());
    state.dropped += dropped;
    if !new.is_empty() {
        state.seen = now;
    }
    let mut all = Vec::new();
    for record in &known {
        all.extend(record.json::<Vec<Span>>()?);
    }
    all.extend(new.iter().flat_map(|chunk| chunk.spans.iter().cloned()));
    let derived = derive::run(&instance.id, trace, &derive::once(all));

    let first = match &record {
        Some(record) => Commit::new().unchanged(record),
        None => Commit::new().absent(&layout::trace(&instance.id, trace)),
    };
    let mut commit = with_spans(first, instance, trace, &state, &prefix, &new)?;
    let (mut ended, mut newly_ended) = (None, None);
    match derived {
        Some(run) => {
            let status = run.status;
            let kept =
                Kept { run, trace: trace.to_owned(), seen: state.seen, dropped: state.dropped };
            let placed = keep::place(commit, kept, state.run.as_deref())?;
            commit = placed.commit;
            if status != Status::Running && !state.ended && !placed.had_ended {
                commit = events::run_ended(commit, instance, &placed.run)?;
                newly_ended = Some(placed.run.clone());
            }
            state.ended |= status != Status::Running;
            ended = (status != Status::Running).then(|| placed.run.id.clone());
            state.run = Some(placed.run.id);
        }
        None => {
            if let Some(id) = state.run.take() {
                commit = keep::remove(commit, &instance.id, &id)?;
            }
        }
    }
    if before.as_ref() != Some(&state) {
        commit = commit.put_json(&layout::trace(&instance.id, trace), &state)?;
        if before.is_none() {
            commit = commit.put(&layout::received_trace(state.received, &instance.id, trace), b"");
        }
    }
    if !commit.is_empty() {
        commit.run()?;
    }
    if let Some(run) = newly_ended {
        events::run_is_stored(&run);
    }
    if let Some(run) = ended {
        logs::news(&instance.id, &run);
    }
    Ok(i64::try_from(dropped).unwrap_or(i64::MAX))
}

/// What of the spans is new and has room, and how many have none.
fn admitted<'a>(prefix: &str, sent: &'a [Chunk], known: &[Record]) -> (Vec<&'a Chunk>, u64) {
    let mut bytes: usize = known.iter().map(|record| record.value.len()).sum();
    let (mut count, mut dropped, mut new) = (known.len(), 0, Vec::new());
    for chunk in sent {
        let is = |record: &Record| record.key.strip_prefix(prefix) == Some(chunk.hash.as_str());
        if known.iter().any(is) || new.iter().any(|other: &&Chunk| other.hash == chunk.hash) {
            continue;
        }
        // Without its root, a run would never end.
        let factor = 1 + usize::from(chunk.spans.iter().any(|span| span.parent.is_empty()));
        let has_room =
            bytes + chunk.bytes.len() <= factor * MOST_BYTES && count < factor * MOST_CHUNKS;
        if has_room {
            bytes += chunk.bytes.len();
            count += 1;
            new.push(chunk);
        } else {
            dropped += chunk.spans.len() as u64;
        }
    }
    if dropped > 0 {
        let message = "spans were dropped: their trace has too many";
        environment::warn(message, &[("spans", &dropped), ("trace", &prefix)]);
    }
    (new, dropped)
}

/// Adds spans to a commit. What does not fit into it is committed before; the trace is registered with the first of it, so
/// that it is found when it is old.
fn with_spans(
    commit: Commit,
    instance: &Instance,
    trace: &str,
    state: &Trace,
    prefix: &str,
    new: &[&Chunk],
) -> Result<Commit, Failure> {
    let key = |chunk: &Chunk| format!("{prefix}{}", chunk.hash);
    let bytes: usize = new.iter().map(|chunk| chunk.bytes.len()).sum();
    let fits = |bytes: usize, count: usize| bytes <= COMMIT && count <= records::MAX_OPERATIONS / 2;
    if fits(bytes, new.len()) {
        return Ok(new.iter().fold(commit, |commit, chunk| commit.put(&key(chunk), &chunk.bytes)));
    }
    let registered = layout::received_trace(state.received, &instance.id, trace);
    let (mut part, mut bytes) = (Commit::new().put(&registered, b""), 0);
    for chunk in new {
        if !fits(bytes + chunk.bytes.len(), part.len() + 1) {
            std::mem::take(&mut part).run()?;
            bytes = 0;
        }
        bytes += chunk.bytes.len();
        part = part.put(&key(chunk), &chunk.bytes);
    }
    part.run()?;
    Ok(commit)
}

/// The spans of a trace, each once, by their beginning.
pub(crate) fn spans_of(instance: &str, trace: &str) -> Result<Vec<Span>, Failure> {
    let mut spans = Vec::new();
    for record in records::scan(&layout::spans(instance, trace)) {
        spans.extend(record?.json::<Vec<Span>>()?);
    }
    Ok(derive::once(spans))
}

/// Removes the spans of traces whose first spans came before this time, at most about `most` records, and returns whether
/// there are more. Their runs stay.
pub(crate) fn remove_older_than(time: Timestamp, most: usize) -> Result<bool, Failure> {
    let mut removed = 0;
    loop {
        let page = records::scan(layout::RECEIVED_TRACES).descending().page(1)?;
        let Some(oldest) = page.records.into_iter().next() else { return Ok(false) };
        let rest = oldest.key.strip_prefix(layout::RECEIVED_TRACES).unwrap_or_default();
        let mut parts = rest.splitn(3, '/');
        let (Some(received), Some(instance), Some(trace)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(Failure::Internal(format!("the record {:?} has no such key", oldest.key)));
        };
        if received <= layout::descending(time).as_str() {
            return Ok(false);
        }
        if removed >= most {
            return Ok(true);
        }
        let spans =
            records::scan(&layout::spans(instance, trace)).page(records::MAX_OPERATIONS - 2)?;
        let all = spans.records.iter().fold(Commit::new(), |all, span| all.delete(&span.key));
        removed += all.len() + 1;
        match spans.more {
            true => all.run()?,
            false => all.delete(&layout::trace(instance, trace)).delete(&oldest.key).run()?,
        };
    }
}
