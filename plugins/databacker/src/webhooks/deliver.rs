//! The job that delivers events. Without a webhook in its input it takes events out of the outbox and makes a delivery for
//! each webhook that wants them; with one it sends what is due to it, and starts its successor for what is not.
//!
//! A delivery is tried ten times within a day. A receiver that does not answer is asked a few times and then left alone
//! for a while, however many deliveries wait. One that answers with 410 is not told of anything any more.
//!
//! The answer is written after the request, so what was sent just before a crash is sent again; the receiver recognises it
//! by its id.

use std::time::Duration;

use keepgate_sdk::jobs::{self, Job, Options, WhenBusy, report_progress};
use keepgate_sdk::records::{self, Commit, Record};
use keepgate_sdk::{Failure, Timestamp, environment, json};
use serde::{Deserialize, Serialize};

use super::delivery::{Answer, Delivery, Status};
use super::{MOST, Webhook};
use crate::events::Event;
use crate::layout;
use crate::settings::Settings;

/// The kind of job.
pub(crate) const KIND: &str = "deliver";
/// The pauses before a delivery is tried again, in seconds: nearly a day.
const PAUSES: [u64; 9] = [30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 28_800];
/// A delivery that is as old as this is not tried again.
const OLDEST: Duration = Duration::from_secs(86_400);
/// So many failures in a row end a round.
const FAILURES: u32 = 3;
/// The most requests of one job.
const ROUND: u32 = 100;
/// The pause after a round that failed, and the longest one: it doubles.
const PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Before the job itself is tried again, if records cannot be read or written.
const BACKOFF: Duration = Duration::from_secs(30);
const ATTEMPTS: u32 = 20;

/// What is to be delivered.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Input {
    /// To which webhook; none for the outbox.
    webhook: Option<String>,
}

/// What was done.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Done {
    events: u64,
    delivered: u64,
    retried: u64,
    failed: u64,
}

/// The key of a job with this input.
pub(crate) fn key(input: &[u8]) -> Result<String, Failure> {
    let input: Input = jobs::input(KIND, input)?;
    Ok(key_of(&input))
}

fn key_of(input: &Input) -> String {
    input.webhook.clone().unwrap_or_else(|| "outbox".to_owned())
}

/// Sees to it that deliveries are made of what is in the outbox.
pub(crate) fn start_outbox() -> Result<(), Failure> {
    start(&Input::default(), None)
}

fn start(input: &Input, at: Option<Timestamp>) -> Result<(), Failure> {
    let mut options = Options::new(&key_of(input))
        .attempts(ATTEMPTS)
        .backoff(BACKOFF)
        .when_busy(WhenBusy::JoinQueued);
    if let Some(at) = at {
        options = options.not_before(at.0);
    }
    match jobs::start_with(KIND, input, &options) {
        // Without jobs, the operator does not want any.
        Ok(_) | Err(Failure::Unsupported(_)) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Starts the jobs of all webhooks for which something is to be sent.
pub(crate) fn wake() -> Result<(), Failure> {
    for webhook in groups(layout::PENDING)? {
        wake_one(&webhook)?;
    }
    Ok(())
}

/// Starts the job of a webhook for the time at which the next delivery is to be tried.
fn wake_one(id: &str) -> Result<(), Failure> {
    let page = records::scan(&layout::pending_of(id)).page(1)?;
    let Some(next) = page.records.first() else { return Ok(()) };
    let at = layout::pending_time(&next.key).unwrap_or_default();
    let held = Webhook::find(id)?.and_then(|(webhook, _)| webhook.held_until);
    let at = at.max(held.unwrap_or_default());
    let input = Input { webhook: Some(id.to_owned()) };
    start(&input, Some(at).filter(|at| *at > Timestamp::now()))
}

/// The different segments that come after a prefix, without looking at what is below each of them.
pub(crate) fn groups(prefix: &str) -> Result<Vec<String>, Failure> {
    let mut groups: Vec<String> = Vec::new();
    loop {
        let mut scan = records::scan(prefix);
        if let Some(last) = groups.last() {
            // Behind all keys below it: segments are ASCII, and `0` comes after `/`.
            scan = scan.after(&format!("{prefix}{last}0"));
        }
        let page = scan.page(1)?;
        let Some(record) = page.records.first() else { return Ok(groups) };
        let rest = record.key.strip_prefix(prefix).unwrap_or_default();
        groups.push(rest.split('/').next().unwrap_or_default().to_owned());
    }
}

/// Runs the job.
pub(crate) fn run(job: &Job, settings: &Settings) -> Result<Vec<u8>, Failure> {
    let input: Input = jobs::input(KIND, &job.input)?;
    let mut done = Done::default();
    match &input.webhook {
        None => outbox(&mut done)?,
        Some(webhook) => round(webhook, settings, &mut done)?,
    }
    json::to_vec(&done)
}

/// Makes the deliveries of the events in the outbox.
fn outbox(done: &mut Done) -> Result<(), Failure> {
    let webhooks = Webhook::all()?;
    for record in records::scan(layout::OUTBOX) {
        let record = record?;
        match deliveries(&record, &webhooks)?.run() {
            Ok(_) => done.events += 1,
            // Another job was faster.
            Err(Failure::PreconditionFailed) => {}
            Err(failure) => return Err(failure),
        }
        report_progress("events", done.events, None);
    }
    wake()
}

fn deliveries(record: &Record, webhooks: &[Webhook]) -> Result<Commit, Failure> {
    let mut commit = Commit::new().unchanged(record).delete(&record.key);
    let event: Event = match record.json() {
        Ok(event) => event,
        Err(failure) => {
            environment::warn(
                "an event cannot be read and is dropped",
                &[("key", &record.key), ("reason", &failure.message())],
            );
            return Ok(commit);
        }
    };
    // Twice as many as an account may have are those of one account and those of none.
    for webhook in webhooks.iter().filter(|webhook| webhook.wants(&event)).take(3 * MOST) {
        let delivery = Delivery::new(event.clone());
        let key = delivery.key(webhook);
        commit = commit
            .put_json(&key, &delivery)?
            .put(&layout::pending(&webhook.id, event.time, &event.id), key.as_bytes());
    }
    Ok(commit)
}

/// Sends what is due to a webhook.
fn round(id: &str, settings: &Settings, done: &mut Done) -> Result<(), Failure> {
    let now = Timestamp::now();
    let held = Webhook::find(id)?.and_then(|(webhook, _)| webhook.held_until);
    if held.is_some_and(|until| until > now) {
        return wake_one(id);
    }
    let mut failures = 0;
    for tried in 0..ROUND {
        report_progress("deliveries", tried.into(), None);
        let page = records::scan(&layout::pending_of(id)).page(1)?;
        let Some(next) = page.records.first() else { break };
        if layout::pending_time(&next.key).is_some_and(|at| at > Timestamp::now()) {
            break;
        }
        match try_one(id, next, settings, done)? {
            true => failures = 0,
            false => failures += 1,
        }
        if failures == FAILURES {
            break;
        }
    }
    hold(id, failures == FAILURES)?;
    wake_one(id)
}

/// Remembers how a round ended: after one that failed, the next one begins some time later.
fn hold(id: &str, has_failed: bool) -> Result<(), Failure> {
    let Some((mut webhook, record)) = Webhook::find(id)? else { return Ok(()) };
    if has_failed {
        let pause = PAUSE.saturating_mul(1 << webhook.failed_rounds.min(10)).min(LONGEST_PAUSE);
        webhook.failed_rounds = webhook.failed_rounds.saturating_add(1);
        webhook.held_until = Some(Timestamp::now().saturating_add(pause));
    } else if webhook.failed_rounds > 0 {
        webhook.failed_rounds = 0;
        webhook.held_until = None;
    } else {
        return Ok(());
    }
    settled(Commit::new().unchanged(&record).put_json(&record.key, &webhook)?)
}

/// Tries a delivery; false if the receiver did not take it.
fn try_one(
    id: &str,
    pending: &Record,
    settings: &Settings,
    done: &mut Done,
) -> Result<bool, Failure> {
    let commit = Commit::new().unchanged(pending).delete(&pending.key);
    let Some(record) = records::get(&String::from_utf8_lossy(&pending.value))? else {
        return settled(commit).map(|()| true);
    };
    let mut delivery: Delivery = record.json()?;
    let mut commit = commit.unchanged(&record);
    let found = Webhook::find(id)?;
    let Some((webhook, webhook_record)) = found.filter(|(one, _)| one.disabled.is_none()) else {
        delivery.status = Status::Failed;
        delivery.answer = Some(Answer::none("the webhook was removed or disabled"));
        count("failed", &mut done.failed);
        return settled(commit.put_json(&record.key, &delivery)?).map(|()| true);
    };
    let answer = delivery.send(&webhook, settings);
    delivery.attempts = delivery.attempts.saturating_add(1);
    let is_old = answer.time.since(delivery.event.time) >= OLDEST;
    let pause = PAUSES.get(delivery.attempts.saturating_sub(1) as usize).filter(|_| !is_old);
    let is_taken = answer.is_success();
    if is_taken {
        delivery.status = Status::Delivered;
        count("delivered", &mut done.delivered);
    } else if answer.is_gone() {
        delivery.status = Status::Failed;
        count("failed", &mut done.failed);
        let reason = "the receiver has answered with 410, which says that it is gone for good";
        environment::warn("a webhook is disabled", &[("webhook", &id), ("reason", &reason)]);
        let disabled = Webhook { disabled: Some(reason.to_owned()), ..webhook };
        commit = commit.unchanged(&webhook_record).put_json(&webhook_record.key, &disabled)?;
    } else if let Some(pause) = pause {
        count("retried", &mut done.retried);
        let at = answer.time.saturating_add(Duration::from_secs(*pause));
        let key = layout::pending(id, at, &delivery.event.id);
        commit = commit.put(&key, record.key.as_bytes());
    } else {
        delivery.status = Status::Failed;
        count("failed", &mut done.failed);
        let (status, why) = (answer.status.unwrap_or_default(), answer.reason.as_deref());
        environment::warn(
            "an event was not delivered to a webhook, and is not tried any more",
            &[
                ("webhook", &id),
                ("event", &delivery.event.id),
                ("attempts", &delivery.attempts),
                ("status", &status),
                ("reason", &why.unwrap_or_default()),
            ],
        );
    }
    delivery.answer = Some(answer);
    settled(commit.put_json(&record.key, &delivery)?)?;
    Ok(is_taken)
}

fn count(result: &str, counter: &mut u64) {
    *counter += 1;
    environment::count("databacker_webhook_deliveries_total", &[result], 1);
}

/// What was changed meanwhile is looked at again.
fn settled(commit: Commit) -> Result<(), Failure> {
    match commit.run() {
        Ok(_) | Err(Failure::PreconditionFailed) => Ok(()),
        Err(failure) => Err(failure),
    }
}
