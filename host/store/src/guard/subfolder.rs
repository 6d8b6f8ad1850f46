//! A folder of a store as a store of its own. Nothing outside the folder can be named through it.

use std::sync::Arc;

use crate::BlobStore;
use crate::error::Result;
use crate::key::Folder;
use crate::layer::{Operation, StoreLayer};

/// A folder of a store as a store of its own.
///
/// The limit of 1024 bytes applies to the folder's name and the key together;
/// [`StoreError::Invalid`](crate::StoreError::Invalid) if they are longer.
#[derive(Debug)]
pub struct Subfolder {
    store: Arc<dyn BlobStore>,
    folder: Folder,
}

impl Subfolder {
    /// The store below `folder`, which need not exist yet.
    pub fn new(store: Arc<dyn BlobStore>, folder: Folder) -> Self {
        Self { store, folder }
    }
}

impl StoreLayer for Subfolder {
    fn inner(&self) -> &Arc<dyn BlobStore> {
        &self.store
    }

    async fn authorize(&self, operation: Operation<'_>) -> Result<()> {
        match operation {
            Operation::Store { .. } | Operation::Delete { .. } | Operation::MakeFolders { .. } => {
                Ok(())
            }
        }
    }

    fn folder(&self) -> Option<&Folder> {
        Some(&self.folder)
    }
}
