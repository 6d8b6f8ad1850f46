//! A store in memory with the contract's rules for keys, conditions, checksums and limits. It has no
//! dependencies, because authors get a copy of the SDK; `properties` compares it with the gateway's own
//! memory store.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use super::{
    Change, Condition, Entry, Info, Part, Piece, PutOptions, Stored, is_key_segment, limits,
};
use crate::Failure;
use crate::testing::hex;

/// Whether a key is affected.
type Keys = fn(&str) -> bool;

/// A blob with what is stored with it.
#[derive(Debug)]
struct Kept {
    bytes: Vec<u8>,
    options: PutOptions,
    /// Nanoseconds since the Unix epoch.
    modified: u64,
    /// The same, if the blob expires.
    expires: Option<u64>,
    /// Different for each blob that is stored.
    etag: String,
}

impl Kept {
    fn is_there(&self, now: u64) -> bool {
        self.expires.is_none_or(|expires| expires > now)
    }

    fn info(&self, key: &str) -> Info {
        Info {
            key: key.to_owned(),
            size: self.bytes.len() as u64,
            modified: self.modified,
            etag: self.etag.clone(),
            content_type: self.options.content_type.clone(),
            metadata: self.options.metadata.clone(),
            tags: self.options.tags.clone(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct MemoryStore {
    blobs: BTreeMap<String, Kept>,
    /// The current time, in nanoseconds since the Unix epoch.
    pub(crate) now: u64,
    folders: BTreeSet<String>,
    append_only: Option<Keys>,
    refuses: Option<(Keys, Failure)>,
    full: bool,
    /// How many blobs have been stored so far.
    count: u64,
}

impl MemoryStore {
    pub(crate) fn set(&mut self, key: &str, bytes: &[u8]) {
        self.keep(key, bytes.to_vec(), PutOptions::replace(), None);
        self.add_parents(key);
    }

    /// Returns what is known about the blob, also if it expires at once.
    fn keep(
        &mut self,
        key: &str,
        bytes: Vec<u8>,
        options: PutOptions,
        expires: Option<u64>,
    ) -> Info {
        self.count += 1;
        let etag = format!("{:x}", self.count);
        let kept = Kept { bytes, options, modified: self.now, expires, etag };
        let info = kept.info(key);
        self.blobs.insert(key.to_owned(), kept);
        info
    }

    /// The blob under a key, unless it has expired.
    fn there(&self, key: &str) -> Option<&Kept> {
        self.blobs.get(key).filter(|kept| kept.is_there(self.now))
    }

    pub(crate) fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        self.there(key).map(|kept| kept.bytes.clone())
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        let there = self.blobs.iter().filter(|(_, kept)| kept.is_there(self.now));
        there.map(|(key, _)| key.clone()).collect()
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
        self.there(key).map(|found| found.info(key)).ok_or(Failure::NotFound)
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
        expires: Option<u64>,
    ) -> Result<Stored, Failure> {
        self.check_change(key)?;
        limits::check(options).map_err(Failure::Invalid)?;
        self.check_place(key)?;
        let there = self.there(key);
        match (&options.condition, there) {
            (Condition::Matches(_), _) if self.protects(key) => return Err(append_only()),
            (Condition::Always, Some(_)) if self.protects(key) => return Err(append_only()),
            (Condition::Absent, Some(_)) => return Err(Failure::AlreadyExists),
            (Condition::Matches(etag), there) if there.map(|there| &there.etag) != Some(etag) => {
                return Err(Failure::PreconditionFailed);
            }
            _ => {}
        }
        let bytes = read()?;
        let actual = hex(&Sha256::digest(&bytes));
        let wrong = options.sha256.as_ref().is_some_and(|digest| *digest != actual);
        if let (Some(there), Condition::AbsentOrIdentical) = (there, &options.condition) {
            return if there.bytes == bytes && !wrong {
                Ok(Stored { info: self.head(key)?, change: Change::Unchanged })
            } else {
                Err(Failure::AlreadyExists)
            };
        }
        if wrong {
            return Err(Failure::ChecksumMismatch(Some(actual)));
        }
        if self.full {
            return Err(Failure::NoSpace);
        }
        let change = match there {
            Some(there) => Change::Replaced(there.bytes.len() as u64),
            None => Change::Created,
        };
        self.add_parents(key);
        let info = self.keep(key, bytes, options.clone(), expires);
        Ok(Stored { info, change })
    }

    pub(crate) fn concat(
        &mut self,
        key: &str,
        pieces: &[Piece],
        options: &PutOptions,
    ) -> Result<Stored, Failure> {
        check(key)?;
        pieces.iter().try_for_each(|piece| check(&piece.key))?;
        let mut joined = Vec::new();
        for piece in pieces {
            joined.extend(self.get(&piece.key, piece.part)?.2);
        }
        self.put(key, || Ok(joined), options, None)
    }

    pub(crate) fn rename(
        &mut self,
        key: &str,
        to: &str,
        condition: &Condition,
    ) -> Result<Stored, Failure> {
        check(key)?;
        self.check_change(to)?;
        let there = self.there(to).map(|there| (there.bytes.len() as u64, there.etag.clone()));
        match (condition, &there) {
            // As a store of `to`, then as a delete of `key`.
            (Condition::Matches(_), _) if self.protects(to) => return Err(append_only()),
            _ if self.protects(key) => return Err(append_only()),
            _ => {}
        }
        self.check_change(key)?;
        if key == to || matches!(condition, Condition::AbsentOrIdentical) {
            return Err(Failure::Invalid(format!("rename of {key} to {to}: {condition:?}")));
        }
        if self.there(key).is_none() {
            return Err(Failure::NotFound);
        }
        self.check_place(to)?;
        match (condition, &there) {
            (Condition::Always, Some(_)) if self.protects(to) => return Err(append_only()),
            (Condition::Absent, Some(_)) => return Err(Failure::AlreadyExists),
            (Condition::Matches(etag), there)
                if there.as_ref().map(|(_, etag)| etag) != Some(etag) =>
            {
                return Err(Failure::PreconditionFailed);
            }
            _ => {}
        }
        let Some(moved) = self.blobs.remove(key) else { return Err(Failure::NotFound) };
        self.add_parents(to);
        let info = self.keep(to, moved.bytes, moved.options, moved.expires);
        let change = there.map_or(Change::Created, |(size, _)| Change::Replaced(size));
        Ok(Stored { info, change })
    }

    pub(crate) fn delete(
        &mut self,
        key: &str,
        matches: Option<&str>,
    ) -> Result<Option<u64>, Failure> {
        self.check_change(key)?;
        if self.protects(key) {
            return Err(append_only());
        }
        let there = self.there(key).map(|there| there.etag.as_str());
        if matches.is_some() && matches != there {
            return Err(Failure::PreconditionFailed);
        }
        let was_there = there.is_some();
        Ok(self.blobs.remove(key).filter(|_| was_there).map(|gone| gone.bytes.len() as u64))
    }

    pub(crate) fn list(
        &self,
        folder: &str,
        recursive: bool,
        after: Option<&str>,
    ) -> Result<Vec<Entry>, Failure> {
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
        let blobs = self.blobs.iter().filter(|(key, _)| below(key)).map(|(key, blob)| Entry {
            key: key.clone(),
            size: blob.bytes.len() as u64,
            modified: blob.modified,
            etag: blob.etag.clone(),
            folder: false,
        });
        let folders = self.folders.iter().filter(|key| !recursive && below(key));
        let folders = folders.map(|key| Entry {
            key: key.clone(),
            size: 0,
            modified: 0,
            etag: String::new(),
            folder: true,
        });
        let mut entries: Vec<_> = blobs.chain(folders).collect();
        entries.retain(|entry| after.is_none_or(|after| *entry.place() > *after));
        entries.sort_by(|one, other| one.place().cmp(&other.place()));
        Ok(entries)
    }

    pub(crate) fn prepare(&mut self, folders: &[String]) -> Result<(), Failure> {
        for folder in folders {
            if !folder.is_empty() {
                check(folder)?;
                let inside = format!("{folder}/x");
                self.check_place(&inside)?;
                self.add_parents(&inside);
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

    /// A blob must not have the name of a folder, nor a folder that of a blob.
    fn check_place(&self, key: &str) -> Result<(), Failure> {
        let mut folders = key.match_indices('/').filter_map(|(at, _)| key.get(..at));
        if self.folders.contains(key) || folders.any(|folder| self.blobs.contains_key(folder)) {
            return Err(Failure::Invalid(format!("{key}: a blob and a folder have one name")));
        }
        Ok(())
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

fn append_only() -> Failure {
    Failure::Denied("this mount is append-only".to_owned())
}

fn check(key: &str) -> Result<(), Failure> {
    if key.len() > 1024 || !key.split('/').all(is_key_segment) {
        return Err(Failure::Invalid(format!("key {key:?}")));
    }
    Ok(())
}

#[cfg(test)]
mod properties;
