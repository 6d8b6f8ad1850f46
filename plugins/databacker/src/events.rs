//! Events: what webhooks are told of.
//!
//! An event is a record of the outbox in the same commit as what it tells of, so that none is lost and none is made twice.
//! A job makes deliveries of it afterwards (`webhooks::deliver`). If that job cannot be started, the next event does it,
//! or the daily job.

use std::fmt;

use keepgate_sdk::records::{self, Commit};
use keepgate_sdk::{Failure, Timestamp, environment, json};
use serde::{Deserialize, Serialize};

use crate::instance::{Instance, uuid};
use crate::layout;
use crate::run::{Run, Status};
use crate::webhooks::{Webhook, deliver};

/// The most bytes of an event whose run is told in full. As many deliveries as an event can have fit into one commit.
const LONGEST: usize = 16 * 1024;
/// The most bytes of the message of a run that is not told in full.
const LONGEST_MESSAGE: usize = 4 * 1024;

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Kind {
    #[serde(rename = "run.ok")]
    RunOk,
    /// A run has failed, or it is not known how it ended.
    #[serde(rename = "run.error")]
    RunError,
    #[serde(rename = "run.missed")]
    RunMissed,
    #[serde(rename = "instance.silent")]
    InstanceSilent,
    /// An administrator wants to see whether a webhook works. No webhook asks for it.
    #[serde(rename = "test")]
    Test,
}

impl Kind {
    /// Those that webhooks may ask for.
    pub(crate) const ALL: [Self; 4] =
        [Self::RunOk, Self::RunError, Self::RunMissed, Self::InstanceSilent];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RunOk => "run.ok",
            Self::RunError => "run.error",
            Self::RunMissed => "run.missed",
            Self::InstanceSilent => "instance.silent",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that has happened; as JSON, the body of its deliveries.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Event {
    /// The same in all deliveries.
    pub(crate) id: String,
    pub(crate) event: Kind,
    pub(crate) time: Timestamp,
    /// None in a test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) instance: Option<About>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<Run>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) missed: Option<Missed>,
    /// In `instance.silent`: when the instance was last heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_seen: Option<Timestamp>,
}

/// The instance that an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) account: String,
}

/// Runs that have not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Missed {
    /// When the first of them should have begun.
    pub(crate) expected: Timestamp,
    /// How many there are; 200 means at least so many.
    pub(crate) times: u64,
}

impl Event {
    /// An event of this moment.
    pub(crate) fn new(event: Kind, instance: Option<&Instance>) -> Self {
        Self {
            id: uuid(),
            event,
            time: Timestamp::now(),
            instance: instance.map(|instance| About {
                id: instance.id.clone(),
                name: instance.name.clone(),
                account: instance.account.clone(),
            }),
            run: None,
            missed: None,
            last_seen: None,
        }
    }

    /// Whose instance it is about.
    pub(crate) fn account(&self) -> &str {
        self.instance.as_ref().map_or("", |about| about.account.as_str())
    }

    /// Shortens what an instance can make as long as it likes.
    fn shortened(mut self) -> Result<Self, Failure> {
        if json::to_vec(&self)?.len() > LONGEST
            && let Some(run) = &mut self.run
        {
            let end = run.message.floor_char_boundary(LONGEST_MESSAGE);
            run.message.truncate(end);
            run.databases.clear();
            run.targets.clear();
        }
        Ok(self)
    }
}

/// Adds to the commit that ends a run what makes its deliveries certain. Call [`run_is_stored`] after the commit.
pub(crate) fn run_ended(commit: Commit, instance: &Instance, run: &Run) -> Result<Commit, Failure> {
    let kind = match run.status {
        Status::Running => return Ok(commit),
        Status::Ok => Kind::RunOk,
        Status::Error | Status::Unknown => Kind::RunError,
    };
    let event = Event { run: Some(run.clone()), ..Event::new(kind, Some(instance)) };
    add(commit, &Webhook::all()?, event)
}

/// After the commit that ends a run: counts it, and sees to it that its event is delivered.
pub(crate) fn run_is_stored(run: &Run) {
    let status = match run.status {
        Status::Running => return,
        Status::Ok => "ok",
        Status::Error => "error",
        Status::Unknown => "unknown",
    };
    environment::count("databacker_runs_total", &[status], 1);
    flush();
}

/// Adds an event to a commit, if one of the webhooks wants it.
pub(crate) fn add(commit: Commit, webhooks: &[Webhook], event: Event) -> Result<Commit, Failure> {
    if !webhooks.iter().any(|webhook| webhook.wants(&event)) {
        return Ok(commit);
    }
    let event = event.shortened()?;
    commit.put_json(&layout::outbox(event.time, &event.id), &event)
}

/// Sees to it that what is in the outbox is delivered. What was committed stays so: a failure is not worth more than a
/// line in the log.
pub(crate) fn flush() {
    let started = records::scan(layout::OUTBOX).page(1).and_then(|page| match page.records.len() {
        0 => Ok(()),
        _ => deliver::start_outbox(),
    });
    if let Err(failure) = started {
        environment::warn(
            "the delivery of events to webhooks could not be started; the next event does it, or the daily job",
            &[("reason", &failure.message())],
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_are_told_shortly() {
        let _host = keepgate_sdk::testing::Host::new();
        let run = Run {
            id: "r".to_owned(),
            instance: "i".to_owned(),
            kind: crate::run::Kind::Dump,
            status: Status::Error,
            start: Timestamp(0),
            end: None,
            bytes: None,
            exit_code: Some(1),
            message: "ä".repeat(LONGEST),
            databases: vec!["x".repeat(200); 1000],
            targets: Vec::new(),
        };
        let event = Event { run: Some(run), ..Event::new(Kind::RunError, None) };
        let short = event.shortened().unwrap();
        assert!(json::to_vec(&short).unwrap().len() < LONGEST);
        assert_eq!(short.run.unwrap().message.len(), LONGEST_MESSAGE);
    }
}
