//! A store in memory, with the contract's rules for keys, conditions and checksums.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use crate::{Condition, Entry, Failure, Info, Part, PutOptions};

/// The folder that belongs to the host.
const RESERVED: &str = ".keepgate";

/// Whether a key is meant.
type Keys = fn(&str) -> bool;

/// A blob with what was said of it.
#[derive(Debug)]
struct Stored {
    bytes: Vec<u8>,
    options: PutOptions,
    /// Nanoseconds since the Unix epoch.
    modified: u64,
}

#[derive(Debug, Default)]
pub(crate) struct MemoryStore {
    blobs: BTreeMap<String, Stored>,
    /// What time it is, in nanoseconds since the Unix epoch.
    pub(crate) now: u64,
    folders: BTreeSet<String>,
    append_only: Option<Keys>,
    refuses: Option<(Keys, Failure)>,
    full: bool,
}

impl MemoryStore {
    pub(crate) fn set(&mut self, key: &str, bytes: &[u8]) {
        self.keep(key, bytes.to_vec(), PutOptions::replace());
        self.add_parents(key);
    }

    fn keep(&mut self, key: &str, bytes: Vec<u8>, options: PutOptions) {
        self.blobs.insert(key.to_owned(), Stored { bytes, options, modified: self.now });
    }

    pub(crate) fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        self.blobs.get(key).map(|stored| stored.bytes.clone())
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.blobs.keys().cloned().collect()
    }

    pub(crate) fn append_only(&mut self, except: Keys) {
        self.append_only = Some(except);
    }

    pub(crate) fn refuses(&mut self, changes_of: Keys, with: Failure) {
        self.refuses = Some((changes_of, with));
    }

    pub(crate) fn full(&mut self) {
        self.full = true;
    }

    pub(crate) fn head(&self, key: &str) -> Result<Info, Failure> {
        check(key)?;
        let Stored { bytes, options, modified } = self.blobs.get(key).ok_or(Failure::NotFound)?;
        Ok(Info {
            key: key.to_owned(),
            size: bytes.len() as u64,
            modified: *modified,
            etag: hex(&Sha256::digest(bytes)),
            content_type: options.content_type.clone(),
            metadata: options.metadata.clone(),
            tags: options.tags.clone(),
        })
    }

    pub(crate) fn get(&self, key: &str, part: Part) -> Result<(Info, u64, Vec<u8>), Failure> {
        let info = self.head(key)?;
        let bytes = self.bytes(key).unwrap_or_default();
        let size = info.size;
        let (offset, length) = match part {
            Part::Whole => (0, size),
            Part::Slice((offset, length)) => {
                let rest = size.saturating_sub(offset);
                (offset, length.unwrap_or(rest).min(rest))
            }
            Part::Suffix(length) => (size - length.min(size), length.min(size)),
        };
        if length == 0 && !matches!(part, Part::Whole) {
            return Err(Failure::OutOfRange(size));
        }
        let wanted = usize::try_from(offset)
            .ok()
            .zip(usize::try_from(offset + length).ok())
            .and_then(|(from, to)| bytes.get(from..to));
        Ok((info, offset, wanted.unwrap_or_default().to_vec()))
    }

    pub(crate) fn put(
        &mut self,
        key: &str,
        read: impl FnOnce() -> Result<Vec<u8>, Failure>,
        options: &PutOptions,
    ) -> Result<Info, Failure> {
        self.check_change(key)?;
        let there = self.blobs.get(key).map(|stored| &stored.bytes);
        if there.is_some() && self.protects(key) && matches!(options.condition, Condition::Always) {
            return Err(Failure::AlreadyExists);
        }
        if there.is_some() && matches!(options.condition, Condition::Absent) {
            return Err(Failure::AlreadyExists);
        }
        if let Condition::Matches(etag) = &options.condition
            && self.head(key)?.etag != *etag
        {
            return Err(Failure::PreconditionFailed);
        }
        let bytes = read()?;
        if let (Some(there), Condition::AbsentOrIdentical) = (there, &options.condition) {
            return if *there == bytes { self.head(key) } else { Err(Failure::AlreadyExists) };
        }
        if options.sha256.as_ref().is_some_and(|digest| *digest != hex(&Sha256::digest(&bytes))) {
            return Err(Failure::ChecksumMismatch);
        }
        if self.full {
            return Err(Failure::NoSpace);
        }
        self.add_parents(key);
        self.keep(key, bytes, options.clone());
        self.head(key)
    }

    pub(crate) fn delete(&mut self, key: &str) -> Result<Option<u64>, Failure> {
        self.check_change(key)?;
        if self.protects(key) {
            return Err(Failure::Denied("this mount is append-only".to_owned()));
        }
        Ok(self.blobs.remove(key).map(|stored| stored.bytes.len() as u64))
    }

    pub(crate) fn list(&self, folder: &str, recursive: bool) -> Result<Vec<Entry>, Failure> {
        if !folder.is_empty() {
            check(folder)?;
            if !self.folders.contains(folder) {
                return Err(Failure::NotFound);
            }
        }
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let below = |key: &str| {
            key.strip_prefix(&prefix).is_some_and(|rest| recursive || !rest.contains('/'))
        };
        let entry = |key: &String, size, modified, folder| Entry {
            key: key.clone(),
            size,
            modified,
            folder,
        };
        let blobs = self.blobs.iter().filter(|(key, _)| below(key));
        let mut entries: Vec<_> = blobs
            .map(|(key, stored)| entry(key, stored.bytes.len() as u64, stored.modified, false))
            .collect();
        if !recursive {
            let folders = self.folders.iter().filter(|key| !key.is_empty() && below(key));
            entries.extend(folders.map(|key| entry(key, 0, 0, true)));
        }
        entries.sort_by_key(|entry| {
            if entry.folder { format!("{}/", entry.key) } else { entry.key.clone() }
        });
        Ok(entries)
    }

    pub(crate) fn prepare(&mut self, folders: &[String]) -> Result<(), Failure> {
        for folder in folders {
            if !folder.is_empty() {
                check(folder)?;
                self.add_parents(&format!("{folder}/x"));
            }
        }
        Ok(())
    }

    fn check_change(&self, key: &str) -> Result<(), Failure> {
        check(key)?;
        match &self.refuses {
            Some((of, failure)) if of(key) => Err(failure.clone()),
            _ => Ok(()),
        }
    }

    fn protects(&self, key: &str) -> bool {
        self.append_only.is_some_and(|except| !except(key))
    }

    fn add_parents(&mut self, key: &str) {
        let mut folder = key;
        while let Some((parent, _)) = folder.rsplit_once('/') {
            self.folders.insert(parent.to_owned());
            folder = parent;
        }
    }
}

fn check(key: &str) -> Result<(), Failure> {
    let bad = |segment: &str| matches!(segment, "" | "." | ".." | RESERVED) || segment.len() > 255;
    if key.len() > 1024 || key.contains('\0') || key.split('/').any(bad) {
        return Err(Failure::Invalid(format!("key {key:?}")));
    }
    Ok(())
}

pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
