//! The next time of each schedule, and what is known of its runs. Nothing here is written or
//! started: each step says what would change, and the book of jobs makes it so once it is on disk.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::when::{Pattern, next_in_step, random_part};
use super::{Missed, Schedule, ScheduleStatus, When};
use crate::clock::{between, whole_milliseconds};
use crate::job::{Job, State};

/// A run that is due for longer than this when the gateway starts was missed. What is due for less
/// is run whatever the schedule says of missed runs: a restart at the wrong moment loses nothing.
const GRACE: Duration = Duration::from_secs(60);

/// What the file holds of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Planned {
    pub(crate) name: String,
    mount: String,
    kind: String,
    key: String,
    /// What `next` was reckoned from.
    when: When,
    /// The next time without its jitter.
    #[serde(with = "crate::form::optional_time")]
    base: Option<SystemTime>,
    /// None while it is not in the configuration.
    #[serde(with = "crate::form::optional_time")]
    pub(crate) next: Option<SystemTime>,
    #[serde(with = "crate::form::optional_time")]
    last_run: Option<SystemTime>,
    #[serde(with = "crate::form::optional_time")]
    last_success: Option<SystemTime>,
    last_job: Option<String>,
    last_outcome: Option<State>,
}

impl Planned {
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

    /// The first time under these rules.
    fn plan(&mut self, now: SystemTime) {
        let base = match &self.when {
            When::Cron { pattern, time_zone } => next_of(pattern, time_zone, now),
            When::Every { interval, .. } => {
                let after_last = self.last_run.and_then(|last| last.checked_add(*interval));
                Some(after_last.unwrap_or(now).max(now))
            }
        };
        self.put(base);
    }

    /// The next time after a run, or after runs that are left out.
    fn advance(&mut self, now: SystemTime) {
        let base = match &self.when {
            When::Cron { pattern, time_zone } => next_of(pattern, time_zone, now),
            When::Every { interval, .. } => next_in_step(self.base.unwrap_or(now), *interval, now),
        };
        self.put(base);
    }

    /// Brings a time forward that was reckoned when the clock was ahead.
    fn bring_forward(&mut self, now: SystemTime) {
        let Some(next) = self.next else { return };
        match &self.when {
            When::Cron { pattern, time_zone } => {
                let earlier = next_of(pattern, time_zone, now).filter(|earlier| *earlier < next);
                if earlier.is_some() {
                    self.put(earlier);
                }
            }
            When::Every { interval, jitter } => {
                if between(now, next) > *interval + *jitter {
                    self.put(now.checked_add(*interval));
                }
            }
        }
    }

    fn put(&mut self, base: Option<SystemTime>) {
        let jitter = match &self.when {
            When::Cron { .. } => Duration::ZERO,
            When::Every { jitter, .. } => random_part(*jitter),
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

/// A schedule of the configuration, or one that was in it before.
#[derive(Clone, Debug)]
struct Entry {
    schedule: Option<Schedule>,
    planned: Planned,
}

/// All schedules, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plans(BTreeMap<String, Entry>);

impl Plans {
    /// From the file; they run once they are configured.
    pub(crate) fn load(planned: Vec<Planned>) -> Self {
        let entry = |planned: Planned| (planned.name.clone(), Entry { schedule: None, planned });
        Self(planned.into_iter().map(entry).collect())
    }

    /// The same with these schedules in the configuration. Those that are gone from it are
    /// remembered for a while, since they may come back.
    pub(crate) fn configured(
        &self,
        schedules: Vec<Schedule>,
        now: SystemTime,
        remember: Duration,
    ) -> Self {
        let mut entries = BTreeMap::new();
        for schedule in schedules {
            let planned = match self.0.get(&schedule.name) {
                None => Planned::new(&schedule, now),
                Some(entry) => entry.carried_over(&schedule, now),
            };
            let name = schedule.name.clone();
            entries.insert(name, Entry { schedule: Some(schedule), planned });
        }
        for (name, entry) in &self.0 {
            let is_recent = entry.planned.last_run.is_some_and(|run| between(run, now) < remember);
            if is_recent && !entries.contains_key(name) {
                let planned = Planned { base: None, next: None, ..entry.planned.clone() };
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

    /// What is known of a schedule once it has run: planned for its next time where the run was,
    /// with the job, or without one that could be started.
    pub(crate) fn ran(
        &self,
        name: &str,
        job: Option<&str>,
        was_planned: bool,
        now: SystemTime,
    ) -> Option<Planned> {
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

    /// The schedules for which the end of a job counts: its own, and those that joined it.
    pub(crate) fn ended(&self, job: &Job) -> Vec<Planned> {
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

    /// What changes where the clock went back.
    pub(crate) fn brought_forward(&self, now: SystemTime) -> Vec<Planned> {
        let in_use = self.0.values().filter(|entry| entry.schedule.is_some());
        let changed = in_use.filter_map(|entry| {
            let mut planned = entry.planned.clone();
            planned.bring_forward(now);
            (planned != entry.planned).then_some(planned)
        });
        changed.collect()
    }

    /// Makes a change that is on disk by now.
    pub(crate) fn apply(&mut self, planned: Planned) {
        if let Some(entry) = self.0.get_mut(&planned.name) {
            entry.planned = planned;
        }
    }

    /// What is in this one and not so in the other, and what is only in the other.
    pub(crate) fn differences<'a>(&'a self, other: &'a Self) -> (Vec<&'a Planned>, Vec<&'a str>) {
        let is_new = |planned: &&Planned| {
            other.0.get(&planned.name).is_none_or(|entry| entry.planned != **planned)
        };
        let new = self.0.values().map(|entry| &entry.planned).filter(is_new).collect();
        let gone = other.0.keys().filter(|name| !self.0.contains_key(*name));
        (new, gone.map(String::as_str).collect())
    }

    /// Of those in the configuration, in the order of their names.
    pub(crate) fn statuses(&self) -> Vec<ScheduleStatus> {
        let in_use = self.0.values().filter(|entry| entry.schedule.is_some());
        in_use.map(|entry| entry.planned.status()).collect()
    }
}

impl Entry {
    /// What is known of it goes on under this schedule.
    fn carried_over(&self, schedule: &Schedule, now: SystemTime) -> Planned {
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
                Missed::Run => tracing::info!(
                    schedule = name,
                    late_seconds = late,
                    "a run was missed while the gateway was down; it is started now"
                ),
                Missed::Skip => {
                    planned.advance(now);
                    tracing::info!(
                        schedule = name,
                        late_seconds = late,
                        "a run was missed while the gateway was down; it is left out"
                    );
                }
            }
        }
        planned
    }
}
