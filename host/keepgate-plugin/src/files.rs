//! Component files: reading them, their sizes for people, and the cache of compiled code.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Where compiled code is cached between runs; `None` if there is no cache folder.
pub(crate) fn code_folder() -> Option<PathBuf> {
    keepgate_builder::workspace::cache_folder().ok().map(|cache| cache.join("code"))
}

/// Reads a component.
pub(crate) fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| file.display().to_string())
}

/// A size for people, for example `84 KiB`.
pub(crate) fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}
