//! Policies around any store, out of the plugins' reach: append-only with exceptions, retention, read-only,
//! unverified, and a folder of a store as a store of its own. A new policy is a
//! [`StoreLayer`](crate::layer::StoreLayer) in a file here.

mod append_only;
mod patterns;
mod read_only;
mod retention;
mod subfolder;
mod unverified;

use std::sync::Arc;

pub use append_only::AppendOnly;
pub use read_only::ReadOnly;
pub use retention::{Periods, Retention};
pub use subfolder::Subfolder;
pub use unverified::Unverified;

use crate::BlobStore;
use crate::clock::Clock;
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
    /// How long blobs can be neither deleted nor replaced. With `append_only` they never can.
    pub retain: Periods,
    /// Patterns of keys that `append_only` and `retain` do not protect, such as `**/locks/*`. `*` and `?` do
    /// not match `/`; `**/` matches any number of folders.
    pub except: Vec<String>,
}

impl Policy {
    /// Applies this policy to a store. `clock` says how long a blob has been there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`](crate::StoreError::Invalid) if a pattern is invalid.
    pub fn guard(&self, store: Arc<dyn BlobStore>, clock: &Clock) -> Result<Arc<dyn BlobStore>> {
        // Built even if they are not used, so that an invalid pattern never goes unnoticed.
        let append_only = AppendOnly::new(Arc::clone(&store), &self.except)?;
        let (inner, clock) = (Arc::clone(&store), clock.clone());
        let retention = Retention::new(inner, &self.retain, &self.except, clock)?;
        let store: Arc<dyn BlobStore> = if self.read_only {
            return Ok(Arc::new(ReadOnly::new(store)));
        } else if self.append_only {
            Arc::new(append_only)
        } else if !self.retain.is_empty() {
            Arc::new(retention)
        } else {
            store
        };
        Ok(if self.unverified { Arc::new(Unverified::new(store)) } else { store })
    }
}
