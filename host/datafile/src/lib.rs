//! A redb file that belongs to one process at a time: the gateway's own small databases (jobs, records) are such files.
//! This crate alone knows how one is created, opened, refused and reopened; what is in it is its owner's business.
//!
//! # Guarantees
//!
//! - A file appears as a whole, with all of its tables, or not at all: a partly written one would be refused forever.
//! - It has mode 0600.
//! - redb keeps commits whole and in order, whenever the process or the machine dies. It does not continue after a disk
//!   error but has to be reopened. That happens here at the next use, so a full disk stops writers no longer than it is
//!   full.
//! - A file that was open once is never created again: if it is taken away, its owner is told so and does not continue
//!   with an empty one.

mod error;

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::backends::InMemoryBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, StorageError, TableDefinition, TableHandle,
    WriteTransaction,
};

pub use error::FileError;

/// Names the layout, below [`VERSION_KEY`].
const META: TableDefinition<'_, &str, &str> = TableDefinition::new("meta");
const VERSION_KEY: &str = "version";

/// What sort of file it is.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// What it contains, for messages: "jobs".
    pub contents: &'static str,
    /// The layout that is written and read. A file of another one is refused.
    pub version: &'static str,
    /// The name of a table that only files of this sort have.
    pub table: &'static str,
    /// Creates every table of a new file.
    pub create_tables: fn(&WriteTransaction) -> Result<(), redb::Error>,
    /// What an operator may do about a file of another layout.
    pub other_version: &'static str,
    /// What an operator may do about a damaged file.
    pub damaged: &'static str,
}

/// Whether a missing file is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfMissing {
    /// When it is opened.
    Create,
    /// By the first use of it.
    CreateWhenUsed,
    /// Never.
    Refuse,
}

/// An open file, or memory that is used like one. All of its methods block.
#[derive(Debug)]
pub struct DataFile {
    format: Format,
    /// None if in memory.
    path: Option<PathBuf>,
    /// Bytes of pages that are kept in memory.
    cache: usize,
    may_create: AtomicBool,
    /// None before the first use, and after a disk error until the next use.
    database: Mutex<Option<Arc<Database>>>,
}

impl DataFile {
    /// Opens a file if it is there. `cache` are the bytes of its pages that are kept in memory.
    ///
    /// # Errors
    ///
    /// [`FileError::InUse`] if another process has it, [`FileError::Missing`] with [`IfMissing::Refuse`],
    /// [`FileError::Version`] and [`FileError::Damaged`] if it cannot be used, [`FileError::Failed`] if the disk fails.
    pub fn open(
        path: &Path,
        format: Format,
        cache: usize,
        if_missing: IfMissing,
    ) -> Result<Self, FileError> {
        let file = Self {
            format,
            path: Some(path.to_owned()),
            cache,
            may_create: AtomicBool::new(if_missing != IfMissing::Refuse),
            database: Mutex::default(),
        };
        if if_missing != IfMissing::CreateWhenUsed || exists(path)? {
            file.database(path)?;
        }
        Ok(file)
    }

    /// The same in memory, lost when this value is dropped. For tests.
    ///
    /// # Errors
    ///
    /// [`FileError::Failed`] if the database cannot be made.
    pub fn in_memory(format: Format, cache: usize) -> Result<Self, FileError> {
        let create = || -> Result<Database, redb::Error> {
            let builder = &mut Builder::new();
            let database =
                builder.set_cache_size(cache).create_with_backend(InMemoryBackend::new())?;
            create_tables(&database, &format)?;
            Ok(database)
        };
        let database =
            create().map_err(|error| FileError::failed("cannot create", &in_memory(), error))?;
        let (path, may_create) = (None, AtomicBool::new(false));
        Ok(Self { format, path, cache, may_create, database: Mutex::new(Some(database.into())) })
    }

    /// Uses the database. `action` says what the work is, such as "cannot write", in an error. If the work fails, the
    /// database is opened again by the next use.
    ///
    /// # Errors
    ///
    /// [`FileError::Failed`] if the work fails; and those of [`DataFile::open`], if the file has to be opened.
    pub fn with<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, FileError> {
        let memory = in_memory();
        let path = self.path.as_deref().unwrap_or(&memory);
        let database = self.database(path)?;
        work(&database).map_err(|error| {
            // Memory cannot be reopened.
            if self.path.is_some() {
                let mut current = self.database.lock().unwrap_or_else(PoisonError::into_inner);
                if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, &database)) {
                    *current = None;
                }
            }
            FileError::failed(action, path, error)
        })
    }

    /// The open database; opens it if it is not, or not any more after an error.
    fn database(&self, path: &Path) -> Result<Arc<Database>, FileError> {
        let mut current = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*current {
            return Ok(Arc::clone(database));
        }
        if self.may_create.load(Ordering::Relaxed) && !exists(path)? {
            create(path, &self.format)?;
        }
        let database = Arc::new(open(path, &self.format, self.cache)?);
        std::fs::set_permissions(path, Permissions::from_mode(0o600))
            .map_err(|error| FileError::failed("cannot restrict the mode of", path, error))?;
        self.may_create.store(false, Ordering::Relaxed);
        *current = Some(Arc::clone(&database));
        Ok(database)
    }
}

fn in_memory() -> PathBuf {
    PathBuf::from("a database in memory")
}

fn exists(path: &Path) -> Result<bool, FileError> {
    path.try_exists().map_err(|error| FileError::failed("cannot look for", path, error))
}

/// Creates a file under another name first, so that it appears as a whole.
fn create(path: &Path, format: &Format) -> Result<(), FileError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let create = || -> Result<(), redb::Error> {
        let prefix = format!(".{}-", format.contents);
        let new = tempfile::Builder::new().prefix(&prefix).tempfile_in(folder)?;
        create_tables(&Builder::new().create(new.path())?, format)?;
        new.as_file().sync_all()?;
        match new.persist_noclobber(path) {
            // Another gateway was faster; opening the file decides whose it is.
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
            result => drop(result.map_err(|error| error.error)?),
        }
        Ok(File::open(folder)?.sync_all()?)
    };
    create().map_err(|error| FileError::failed("cannot create", path, error))
}

fn create_tables(database: &Database, format: &Format) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert(VERSION_KEY, format.version)?;
    (format.create_tables)(&transaction)?;
    Ok(transaction.commit()?)
}

fn open(path: &Path, format: &Format, cache: usize) -> Result<Database, FileError> {
    let damaged = |detail: String| FileError::Damaged {
        path: path.to_owned(),
        contents: format.contents,
        detail,
        advice: format.damaged,
    };
    let version = |found: String| FileError::Version {
        path: path.to_owned(),
        found,
        known: format.version,
        advice: format.other_version,
    };
    let open = || Builder::new().set_cache_size(cache).set_check_integrity_on_open(true).open(path);
    // redb is designed not to panic on a damaged file, but the gateway should not depend on it.
    let opened = catch_unwind(AssertUnwindSafe(open))
        .map_err(|_| damaged("reading it panicked".to_owned()))?;
    let database = opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            FileError::InUse(path.to_owned())
        }
        DatabaseError::UpgradeRequired(found) => version(format!("redb {found}")),
        DatabaseError::Storage(StorageError::Io(error)) => match error.kind() {
            io::ErrorKind::NotFound => {
                FileError::Missing { path: path.to_owned(), contents: format.contents }
            }
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => damaged(error.to_string()),
            _ => FileError::failed("cannot open", path, error),
        },
        error => damaged(error.to_string()),
    })?;
    let found = read_version(&database, format).map_err(|error| damaged(error.to_string()))?;
    match found {
        Some(found) if found == format.version => Ok(database),
        Some(found) => Err(version(found)),
        None => Err(damaged("it is a database of something else".to_owned())),
    }
}

/// The layout that a file names; none if it is a file of another sort.
fn read_version(database: &Database, format: &Format) -> Result<Option<String>, redb::Error> {
    let transaction = database.begin_read()?;
    let names: Vec<String> =
        transaction.list_tables()?.map(|table| table.name().to_owned()).collect();
    if ![META.name(), format.table].iter().all(|wanted| names.iter().any(|name| name == wanted)) {
        return Ok(None);
    }
    Ok(transaction.open_table(META)?.get(VERSION_KEY)?.map(|found| found.value().to_owned()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    const WORDS: TableDefinition<'_, &str, &str> = TableDefinition::new("words");

    const FORMAT: Format = Format {
        contents: "words",
        version: "1",
        table: "words",
        create_tables: |transaction| {
            transaction.open_table(WORDS)?;
            Ok(())
        },
        other_version: "wait",
        damaged: "move it away",
    };

    fn put(file: &DataFile, word: &str) -> Result<(), FileError> {
        file.with("cannot write", |database| {
            let transaction = database.begin_write()?;
            transaction.open_table(WORDS)?.insert(word, "")?;
            Ok(transaction.commit()?)
        })
    }

    fn break_off(file: &DataFile) -> FileError {
        let broken =
            |_: &Database| Err::<(), _>(io::Error::from(io::ErrorKind::StorageFull).into());
        file.with("cannot write", broken).unwrap_err()
    }

    #[test]
    fn a_missing_file_is_created_when_its_owner_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words.redb");
        let refused = DataFile::open(&path, FORMAT, 0, IfMissing::Refuse).unwrap_err();
        assert!(matches!(refused, FileError::Missing { .. }), "{refused:?}");
        let file = DataFile::open(&path, FORMAT, 0, IfMissing::CreateWhenUsed).unwrap();
        assert!(!path.exists());
        put(&file, "one").unwrap();
        drop(file);
        drop(DataFile::open(&path, FORMAT, 0, IfMissing::Refuse).unwrap());
        std::fs::remove_file(&path).unwrap();
        drop(DataFile::open(&path, FORMAT, 0, IfMissing::Create).unwrap());
        assert!(path.exists());
    }

    #[test]
    fn a_file_is_reopened_after_an_error_and_never_replaced_by_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words.redb");
        let file = DataFile::open(&path, FORMAT, 0, IfMissing::CreateWhenUsed).unwrap();
        put(&file, "one").unwrap();
        let error = break_off(&file);
        assert!(error.is_full(), "{error:?}");
        put(&file, "two").unwrap();
        assert!(break_off(&file).is_full());
        let away = folder.path().join("away.redb");
        std::fs::rename(&path, &away).unwrap();
        let gone = put(&file, "three").unwrap_err();
        assert!(matches!(gone, FileError::Missing { .. }), "{gone:?}");
        assert!(!path.exists());
        std::fs::rename(&away, &path).unwrap();
        put(&file, "three").unwrap();
    }

    #[test]
    fn a_file_of_another_sort_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words.redb");
        drop(DataFile::open(&path, FORMAT, 0, IfMissing::Create).unwrap());
        let others = Format { contents: "numbers", table: "numbers", ..FORMAT };
        let refused = DataFile::open(&path, others, 0, IfMissing::Create).unwrap_err();
        assert!(matches!(refused, FileError::Damaged { .. }), "{refused:?}");
        let newer = Format { version: "2", ..FORMAT };
        let refused = DataFile::open(&path, newer, 0, IfMissing::Create).unwrap_err();
        assert!(
            refused.to_string().contains("has layout 1, and this gateway knows layout 2; wait")
        );
    }
}
