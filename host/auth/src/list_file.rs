//! What files of users, fingerprints and keys share: invalid lines, and noticing that a file has changed.

use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// An invalid line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The number of the line, from 1.
    pub line: usize,
    /// What is wrong with it and what to do.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

/// What changes when the file changes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    inode: u64,
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        let inode = metadata.ino();
        Self { modified: metadata.modified().ok(), size: metadata.len(), inode }
    }
}

/// Reads a file. Blocks: do not call it on asynchronous threads.
pub(crate) fn read(path: &Path) -> io::Result<(Vec<u8>, Stamp)> {
    let mut file = fs::File::open(path)?;
    // Taken before reading, so that later changes are noticed at the next check.
    let stamp = Stamp::of(&file.metadata()?);
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok((text, stamp))
}

/// What was read from a file, and is read again when the file changes.
pub(crate) trait Watched: Send + Sync + 'static {
    /// What the file has, for messages.
    const CONTENT: &'static str;

    /// The file; `None` if it does not come from one.
    fn file(&self) -> Option<(&Path, &Mutex<Watch>)>;

    /// Reads it again. What is wrong with it is logged there. Blocks.
    fn read_again(&self, path: &Path, watch: &mut Watch);
}

/// Reads a file again if it has changed and the last check was long enough ago.
pub(crate) async fn check_for_changes<T: Watched>(watched: &Arc<T>) {
    let Some((path, watch)) = watched.file() else { return };
    {
        // Another request is already checking, perhaps on a slow disk.
        let Ok(mut watch) = watch.try_lock() else { return };
        if !watch.is_due() {
            return;
        }
    }
    // The disk may be slow.
    let this = Arc::clone(watched);
    let check = tokio::task::spawn_blocking(move || {
        let Some((path, watch)) = this.file() else { return };
        let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
        if watch.has_changed(path) {
            this.read_again(path, &mut watch);
        }
    });
    if check.await.is_err() {
        tracing::error!(file = %path.display(), "check of the file of {} panicked", T::CONTENT);
    }
}

/// When to check a file again, and its last known state.
pub(crate) struct Watch {
    every: Duration,
    next: Instant,
    loaded: Stamp,
    /// Seen once and not loaded yet: it may still be being written.
    unsettled: Option<Stamp>,
    /// Whether the last error has been logged.
    error_logged: bool,
}

impl Watch {
    /// Of a file that has just been read, and is to be checked at most this often.
    pub(crate) fn new(loaded: Stamp, every: Duration) -> Self {
        let next = Instant::now() + every;
        Self { every, next, loaded, unsettled: None, error_logged: false }
    }

    /// Whether it is time for a check, which then counts as begun.
    pub(crate) fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = now >= self.next;
        if due {
            self.next = now + self.every;
        }
        due
    }

    /// Whether the file must be read again. Blocks.
    pub(crate) fn has_changed(&mut self, path: &Path) -> bool {
        let stamp = fs::metadata(path).map(|metadata| Stamp::of(&metadata)).ok();
        if stamp == Some(self.loaded) {
            self.unsettled = None;
            return false;
        }
        // A file written in place may be incomplete: it is read once it looks the same twice. A file
        // renamed into place is complete.
        let replaced = stamp.map(|stamp| stamp.inode) != Some(self.loaded.inode);
        if !replaced && self.unsettled != stamp {
            self.unsettled = stamp;
            return false;
        }
        true
    }

    /// Notes that the file has been read.
    pub(crate) fn read(&mut self, stamp: Stamp) {
        *self = Self::new(stamp, self.every);
    }

    /// Notes that it cannot be read. Returns whether that is to be logged, which it is once.
    pub(crate) fn failed(&mut self) -> bool {
        self.next = Instant::now() + self.every;
        !std::mem::replace(&mut self.error_logged, true)
    }
}
