//! A store that can only be read.

use std::sync::Arc;

use crate::BlobStore;
use crate::error::{Result, StoreError};
use crate::layer::{Operation, StoreLayer};

/// A store whose blobs can only be read and listed.
#[derive(Debug)]
pub struct ReadOnly {
    store: Arc<dyn BlobStore>,
}

impl ReadOnly {
    /// Protects a store.
    pub fn new(store: Arc<dyn BlobStore>) -> Self {
        Self { store }
    }
}

fn denied(what: impl std::fmt::Display) -> StoreError {
    StoreError::Denied(format!("read-only: {what}; reading and listing are allowed"))
}

impl StoreLayer for ReadOnly {
    fn inner(&self) -> &Arc<dyn BlobStore> {
        &self.store
    }

    async fn authorize(&self, operation: Operation<'_>) -> Result<()> {
        match operation {
            Operation::Store { key, .. } => Err(denied(format_args!("{key} may not be stored"))),
            Operation::Delete { key, .. } => Err(denied(format_args!("{key} may not be deleted"))),
            Operation::MakeFolders { .. } => Err(denied("no folders may be made")),
        }
    }
}
