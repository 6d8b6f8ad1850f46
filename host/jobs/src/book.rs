//! The book of jobs: what lives, what ended, what is planned. Each step here is one transition, at
//! a time that the caller names, and blocks until it is on disk. Memory follows the disk: what could
//! not be written did not happen. Nothing here waits, runs anything or knows a runtime; that is
//! `dispatch`.

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
use crate::id;
use crate::job::{Filter, Job, Record, State};
use crate::metrics::Figures;
use crate::runner::Reporter;
use crate::schedule::Plans;

use self::live::Live;
pub(crate) use self::settle::Outcome;
use self::settle::{cancelled, log_end, settle};

mod live;
mod plans;
#[cfg(test)]
mod properties;
mod settle;
mod start;

/// An attempt that is to be made.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) job: Job,
    pub(crate) progress: Reporter,
    pub(crate) stop: CancellationToken,
}

/// What came of a wish to end a job.
#[derive(Debug)]
pub(crate) enum Cancelling {
    /// There is no such job.
    Unknown,
    /// It had ended, or begun where only those are meant that have not.
    TooLate,
    /// It is ended.
    Done,
    /// It was told; this says when it ends.
    Told(watch::Receiver<State>),
}

/// A job as it is now, and where its changes of state are told if it is not over.
pub(crate) type Seen = (Job, Option<watch::Receiver<State>>);

/// See the file's first lines.
#[derive(Debug)]
pub(crate) struct Book {
    file: JobFile,
    options: Options,
    /// By id.
    live: BTreeMap<String, Live>,
    history: History,
    plans: Plans,
    /// The number behind the newest id.
    last_id: u128,
    /// Jobs whose start failed, though they may be on disk.
    ghosts: Vec<String>,
    /// When it was last asked what is due.
    asked: Option<SystemTime>,
    figures: Arc<Mutex<Figures>>,
}

impl Book {
    /// Reads what is there. What ran when the file was last written was interrupted.
    pub(crate) fn open(
        mut file: JobFile,
        options: Options,
        now: SystemTime,
        figures: Arc<Mutex<Figures>>,
    ) -> Result<Self, JobsError> {
        let Content { jobs, schedules } = file.content()?;
        let mut book = Self {
            file,
            options,
            live: BTreeMap::new(),
            history: History::default(),
            plans: Plans::load(schedules),
            last_id: 0,
            ghosts: Vec::new(),
            asked: None,
            figures,
        };
        for record in jobs {
            book.last_id = book.last_id.max(id::from_text(&record.job.id).unwrap_or_default());
            if record.job.state.is_over() {
                book.history.add(&record.job);
            } else {
                book.live.insert(record.job.id.clone(), Live::new(record));
            }
        }
        book.interrupt(now)?;
        book.expire(now);
        book.publish();
        Ok(book)
    }

    /// Begins the job whose turn it is, if there is one and fewer than the limit run. Of the jobs
    /// that are due it is the oldest; those of the mount that has the fewest running come first, so
    /// that one mount's queue does not keep another waiting.
    ///
    /// A job that waits for another attempt does not keep its place: younger ones of its key run
    /// meanwhile. Whoever asks for a backup while an earlier one is put off because a cluster was
    /// down wants it now, and a long pause must not hold back what would succeed.
    pub(crate) fn begin(
        &mut self,
        stop: &CancellationToken,
        now: SystemTime,
    ) -> Result<Option<Begun>, JobsError> {
        let running: Vec<&Job> = self.running().collect();
        if running.len() >= self.options.at_once {
            return Ok(None);
        }
        let is_free = |job: &Job| {
            let is_alike = |other: &&Job| (&other.kind, &other.key) == (&job.kind, &job.key);
            !running.iter().any(|other| other.mount == job.mount && is_alike(other))
        };
        let load = |job: &Job| running.iter().filter(|other| other.mount == job.mount).count();
        let due = self.live.values().filter(|live| live.record.is_due(now) && !live.is_cancelled);
        let free = due.map(|live| &live.record.job).filter(|job| is_free(job));
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
            // A reporter of its own: one that an earlier attempt left behind reaches nobody.
            live.progress = Reporter::default();
            live.stop = Some(stop.clone());
            live.state.send_replace(State::Running);
            Begun { job: live.job(), progress: live.progress.clone(), stop }
        });
        self.publish();
        if let Some(Begun { job, .. }) = &begun {
            let Job { id, mount, kind, key, origin, attempt, attempts, .. } = job;
            tracing::info!(job = id, mount, kind, key, origin, attempt, attempts, "job begins");
        }
        Ok(begun)
    }

    fn running(&self) -> impl Iterator<Item = &Job> {
        let jobs = self.live.values().map(|live| &live.record.job);
        jobs.filter(|job| job.state == State::Running)
    }

    /// An attempt is over. Does nothing where that is known already.
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
        let record = live.changed(|record| settle(record, outcome, is_cancelled, now));
        self.settle_all(vec![record])
    }

    /// Ends a job: one that waits at once; one that runs is told, unless only jobs are meant that
    /// have not begun.
    pub(crate) fn cancel(
        &mut self,
        id: &str,
        unless_begun: bool,
        now: SystemTime,
    ) -> Result<Cancelling, JobsError> {
        let Some(live) = self.live.get_mut(id) else {
            let is_known = self.history.contains(id);
            return Ok(if is_known { Cancelling::TooLate } else { Cancelling::Unknown });
        };
        if unless_begun && live.record.job.attempt > 0 {
            return Ok(Cancelling::TooLate);
        }
        if live.record.job.state == State::Running {
            live.is_cancelled = true;
            if let Some(stop) = &live.stop {
                stop.cancel();
            }
            return Ok(Cancelling::Told(live.state.subscribe()));
        }
        let now = whole_milliseconds(now);
        let record = live.changed(|record| cancelled(record, now));
        self.settle_all(vec![record])?;
        Ok(Cancelling::Done)
    }

    /// Treats what runs as a kill of the gateway would have it: with attempts left it waits for its
    /// turn again, else it failed.
    pub(crate) fn interrupt(&mut self, now: SystemTime) -> Result<(), JobsError> {
        let now = whole_milliseconds(now);
        let running = self.live.values().filter(|live| live.record.job.state == State::Running);
        let records = running.map(|live| {
            live.changed(|record| settle(record, Outcome::Stopped, live.is_cancelled, now))
        });
        let records: Vec<Record> = records.collect();
        self.settle_all(records)
    }

    /// Writes how attempts ended, with the jobs that this starts, and lets everybody know. All of it is
    /// one commit: no end of the gateway loses what is to be done after a job.
    fn settle_all(&mut self, records: Vec<Record>) -> Result<(), JobsError> {
        if records.is_empty() {
            return Ok(());
        }
        let over = records.iter().map(|record| &record.job).filter(|job| job.state.is_over());
        let mut changes = Changes::default();
        let mut planned = Vec::new();
        let started = self.finally(&records);
        for job in over {
            // Of two ends that count for one schedule the later one is written; only the start of
            // the gateway settles more than one, and none of those is a success.
            planned.extend(self.plans.ended(job));
        }
        for record in records.iter().chain(&started) {
            changes.put_job(record)?;
        }
        for planned in &planned {
            changes.put_schedule(planned)?;
        }
        if let Err(error) = self.commit(changes) {
            self.ghosts.extend(started.into_iter().map(|record| record.job.id));
            return Err(error);
        }
        planned.into_iter().for_each(|planned| self.plans.apply(planned));
        let now = records.iter().filter_map(|record| record.job.ended).max();
        records.into_iter().for_each(|record| self.settled(record));
        started.into_iter().for_each(|record| self.enter(record));
        if let Some(now) = now {
            self.expire(now);
        }
        self.publish();
        Ok(())
    }

    /// Memory and log follow what is on disk.
    fn settled(&mut self, record: Record) {
        log_end(&record.job);
        let state = record.job.state;
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_over() {
            figures.ended(&record.job);
            drop(figures);
            self.history.add(&record.job);
            if let Some(live) = self.live.remove(&record.job.id) {
                live.state.send_replace(state);
            }
        } else if let Some(live) = self.live.get_mut(&record.job.id) {
            figures.retried(&record.job);
            live.record = record;
            live.stop = None;
            live.state.send_replace(state);
        }
    }

    /// Removes what is kept no longer. It is found again where that fails or gets lost.
    fn expire(&mut self, now: SystemTime) {
        let mut expired = self.history.expired(&self.options, now);
        // What works off the end of a job may want to know how that was.
        let followed =
            |id: &String| self.live.values().any(|live| live.record.job.after.as_ref() == Some(id));
        expired.retain(|id| !followed(id));
        let mut changes = Changes::default();
        expired.iter().for_each(|id| changes.remove_job(id));
        match self.file.commit_later(&changes) {
            Ok(()) => expired.iter().for_each(|id| self.history.remove(id)),
            Err(error) => tracing::warn!(%error, "old jobs could not be removed"),
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
        self.ghosts.iter().for_each(|id| changes.remove_job(id));
        self.file.commit(&changes)?;
        self.ghosts.clear();
        Ok(())
    }

    /// A job; none where it is unknown or kept no longer.
    pub(crate) fn look(&mut self, id: &str) -> Result<Option<Seen>, JobsError> {
        if let Some(live) = self.live.get(id) {
            return Ok(Some((live.job(), Some(live.state.subscribe()))));
        }
        if !self.history.contains(id) {
            return Ok(None);
        }
        Ok(self.file.job(id)?.map(|record| (record.job, None)))
    }

    /// The newest jobs that a filter takes, newest first.
    pub(crate) fn list(&mut self, filter: &Filter, max: usize) -> Result<Vec<Job>, JobsError> {
        let takes = |job: &Job| filter.takes(&job.mount, &job.kind, job.state);
        let mut ids: Vec<&String> = self.history.ids(filter).take(max).collect();
        let live = self.live.iter().rev().filter(|(_, live)| takes(&live.record.job));
        ids.extend(live.map(|(id, _)| id).take(max));
        ids.sort_unstable_by(|a, b| b.cmp(a));
        let mut jobs = Vec::new();
        for id in ids.into_iter().take(max) {
            match self.live.get(id) {
                Some(live) => jobs.push(live.job()),
                None => jobs.extend(self.file.job(id)?.map(|record| record.job)),
            }
        }
        Ok(jobs)
    }

    /// Says to metrics what there is now.
    fn publish(&self) {
        let mut figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.live.values().map(|live| &live.record.job);
        figures.set(live, &self.history, self.plans.statuses());
    }
}
