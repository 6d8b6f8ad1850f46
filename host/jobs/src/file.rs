//! The file of jobs: its keys and values, and the meaning of redb's errors. Everything here blocks.
//! The JSON values may gain fields; any other change of the layout needs a new [`VERSION`], and a
//! migration from this one.
//!
//! redb keeps commits whole and in order, whenever the process or the machine dies. It does not
//! continue after a disk error but has to be reopened. That happens here at the next commit, so a
//! full disk stops the queue no longer than it is full.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::InMemoryBackend;
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition, TableHandle,
};
use serde::de::DeserializeOwned;

use crate::error::JobsError;
use crate::job::Record;
use crate::schedule::PlannedSchedule;

const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
/// By id.
const JOBS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("jobs");
/// By name.
const SCHEDULES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("schedules");

/// The key in [`META`] that names the layout, and the layout that this code writes.
const VERSION_KEY: &str = "version";
const VERSION: &str = "1";

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
pub(crate) struct JobFile {
    /// Empty if in memory.
    path: PathBuf,
    /// None after a disk error, until the next use.
    database: Option<Database>,
}

impl JobFile {
    /// Opens the file, or creates it if it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, JobsError> {
        if !path.try_exists().map_err(|error| failed("cannot look for", path, &error))? {
            create(path)?;
        }
        Self::open_existing(path)
    }

    pub(crate) fn open_existing(path: &Path) -> Result<Self, JobsError> {
        let database = open_database(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600))
            .map_err(|error| failed("cannot restrict the mode of", path, &error))?;
        Ok(Self { path: path.to_owned(), database: Some(database) })
    }

    pub(crate) fn in_memory() -> Result<Self, JobsError> {
        let database = Builder::new()
            .set_cache_size(CACHE)
            .create_with_backend(InMemoryBackend::new())
            .map_err(|error| JobsError::Broken(error.to_string()))?;
        initialize(&database).map_err(|error| JobsError::Broken(error.to_string()))?;
        Ok(Self { path: PathBuf::new(), database: Some(database) })
    }

    /// Writes all of the changes or none of them; durable when it returns. After an error they may
    /// be there or not.
    pub(crate) fn commit(&mut self, changes: &Changes) -> Result<(), JobsError> {
        self.write(changes, Durability::Immediate)
    }

    /// The same for changes that may be lost: they become durable with the next commit.
    pub(crate) fn commit_later(&mut self, changes: &Changes) -> Result<(), JobsError> {
        self.write(changes, Durability::None)
    }

    fn write(&mut self, changes: &Changes, durability: Durability) -> Result<(), JobsError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.with("cannot write", |database| {
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
        })
    }

    /// One job; `None` if it does not exist.
    pub(crate) fn job(&mut self, id: &str) -> Result<Option<Record>, JobsError> {
        self.with("cannot read", |database| {
            let jobs = database.begin_read()?.open_table(JOBS)?;
            Ok(jobs.get(id)?.and_then(|value| parsed("job", id, value.value())))
        })
    }

    /// Everything. Entries that cannot be read are logged and left in place.
    pub(crate) fn content(&mut self) -> Result<Content, JobsError> {
        self.with("cannot read", |database| {
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
        })
    }

    fn with<T>(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, JobsError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open_database(&self.path)?,
        };
        match work(&database) {
            Ok(value) => {
                self.database = Some(database);
                Ok(value)
            }
            Err(error) => {
                // Memory cannot be reopened.
                if self.path.as_os_str().is_empty() {
                    self.database = Some(database);
                }
                Err(failed(action, &self.path, &error))
            }
        }
    }
}

fn parsed<T: DeserializeOwned>(record: &str, key: &str, value: &[u8]) -> Option<T> {
    serde_json::from_slice(value)
        .inspect_err(|error| {
            tracing::error!(%error, record, key, "unreadable record in the file of jobs ignored");
        })
        .ok()
}

/// Creates the file under another name first: a partly written one would be refused forever.
fn create(path: &Path) -> Result<(), JobsError> {
    let fail = |error: io::Error| failed("cannot create", path, &error);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let new = tempfile::Builder::new().prefix(".jobs-").tempfile_in(folder).map_err(fail)?;
    let database = Builder::new()
        .set_cache_size(CACHE)
        .create(new.path())
        .map_err(|error| failed("cannot create", path, &error))?;
    initialize(&database).map_err(|error| failed("cannot create", path, &error))?;
    drop(database);
    new.as_file().sync_all().map_err(fail)?;
    match new.persist_noclobber(path) {
        // Another gateway was faster; opening the file decides whose it is.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
        result => drop(result.map_err(|error| fail(error.error))?),
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail)
}

fn initialize(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert(VERSION_KEY, VERSION)?;
    transaction.open_table(JOBS)?;
    transaction.open_table(SCHEDULES)?;
    Ok(transaction.commit()?)
}

fn open_database(path: &Path) -> Result<Database, JobsError> {
    let open = || Builder::new().set_cache_size(CACHE).set_check_integrity_on_open(true).open(path);
    // redb is designed not to panic on a damaged file, but the gateway should not depend on it.
    let opened = catch_unwind(AssertUnwindSafe(open))
        .map_err(|_| damaged(path, "reading it panicked".to_owned()))?;
    let database = opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            JobsError::InUse(path.to_owned())
        }
        DatabaseError::UpgradeRequired(found) => version(path, format!("redb {found}")),
        DatabaseError::Storage(StorageError::Io(error))
            if error.kind() == io::ErrorKind::NotFound =>
        {
            JobsError::Missing(path.to_owned())
        }
        DatabaseError::Storage(StorageError::Io(error))
            if !matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            failed("cannot open", path, &error)
        }
        error => damaged(path, error.to_string()),
    })?;
    let found = read_version(&database).map_err(|error| damaged(path, error.to_string()))?;
    match found {
        Some(found) if found == VERSION => Ok(database),
        Some(found) => Err(version(path, found)),
        None => Err(damaged(path, "it is a database of something else".to_owned())),
    }
}

fn read_version(database: &Database) -> Result<Option<String>, redb::Error> {
    let transaction = database.begin_read()?;
    if !transaction.list_tables()?.any(|table| table.name() == META.name()) {
        return Ok(None);
    }
    Ok(transaction.open_table(META)?.get(VERSION_KEY)?.map(|found| found.value().to_owned()))
}

fn failed(action: &'static str, path: &Path, error: &impl ToString) -> JobsError {
    JobsError::File { action, path: path.to_owned(), detail: error.to_string() }
}

fn damaged(path: &Path, detail: String) -> JobsError {
    JobsError::Damaged { path: path.to_owned(), detail }
}

fn version(path: &Path, found: String) -> JobsError {
    JobsError::Version { path: path.to_owned(), found, known: VERSION }
}
