//! Records: small ordered tables, one for each mount, in which several records change together or not at all. Plugins
//! keep in them what blobs are bad at: who owns what, what refers to what, what is current.
//!
//! | file | what it is for |
//! | --- | --- |
//! | `record` | what a record, a range and a commit are, and their limits |
//! | `table` | the trait that an engine implements |
//! | `embedded` | the engine for one gateway: a thread that writes, and readers beside it |
//! | `file` | the layout on disk |
//! | `error` | why a table refuses a call |
//! | `metrics` | for operators |
//!
//! # Guarantees
//!
//! - A commit is made as a whole or not at all, if all of its comparisons hold at that moment. It is durable when it is
//!   acknowledged; one that fails with [`RecordsError::Unavailable`] may have been made.
//! - Commits are made one after another. Each has a revision that is higher than those before it, and a record's version
//!   is the revision of the commit that wrote it.
//! - A read sees all commits that were acknowledged before it began. One page of a scan is the table at one moment; the
//!   next page may see later commits.
//! - What fits into one commit is limited ([`MAX_OPERATIONS`], [`MAX_COMMIT`]) so that every engine can make it at once:
//!   an etcd transaction takes 128 operations and 1.5 MiB.

mod embedded;
mod error;
mod file;
mod metrics;
mod record;
mod table;

pub use embedded::{Options, Records};
pub use error::RecordsError;
pub use keepgate_datafile::FileError;
pub use metrics::metrics;
pub use record::{
    Change, Commit, Compare, Expected, MAX_COMMIT, MAX_KEY, MAX_OPERATIONS, MAX_PAGE, MAX_VALUE,
    PAGE_BYTES, Page, RECORD_BYTES, Range, Record, Size,
};
pub use table::{Admits, Table, Tables};
