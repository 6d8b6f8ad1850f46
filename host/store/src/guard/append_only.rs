//! A store to which blobs can be added, but in which none can be deleted or replaced.

use std::sync::Arc;

use globset::GlobSet;

use super::patterns;
use crate::error::{Result, StoreError};
use crate::key::Key;
use crate::layer::{Intent, Operation, StoreLayer};
use crate::{BlobStore, Condition};

/// A store to which blobs can be added, but in which none can be deleted or replaced, except under
/// keys that match a pattern.
#[derive(Debug)]
pub struct AppendOnly {
    store: Arc<dyn BlobStore>,
    except: GlobSet,
    /// What is still allowed, for messages.
    allowed: String,
}

impl AppendOnly {
    /// Protects a store, except for keys that match a pattern; see
    /// [`Policy::except`](super::Policy::except).
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] if a pattern is invalid.
    pub fn new(store: Arc<dyn BlobStore>, except: &[String]) -> Result<Self> {
        let set = patterns::set(except)?;
        let mut allowed = "adding blobs is allowed".to_owned();
        if !except.is_empty() {
            allowed.push_str(", and everything under keys like ");
            allowed.push_str(&except.join(" or "));
        }
        Ok(Self { store, except: set, allowed })
    }

    fn denied(&self, what: &str, key: &Key) -> StoreError {
        let allowed = &self.allowed;
        StoreError::Denied(format!("append-only: {key} may not be {what}; {allowed}"))
    }

    fn is_protected(&self, key: &Key) -> bool {
        !self.except.is_match(key.as_str())
    }
}

impl StoreLayer for AppendOnly {
    fn inner(&self) -> &Arc<dyn BlobStore> {
        &self.store
    }

    async fn authorize(&self, operation: Operation<'_>) -> Result<()> {
        match operation {
            Operation::Store { key, options, .. } if self.is_protected(key) => {
                match options.condition {
                    Condition::Absent | Condition::AbsentOrIdentical => Ok(()),
                    // The store checks this as it commits, so no other upload can come between the
                    // check and the write.
                    Condition::Always => {
                        options.condition = Condition::Absent;
                        Ok(())
                    }
                    Condition::Matches(_) => Err(self.denied("replaced", key)),
                }
            }
            Operation::Delete { key, .. } if self.is_protected(key) => {
                Err(self.denied("deleted", key))
            }
            Operation::Store { .. } | Operation::Delete { .. } | Operation::MakeFolders { .. } => {
                Ok(())
            }
        }
    }

    fn explain(&self, key: &Key, intent: Intent, error: StoreError) -> StoreError {
        match error {
            StoreError::AlreadyExists if intent == Intent::Replace && self.is_protected(key) => {
                self.denied("replaced", key)
            }
            error => error,
        }
    }
}
