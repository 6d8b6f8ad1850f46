//! The state of all jobs: active ones, finished ones, and schedules. Each method is one transition,
//! at a time that the caller passes in, and blocks until the change is on disk. Memory follows the
//! disk: a change that could not be written did not happen. Nothing here waits, runs jobs or knows
//! an async runtime; that is `dispatch`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Options;
use crate::clock::whole_milliseconds;
use crate::error::JobsError;
use crate::file::{Changes, Content, JobFile};
use crate::history::History;
use crate::job::{Filter, Job, Record, State};
use crate::metrics::MetricValues;
use crate::runner::Reporter;
use crate::schedule::SchedulePlans;
use crate::ulid;

use self::active::ActiveJob;
pub(crate) use self::transitions::Outcome;
use self::transitions::{cancelled, log_end, record_outcome};

mod active;
#[cfg(test)]
mod properties;
mod schedules;
mod start;
mod transitions;

/// An attempt that the dispatcher is to make.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) job: Job,
    pub(crate) progress: Reporter,
    pub(crate) stop: CancellationToken,
}

/// The result of a request to cancel a job.
#[derive(Debug)]
pub(crate) enum CancelOutcome {
    /// There is no such job.
    Unknown,
    /// It had ended; or it had begun, and only jobs that have not begun were to be cancelled.
    TooLate,
    /// It was cancelled.
    Done,
    /// It was told to stop; the receiver says when it ends.
    Signalled(watch::Receiver<State>),
}

/// A job in its current state, and its state changes if it is not over.
pub(crate) type JobView = (Job, Option<watch::Receiver<State>>);

/// All jobs and schedules, in memory and on disk.
#[derive(Debug)]
pub(crate) struct StateMachine {
    file: JobFile,
    options: Options,
    /// Active jobs by id.
    live: BTreeMap<String, ActiveJob>,
    history: History,
    plans: SchedulePlans,
    /// The numeric value of the newest id.
    last_id: u128,
    /// Jobs whose start failed although they may be on disk; the next commit removes them.
    uncertain_starts: Vec<String>,
    /// When due schedules were last asked for.
    asked: Option<SystemTime>,
    metric_values: Arc<Mutex<MetricValues>>,
}

impl StateMachine {
    /// Reads the file. Jobs that were running when it was last written are treated as interrupted.
    pub(crate) fn open(
        file: JobFile,
        options: Options,
        now: SystemTime,
        metric_values: Arc<Mutex<MetricValues>>,
    ) -> Result<Self, JobsError> {
        let Content { jobs, schedules } = file.content()?;
        let mut machine = Self {
            file,
            options,
            live: BTreeMap::new(),
            history: History::default(),
            plans: SchedulePlans::load(schedules),
            last_id: 0,
            uncertain_starts: Vec::new(),
            asked: None,
            metric_values,
        };
        for record in jobs {
            machine.last_id =
                machine.last_id.max(ulid::from_text(&record.job.id).unwrap_or_default());
            if record.job.state.is_over() {
                machine.history.add(&record.job);
            } else {
                machine.live.insert(record.job.id.clone(), ActiveJob::new(record));
            }
        }
        machine.interrupt(now)?;
        machine.expire(now);
        machine.publish();
        Ok(machine)
    }

    /// Starts the next job, if there is one that is due and fewer than the limit are running. It is
    /// the oldest job of the mount that has the fewest running, so that one mount's queue does not
    /// hold up another's. A mount of which no job is running starts one whatever the limit is, because
    /// jobs of another mount that do nothing could hold up its own for as long as jobs may take.
    ///
    /// A job that waits for another attempt does not keep its place; younger jobs of its key run
    /// meanwhile. Somebody who asks for a backup while an earlier one is waiting because a server
    /// was down wants it now, and a long pause must not hold back what would succeed.
    pub(crate) fn begin(
        &mut self,
        stop: &CancellationToken,
        now: SystemTime,
    ) -> Result<Option<Attempt>, JobsError> {
        let running: Vec<&Job> = self.running().collect();
        let is_full = running.len() >= self.options.at_once;
        let is_free = |job: &Job| {
            let is_alike = |other: &&Job| (&other.kind, &other.key) == (&job.kind, &job.key);
            !running.iter().any(|other| other.mount == job.mount && is_alike(other))
        };
        let load = |job: &Job| running.iter().filter(|other| other.mount == job.mount).count();
        let due = self.live.values().filter(|live| live.record.is_due(now) && !live.is_cancelled);
        let free = due.map(|live| &live.record.job).filter(|job| is_free(job));
        let free = free.filter(|job| !is_full || load(job) == 0);
        let Some(id) = free.min_by_key(|job| (load(job), &job.id)).map(|job| job.id.clone()) else {
            return Ok(None);
        };
        let record = self.live.get(&id).map(|live| {
            live.changed(|record| {
                record.job.state = State::Running;
                record.job.attempt += 1;
                record.job.started = Some(whole_milliseconds(now));
                record.job.next_attempt = None;
                record.job.progress = Default::default();
            })
        });
        let Some(record) = record else { return Ok(None) };
        self.write(&[&record])?;
        let stop = stop.child_token();
        let begun = self.live.get_mut(&id).map(|live| {
            live.record = record;
            // A new reporter, so that one left over from an earlier attempt reaches nobody.
            live.progress = Reporter::default();
            live.stop = Some(stop.clone());
            live.state.send_replace(State::Running);
            Attempt { job: live.job(), progress: live.progress.clone(), stop }
        });
        self.publish();
        if let Some(Attempt { job, .. }) = &begun {
            let Job { id, mount, kind, key, origin, attempt, attempts, .. } = job;
            tracing::info!(job = id, mount, kind, key, origin, attempt, attempts, "job started");
        }
        Ok(begun)
    }

    fn running(&self) -> impl Iterator<Item = &Job> {
        let jobs = self.live.values().map(|live| &live.record.job);
        jobs.filter(|job| job.state == State::Running)
    }

    /// Records that an attempt is over. Does nothing if that is already known.
    pub(crate) fn finish(
        &mut self,
        id: &str,
        outcome: Outcome,
        now: SystemTime,
    ) -> Result<(), JobsError> {
        let Some(live) = self.live.get(id) else { return Ok(()) };
        if live.record.job.state != State::Running {
            return Ok(());
        }
        let is_cancelled = live.is_cancelled;
        let now = whole_milliseconds(now);
        let record = live.changed(|record| record_outcome(record, outcome, is_cancelled, now));
        self.commit_outcomes(vec![record])
    }

    /// Cancels a job. A queued one ends at once; a running one is told to stop, unless only jobs
    /// that have not begun are to be cancelled.
    pub(crate) fn cancel(
        &mut self,
        id: &str,
        unless_begun: bool,
        now: SystemTime,
    ) -> Result<CancelOutcome, JobsError> {
        let Some(live) = self.live.get_mut(id) else {
            let is_known = self.history.contains(id);
            return Ok(if is_known { CancelOutcome::TooLate } else { CancelOutcome::Unknown });
        };
        if unless_begun && live.record.job.attempt > 0 {
            return Ok(CancelOutcome::TooLate);
        }
        if live.record.job.state == State::Running {
            live.is_cancelled = true;
            if let Some(stop) = &live.stop {
                stop.cancel();
            }
            return Ok(CancelOutcome::Signalled(live.state.subscribe()));
        }
        let now = whole_milliseconds(now);
        let record = live.changed(|record| cancelled(record, now));
        self.commit_outcomes(vec![record])?;
        Ok(CancelOutcome::Done)
    }

    /// Treats running jobs as if the gateway had been killed: a job with attempts left is queued
    /// again, otherwise it is marked failed.
    pub(crate) fn interrupt(&mut self, now: SystemTime) -> Result<(), JobsError> {
        let now = whole_milliseconds(now);
        let running = self.live.values().filter(|live| live.record.job.state == State::Running);
        let records = running.map(|live| {
            live.changed(|record| record_outcome(record, Outcome::Stopped, live.is_cancelled, now))
        });
        let records: Vec<Record> = records.collect();
        self.commit_outcomes(records)
    }

    /// Writes how attempts ended, together with the jobs that this starts, and tells everybody who
    /// waits. All of it is one commit, so that no end of the gateway loses what must happen after a
    /// job.
    fn commit_outcomes(&mut self, records: Vec<Record>) -> Result<(), JobsError> {
        if records.is_empty() {
            return Ok(());
        }
        let over = records.iter().map(|record| &record.job).filter(|job| job.state.is_over());
        let mut changes = Changes::default();
        let mut planned = Vec::new();
        let started = self.finally(&records);
        for job in over {
            // If two ends count for one schedule, the later one is written. This only happens at
            // startup, when none of the ends is a success.
            planned.extend(self.plans.ended(job));
        }
        for record in records.iter().chain(&started) {
            changes.put_job(record)?;
        }
        for planned in &planned {
            changes.put_schedule(planned)?;
        }
        if let Err(error) = self.commit(changes) {
            self.uncertain_starts.extend(started.into_iter().map(|record| record.job.id));
            return Err(error);
        }
        planned.into_iter().for_each(|planned| self.plans.apply(planned));
        let now = records.iter().filter_map(|record| record.job.ended).max();
        records.into_iter().for_each(|record| self.apply_outcome(record));
        started.into_iter().for_each(|record| self.enter(record));
        if let Some(now) = now {
            self.expire(now);
        }
        self.publish();
        Ok(())
    }

    /// Brings memory and log in line with what is on disk.
    fn apply_outcome(&mut self, record: Record) {
        log_end(&record.job);
        let state = record.job.state;
        let mut metric_values = self.metric_values.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_over() {
            metric_values.ended(&record.job);
            drop(metric_values);
            self.history.add(&record.job);
            if let Some(live) = self.live.remove(&record.job.id) {
                live.state.send_replace(state);
            }
        } else if let Some(live) = self.live.get_mut(&record.job.id) {
            metric_values.retried(&record.job);
            live.record = record;
            live.stop = None;
            live.state.send_replace(state);
        }
    }

    /// Removes jobs that are no longer kept. If that fails or gets lost, they are found again later.
    fn expire(&mut self, now: SystemTime) {
        let mut expired = self.history.expired(&self.options, now);
        // A job that follows another one may still want to look at that one's result.
        let followed =
            |id: &String| self.live.values().any(|live| live.record.job.after.as_ref() == Some(id));
        expired.retain(|id| !followed(id));
        let mut changes = Changes::default();
        expired.iter().for_each(|id| changes.remove_job(id));
        match self.file.commit_later(&changes) {
            Ok(()) => expired.iter().for_each(|id| self.history.remove(id)),
            Err(error) => tracing::warn!(%error, "cannot remove old jobs"),
        }
    }

    fn write(&mut self, records: &[&Record]) -> Result<(), JobsError> {
        let mut changes = Changes::default();
        for record in records {
            changes.put_job(record)?;
        }
        self.commit(changes)
    }

    fn commit(&mut self, mut changes: Changes) -> Result<(), JobsError> {
        self.uncertain_starts.iter().for_each(|id| changes.remove_job(id));
        self.file.commit(&changes)?;
        self.uncertain_starts.clear();
        Ok(())
    }

    /// A job; `None` if it is unknown or no longer kept.
    pub(crate) fn find(&mut self, id: &str) -> Result<Option<JobView>, JobsError> {
        if let Some(live) = self.live.get(id) {
            return Ok(Some((live.job(), Some(live.state.subscribe()))));
        }
        if !self.history.contains(id) {
            return Ok(None);
        }
        Ok(self.file.job(id)?.map(|record| (record.job, None)))
    }

    /// The newest jobs that match a filter, newest first, up to the first that `admits` refuses.
    pub(crate) fn list(
        &mut self,
        filter: &Filter,
        max: usize,
        mut admits: impl FnMut(&Job) -> bool,
    ) -> Result<Vec<Job>, JobsError> {
        let matches = |job: &Job| filter.matches(&job.mount, &job.kind, job.state);
        let mut ids: Vec<&String> = self.history.ids(filter).take(max).collect();
        let live = self.live.iter().rev().filter(|(_, live)| matches(&live.record.job));
        ids.extend(live.map(|(id, _)| id).take(max));
        ids.sort_unstable_by(|a, b| b.cmp(a));
        let mut jobs = Vec::new();
        for id in ids.into_iter().take(max) {
            let job = match self.live.get(id) {
                Some(live) => Some(live.job()),
                None => self.file.job(id)?.map(|record| record.job),
            };
            match job {
                Some(job) if admits(&job) => jobs.push(job),
                Some(_) => break,
                None => {}
            }
        }
        Ok(jobs)
    }

    /// Updates the metrics.
    fn publish(&self) {
        let mut metric_values = self.metric_values.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.live.values().map(|live| &live.record.job);
        metric_values.set(live, &self.history, self.plans.statuses());
    }
}
