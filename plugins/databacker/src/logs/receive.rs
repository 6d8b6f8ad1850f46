//! Stores lines that came together: a body that comes again within a day is stored once, also if nobody got to know that
//! it was.

use std::collections::BTreeMap;
use std::time::Duration;

use keepgate_sdk::records::Commit;
use keepgate_sdk::turns::Turn;
use keepgate_sdk::{Body, Failure, PutOptions, Store, Timestamp, environment};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::keep::{self, Found, LEAST_OF_PIECE, Log, Piece, Usage};
use super::lines::Lines;
use crate::layout;
use crate::runs;

const DAY: Duration = Duration::from_secs(86_400);
/// How often it is tried while other gateways write to the same logs.
const ATTEMPTS: usize = 10;
/// How long one waits for others that write to the same logs.
const WAIT: Duration = Duration::from_secs(20);

/// A body that was received.
#[derive(Debug, Serialize, Deserialize)]
struct Received {
    time: Timestamp,
    log: String,
}

/// A body that may have been received before.
pub(crate) struct Delivery<'a> {
    pub(crate) instance: &'a str,
    /// Of the body.
    pub(crate) hash: String,
}

impl<'a> Delivery<'a> {
    pub(crate) fn new(instance: &'a str, body: &[u8]) -> Self {
        Self { instance, hash: hex::encode(Sha256::digest(body)) }
    }

    fn key(&self, day: u64) -> String {
        layout::received_log(day, self.instance, &self.hash)
    }

    /// The log in which it is already, if it came within a day.
    pub(crate) fn known(&self) -> Result<Option<String>, Failure> {
        let now = Timestamp::now();
        let today = day(now);
        for day in [today, today.saturating_sub(1)] {
            let found = Found::<Received>::get(self.key(day))?.value;
            if let Some(received) = found.filter(|received| now.since(received.time) < DAY) {
                return Ok(Some(received.log));
            }
        }
        Ok(None)
    }

    /// Stores its lines and returns their logs, in their order. The instance's logs have at most so many bytes.
    pub(crate) fn store(&self, groups: Vec<Lines>, most: u64) -> Result<Vec<String>, Failure> {
        let _turn = Turn::take(&format!("logs/{}", self.instance), WAIT)?;
        for _ in 0..ATTEMPTS {
            match self.attempt(&groups, most) {
                Err(Failure::PreconditionFailed) => {}
                done => return done,
            }
        }
        let busy = Failure::Busy("others write to the same log".to_owned());
        Err(busy.retry_after(Duration::from_secs(2)))
    }

    fn attempt(&self, groups: &[Lines], most: u64) -> Result<Vec<String>, Failure> {
        if let Some(log) = self.known()? {
            return Ok(vec![log]);
        }
        let now = Timestamp::now();
        let (mut logs, mut ids) = (BTreeMap::<String, (Target, Lines)>::new(), Vec::new());
        for group in groups {
            let target = Target::of(self.instance, group.run.as_deref(), now)?;
            ids.push(target.id.clone());
            match logs.get_mut(&target.id) {
                Some((_, lines)) => lines.append(group),
                None => drop(logs.insert(target.id.clone(), (target, group.clone()))),
            }
        }
        let charge = |lines: &Lines| LEAST_OF_PIECE.max(lines.bytes.len() as u64);
        let needed = logs.values().map(|(_, lines)| charge(lines)).sum();
        let mut keep = ids.clone();
        keep.extend(runs::keep::last_id(self.instance)?);
        let has_room = keep::make_room(self.instance, needed, most, &keep)?;

        let usage = Usage::of(self.instance)?;
        let mut held = usage.value.clone().unwrap_or_default();
        let received = Found::<Received>::get(self.key(day(now)))?;
        let mut commit = usage.compared(received.compared(Commit::new()));
        let log = ids.first().cloned().unwrap_or_default();
        commit = commit.put_json(&received.key, &Received { time: now, log })?;
        for (target, lines) in logs.values() {
            if has_room {
                held.bytes += charge(lines);
                commit = target.with_lines(commit, self.instance, lines, charge(lines), now)?;
            } else {
                held.dropped_lines += lines.count;
                commit = target.with_dropped(commit, lines.count)?;
                let message = "log lines were dropped: the instance's logs have no room for them";
                environment::warn(
                    message,
                    &[("instance", &self.instance), ("lines", &lines.count)],
                );
            }
        }
        commit.put_json(&usage.key, &held)?.run()?;
        Ok(ids)
    }
}

/// The log that lines belong to.
struct Target {
    id: String,
    run: Option<String>,
    /// What the id stands for: the key of the log.
    index: Found<String>,
    log: Found<Log>,
}

impl Target {
    /// The log of a run, unless that id is another instance's, or else that of the day.
    fn of(instance: &str, run: Option<&str>, now: Timestamp) -> Result<Self, Failure> {
        let of_run = run.map(|run| Self::named(instance, run, Some(run), now)).transpose()?;
        if let Some(target) = of_run.flatten() {
            return Ok(target);
        }
        let id = id_of_day(instance, day(now));
        let target = Self::named(instance, &id, None, now)?;
        target.ok_or_else(|| Failure::Internal(format!("the log {id} is another instance's")))
    }

    fn named(
        instance: &str,
        id: &str,
        run: Option<&str>,
        now: Timestamp,
    ) -> Result<Option<Self>, Failure> {
        let index = Found::<String>::get(layout::log_index(id))?;
        if index.value.as_ref().is_some_and(|key| !key.starts_with(&layout::logs(instance))) {
            return Ok(None);
        }
        // What is still there of a log that was removed must not be taken for the new one's.
        let leaving = Found::<IgnoredAny>::get(layout::leaving_log(instance, id))?;
        if leaving.exists() {
            keep::remove_rest(instance, id, usize::MAX)?;
        }
        let log =
            Found::get(index.value.clone().unwrap_or_else(|| layout::log(instance, now, id)))?;
        Ok(Some(Self { id: id.to_owned(), run: run.map(str::to_owned), index, log }))
    }

    /// Stores the lines, and adds to a commit that they belong to the log.
    fn with_lines(
        &self,
        commit: Commit,
        instance: &str,
        lines: &Lines,
        charge: u64,
        now: Timestamp,
    ) -> Result<Commit, Failure> {
        let mut log = self.log.value.clone().unwrap_or_else(|| Log {
            id: self.id.clone(),
            instance: instance.to_owned(),
            run: self.run.clone(),
            created: now,
            updated: now,
            first: lines.first,
            last: lines.last,
            lines: 0,
            bytes: 0,
            charged: 0,
            pieces: 0,
            failed: false,
            dropped: 0,
        });
        let bytes = lines.bytes.len() as u64;
        let hash = hex::encode(Sha256::digest(&lines.bytes));
        let hash = hash.get(..32).unwrap_or_default();
        let blob = layout::log_blob(instance, &self.id, log.pieces, hash);
        let options = PutOptions::absent_or_identical();
        Store::open(layout::STORE)?.put(&blob, Body::from_bytes(&lines.bytes), &options)?;
        let piece = layout::piece(instance, &self.id, log.pieces);
        log.updated = now;
        log.first = log.first.min(lines.first);
        log.last = log.last.max(lines.last);
        log.lines += lines.count;
        log.bytes += bytes;
        log.charged += charge;
        log.pieces += 1;
        log.failed |= lines.failed;
        let commit = self.log.compared(self.index.compared(commit));
        let commit = match &self.index.value {
            Some(_) => commit,
            None => commit.put_json(&self.index.key, &self.log.key)?,
        };
        commit.put_json(&self.log.key, &log)?.put_json(&piece, &Piece { key: blob, bytes })
    }

    /// Adds to a commit that lines of the log were dropped.
    fn with_dropped(&self, commit: Commit, lines: u64) -> Result<Commit, Failure> {
        let Some(log) = &self.log.value else { return Ok(commit) };
        let log = Log { dropped: log.dropped + lines, ..log.clone() };
        self.log.compared(commit).put_json(&self.log.key, &log)
    }
}

/// The id of the log of an instance for the lines of a day that are of no run, in the form of a UUID of version 8.
fn id_of_day(instance: &str, day: u64) -> String {
    let hash = hex::encode(Sha256::digest(format!("log/{instance}/{day}")));
    let part = |from: usize, to: usize| hash.get(from..to).unwrap_or_default().to_owned();
    format!("{}-{}-8{}-8{}-{}", part(0, 8), part(8, 12), part(12, 15), part(15, 18), part(18, 30))
}

/// The days since 1970.
fn day(time: Timestamp) -> u64 {
    time.as_secs() / DAY.as_secs()
}
