//! The file of jobs: its keys and values. Everything here blocks. The JSON values may gain fields; any
//! other change of the layout needs a new version in [`FORMAT`], and a migration from this one.

use std::collections::BTreeMap;
use std::path::Path;

use keepgate_datafile::{DataFile, Format, IfMissing};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;

use crate::error::JobsError;
use crate::job::Record;
use crate::schedule::PlannedSchedule;

/// By id.
const JOBS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("jobs");
/// By name.
const SCHEDULES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("schedules");

const FORMAT: Format = Format {
    contents: "jobs",
    version: "1",
    table: "jobs",
    create_tables: |transaction| {
        transaction.open_table(JOBS)?;
        transaction.open_table(SCHEDULES)?;
        Ok(())
    },
    other_version: "use the gateway that wrote it, or move the file away and lose the history of jobs",
    damaged: "move it away to start without a history of jobs",
};

/// Bytes of pages that redb keeps in memory; the file is usually smaller.
const CACHE: usize = 4 << 20;

/// What one commit changes; a value of none removes the entry.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    jobs: BTreeMap<String, Option<Vec<u8>>>,
    schedules: BTreeMap<String, Option<Vec<u8>>>,
}

impl Changes {
    pub(crate) fn put_job(&mut self, record: &Record) -> Result<(), JobsError> {
        self.jobs.insert(record.job.id.clone(), Some(to_json(record)?));
        Ok(())
    }

    pub(crate) fn remove_job(&mut self, id: &str) {
        self.jobs.entry(id.to_owned()).or_insert(None);
    }

    pub(crate) fn put_schedule(&mut self, planned: &PlannedSchedule) -> Result<(), JobsError> {
        self.schedules.insert(planned.name.clone(), Some(to_json(planned)?));
        Ok(())
    }

    pub(crate) fn remove_schedule(&mut self, name: &str) {
        self.schedules.insert(name.to_owned(), None);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.schedules.is_empty()
    }
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>, JobsError> {
    serde_json::to_vec(value).map_err(|error| JobsError::Broken(error.to_string()))
}

/// The whole content of the file, in the order of the keys.
#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) jobs: Vec<Record>,
    pub(crate) schedules: Vec<PlannedSchedule>,
}

/// An open file, or memory that is used like one.
#[derive(Debug)]
pub(crate) struct JobFile(DataFile);

impl JobFile {
    /// Opens the file, or creates it if it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, JobsError> {
        Ok(Self(DataFile::open(path, FORMAT, CACHE, IfMissing::Create)?))
    }

    pub(crate) fn open_existing(path: &Path) -> Result<Self, JobsError> {
        Ok(Self(DataFile::open(path, FORMAT, CACHE, IfMissing::Refuse)?))
    }

    pub(crate) fn in_memory() -> Result<Self, JobsError> {
        Ok(Self(DataFile::in_memory(FORMAT, CACHE)?))
    }

    /// Writes all of the changes or none of them; durable when it returns. After an error they may
    /// be there or not.
    pub(crate) fn commit(&self, changes: &Changes) -> Result<(), JobsError> {
        self.write(changes, Durability::Immediate)
    }

    /// The same for changes that may be lost: they become durable with the next commit.
    pub(crate) fn commit_later(&self, changes: &Changes) -> Result<(), JobsError> {
        self.write(changes, Durability::None)
    }

    fn write(&self, changes: &Changes, durability: Durability) -> Result<(), JobsError> {
        if changes.is_empty() {
            return Ok(());
        }
        let write = |database: &Database| {
            let mut transaction = database.begin_write()?;
            transaction.set_durability(durability)?;
            {
                let mut jobs = transaction.open_table(JOBS)?;
                for (id, value) in &changes.jobs {
                    match value {
                        Some(value) => drop(jobs.insert(id.as_str(), value.as_slice())?),
                        None => drop(jobs.remove(id.as_str())?),
                    }
                }
                let mut schedules = transaction.open_table(SCHEDULES)?;
                for (name, value) in &changes.schedules {
                    match value {
                        Some(value) => drop(schedules.insert(name.as_str(), value.as_slice())?),
                        None => drop(schedules.remove(name.as_str())?),
                    }
                }
            }
            Ok(transaction.commit()?)
        };
        Ok(self.0.with("cannot write", write)?)
    }

    /// One job; `None` if it does not exist.
    pub(crate) fn job(&self, id: &str) -> Result<Option<Record>, JobsError> {
        let read = |database: &Database| {
            let jobs = database.begin_read()?.open_table(JOBS)?;
            Ok(jobs.get(id)?.and_then(|value| parsed("job", id, value.value())))
        };
        Ok(self.0.with("cannot read", read)?)
    }

    /// Everything. Entries that cannot be read are logged and left in place.
    pub(crate) fn content(&self) -> Result<Content, JobsError> {
        let read = |database: &Database| {
            let transaction = database.begin_read()?;
            let mut content = Content::default();
            for entry in transaction.open_table(JOBS)?.iter()? {
                let (id, value) = entry?;
                content.jobs.extend(parsed("job", id.value(), value.value()));
            }
            for entry in transaction.open_table(SCHEDULES)?.iter()? {
                let (name, value) = entry?;
                content.schedules.extend(parsed("schedule", name.value(), value.value()));
            }
            Ok(content)
        };
        Ok(self.0.with("cannot read", read)?)
    }
}

fn parsed<T: DeserializeOwned>(record: &str, key: &str, value: &[u8]) -> Option<T> {
    serde_json::from_slice(value)
        .inspect_err(|error| {
            tracing::error!(%error, record, key, "unreadable record in the file of jobs ignored");
        })
        .ok()
}
