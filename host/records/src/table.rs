//! The trait that an engine implements.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::RecordsError;
use crate::record::{Commit, Page, Range, Record, Size};

/// All tables of a gateway.
pub trait Tables: Send + Sync + Debug + 'static {
    /// The table of this name, which a mount has by its path. It exists as soon as it has records.
    fn table(&self, name: &str) -> Arc<dyn Table>;
}

/// Says whether there is room for so many bytes more.
pub type Admits = Box<dyn FnMut(u64) -> bool + Send>;

/// The records of one mount.
#[async_trait]
pub trait Table: Send + Sync + Debug + 'static {
    /// The records under these keys, in their order; none for those that are not there. All of them are as of one
    /// moment. At most [`MAX_PAGE`](crate::MAX_PAGE) keys.
    async fn get(&self, keys: &[String]) -> Result<Vec<Option<Record>>, RecordsError> {
        self.get_while(keys, Box::new(|_| true)).await
    }

    /// As [`get`](Self::get), but asks `admits` before it keeps a record, with its size in bytes: a thousand records can
    /// have 250 MiB. Fails with [`RecordsError::NotAdmitted`] at the first that is refused.
    async fn get_while(
        &self,
        keys: &[String],
        admits: Admits,
    ) -> Result<Vec<Option<Record>>, RecordsError>;

    /// The first records of a range, at most `max` and at most [`MAX_PAGE`](crate::MAX_PAGE); fewer if they are long.
    async fn scan(&self, range: &Range, max: usize) -> Result<Page, RecordsError>;

    /// Makes all changes if all comparisons hold, and returns the revision. Durable when it returns. Dropping the future
    /// may or may not prevent it.
    async fn commit(&self, commit: Commit) -> Result<u64, RecordsError>;

    /// What the table holds.
    async fn size(&self) -> Result<Size, RecordsError>;
}
