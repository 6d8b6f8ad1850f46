//! The thread that writes recordings, and the queue before it. A disk that is full or hangs costs
//! recordings, and no request.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::capture::Taken;
use super::document::Document;
use super::{RecordError, RecordLimits, secrets};

/// Exchanges that wait to be written; together with the largest body this bounds the memory.
const QUEUE: usize = 64;
/// At the end, what is queued has so long to be written.
const AT_THE_END: Duration = Duration::from_secs(5);

/// Writes exchanges into a folder.
pub(super) struct Writer {
    /// None while it ends.
    queue: Option<SyncSender<Box<Taken>>>,
    ended: Mutex<Receiver<()>>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// No more fits.
    full: AtomicBool,
    /// Left out since the last word about it.
    dropped: AtomicU64,
}

/// What the thread has.
struct Thread {
    folder: PathBuf,
    limits: RecordLimits,
    /// Of the next exchange.
    number: u64,
    bytes: u64,
    exchanges: u64,
    /// The last one could not be written: said once, until one can be again.
    failing: bool,
    state: Arc<State>,
}

impl Writer {
    pub(super) fn start(folder: &Path, limits: RecordLimits) -> Result<Self, RecordError> {
        let state = Arc::<State>::default();
        let wrong = |source| RecordError::Folder { folder: folder.to_owned(), source };
        let mut thread = Thread::new(folder, limits, state.clone()).map_err(wrong)?;
        let (queue, taken) = sync_channel::<Box<Taken>>(QUEUE);
        let (end, ended) = sync_channel::<()>(0);
        thread::Builder::new()
            .name("recording".to_owned())
            .spawn(move || {
                for taken in taken {
                    thread.write(*taken);
                }
                drop(end);
            })
            .map_err(RecordError::Thread)?;
        Ok(Self { queue: Some(queue), ended: Mutex::new(ended), state })
    }

    /// Whether the folder has reached its bounds.
    pub(super) fn is_full(&self) -> bool {
        self.state.full.load(Ordering::Relaxed)
    }

    /// Queues an exchange, or leaves it out.
    pub(super) fn put(&self, taken: Box<Taken>) {
        let queued = self.queue.as_ref().is_some_and(|queue| queue.try_send(taken).is_ok());
        if !queued {
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(AT_THE_END) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("recording: the last exchanges could not be written in time");
        }
        let dropped = self.state.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(dropped, "recording: exchanges were left out");
        }
    }
}

impl Thread {
    /// Looks at what is there from earlier recordings.
    fn new(folder: &Path, limits: RecordLimits, state: Arc<State>) -> io::Result<Self> {
        let (mut number, mut bytes, mut exchanges) = (1, 0_u64, 0);
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            bytes = bytes.saturating_add(entry.metadata()?.len());
            let name = entry.file_name().to_string_lossy().into_owned();
            exchanges += u64::from(name.ends_with(".toml"));
            let digits = name.split('-').next().and_then(|digits| digits.parse::<u64>().ok());
            number = digits.map_or(number, |digits| number.max(digits.saturating_add(1)));
        }
        let folder = folder.to_owned();
        Ok(Self { folder, limits, number, bytes, exchanges, failing: false, state })
    }

    fn write(&mut self, mut taken: Taken) {
        secrets::clean(&mut taken);
        let method: String =
            taken.method.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
        let stem = format!("{:08}-{method}", self.number);
        match Document::new(taken, &stem) {
            Ok(document) => self.keep(&document, &stem),
            Err(error) => self.failed(&error),
        }
    }

    fn keep(&mut self, document: &Document, stem: &str) {
        let size = document.size();
        let (bytes, exchanges) = (self.bytes.saturating_add(size), self.exchanges + 1);
        if bytes > self.limits.bytes || exchanges > self.limits.exchanges {
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
            if !self.state.full.swap(true, Ordering::Relaxed) {
                let (folder, bytes, exchanges) =
                    (self.folder.display(), self.bytes, self.exchanges);
                tracing::warn!(%folder, bytes, exchanges, "recording ends: the folder has reached its bounds");
            }
            return;
        }
        // A number that failed is not used again: a file of it may be left.
        self.number += 1;
        match self.files(document, stem) {
            Ok(()) => {
                (self.bytes, self.exchanges, self.failing) = (bytes, exchanges, false);
            }
            Err(error) => self.failed(&error),
        }
    }

    /// The bodies first: whoever finds the exchange finds them.
    fn files(&self, document: &Document, stem: &str) -> io::Result<()> {
        let mut written = Vec::new();
        let bodies = document.bodies.iter().map(|(end, bytes)| (*end, bytes.as_slice()));
        for (end, bytes) in bodies.chain([(".toml", document.text.as_bytes())]) {
            let path = self.folder.join(format!("{stem}{end}"));
            let made = private_file(&path);
            written.push(path);
            if let Err(error) = made.and_then(|mut file| file.write_all(bytes)) {
                written.iter().for_each(|path| drop(fs::remove_file(path)));
                return Err(error);
            }
        }
        Ok(())
    }

    fn failed(&mut self, error: &dyn std::fmt::Display) {
        self.state.dropped.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut self.failing, true) {
            let folder = self.folder.display();
            tracing::warn!(%folder, %error, "recording: an exchange is left out, as are others until one can be written");
        }
    }
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
