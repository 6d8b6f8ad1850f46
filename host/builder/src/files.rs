//! Files in folders that a gateway watches: replaced atomically and only if their bytes change, and removed
//! when nothing builds them any more.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::{io, process};

use anyhow::{Context, Result};

use crate::process::note;

/// Writes `bytes` to `path` atomically, unless they are there already. The temporary file is beside it,
/// because only a rename within a file system is atomic.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(false);
    }
    let temporary = path.with_extension(format!("tmp-{}", process::id()));
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is reported, not one of the clean-up.
        let _ = fs::remove_file(&temporary);
    }
    written.map(|()| true)
}

/// Removes components that `ours` does not contain; a gateway would continue to serve them.
pub fn remove_others(folder: &Path, ours: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") && !ours.contains(&path) {
            note(&format!("{}: removed, no crate of the workspace builds it", path.display()));
            fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

/// Takes a lock that lasts until the returned file is dropped or this process ends.
pub fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| path.display().to_string())?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            note("waiting for another build of guests on this machine");
            file.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_only_when_its_bytes_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("restic.wasm");
        assert!(replace(&path, b"one").unwrap());
        let written = path.metadata().unwrap().modified().unwrap();
        assert!(!replace(&path, b"one").unwrap());
        assert_eq!(path.metadata().unwrap().modified().unwrap(), written);
        assert!(replace(&path, b"two").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn components_without_a_crate_are_removed_and_other_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["restic.wasm", "gone.wasm", "notes.txt"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let ours = BTreeSet::from([folder.path().join("restic.wasm")]);
        remove_others(folder.path(), &ours).unwrap();
        let names = folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name());
        let names: BTreeSet<_> = names.collect();
        assert_eq!(names, BTreeSet::from(["notes.txt".into(), "restic.wasm".into()]));
    }
}
