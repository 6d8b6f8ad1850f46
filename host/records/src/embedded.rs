//! The engine for one gateway. Commits go through one thread, which makes all that have come in meanwhile durable
//! together: an fsync costs milliseconds, so what many calls commit at the same time costs hardly more than one. Readers
//! do not wait for it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use async_trait::async_trait;
use keepgate_datafile::FileError;
use tokio::sync::{mpsc, oneshot};

use crate::error::RecordsError;
use crate::file::{RecordsFile, Wanted};
use crate::record::{self, Commit, Page, Range, Record, Size};
use crate::table::{Admits, Table, Tables};

/// Commits that wait for the thread before callers wait themselves.
const WAITING: usize = 1024;
/// The most commits that are made durable together.
const TOGETHER: usize = 256;

type Reply = oneshot::Sender<Result<u64, RecordsError>>;

/// How much there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of the file that are kept in memory.
    pub cache: usize,
    /// Bytes that one table may have: of keys and values, and [`RECORD_BYTES`](crate::RECORD_BYTES) for each record.
    pub max_size: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { cache: 16 << 20, max_size: 1 << 30 }
    }
}

/// The tables of one gateway.
#[derive(Clone)]
pub struct Records {
    file: Arc<RecordsFile>,
    max_size: u64,
    /// None in memory, where nothing is gained by making commits together.
    writer: Option<mpsc::Sender<(Wanted, Reply)>>,
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Records {
    /// Opens the file. If there is none, it is created with mode 0600 by the first call that needs it, in a folder that
    /// exists then. Blocks.
    ///
    /// # Errors
    ///
    /// [`FileError::InUse`] if another process has it, [`FileError::Version`] and [`FileError::Damaged`] if it cannot be
    /// used, [`FileError::Failed`] if the disk fails.
    pub fn open(file: &Path, options: Options) -> Result<Self, FileError> {
        Self::new(RecordsFile::open(file, options.cache)?, file, options)
    }

    /// Tables in memory, lost when this value is dropped. For tests.
    ///
    /// # Errors
    ///
    /// [`FileError::Failed`] if the database cannot be made.
    pub fn in_memory(options: Options) -> Result<Self, FileError> {
        let file = Arc::new(RecordsFile::in_memory()?);
        Ok(Self { file, max_size: options.max_size, writer: None })
    }

    fn new(file: RecordsFile, path: &Path, options: Options) -> Result<Self, FileError> {
        let file = Arc::new(file);
        let (writer, wanted) = mpsc::channel(WAITING);
        let writes = Arc::clone(&file);
        // It ends when the last table is gone.
        let started =
            thread::Builder::new().name("records".to_owned()).spawn(move || write(&writes, wanted));
        started.map_err(|error| FileError::failed("cannot start a thread for", path, error))?;
        Ok(Self { file, max_size: options.max_size, writer: Some(writer) })
    }

    /// The same as [`Table::commit`] of a table, on this thread.
    ///
    /// # Errors
    ///
    /// Those of [`Table::commit`].
    pub fn commit_blocking(&self, table: &str, commit: Commit) -> Result<u64, RecordsError> {
        commit.check()?;
        let wanted = Wanted { table: table.into(), commit, most: self.max_size };
        let outcomes = self.file.commit(&[wanted])?;
        outcomes.into_iter().next().unwrap_or(Err(RecordsError::Unavailable))
    }

    /// All tables with their sizes; none if the disk fails.
    pub(crate) fn sizes(&self) -> Vec<(String, Size)> {
        self.file.sizes().unwrap_or_default()
    }
}

impl Tables for Records {
    fn table(&self, name: &str) -> Arc<dyn Table> {
        Arc::new(Embedded { records: self.clone(), name: name.into() })
    }
}

/// Makes commits, as many together as have come in.
fn write(file: &RecordsFile, mut wanted: mpsc::Receiver<(Wanted, Reply)>) {
    while let Some(first) = wanted.blocking_recv() {
        let (mut commits, mut replies) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some((commit, reply)) = next {
            commits.push(commit);
            replies.push(reply);
            next = if commits.len() < TOGETHER { wanted.try_recv().ok() } else { None };
        }
        match file.commit(&commits) {
            Ok(outcomes) => {
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    // Whoever asked may be gone.
                    let _ = reply.send(outcome);
                }
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }
}

/// The table of one mount.
#[derive(Debug)]
struct Embedded {
    records: Records,
    name: Arc<str>,
}

impl Embedded {
    /// Works on a thread that may block.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&RecordsFile, &str) -> Result<T, RecordsError> + Send + 'static,
    ) -> Result<T, RecordsError> {
        let (file, name) = (Arc::clone(&self.records.file), Arc::clone(&self.name));
        let reading = tokio::task::spawn_blocking(move || work(&file, &name)).await;
        reading.unwrap_or_else(|error| {
            tracing::error!(%error, "reading records was cut off");
            Err(RecordsError::Unavailable)
        })
    }
}

#[async_trait]
impl Table for Embedded {
    async fn get_while(
        &self,
        keys: &[String],
        mut admits: Admits,
    ) -> Result<Vec<Option<Record>>, RecordsError> {
        record::check_keys(keys)?;
        let keys = keys.to_vec();
        self.read(move |file, name| file.get(name, &keys, &mut *admits)).await
    }

    async fn scan(&self, range: &Range, max: usize) -> Result<Page, RecordsError> {
        range.check()?;
        let range = range.clone();
        self.read(move |file, name| file.scan(name, &range, max)).await
    }

    async fn commit(&self, commit: Commit) -> Result<u64, RecordsError> {
        commit.check()?;
        let wanted = Wanted { table: Arc::clone(&self.name), commit, most: self.records.max_size };
        let Some(writer) = &self.records.writer else {
            let made = self.read(move |file, _| file.commit(&[wanted])).await?;
            return made.into_iter().next().unwrap_or(Err(RecordsError::Unavailable));
        };
        let (reply, made) = oneshot::channel();
        let stopped = || RecordsError::Unavailable;
        writer.send((wanted, reply)).await.map_err(|_| stopped())?;
        made.await.map_err(|_| stopped())?
    }

    async fn size(&self) -> Result<Size, RecordsError> {
        self.read(RecordsFile::size).await
    }
}
