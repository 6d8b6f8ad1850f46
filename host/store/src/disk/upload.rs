//! One blob on its way in, seen from the threads that may block: what must hold of its key, its
//! bytes, and the commit. The asynchronous side is in [`put`](super::put).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Statx};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::kept::{self, Kept};
use super::temp::{Target, Temp};
use super::{Inner, fault, tree};
use crate::error::{Result, StoreError};
use crate::key::Key;
use crate::{Change, Changed, Condition, Gone, Observer, PutOptions, Stored};

/// Bytes read in one step to compare or to hash what is on disk.
const PIECE: usize = 256 * 1024;

/// A blob on its way in. Dropped, it leaves nothing but folders.
#[derive(Debug)]
pub(super) struct Upload {
    store: Arc<Inner>,
    key: Key,
    folder: String,
    condition: Condition,
    expected: Option<[u8; 32]>,
    hasher: Option<Sha256>,
    witness: Option<Observer>,
    /// The blob's folder, or the deepest one above it that exists.
    dir: OwnedFd,
    /// Whether `dir` is the blob's own folder.
    folder_exists: bool,
    sink: Sink,
}

/// Where the bytes go.
#[derive(Debug)]
enum Sink {
    Write(Temp),
    /// The key is taken, and only a blob with the same bytes is let pass: nothing is written.
    Compare {
        stored: File,
        facts: Box<Statx>,
        identical: bool,
    },
}

impl Upload {
    /// Checks the condition and gets ready to write.
    pub(super) fn begin(store: Arc<Inner>, key: Key, options: PutOptions) -> Result<Self> {
        let folder = key.folder().as_str().to_owned();
        let (dir, existing) = store.tree.deepest(&folder)?;
        let folder_exists = existing == folder;
        let there = if folder_exists { store.occupant(&dir, &key)? } else { None };
        let stored = match (&options.condition, &there) {
            (Condition::Absent, Some(_)) => return Err(StoreError::AlreadyExists),
            (Condition::Matches(etag), there) => {
                if there.as_ref().map(kept::etag).as_ref() != Some(etag) {
                    return Err(StoreError::PreconditionFailed);
                }
                None
            }
            (Condition::AbsentOrIdentical, Some(_)) => store.tree.blob(key.as_str())?,
            _ => None,
        };
        let sink = match stored {
            Some((stored, facts)) => {
                Sink::Compare { stored: stored.into(), facts: Box::new(facts), identical: true }
            }
            None => {
                let kept = Arc::new(Kept::of(&options));
                Sink::Write(Temp::new(&store, &dir, &folder, kept)?)
            }
        };
        let hasher = options.sha256.map(|_| Sha256::new());
        let PutOptions { condition, sha256: expected, witness, .. } = options;
        Ok(Self {
            store,
            key,
            folder,
            condition,
            expected,
            hasher,
            witness,
            dir,
            folder_exists,
            sink,
        })
    }

    /// Takes more bytes.
    pub(super) fn write(&mut self, chunks: &[Bytes]) -> Result<()> {
        if let Some(hasher) = &mut self.hasher {
            chunks.iter().for_each(|chunk| hasher.update(chunk));
        }
        let path = || self.store.tree.path_of(self.key.as_str());
        match &mut self.sink {
            Sink::Write(temp) => {
                temp.write(chunks).map_err(|error| fault::io("writing", path(), error))
            }
            Sink::Compare { stored, identical, .. } => {
                for chunk in chunks {
                    *identical = *identical
                        && continues_with(stored, chunk)
                            .map_err(|error| fault::io("reading", path(), error))?;
                }
                Ok(())
            }
        }
    }

    /// Takes `length` bytes of a file from `offset` on, which it must have.
    pub(super) fn append(&mut self, part: &File, offset: u64, length: u64) -> Result<()> {
        let path = self.store.tree.path_of(self.key.as_str());
        if let (None, Sink::Write(temp)) = (&self.hasher, &mut self.sink) {
            return match temp.append(part, offset, length) {
                Ok(appended) if appended == length => Ok(()),
                Ok(_) => Err(shrank(path)),
                Err(error) => Err(fault::io("copying a part of", path, error)),
            };
        }
        let mut part = part;
        let mut left = length;
        part.seek(SeekFrom::Start(offset))
            .map_err(|error| fault::io("reading a part of", &path, error))?;
        while left > 0 {
            let mut piece = vec![0; usize::try_from(left).unwrap_or(PIECE).min(PIECE)];
            part.read_exact(&mut piece).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => shrank(path.clone()),
                _ => fault::io("reading a part of", &path, error),
            })?;
            left -= piece.len() as u64;
            self.write(&[piece.into()])?;
        }
        Ok(())
    }

    /// Checks the bytes and commits them.
    pub(super) fn finish(mut self) -> Result<Stored> {
        let checked = check(self.hasher.take(), self.expected);
        if let Sink::Compare { stored, facts, identical } = &self.sink {
            if !identical || !at_end(stored, facts) || checked.is_err() {
                return Err(StoreError::AlreadyExists);
            }
            return self.settle(stored, facts);
        }
        checked?;
        self.commit()
    }

    /// The blob that is there has the same bytes. It may be another upload's that is not durable
    /// yet, so it is made so before anybody hears that it is stored.
    fn settle(&self, stored: &File, facts: &Statx) -> Result<Stored> {
        let path = || self.store.tree.path_of(self.key.as_str());
        stored.sync_all().map_err(|error| fault::io("syncing", path(), error))?;
        let there = self.store.occupant(&self.dir, &self.key)?;
        if there.as_ref().map(kept::etag) != Some(kept::etag(facts)) {
            return Err(StoreError::PreconditionFailed);
        }
        self.store.wait_for_folders();
        self.store.sync_folder(&self.dir, &self.folder)?;
        let info = kept::info(&self.store, &self.key, stored, facts)?;
        Ok(Stored { info, change: Change::Unchanged })
    }

    fn commit(mut self) -> Result<Stored> {
        let path = self.store.tree.path_of(self.key.as_str());
        if let Sink::Write(temp) = &self.sink {
            temp.finish().map_err(|error| fault::io("syncing", &path, error))?;
        }
        if self.folder_exists {
            self.store.wait_for_folders();
        } else {
            self.dir = self.store.make_folder(&self.folder)?;
        }
        let change = loop {
            if let Some(change) = self.give_name()? {
                break change;
            }
            // Somebody else was quicker since we looked.
            if self.condition == Condition::Absent {
                return Err(StoreError::AlreadyExists);
            }
            if let Some(outcome) = self.compare_with_winner()? {
                return outcome;
            }
        };
        self.store.sync_folder(&self.dir, &self.folder)?;
        let Sink::Write(temp) = &self.sink else {
            return Err(StoreError::AlreadyExists);
        };
        let facts = tree::facts(temp.file()).map_err(|errno| fault::io("reading", path, errno))?;
        let info = kept::info(&self.store, &self.key, temp.file(), &facts)?;
        Ok(Stored { info, change })
    }

    /// The one step that makes the blob appear; none where the key is taken and must not be.
    fn give_name(&mut self) -> Result<Option<Change>> {
        let store = Arc::clone(&self.store);
        let witness = self.witness.clone();
        // Held for as long as it takes to look and to rename, never while syncing.
        let _lock = store.lock_key(&self.key);
        let Some(witness) = witness else {
            let outcome = self.give_name_locked(false)?;
            return Ok(outcome.map(|gone| change(gone.as_ref())));
        };
        let size = match &self.sink {
            Sink::Write(temp) => temp.file().metadata().map(|facts| facts.len()),
            Sink::Compare { facts, .. } => Ok(facts.stx_size),
        };
        let size = size
            .map_err(|error| fault::io("reading", store.tree.path_of(self.key.as_str()), error))?;
        let wanted = witness.before()?;
        let outcome = self.give_name_locked(wanted);
        let done = outcome.as_ref().ok().and_then(Option::as_ref);
        let made = done.map(|gone| change(gone.as_ref()));
        witness.after(done.map(|gone| Changed { gone: gone.clone(), came: Some(size) }));
        outcome.map(|_| made)
    }

    /// The outer none where the key is taken; the inner one where no blob was there.
    fn give_name_locked(&mut self, wanted: bool) -> Result<Option<Option<Gone>>> {
        let store = &self.store;
        let Sink::Write(temp) = &mut self.sink else {
            return Ok(None);
        };
        let target = Target { dir: &self.dir, folder: &self.folder, name: last(&self.key) };
        let there = match &self.condition {
            Condition::Absent | Condition::AbsentOrIdentical => {
                return Ok(temp.place(store, target)?.then_some(None));
            }
            Condition::Always => loop {
                if let Some(there) = store.occupant(target.dir, &self.key)? {
                    break there;
                }
                if temp.place(store, target)? {
                    return Ok(Some(None));
                }
            },
            Condition::Matches(etag) => store
                .occupant(target.dir, &self.key)?
                .filter(|there| kept::etag(there) == *etag)
                .ok_or(StoreError::PreconditionFailed)?,
        };
        let gone = kept::gone(store, target.dir, &self.key, &there, wanted);
        temp.replace(store, target)?;
        Ok(Some(Some(gone)))
    }

    /// Ends an upload whose key was taken meanwhile as if it had been taken before; none where
    /// it is free again.
    fn compare_with_winner(&self) -> Result<Option<Result<Stored>>> {
        // Says what is there instead of a blob.
        self.store.occupant(&self.dir, &self.key)?;
        let Some((stored, facts)) = self.store.tree.blob(self.key.as_str())? else {
            return Ok(None);
        };
        let path = || self.store.tree.path_of(self.key.as_str());
        let failed = |error| fault::io("comparing", path(), error);
        let Sink::Write(temp) = &self.sink else {
            return Ok(None);
        };
        let mut ours = temp.file();
        let mut stored = File::from(stored);
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
        if !at_end(&stored, &facts) {
            return Ok(Some(Err(StoreError::AlreadyExists)));
        }
        Ok(Some(self.settle(&stored, &facts)))
    }
}

impl Inner {
    /// The blob under a key, where there is one. What is not a blob cannot be replaced by one.
    fn occupant(&self, dir: &OwnedFd, key: &Key) -> Result<Option<Statx>> {
        let facts = match tree::facts_at(dir, last(key)) {
            Ok(facts) => facts,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno @ (Errno::NAMETOOLONG | Errno::ILSEQ)) => {
                return Err(self.tree.in_the_way(key.as_str(), errno));
            }
            Err(errno) => {
                return Err(fault::io("looking at", self.tree.path_of(key.as_str()), errno));
            }
        };
        match tree::kind(&facts) {
            FileType::RegularFile => Ok(Some(facts)),
            FileType::Symlink => Err(fault::symlink(key.as_str())),
            FileType::Directory => Err(StoreError::Invalid(format!(
                "{key}: this is a folder, so no blob can be there"
            ))),
            _ => Err(StoreError::Invalid(format!("{key}: something else than a blob is there"))),
        }
    }
}

fn change(gone: Option<&Gone>) -> Change {
    gone.map_or(Change::Created, |gone| Change::Replaced { size: gone.size })
}

/// The part of a key behind its folder.
pub(super) fn last(key: &Key) -> &str {
    key.as_str().rsplit('/').next().unwrap_or(key.as_str())
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
fn at_end(mut file: &File, facts: &Statx) -> bool {
    file.stream_position().is_ok_and(|position| position == facts.stx_size)
}

fn shrank(path: std::path::PathBuf) -> StoreError {
    let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the part became shorter meanwhile");
    fault::io("reading a part of", path, source)
}
