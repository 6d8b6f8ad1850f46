//! What is expected of instances: that a run begins when the schedule in their configuration says so, and that they come
//! at all.
//!
//! `times` says when runs are expected, `due` is the job that looks at what is due. An instance is looked at again when
//! the next run is late, or when it has been silent for too long, as its record says, so that a pass over all instances
//! reads nothing else of those of which nothing is due.

pub(crate) mod due;
mod times;

use keepgate_sdk::jobs::{self, Options, WhenBusy};
use keepgate_sdk::records::{self, Commit};
use keepgate_sdk::{Failure, Timestamp, environment};
use serde::{Deserialize, Serialize};

use crate::layout;
use times::Plan;

/// The schedule of a configuration, as its document has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Schedule {
    /// Five fields or a name such as `@daily`, in UTC. Where it is set, the frequency and the beginning say nothing.
    pub(crate) cron: Option<String>,
    /// Minutes from one run to the next; a day if there is no pattern either.
    pub(crate) frequency_minutes: Option<u64>,
    /// When the first run begins: `+` and minutes from the program's start, or a time of day as `2330`, in UTC.
    pub(crate) begin: Option<String>,
    /// Whether there is one run only, whenever somebody starts the program: then none is expected at any time.
    pub(crate) once: bool,
}

impl Schedule {
    /// As it is kept: a text that is too long to be understood is cut, and stays too long.
    fn shortened(&self) -> Self {
        let cut = |text: &Option<String>| {
            let text = text.as_deref()?;
            Some(text.get(..text.floor_char_boundary(2 * times::LONGEST_TEXT))?.to_owned())
        };
        Self { cron: cut(&self.cron), begin: cut(&self.begin), ..self.clone() }
    }
}

/// What is expected of an instance, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Expected {
    schedule: Schedule,
    /// When the next run is to begin; none if that cannot be known.
    next: Option<Timestamp>,
    /// The instance was there, or nothing was expected of it, at this time or later.
    heard: Timestamp,
    /// Whether its silence was reported and lasts.
    silent: bool,
}

/// What is wrong with a schedule, if runs cannot be expected by it.
pub(crate) fn check(schedule: &Schedule) -> Result<(), String> {
    Plan::of(schedule).map(drop)
}

/// Adds to the commit that changes an instance's configuration what is expected of the instance from now on; nothing
/// without a schedule. What was expected stays if the schedule is the same. Call [`begin`] after the commit.
pub(crate) fn expect(
    commit: Commit,
    instance: &str,
    schedule: Option<&Schedule>,
) -> Result<Commit, Failure> {
    let key = layout::expected(instance);
    let before = records::get(&key)?;
    let Some(schedule) = schedule.map(Schedule::shortened) else {
        return Ok(if before.is_some() { commit.delete(&key) } else { commit });
    };
    if let Some(record) = &before
        && record.json::<Expected>()?.schedule == schedule
    {
        return Ok(commit);
    }
    let now = Timestamp::now();
    let next = match Plan::of(&schedule) {
        Ok(plan) => plan.first(&schedule, now),
        Err(why) => {
            environment::warn(
                "runs of an instance that are missed are not reported, because its schedule is not understood",
                &[("instance", &instance), ("reason", &why)],
            );
            None
        }
    };
    let expected = Expected { schedule, next, heard: now, silent: false };
    commit.put_json(&key, &expected)
}

/// Sees to it that somebody looks at what is due soon: after what is expected was changed.
pub(crate) fn begin() {
    told(start(Timestamp::now()));
}

/// Sees to it that somebody looks at what is due within an hour, if nobody does anyway.
pub(crate) fn go_on() {
    told(start(Timestamp::now().saturating_add(due::LONGEST)));
}

/// A failure is not worth more than a line in the log: the instance's first request of the next day tries it again.
fn told(started: Result<(), Failure>) {
    if let Err(failure) = started {
        environment::warn(
            "the job that looks for missed runs could not be started",
            &[("reason", &failure.message())],
        );
    }
}

/// Starts the job for this time, if none comes by then.
fn start(at: Timestamp) -> Result<(), Failure> {
    let now = Timestamp::now();
    let at = at.clamp(now.saturating_add(due::SHORTEST), now.saturating_add(due::LONGEST));
    let options = Options::new(due::KEY)
        .attempts(due::ATTEMPTS)
        .backoff(due::SHORTEST)
        .when_busy(WhenBusy::JoinQueued)
        .not_before(at.0);
    match jobs::start_with(due::KIND, &due::Input {}, &options) {
        // Without jobs, the operator does not want any.
        Ok(_) | Err(Failure::Unsupported(_)) => Ok(()),
        Err(failure) => Err(failure),
    }
}
