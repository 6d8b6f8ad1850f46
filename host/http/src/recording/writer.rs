//! The thread that writes recordings, and its queue. A full or hanging disk loses recordings, but affects
//! no request.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::document::Document;
use super::exchange::RecordedExchange;
use super::{RecordError, RecordLimits};

/// Exchanges that may be queued; together with the largest body this bounds the memory.
const QUEUE: usize = 64;
/// How long closing waits for queued exchanges.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes exchanges into a folder.
pub(super) struct Writer {
    /// `None` while it ends.
    queue: Option<SyncSender<Box<RecordedExchange>>>,
    ended: Mutex<Receiver<()>>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Whether the folder has reached its limits.
    full: AtomicBool,
    /// Exchanges that were skipped.
    dropped: AtomicU64,
}

/// The state of the thread.
struct Thread {
    folder: PathBuf,
    limits: RecordLimits,
    /// The number of the next exchange.
    number: u64,
    bytes: u64,
    exchanges: u64,
    /// Whether the last exchange could not be written, which is logged once.
    failing: bool,
    state: Arc<State>,
}

impl Writer {
    pub(super) fn start(folder: &Path, limits: RecordLimits) -> Result<Self, RecordError> {
        let state = Arc::<State>::default();
        let wrong = |source| RecordError::Folder { folder: folder.to_owned(), source };
        let mut thread = Thread::new(folder, limits, state.clone()).map_err(wrong)?;
        let (queue, received) = sync_channel::<Box<RecordedExchange>>(QUEUE);
        let (end, ended) = sync_channel::<()>(0);
        thread::Builder::new()
            .name("recording".to_owned())
            .spawn(move || {
                for exchange in received {
                    thread.write(*exchange);
                }
                drop(end);
            })
            .map_err(RecordError::Thread)?;
        Ok(Self { queue: Some(queue), ended: Mutex::new(ended), state })
    }

    /// Whether the folder has reached its limits.
    pub(super) fn is_full(&self) -> bool {
        self.state.full.load(Ordering::Relaxed)
    }

    /// Queues an exchange, or skips it if the queue is full.
    pub(super) fn put(&self, exchange: Box<RecordedExchange>) {
        let queued = self.queue.as_ref().is_some_and(|queue| queue.try_send(exchange).is_ok());
        if !queued {
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(CLOSE_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("last exchanges not recorded; writing them took too long");
        }
        let dropped = self.state.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(dropped, "exchanges not recorded");
        }
    }
}

impl Thread {
    /// Counts what earlier recordings left in the folder.
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

    fn write(&mut self, mut exchange: RecordedExchange) {
        exchange.redact_bodies();
        let method: String =
            exchange.method.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
        let stem = format!("{:08}-{method}", self.number);
        match Document::new(exchange, &stem) {
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
                tracing::warn!(%folder, bytes, exchanges, "recording stopped; the folder has reached its limits");
            }
            return;
        }
        // A number is not reused after an error: a file may be left over.
        self.number += 1;
        match self.files(document, stem) {
            Ok(()) => {
                (self.bytes, self.exchanges, self.failing) = (bytes, exchanges, false);
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Writes bodies first, so that an exchange's bodies exist when its TOML file does.
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
            tracing::warn!(%folder, %error, "cannot record exchanges; skipping them");
        }
    }
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
