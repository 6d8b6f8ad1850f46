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

/// The records of one mount.
#[async_trait]
pub trait Table: Send + Sync + Debug + 'static {
    /// The records under these keys, in their order; none for those that are not there. All of them are as of one
    /// moment. At most [`MAX_PAGE`](crate::MAX_PAGE) keys.
    async fn get(&self, keys: &[String]) -> Result<Vec<Option<Record>>, RecordsError>;

    /// The first records of a range, at most `max` and at most [`MAX_PAGE`](crate::MAX_PAGE); fewer if they are long.
    async fn scan(&self, range: &Range, max: usize) -> Result<Page, RecordsError>;

    /// Makes all changes if all comparisons hold, and returns the revision. Durable when it returns. Dropping the future
    /// may or may not prevent it.
    async fn commit(&self, commit: Commit) -> Result<u64, RecordsError>;

    /// What the table holds.
    async fn size(&self) -> Result<Size, RecordsError>;
}
