//! What becomes of a job when an attempt is over, and what is logged about it.

use std::time::SystemTime;

use crate::clock::between;
use crate::job::{Job, MAX_OUTPUT, Record, State};
use crate::runner::Failed;

/// The message of a job that was running when the gateway stopped.
const INTERRUPTED: &str = "the gateway stopped while it ran";

/// How an attempt ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// By itself.
    Over(Result<Vec<u8>, Failed>),
    /// It was told to stop.
    Stopped,
}

/// Records how an attempt ended, and what the job's state is after it.
pub(super) fn record_outcome(
    record: &mut Record,
    outcome: Outcome,
    is_cancelled: bool,
    now: SystemTime,
) {
    let has_attempts = record.job.attempt < record.job.attempts;
    match outcome {
        Outcome::Over(Ok(output)) if output.len() > MAX_OUTPUT => {
            let size = output.len();
            let message = format!(
                "it succeeded, but returned {size} bytes, of which at most {MAX_OUTPUT} are kept"
            );
            record.end(State::Failed, message, now);
        }
        Outcome::Over(Ok(output)) => {
            record.job.output = output;
            record.end(State::Succeeded, String::new(), now);
        }
        Outcome::Over(Err(_)) | Outcome::Stopped if is_cancelled => cancelled(record, now),
        Outcome::Over(Err(failed)) if failed.again && has_attempts => {
            let next = now.checked_add(record.pause());
            record.try_again(failed.message, next);
        }
        Outcome::Over(Err(failed)) => record.end(State::Failed, failed.message, now),
        Outcome::Stopped if has_attempts => {
            record.try_again(format!("{INTERRUPTED}; it is tried again"), None);
        }
        Outcome::Stopped => record.end(State::Failed, INTERRUPTED.to_owned(), now),
    }
}

/// Ends a job because it was cancelled.
pub(super) fn cancelled(record: &mut Record, now: SystemTime) {
    record.end(State::Cancelled, "cancelled".to_owned(), now);
}

/// Logs how an attempt ended.
pub(super) fn log_end(job: &Job) {
    let Job { id, mount, kind, key, origin, attempt, attempts, message, .. } = job;
    let ended = job.ended.unwrap_or(job.created);
    let seconds = job.started.map(|started| between(started, ended)).unwrap_or_default();
    let seconds = seconds.as_secs_f64();
    match job.state {
        State::Succeeded => {
            tracing::info!(job = id, mount, kind, key, origin, seconds, "job succeeded");
        }
        State::Cancelled => {
            tracing::info!(job = id, mount, kind, key, origin, seconds, "job cancelled");
        }
        State::Failed => tracing::warn!(
            job = id,
            mount,
            kind,
            key,
            origin,
            seconds,
            attempt,
            error = message,
            "job failed"
        ),
        State::Queued | State::Running => tracing::warn!(
            job = id,
            mount,
            kind,
            key,
            origin,
            attempt,
            attempts,
            error = message,
            "job attempt failed; retrying"
        ),
    }
}
