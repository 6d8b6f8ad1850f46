//! Starting jobs: which there may be, which are joined instead, and which the ends of others start.

use std::time::SystemTime;

use super::Book;
use super::live::Live;
use crate::clock::whole_milliseconds;
use crate::error::StartError;
use crate::file::Changes;
use crate::id;
use crate::job::{Job, MAX_LIVE, NewJob, Record, WhenBusy};

/// What becomes of a start.
pub(super) enum Prepared {
    Joined(String),
    New(Box<Record>),
}

impl Book {
    /// Starts a job, or finds the one that it joins.
    pub(crate) fn start(&mut self, new: NewJob, now: SystemTime) -> Result<String, StartError> {
        match self.prepare(new, now)? {
            Prepared::Joined(id) => Ok(id),
            Prepared::New(record) => {
                let mut changes = Changes::default();
                changes.put_job(&record)?;
                let id = record.job.id.clone();
                if let Err(error) = self.commit(changes) {
                    self.ghosts.push(id);
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
            WhenBusy::Join => record.suits(new.not_before, now),
            WhenBusy::JoinQueued => record.job.attempt == 0 && record.suits(new.not_before, now),
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
        self.last_id = id::next(self.last_id, now);
        id::to_text(self.last_id)
    }

    /// A new job that is on disk.
    pub(super) fn enter(&mut self, record: Record) {
        let Job { id, mount, kind, key, origin, .. } = &record.job;
        tracing::info!(job = id, mount, kind, key, origin, "job queued");
        self.live.insert(id.clone(), Live::new(record));
    }

    /// The jobs that these ends start. There may be as many as jobs ended, so that a mount never has
    /// more of them than it may.
    pub(super) fn finally(&mut self, records: &[Record]) -> Vec<Record> {
        let ends = records.iter().filter_map(|record| Some((record, record.job.ended?)));
        ends.filter_map(|(record, ended)| record.finally(|| self.next_id(ended), ended)).collect()
    }
}
