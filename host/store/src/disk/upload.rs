//! The blocking side of an upload: its condition, its bytes, and the commit. The async side is in
//! [`put`](super::put).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use rustix::fs::{FileType, Statx};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::readers::Reading;
use super::temp::{Target, Temp};
use super::tree::{Dir, Tree};
use super::xattr::{self, Attributes, Gone};
use super::{Inner, errors, read, tree};
use crate::commit_observer::admit_removal;
use crate::error::{Result, StoreError};
use crate::key::Key;
use crate::{Change, CommittedChange, Condition, ObserverHandle, PutOptions, Stored};

/// Bytes read in one step when comparing or hashing what is on disk.
const PIECE: usize = 256 * 1024;

/// An upload in progress. Dropping it leaves nothing behind but folders.
#[derive(Debug)]
pub(super) struct Upload {
    store: Arc<Inner>,
    tree: Tree,
    key: Key,
    folder: String,
    condition: Condition,
    expected: Option<[u8; 32]>,
    hasher: Option<Sha256>,
    expires: Option<SystemTime>,
    observer: Option<ObserverHandle>,
    /// The blob's folder, or its deepest existing parent.
    dir: Arc<Dir>,
    /// Whether `dir` is the blob's own folder.
    folder_exists: bool,
    sink: Sink,
}

/// Where the bytes go.
#[derive(Debug)]
enum Sink {
    Write(Temp),
    /// The key is taken and only a blob with the same bytes is accepted, so nothing is written.
    Compare {
        stored: File,
        stat: Box<Statx>,
        identical: bool,
        _reading: Reading,
    },
}

impl Upload {
    /// Checks the condition and prepares to write.
    pub(super) fn begin(store: Arc<Inner>, key: Key, options: PutOptions) -> Result<Self> {
        let tree = store.tree()?;
        let begun = Self::begin_in(store, &tree, key, options);
        tree.settle(begun)
    }

    fn begin_in(store: Arc<Inner>, tree: &Tree, key: Key, options: PutOptions) -> Result<Self> {
        let folder = key.folder().as_str().to_owned();
        let (dir, existing) = tree.deepest_existing(&folder)?;
        let dir = Arc::new(dir);
        let folder_exists = existing == folder;
        let mut there = if folder_exists { tree.blob_at(&dir, &key)? } else { None };
        if options.condition != Condition::Always {
            let clock = &store.options.clock;
            there = there.filter(|it| !xattr::gone(tree, &dir, &key, (it, clock), false).expired);
        }
        let stored = match (&options.condition, &there) {
            (Condition::Absent, Some(_)) => return Err(StoreError::AlreadyExists),
            (Condition::Matches(etag), there) => {
                if there.as_ref().map(xattr::etag).as_ref() != Some(etag) {
                    return Err(StoreError::PreconditionFailed);
                }
                None
            }
            (Condition::AbsentOrIdentical, Some(_)) => store.read_blob(tree, &key)?,
            _ => None,
        };
        let sink = match stored {
            Some(((stored, stat), reading)) => Sink::Compare {
                stored: stored.into(),
                stat: Box::new(stat),
                identical: true,
                _reading: reading,
            },
            None => {
                let kept = Arc::new(Attributes::of(&options));
                Sink::Write(Temp::new(&store, tree, &dir, &folder, kept)?)
            }
        };
        let hasher = options.sha256.map(|_| Sha256::new());
        let PutOptions { condition, sha256: expected, expires, observer, .. } = options;
        Ok(Self {
            store,
            tree: tree.clone(),
            key,
            folder,
            condition,
            expected,
            hasher,
            expires,
            observer,
            dir,
            folder_exists,
            sink,
        })
    }

    /// Writes more bytes.
    pub(super) fn write(&mut self, chunks: &[Bytes]) -> Result<()> {
        if let Some(hasher) = &mut self.hasher {
            chunks.iter().for_each(|chunk| hasher.update(chunk));
        }
        let path = || self.tree.path_of(self.key.as_str());
        match &mut self.sink {
            Sink::Write(temp) => {
                temp.write(chunks).map_err(|error| errors::io("cannot write", path(), error))
            }
            Sink::Compare { stored, identical, .. } => {
                for chunk in chunks {
                    *identical = *identical
                        && continues_with(stored, chunk)
                            .map_err(|error| errors::io("cannot read", path(), error))?;
                }
                Ok(())
            }
        }
    }

    /// Writes `length` bytes of a file from `offset` on; they must exist.
    pub(super) fn append(&mut self, part: &File, offset: u64, length: u64) -> Result<()> {
        let path = self.tree.path_of(self.key.as_str());
        if let (None, Sink::Write(temp)) = (&self.hasher, &mut self.sink) {
            return match temp.append(part, offset, length) {
                Ok(appended) if appended == length => Ok(()),
                Ok(_) => Err(shrank(path)),
                Err(error) => Err(errors::io("cannot copy a part of", path, error)),
            };
        }
        let mut part = part;
        let mut left = length;
        part.seek(SeekFrom::Start(offset))
            .map_err(|error| errors::io("cannot read a part of", &path, error))?;
        while left > 0 {
            let mut piece = vec![0; usize::try_from(left).unwrap_or(PIECE).min(PIECE)];
            part.read_exact(&mut piece).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => shrank(path.clone()),
                _ => errors::io("cannot read a part of", &path, error),
            })?;
            left -= piece.len() as u64;
            self.write(&[piece.into()])?;
        }
        Ok(())
    }

    /// Verifies the bytes and commits them.
    pub(super) fn finish(self) -> Result<Stored> {
        let tree = self.tree.clone();
        tree.settle(self.finish_in_place())
    }

    fn finish_in_place(mut self) -> Result<Stored> {
        let checked = check(self.hasher.take(), self.expected);
        if let Sink::Compare { stored, stat, identical, .. } = &self.sink {
            if !identical || !at_end(stored, stat) || checked.is_err() {
                return Err(StoreError::AlreadyExists);
            }
            return self.confirm_stored(stored, stat);
        }
        checked?;
        self.commit()
    }

    /// Reports the existing blob, which has the same bytes, as stored. It may come from another
    /// upload that is not durable yet, so it is synced before anybody is told.
    fn confirm_stored(&self, stored: &File, stat: &Statx) -> Result<Stored> {
        let path = || self.tree.path_of(self.key.as_str());
        stored.sync_all().map_err(|error| errors::io("cannot sync", path(), error))?;
        let there = self.tree.blob_at(&self.dir, &self.key)?;
        if there.as_ref().map(xattr::etag) != Some(xattr::etag(stat)) {
            return Err(StoreError::PreconditionFailed);
        }
        self.tree.settle_folder(&self.folder)?;
        self.tree.sync_folder(&self.dir, &self.folder)?;
        self.tree.must_name(&self.folder, &self.dir)?;
        let info = xattr::info(&self.tree, &self.key, stored, stat)?;
        Ok(Stored { info, change: Change::Unchanged })
    }

    fn commit(mut self) -> Result<Stored> {
        let path = self.tree.path_of(self.key.as_str());
        if let Sink::Write(temp) = &self.sink {
            temp.finish(&self.store, &self.tree, &self.dir)
                .map_err(|error| errors::io("cannot sync", &path, error))?;
        }
        if self.folder_exists {
            self.tree.settle_folder(&self.folder)?;
        } else {
            let observer = self.observer.as_ref();
            self.dir = Arc::new(self.store.make_folder(&self.tree, &self.folder, observer)?);
        }
        // Nothing is to change in a folder that was replaced during the upload.
        self.tree.must_name(&self.folder, &self.dir)?;
        if let Some(expires) = self.expires {
            self.store.mark(&self.tree, &self.key, expires, self.observer.as_ref())?;
        }
        let change = loop {
            if let Some(change) = self.publish()? {
                break change;
            }
            // Another upload has taken the key since the check.
            if self.condition == Condition::Absent {
                return Err(StoreError::AlreadyExists);
            }
            if let Some(outcome) = self.compare_with_winner()? {
                return outcome;
            }
        };
        self.tree.sync_folder(&self.dir, &self.folder)?;
        // The last look: what is acknowledged can be seen.
        self.tree.must_name(&self.folder, &self.dir)?;
        let Sink::Write(temp) = &self.sink else {
            return Err(StoreError::AlreadyExists);
        };
        let stat =
            tree::stat(temp.file()).map_err(|errno| errors::io("cannot read", path, errno))?;
        let info = xattr::info(&self.tree, &self.key, temp.file(), &stat)?;
        Ok(Stored { info, change })
    }

    /// The one step that makes the blob appear; `None` if the key is taken and must not be.
    fn publish(&mut self) -> Result<Option<Change>> {
        let store = Arc::clone(&self.store);
        let observer = self.observer.clone();
        // Held while looking and renaming, never while syncing.
        let _lock = store.lock_key(&self.key);
        let Some(observer) = observer else {
            let outcome = self.publish_locked(false)?;
            return Ok(outcome.map(|gone| change(gone.as_ref())));
        };
        let size = match &self.sink {
            Sink::Write(temp) => temp.file().metadata().map(|stat| stat.len()),
            Sink::Compare { stat, .. } => Ok(stat.stx_size),
        };
        let size = size.map_err(|error| {
            errors::io("cannot read", self.tree.path_of(self.key.as_str()), error)
        })?;
        observer.place(self.tree.known.epoch)?;
        let wanted = observer.before_commit()?;
        let outcome = self.publish_locked(wanted);
        let done = outcome.as_ref().ok().and_then(Option::as_ref);
        let made = done.map(|gone| change(gone.as_ref()));
        if let Some(Some(gone)) = done {
            store.readers.removed(gone.file, &observer);
        }
        observer.after_commit(
            done.map(|gone| gone.as_ref().map(|gone| gone.blob.clone()))
                .map(|removed| CommittedChange { removed, size: Some(size) }),
        );
        outcome.map(|_| made)
    }

    /// The outer none: the key is taken. The inner one: no blob was replaced.
    fn publish_locked(&mut self, wanted: bool) -> Result<Option<Option<Gone>>> {
        let (store, tree, clock) = (&self.store, &self.tree, &self.store.options.clock);
        let Sink::Write(temp) = &mut self.sink else {
            return Ok(None);
        };
        let target = Target { dir: &self.dir, folder: &self.folder, name: self.key.name() };
        let there = match &self.condition {
            Condition::Absent | Condition::AbsentOrIdentical => {
                if temp.publish_new(store, tree, target)? {
                    return Ok(Some(None));
                }
                // A blob that has expired is in nobody's way.
                let there = tree.blob_at(target.dir, &self.key)?;
                let gone = there
                    .map(|there| xattr::gone(tree, target.dir, &self.key, (&there, clock), wanted));
                let Some(gone) = gone.filter(|gone| gone.expired) else { return Ok(None) };
                temp.publish_over(store, tree, target)?;
                return Ok(Some(Some(gone)));
            }
            Condition::Always => loop {
                if let Some(there) = tree.blob_at(target.dir, &self.key)? {
                    break there;
                }
                if temp.publish_new(store, tree, target)? {
                    return Ok(Some(None));
                }
            },
            Condition::Matches(etag) => tree
                .blob_at(target.dir, &self.key)?
                .filter(|there| xattr::etag(there) == *etag)
                .ok_or(StoreError::PreconditionFailed)?,
        };
        let gone = xattr::gone(tree, target.dir, &self.key, (&there, clock), wanted);
        if gone.expired && self.condition != Condition::Always {
            return Err(StoreError::PreconditionFailed);
        }
        let stored = (!gone.expired).then(|| xattr::time(&there.stx_mtime));
        admit_removal(self.observer.as_ref(), stored)?;
        temp.publish_over(store, tree, target)?;
        Ok(Some(Some(gone)))
    }

    /// Finishes an upload whose key was taken in the meantime as if it had been taken from the
    /// start; `None` if the key is free again.
    fn compare_with_winner(&self) -> Result<Option<Result<Stored>>> {
        // An error if something other than a blob is there.
        self.tree.blob_at(&self.dir, &self.key)?;
        let found = self.tree.blob(self.key.as_str());
        let Some((mut stored, _)) = read::described(&self.store, &self.tree, &self.key, found)?
        else {
            return Ok(None);
        };
        let stat = tree::stat(&stored).map_err(|errno| {
            errors::io("cannot read", self.tree.path_of(self.key.as_str()), errno)
        })?;
        let path = || self.tree.path_of(self.key.as_str());
        let failed = |error| errors::io("cannot compare", path(), error);
        let Sink::Write(temp) = &self.sink else {
            return Ok(None);
        };
        let mut ours = temp.file();
        ours.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut piece = vec![0; PIECE];
        loop {
            let read = ours.read(&mut piece).map_err(failed)?;
            let read = piece.get(..read).unwrap_or_default();
            if read.is_empty() {
                break;
            }
            if !continues_with(&mut stored, read).map_err(failed)? {
                return Ok(Some(Err(StoreError::AlreadyExists)));
            }
        }
        if !at_end(&stored, &stat) {
            return Ok(Some(Err(StoreError::AlreadyExists)));
        }
        Ok(Some(self.confirm_stored(&stored, &stat)))
    }
}

impl Tree {
    /// The blob under a key, if there is one. Anything that is not a blob cannot be replaced by one.
    pub(super) fn blob_at(&self, dir: &Dir, key: &Key) -> Result<Option<Statx>> {
        let stat = match self.stat_at(dir, key.name()) {
            Ok(stat) => stat,
            // A symbolic link to nothing is in the way, though there is nothing.
            Err(Errno::NOENT) if self.follow && tree::stat_at(dir, key.name()).is_ok() => {
                return Err(self.symlink(key.as_str()));
            }
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(self.symlink(key.as_str())),
            Err(errno @ (Errno::NAMETOOLONG | Errno::ILSEQ)) => {
                return Err(self.path_error(key.as_str(), errno));
            }
            Err(errno) => {
                return Err(errors::io("cannot look up", self.path_of(key.as_str()), errno));
            }
        };
        match tree::kind(&stat) {
            FileType::RegularFile => Ok(Some(stat)),
            FileType::Symlink => Err(self.symlink(key.as_str())),
            FileType::Directory => Err(StoreError::Invalid(format!(
                "{key} is a folder, so no blob can be stored there"
            ))),
            _ => Err(StoreError::Invalid(format!("{key} is neither a blob nor a folder"))),
        }
    }
}

/// What a commit has changed, if it was for a new blob.
pub(super) fn change(gone: Option<&Gone>) -> Change {
    match gone {
        Some(Gone { blob, expired: false, .. }) => Change::Replaced { size: blob.size },
        Some(_) | None => Change::Created,
    }
}

fn check(hasher: Option<Sha256>, expected: Option<[u8; 32]>) -> Result<()> {
    let (Some(hasher), Some(expected)) = (hasher, expected) else {
        return Ok(());
    };
    let actual: [u8; 32] = hasher.finalize().into();
    if actual == expected {
        return Ok(());
    }
    Err(StoreError::ChecksumMismatch {
        expected: hex::encode(expected),
        actual: hex::encode(actual),
    })
}

/// Whether the next bytes of a file are these.
fn continues_with(file: &mut File, bytes: &[u8]) -> io::Result<bool> {
    let mut piece = vec![0; bytes.len().min(PIECE)];
    for expected in bytes.chunks(PIECE) {
        let piece = piece.get_mut(..expected.len()).unwrap_or_default();
        match file.read_exact(piece) {
            Ok(()) if piece == expected => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Whether a file that was read from its beginning has been read to its end.
fn at_end(mut file: &File, stat: &Statx) -> bool {
    file.stream_position().is_ok_and(|position| position == stat.stx_size)
}

fn shrank(path: std::path::PathBuf) -> StoreError {
    let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the part became shorter meanwhile");
    errors::io("cannot read a part of", path, source)
}
