//! Ready-made ways to store a blob.

use crate::{Condition, PutOptions};

impl PutOptions {
    /// Whatever is under the key is replaced.
    pub fn replace() -> Self {
        Self::with(Condition::Always)
    }

    /// A taken key fails with [`AlreadyExists`](crate::Failure::AlreadyExists), before the body
    /// is read.
    pub fn absent() -> Self {
        Self::with(Condition::Absent)
    }

    /// A taken key fails unless the very same bytes are there already.
    pub fn absent_or_identical() -> Self {
        Self::with(Condition::AbsentOrIdentical)
    }

    /// The bytes must have this SHA-256, in lower-case hex.
    pub fn sha256(mut self, digest: &str) -> Self {
        self.sha256 = Some(digest.to_owned());
        self
    }

    fn with(condition: Condition) -> Self {
        Self { condition, sha256: None, content_type: None, metadata: Vec::new(), tags: Vec::new() }
    }
}
