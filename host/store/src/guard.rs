//! Policies around any store, out of the plugins' reach: append-only with exceptions, read-only,
//! unverified, and a folder of a store as a store of its own. A new policy is a
//! [`StoreLayer`](crate::layer::StoreLayer) in a file here.

mod append_only;
mod read_only;
mod subfolder;
mod unverified;

use std::sync::Arc;

pub use append_only::AppendOnly;
pub use read_only::ReadOnly;
pub use subfolder::Subfolder;
pub use unverified::Unverified;

use crate::BlobStore;
use crate::error::Result;

/// What may be done with a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Blobs may be added, but not deleted or replaced.
    pub append_only: bool,
    /// Nothing may be changed, whatever else is set.
    pub read_only: bool,
    /// Uploads are stored without comparing their SHA-256. This is faster, but bytes damaged in
    /// transit are only noticed when somebody reads them.
    pub unverified: bool,
    /// Patterns of keys that `append_only` does not protect, such as `**/locks/*`. `*` and `?` do
    /// not match `/`; `**/` matches any number of folders.
    pub except: Vec<String>,
}

impl Policy {
    /// Applies this policy to a store.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`](crate::StoreError::Invalid) if a pattern is invalid.
    pub fn guard(&self, store: Arc<dyn BlobStore>) -> Result<Arc<dyn BlobStore>> {
        // Built even if it is not used, so that an invalid pattern never goes unnoticed.
        let append_only = AppendOnly::new(Arc::clone(&store), &self.except)?;
        let store: Arc<dyn BlobStore> = if self.read_only {
            return Ok(Arc::new(ReadOnly::new(store)));
        } else if self.append_only {
            Arc::new(append_only)
        } else {
            store
        };
        Ok(if self.unverified { Arc::new(Unverified::new(store)) } else { store })
    }
}
