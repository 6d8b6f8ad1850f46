//! The job that looks for runs that were missed and for instances that are silent. It goes over all instances of which
//! something is expected, looks closer at those of which something is due, and starts its successor.
//!
//! A gateway that was off for a week tells of each instance once, with the number of runs that were missed.

use std::time::Duration;

use keepgate_sdk::jobs::{self, Job, report_progress};
use keepgate_sdk::records::{self, Commit, Record};
use keepgate_sdk::{Failure, HumanDuration, Timestamp, environment, json};
use serde::{Deserialize, Serialize};

use super::Expected;
use super::times::Plan;
use crate::events::{self, Event, Kind};
use crate::instance::{self, Instance, State};
use crate::layout;
use crate::run::{self, Run};
use crate::settings::Settings;
use crate::webhooks::Webhook;

/// The kind of job.
pub(crate) const KIND: &str = "due";
/// There is one at a time.
pub(super) const KEY: &str = "all";
/// From one to the next, at least and at most.
pub(super) const SHORTEST: Duration = Duration::from_secs(60);
pub(super) const LONGEST: Duration = Duration::from_secs(3600);
/// If records cannot be read or written. The pauses are ten minutes before long, so that is about a week.
pub(super) const ATTEMPTS: u32 = 1000;
/// Records that are read together.
const PAGE: usize = 500;
/// Instances that are changed together: three changes for each must fit into a commit.
const TOGETHER: usize = 40;

/// The input of the job: nothing.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Found {
    /// Instances of which something is expected.
    instances: u64,
    /// Those that were looked at closer.
    due: u64,
    missed_runs: u64,
    newly_silent: u64,
    silent: u64,
}

/// The key of a job with this input.
pub(crate) fn key(input: &[u8]) -> Result<String, Failure> {
    let Input {} = jobs::input(KIND, input)?;
    Ok(KEY.to_owned())
}

/// What a pass works with.
struct Pass {
    now: Timestamp,
    late: Duration,
    silent_after: Option<Duration>,
    webhooks: Vec<Webhook>,
    found: Found,
    /// When something is due next.
    next: Timestamp,
}

/// Runs the job.
pub(crate) fn run(job: &Job, settings: &Settings) -> Result<Vec<u8>, Failure> {
    let Input {} = jobs::input(KIND, &job.input)?;
    let now = Timestamp::now();
    let mut pass = Pass {
        now,
        late: settings.late_after(),
        silent_after: settings.silent_after.map(|HumanDuration(after)| after),
        webhooks: Webhook::all()?,
        found: Found::default(),
        next: now.saturating_add(LONGEST),
    };
    let mut last: Option<String> = None;
    loop {
        let mut scan = records::scan(layout::EXPECTED);
        if let Some(last) = &last {
            scan = scan.after(last);
        }
        let page = scan.page(PAGE)?;
        last = page.records.last().map(|record| record.key.clone());
        pass.over(page.records)?;
        if !page.more || last.is_none() {
            break;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 instances")]
    environment::set("databacker_silent_instances", &[], pass.found.silent as f64);
    events::flush();
    if pass.found.instances > 0 {
        super::start(pass.next)?;
    }
    json::to_vec(&pass.found)
}

/// An instance of which something is due.
struct Due {
    record: Record,
    expected: Expected,
    instance: Option<Instance>,
    seen: Option<Timestamp>,
    /// When the newest run began. A restore is none that a schedule has started.
    begun: Option<Timestamp>,
}

/// What a closer look at an instance has led to.
struct Change {
    /// As it was read.
    record: Record,
    /// What is expected from now on; none if the instance is gone.
    expected: Option<Expected>,
    events: Vec<Event>,
    missed: u64,
    newly_silent: bool,
}

impl Change {
    fn add_to(&self, commit: Commit, webhooks: &[Webhook]) -> Result<Commit, Failure> {
        let key = &self.record.key;
        let mut commit = commit.unchanged(&self.record);
        for event in &self.events {
            commit = events::add(commit, webhooks, event.clone())?;
        }
        match &self.expected {
            Some(expected) => commit.put_json(key, expected),
            None => Ok(commit.delete(key)),
        }
    }
}

impl Pass {
    /// Looks at some of the instances.
    fn over(&mut self, some: Vec<Record>) -> Result<(), Failure> {
        let mut due = Vec::new();
        for record in some {
            self.found.instances += 1;
            let expected: Expected = record.json()?;
            if self.is_due(&expected) {
                due.push((record, expected));
            } else {
                self.comes(&expected);
            }
        }
        let mut due = due.into_iter().peekable();
        while due.peek().is_some() {
            let some: Vec<_> = due.by_ref().take(TOGETHER).collect();
            self.look(some)?;
            report_progress("instances", self.found.instances, None);
        }
        Ok(())
    }

    fn is_due(&self, expected: &Expected) -> bool {
        let is_late = |next: Timestamp| next.saturating_add(self.late) <= self.now;
        expected.silent
            || expected.next.is_some_and(is_late)
            || self.silent_after.is_some_and(|after| self.now.since(expected.heard) >= after)
    }

    /// Remembers when something of an instance is due, if that is next.
    fn comes(&mut self, expected: &Expected) {
        let late = expected.next.map(|next| next.saturating_add(self.late));
        let silent = self.silent_after.filter(|_| !expected.silent);
        let silent = silent.map(|after| expected.heard.saturating_add(after));
        for at in [late, silent].into_iter().flatten() {
            self.next = self.next.min(at);
        }
        self.found.silent += u64::from(expected.silent);
    }

    /// Looks closer at instances of which something is due, and writes down what has become of it.
    fn look(&mut self, some: Vec<(Record, Expected)>) -> Result<(), Failure> {
        let mut changes = Vec::new();
        for due in read(some)? {
            self.found.due += 1;
            changes.extend(self.judge(due));
        }
        if changes.is_empty() {
            return Ok(());
        }
        let mut together = Commit::new();
        for change in &changes {
            together = change.add_to(together, &self.webhooks)?;
        }
        match together.run() {
            Ok(_) => changes.iter().for_each(|change| self.count(change)),
            // One of them was changed meanwhile, and is looked at again in the next pass.
            Err(Failure::PreconditionFailed) => {
                for change in changes {
                    match change.add_to(Commit::new(), &self.webhooks)?.run() {
                        Ok(_) => self.count(&change),
                        Err(Failure::PreconditionFailed) => {}
                        Err(failure) => return Err(failure),
                    }
                }
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    fn count(&mut self, change: &Change) {
        if change.missed > 0 {
            environment::count("databacker_missed_runs_total", &[], change.missed);
        }
        self.found.missed_runs += change.missed;
        self.found.newly_silent += u64::from(change.newly_silent);
        for event in &change.events {
            log(event);
        }
    }

    /// What has become of what is due; none if nothing has changed.
    fn judge(&mut self, due: Due) -> Option<Change> {
        let Due { record, expected: before, instance, seen, begun } = due;
        let mut change =
            Change { record, expected: None, events: Vec::new(), missed: 0, newly_silent: false };
        let Some(instance) = instance else { return Some(change) };
        let mut expected = before.clone();
        let plan = Plan::read(&expected.schedule).unwrap_or(Plan::Unknown);
        if instance.state == State::Disabled {
            expected.next = plan.after(self.now);
            expected.heard = self.now;
            expected.silent = false;
        } else {
            if let Some(time) = expected.next {
                let (next, missed) = plan.settle(time, begun, self.now, self.late);
                expected.next = next;
                if let Some(missed) = missed {
                    change.missed = missed.times;
                    let event = Event::new(Kind::RunMissed, Some(&instance));
                    change.events.push(Event { missed: Some(missed), ..event });
                }
            }
            let signs = [Some(expected.heard), seen, begun.map(|begun| begun.min(self.now))];
            expected.heard = signs.into_iter().flatten().max().unwrap_or_default();
            let silence = self.now.since(expected.heard);
            expected.silent = self.silent_after.is_some_and(|after| silence >= after);
            if expected.silent && !before.silent {
                change.newly_silent = true;
                let event = Event::new(Kind::InstanceSilent, Some(&instance));
                change.events.push(Event { last_seen: Some(expected.heard), ..event });
            }
        }
        self.comes(&expected);
        if expected == before {
            return None;
        }
        change.expected = Some(expected);
        Some(change)
    }
}

/// Tells operators, who need not have a webhook.
fn log(event: &Event) {
    let instance = event.instance.as_ref().map_or("", |about| about.id.as_str());
    if let Some(missed) = &event.missed {
        let (expected, times) = (missed.expected, missed.times);
        environment::warn(
            "a run of an instance has not begun in time",
            &[("instance", &instance), ("expected", &expected), ("times", &times)],
        );
    }
    if let Some(seen) = &event.last_seen {
        environment::warn(
            "nothing has come from an instance for long",
            &[("instance", &instance), ("last_seen", &seen)],
        );
    }
}

/// What there is to know of instances.
fn read(some: Vec<(Record, Expected)>) -> Result<Vec<Due>, Failure> {
    let prefix = layout::EXPECTED.len();
    let id = |record: &Record| record.key.get(prefix..).unwrap_or_default().to_owned();
    let ids: Vec<String> = some.iter().map(|(record, _)| id(record)).collect();
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    let keys = |key: fn(&str) -> String| names.iter().map(|id| key(id)).collect::<Vec<_>>();
    let instances = records::get_all(&keys(layout::instance))?;
    let runs = records::get_all(&keys(layout::last_run))?;
    let activities = instance::activities(&names)?;
    let mut due = Vec::with_capacity(some.len());
    let rest = instances.into_iter().zip(runs).zip(activities);
    for ((record, expected), ((instance, run), activity)) in some.into_iter().zip(rest) {
        let run: Option<Run> = run.map(|run| run.json()).transpose()?;
        due.push(Due {
            record,
            expected,
            instance: instance.map(|instance| instance.json()).transpose()?,
            seen: activity.seen,
            begun: run.filter(|run| run.kind != run::Kind::Restore).map(|run| run.start),
        });
    }
    Ok(due)
}
