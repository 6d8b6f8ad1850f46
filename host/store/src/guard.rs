//! Policy around any store, where no plugin can step around it: append-only with exceptions,
//! read-only, unverified, and a folder of a store as a store of its own. A new policy is a wrapper
//! here.

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
    /// Blobs may be added, but none deleted or replaced.
    pub append_only: bool,
    /// Nothing may be changed, whatever else is set.
    pub read_only: bool,
    /// Uploads are stored without comparing their SHA-256: faster, and what was damaged on its
    /// way is noticed only by whoever reads it.
    pub unverified: bool,
    /// Patterns of keys that `append_only` does not protect, as in `**/locks/*`: `*` and `?`
    /// stand for no `/`, `**/` for any folders or none.
    pub except: Vec<String>,
}

impl Policy {
    /// A store under this policy.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`](crate::StoreError::Invalid) where a pattern is wrong.
    pub fn guard(&self, store: Arc<dyn BlobStore>) -> Result<Arc<dyn BlobStore>> {
        // Made even where it will not be used, so that a wrong pattern never goes unnoticed.
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
