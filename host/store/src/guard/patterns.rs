//! Patterns of keys: `*` and `?` do not match `/`; `**/` matches any number of folders.

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::error::{Result, StoreError};

/// One pattern.
pub(super) fn glob(pattern: &str) -> Result<Glob> {
    let glob = GlobBuilder::new(pattern).literal_separator(true).build();
    glob.map_err(|error| StoreError::Invalid(format!("pattern {pattern:?}: {error}")))
}

/// Several patterns.
pub(super) fn set(patterns: &[String]) -> Result<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(glob(pattern)?);
    }
    set.build().map_err(|error| StoreError::Invalid(format!("patterns: {error}")))
}
