//! The next time of each schedule, and what is known about its runs. Nothing here writes or starts
//! anything: each step returns what would change, and the state machine applies it once it is on disk.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::trigger::{Pattern, next_in_step, random_part};
use super::{Missed, Schedule, ScheduleStatus, Trigger};
use crate::clock::{between, whole_milliseconds};
use crate::job::{Job, State};

/// A run that has been due for longer than this at startup was missed. A run that has been due for
/// less is made whatever the schedule says about missed runs, so that a restart at the wrong moment
/// loses nothing.
const GRACE: Duration = Duration::from_secs(60);

/// What the file stores about a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlannedSchedule {
    pub(crate) name: String,
    mount: String,
    kind: String,
    key: String,
    /// What `next` was calculated from.
    when: Trigger,
    /// The next time without its jitter.
    #[serde(with = "crate::serde_formats::optional_time")]
    base: Option<SystemTime>,
    /// None while it is not in the configuration.
    #[serde(with = "crate::serde_formats::optional_time")]
    pub(crate) next: Option<SystemTime>,
    #[serde(with = "crate::serde_formats::optional_time")]
    last_run: Option<SystemTime>,
    #[serde(with = "crate::serde_formats::optional_time")]
    last_success: Option<SystemTime>,
    last_job: Option<String>,
    last_outcome: Option<State>,
}

impl PlannedSchedule {
    fn new(schedule: &Schedule, now: SystemTime) -> Self {
        let mut planned = Self {
            name: schedule.name.clone(),
            mount: String::new(),
            kind: String::new(),
            key: String::new(),
            when: schedule.when.clone(),
            base: None,
            next: None,
            last_run: None,
            last_success: None,
            last_job: None,
            last_outcome: None,
        };
        planned.follow(schedule);
        planned.plan(now);
        planned
    }

    fn follow(&mut self, schedule: &Schedule) {
        self.mount.clone_from(&schedule.mount);
        self.kind.clone_from(&schedule.kind);
        self.key.clone_from(&schedule.key);
        self.when.clone_from(&schedule.when);
    }

    /// Sets the first time under these rules.
    fn plan(&mut self, now: SystemTime) {
        let base = match &self.when {
            Trigger::Cron { pattern, time_zone } => next_of(pattern, time_zone, now),
            Trigger::Every { interval, .. } => {
                let after_last = self.last_run.and_then(|last| last.checked_add(*interval));
                Some(after_last.unwrap_or(now).max(now))
            }
        };
        self.put(base);
    }

    /// Sets the next time after a run, or after runs that were skipped.
    fn advance(&mut self, now: SystemTime) {
        let base = match &self.when {
            Trigger::Cron { pattern, time_zone } => next_of(pattern, time_zone, now),
            Trigger::Every { interval, .. } => {
                next_in_step(self.base.unwrap_or(now), *interval, now)
            }
        };
        self.put(base);
    }

    /// Moves a time forward that was calculated while the clock was ahead.
    fn bring_forward(&mut self, now: SystemTime) {
        let Some(next) = self.next else { return };
        match &self.when {
            Trigger::Cron { pattern, time_zone } => {
                let earlier = next_of(pattern, time_zone, now).filter(|earlier| *earlier < next);
                if earlier.is_some() {
                    self.put(earlier);
                }
            }
            Trigger::Every { interval, jitter } => {
                if between(now, next) > *interval + *jitter {
                    self.put(now.checked_add(*interval));
                }
            }
        }
    }

    fn put(&mut self, base: Option<SystemTime>) {
        let jitter = match &self.when {
            Trigger::Cron { .. } => Duration::ZERO,
            Trigger::Every { jitter, .. } => random_part(*jitter),
        };
        self.base = base.map(whole_milliseconds);
        self.next = self.base.and_then(|base| base.checked_add(jitter)).map(whole_milliseconds);
    }

    pub(crate) fn status(&self) -> ScheduleStatus {
        ScheduleStatus {
            name: self.name.clone(),
            mount: self.mount.clone(),
            kind: self.kind.clone(),
            key: self.key.clone(),
            when: self.when.to_string(),
            next: self.next,
            last_run: self.last_run,
            last_success: self.last_success,
            last_job: self.last_job.clone(),
            last_outcome: self.last_outcome,
        }
    }
}

fn next_of(pattern: &str, time_zone: &str, now: SystemTime) -> Option<SystemTime> {
    Pattern::new(pattern, time_zone).ok()?.next_after(now)
}

/// A schedule that is, or was, in the configuration.
#[derive(Clone, Debug)]
struct Entry {
    schedule: Option<Schedule>,
    planned: PlannedSchedule,
}

/// All schedules, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct SchedulePlans(BTreeMap<String, Entry>);

impl SchedulePlans {
    /// The schedules in the file; they run once they are configured.
    pub(crate) fn load(planned: Vec<PlannedSchedule>) -> Self {
        let entry =
            |planned: PlannedSchedule| (planned.name.clone(), Entry { schedule: None, planned });
        Self(planned.into_iter().map(entry).collect())
    }

    /// A copy with these schedules as the configuration. Those that are no longer in it are
    /// remembered for a while, because they may come back.
    pub(crate) fn configured(
        &self,
        schedules: Vec<Schedule>,
        now: SystemTime,
        remember: Duration,
    ) -> Self {
        let mut entries = BTreeMap::new();
        for schedule in schedules {
            let planned = match self.0.get(&schedule.name) {
                None => PlannedSchedule::new(&schedule, now),
                Some(entry) => entry.carried_over(&schedule, now),
            };
            let name = schedule.name.clone();
            entries.insert(name, Entry { schedule: Some(schedule), planned });
        }
        for (name, entry) in &self.0 {
            let is_recent = entry.planned.last_run.is_some_and(|run| between(run, now) < remember);
            if is_recent && !entries.contains_key(name) {
                let planned = PlannedSchedule { base: None, next: None, ..entry.planned.clone() };
                entries.insert(name.clone(), Entry { schedule: None, planned });
            }
        }
        Self(entries)
    }

    /// The schedules that are due.
    pub(crate) fn due(&self, now: SystemTime) -> Vec<String> {
        let is_due = |entry: &&Entry| {
            entry.schedule.is_some() && entry.planned.next.is_some_and(|next| next <= now)
        };
        self.0.values().filter(is_due).map(|entry| entry.planned.name.clone()).collect()
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<SystemTime> {
        let in_use = self.0.values().filter(|entry| entry.schedule.is_some());
        in_use.filter_map(|entry| entry.planned.next).min()
    }

    /// A schedule that is in the configuration.
    pub(crate) fn get(&self, name: &str) -> Option<&Schedule> {
        self.0.get(name)?.schedule.as_ref()
    }

    /// A schedule's plan after a run: with the next time if the run was a planned one, and with the
    /// job, if one could be started.
    pub(crate) fn ran(
        &self,
        name: &str,
        job: Option<&str>,
        was_planned: bool,
        now: SystemTime,
    ) -> Option<PlannedSchedule> {
        let mut planned = self.0.get(name)?.planned.clone();
        planned.last_run = Some(now);
        match job {
            Some(id) => planned.last_job = Some(id.to_owned()),
            None => planned.last_outcome = Some(State::Failed),
        }
        if was_planned {
            planned.advance(now);
        }
        Some(planned)
    }

    /// The schedules that the end of a job counts for: its own, and those that joined it.
    pub(crate) fn ended(&self, job: &Job) -> Vec<PlannedSchedule> {
        let counts = |entry: &&Entry| {
            job.schedule.as_deref() == Some(&entry.planned.name)
                || entry.planned.last_job.as_deref() == Some(&job.id)
        };
        let ended = |entry: &Entry| {
            let mut planned = entry.planned.clone();
            planned.last_outcome = Some(job.state);
            if job.state == State::Succeeded {
                planned.last_success = planned.last_success.max(job.ended);
            }
            planned
        };
        self.0.values().filter(counts).map(ended).collect()
    }

    /// What changes if the clock was set back.
    pub(crate) fn brought_forward(&self, now: SystemTime) -> Vec<PlannedSchedule> {
        let in_use = self.0.values().filter(|entry| entry.schedule.is_some());
        let changed = in_use.filter_map(|entry| {
            let mut planned = entry.planned.clone();
            planned.bring_forward(now);
            (planned != entry.planned).then_some(planned)
        });
        changed.collect()
    }

    /// Applies a change that is on disk.
    pub(crate) fn apply(&mut self, planned: PlannedSchedule) {
        if let Some(entry) = self.0.get_mut(&planned.name) {
            entry.planned = planned;
        }
    }

    /// What is new or different in this one, and what is only in the other.
    pub(crate) fn differences<'a>(
        &'a self,
        other: &'a Self,
    ) -> (Vec<&'a PlannedSchedule>, Vec<&'a str>) {
        let is_new = |planned: &&PlannedSchedule| {
            other.0.get(&planned.name).is_none_or(|entry| entry.planned != **planned)
        };
        let new = self.0.values().map(|entry| &entry.planned).filter(is_new).collect();
        let gone = other.0.keys().filter(|name| !self.0.contains_key(*name));
        (new, gone.map(String::as_str).collect())
    }

    /// The status of those in the configuration, by name.
    pub(crate) fn statuses(&self) -> Vec<ScheduleStatus> {
        let in_use = self.0.values().filter(|entry| entry.schedule.is_some());
        in_use.map(|entry| entry.planned.status()).collect()
    }
}

impl Entry {
    /// The plan under a new version of the schedule.
    fn carried_over(&self, schedule: &Schedule, now: SystemTime) -> PlannedSchedule {
        let mut planned = self.planned.clone();
        let keeps_its_time = planned.when == schedule.when && planned.next.is_some();
        planned.follow(schedule);
        if !keeps_its_time {
            planned.plan(now);
            return planned;
        }
        planned.bring_forward(now);
        let late = planned.next.map(|next| between(next, now)).unwrap_or_default();
        let was_down = self.schedule.is_none();
        if was_down && late > GRACE {
            let name = &schedule.name;
            let late = late.as_secs();
            match schedule.missed {
                Missed::Run => {
                    tracing::info!(schedule = name, late_seconds = late, "missed run started");
                }
                Missed::Skip => {
                    planned.advance(now);
                    tracing::info!(schedule = name, late_seconds = late, "missed run skipped");
                }
            }
        }
        planned
    }
}
