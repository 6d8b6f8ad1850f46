//! The job that removes what is older than it is kept. It runs by itself once a day, as long as there is anything.
//!
//! Each kind of record is looked at from its oldest end, or as a whole where ages do not follow the keys, and removed some
//! at a time. What a pass that was killed has left is there for the next one.

use std::time::Duration;

use keepgate_sdk::jobs::{self, Job, Options, WhenBusy, report_progress};
use keepgate_sdk::records::{self, Commit, Record};
use keepgate_sdk::{Failure, Timestamp, environment, json};
use serde::{Deserialize, Serialize};

use crate::config::revision;
use crate::events::{self, Event};
use crate::logs::keep as logs;
use crate::runs::keep as runs;
use crate::settings::Settings;
use crate::telemetry::ingest;
use crate::token::signing;
use crate::webhooks::deliver;
use crate::webhooks::delivery::{self, Delivery};
use crate::{admin, layout, schedule};

/// The kind of job.
pub(crate) const KIND: &str = "retain";
/// From the end of one to the beginning of the next.
const PAUSE: Duration = Duration::from_secs(86_400);
/// Those that run by themselves; an operator's have another key.
const BY_ITSELF: &str = "daily";
/// If records cannot be read or written.
const ATTEMPTS: u32 = 20;
/// Runs, or pieces of logs, that are removed before progress is reported.
const AT_ONCE: usize = 500;
/// An event that could not be delivered for so long is of no use to anybody.
const OUTBOX: Duration = Duration::from_secs(7 * 86_400);

/// What a pass is asked for.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Input {
    by_itself: bool,
}

/// What it has removed.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Removed {
    audit_entries: u64,
    deliveries: u64,
    events: u64,
    assertions: u64,
    signing_keys: u64,
    /// Sealed documents that no revision refers to.
    configurations: u64,
}

/// The key of a schedule's or an operator's job.
pub(crate) fn key(input: &[u8]) -> Result<String, Failure> {
    jobs::input::<Input>(KIND, input).map(|_| "asked".to_owned())
}

/// Sees to it that a pass comes within a day. A failure is not worth more than a line in the log: whatever asks for it asks
/// again.
pub(crate) fn begin() {
    match start(WhenBusy::Refuse) {
        // One comes already. Without jobs, the operator does not want any.
        Ok(()) | Err(Failure::Busy(_) | Failure::Unsupported(_)) => {}
        Err(failure) => environment::warn(
            "the job that removes what is old could not be started",
            &[("reason", &failure.message())],
        ),
    }
}

fn start(when_busy: WhenBusy) -> Result<(), Failure> {
    let at = Timestamp::now().saturating_add(PAUSE);
    let options = Options::new(BY_ITSELF).attempts(ATTEMPTS).when_busy(when_busy).not_before(at.0);
    jobs::start_with(KIND, &Input { by_itself: true }, &options).map(drop)
}

/// Runs the job.
pub(crate) fn run(job: &Job, settings: &Settings) -> Result<Vec<u8>, Failure> {
    let input: Input = jobs::input(KIND, &job.input)?;
    let now = Timestamp::now();
    let mut removed = Removed::default();
    report_progress("audit", 0, None);
    removed.audit_entries =
        oldest(layout::AUDIT, |record| is_older(record, now, settings.keep.audit()))?;
    report_progress("deliveries", 0, None);
    removed.deliveries = deliveries(now)?;
    report_progress("events", 0, None);
    removed.events = outbox(now)?;
    report_progress("assertions", 0, None);
    removed.assertions = matching(layout::ASSERTIONS, |record| Ok(has_expired(record, now)))?;
    report_progress("signing keys", 0, None);
    removed.signing_keys = signing_keys()?;
    let keep = &settings.keep;
    until_done("spans", || ingest::remove_older_than(now.saturating_sub(keep.spans()), AT_ONCE))?;
    until_done("runs", || runs::remove_older_than(now.saturating_sub(keep.runs()), AT_ONCE))?;
    until_done("logs", || logs::remove_older_than(now.saturating_sub(keep.logs()), AT_ONCE))?;
    report_progress("configurations", 0, None);
    removed.configurations = revision::sweep()?;

    // The other jobs that run by themselves, in case that one of them was cancelled.
    events::flush();
    deliver::wake()?;
    if !records::scan(layout::EXPECTED).page(1)?.records.is_empty() {
        schedule::go_on();
    }
    if input.by_itself && !records::scan("").page(1)?.records.is_empty() {
        // This job has the key until it ends, so the next one queues behind it.
        start(WhenBusy::JoinQueued)?;
    }
    json::to_vec(&removed)
}

/// Removes what is old until nothing is left of it.
fn until_done(
    phase: &str,
    mut remove: impl FnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut rounds = 0;
    report_progress(phase, rounds, None);
    while remove()? {
        rounds += 1;
        report_progress(phase, rounds, None);
    }
    Ok(())
}

/// Removes records below a prefix whose times in their keys are descending, from the oldest on, as long as this holds.
pub(crate) fn oldest(
    prefix: &str,
    is_old: impl Fn(&Record) -> Result<bool, Failure>,
) -> Result<u64, Failure> {
    let mut removing = Removing::default();
    for record in records::scan(prefix).descending() {
        let record = record?;
        if !is_old(&record)? {
            break;
        }
        removing.remove(&record)?;
    }
    removing.finish()
}

/// Removes records below a prefix for which this holds.
pub(crate) fn matching(
    prefix: &str,
    is_old: impl Fn(&Record) -> Result<bool, Failure>,
) -> Result<u64, Failure> {
    let mut removing = Removing::default();
    for record in records::scan(prefix) {
        let record = record?;
        if is_old(&record)? {
            removing.remove(&record)?;
        }
    }
    removing.finish()
}

/// Records that are removed, some at a time.
#[derive(Debug, Default)]
struct Removing {
    commit: Commit,
    removed: u64,
}

impl Removing {
    fn remove(&mut self, record: &Record) -> Result<(), Failure> {
        self.commit = std::mem::take(&mut self.commit).delete(&record.key);
        if self.commit.len() == records::MAX_OPERATIONS {
            self.run()?;
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), Failure> {
        let commit = std::mem::take(&mut self.commit);
        let count = commit.len() as u64;
        commit.run()?;
        self.removed += count;
        report_progress("removed", self.removed, None);
        Ok(())
    }

    fn finish(mut self) -> Result<u64, Failure> {
        if !self.commit.is_empty() {
            self.run()?;
        }
        Ok(self.removed)
    }
}

/// Whether an entry is as old as this.
fn is_older(record: &Record, now: Timestamp, kept: Duration) -> Result<bool, Failure> {
    let entry: admin::audit::Entry = record.json()?;
    Ok(now.since(entry.time) >= kept)
}

/// Deliveries of each webhook, also of those that were removed.
fn deliveries(now: Timestamp) -> Result<u64, Failure> {
    let is_old = |record: &Record| {
        let delivery: Delivery = record.json()?;
        Ok(now.since(delivery.event.time) >= delivery::KEPT)
    };
    let mut removed = 0;
    for webhook in deliver::groups(layout::DELIVERIES)? {
        removed += oldest(&layout::deliveries(&webhook), is_old)?;
    }
    Ok(removed)
}

fn outbox(now: Timestamp) -> Result<u64, Failure> {
    let removed = matching(layout::OUTBOX, |record| {
        let event: Event = record.json()?;
        Ok(now.since(event.time) >= OUTBOX)
    })?;
    if removed > 0 {
        environment::warn("events were never delivered and are dropped", &[("events", &removed)]);
    }
    Ok(removed)
}

/// Whether an assertion may be used again, for all that its record says: it is not valid any more.
fn has_expired(record: &Record, now: Timestamp) -> bool {
    let until = std::str::from_utf8(&record.value).ok().and_then(|text| text.parse::<u64>().ok());
    until.is_none_or(|until| until < now.as_secs())
}

fn signing_keys() -> Result<u64, Failure> {
    let mut removed = 0;
    for some in signing::expired()?.chunks(records::MAX_OPERATIONS) {
        let commit = some.iter().fold(Commit::new(), |commit, key| commit.delete(key));
        commit.run()?;
        removed += some.len() as u64;
    }
    Ok(removed)
}
