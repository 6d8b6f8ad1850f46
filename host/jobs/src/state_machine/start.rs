//! Starting jobs: which are allowed, which join another one, and which follow the end of another.

use std::time::SystemTime;

use super::StateMachine;
use super::active::ActiveJob;
use crate::clock::whole_milliseconds;
use crate::error::StartError;
use crate::file::Changes;
use crate::job::{Job, MAX_LIVE, NewJob, Record, WhenBusy};
use crate::ulid;

/// What a start leads to.
pub(super) enum Prepared {
    Joined(String),
    New(Box<Record>),
}

impl StateMachine {
    /// Starts a job, or finds the job that it joins.
    pub(crate) fn start(&mut self, new: NewJob, now: SystemTime) -> Result<String, StartError> {
        match self.prepare(new, now)? {
            Prepared::Joined(id) => Ok(id),
            Prepared::New(record) => {
                let mut changes = Changes::default();
                changes.put_job(&record)?;
                let id = record.job.id.clone();
                if let Err(error) = self.commit(changes) {
                    self.uncertain_starts.push(id);
                    return Err(error.into());
                }
                self.enter(*record);
                self.publish();
                Ok(id)
            }
        }
    }

    pub(super) fn prepare(&mut self, new: NewJob, now: SystemTime) -> Result<Prepared, StartError> {
        new.check()?;
        let of_mount = || self.live.values().filter(|live| live.record.job.mount == new.mount);
        let is_alike = |job: &Job| job.kind == new.kind && job.key == new.key;
        let suits = |record: &Record| match new.when_busy {
            WhenBusy::Queue => false,
            WhenBusy::Refuse => true,
            WhenBusy::Join => record.can_be_joined(new.not_before, now),
            WhenBusy::JoinQueued => {
                record.job.attempt == 0 && record.can_be_joined(new.not_before, now)
            }
        };
        let mut there = of_mount().filter(|live| is_alike(&live.record.job));
        if let Some(there) = there.rfind(|live| suits(&live.record)) {
            let id = there.record.job.id.clone();
            return match new.when_busy {
                WhenBusy::Refuse => Err(StartError::Busy { id }),
                _ => Ok(Prepared::Joined(id)),
            };
        }
        let live = of_mount().count();
        if live >= MAX_LIVE {
            return Err(StartError::TooMany { live });
        }
        let id = self.next_id(now);
        Ok(Prepared::New(Box::new(Record::new(id, new, whole_milliseconds(now)))))
    }

    fn next_id(&mut self, now: SystemTime) -> String {
        self.last_id = ulid::next(self.last_id, now);
        ulid::to_text(self.last_id)
    }

    /// Adds a new job that is on disk.
    pub(super) fn enter(&mut self, record: Record) {
        let Job { id, mount, kind, key, origin, .. } = &record.job;
        tracing::info!(job = id, mount, kind, key, origin, "job queued");
        self.live.insert(id.clone(), ActiveJob::new(record));
    }

    /// The jobs that start because these ended. There are at most as many as jobs that ended, so a
    /// mount never exceeds its limit.
    pub(super) fn finally(&mut self, records: &[Record]) -> Vec<Record> {
        let ends = records.iter().filter_map(|record| Some((record, record.job.ended?)));
        ends.filter_map(|(record, ended)| record.finally(|| self.next_id(ended), ended)).collect()
    }
}
