//! What all parts of a run share: the two stores, the options, and the report that they write.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keepgate_store::BlobStore;

use crate::limiter::Limiter;
use crate::options::{CopyOptions, Progress};
use crate::report::Report;

/// Bytes between two reports of progress within blobs.
const STEP: u64 = 4 * 1024 * 1024;

/// What all parts of a run share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) from: Arc<dyn BlobStore>,
    pub(crate) to: Arc<dyn BlobStore>,
    pub(crate) options: CopyOptions,
    pub(crate) limiter: Option<Limiter>,
    report: Mutex<Report>,
    planned_blobs: AtomicU64,
    planned_bytes: AtomicU64,
    done_blobs: AtomicU64,
    read_bytes: AtomicU64,
}

impl Context {
    pub(crate) fn new(
        from: Arc<dyn BlobStore>,
        to: Arc<dyn BlobStore>,
        options: CopyOptions,
    ) -> Arc<Self> {
        let limiter = options.bandwidth.map(Limiter::new);
        Arc::new(Self {
            from,
            to,
            options,
            limiter,
            report: Mutex::default(),
            planned_blobs: 0.into(),
            planned_bytes: 0.into(),
            done_blobs: 0.into(),
            read_bytes: 0.into(),
        })
    }

    pub(crate) fn parallel(&self) -> usize {
        self.options.parallel.max(1)
    }

    /// The report so far.
    pub(crate) fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn planned(&self, blobs: u64, bytes: u64) {
        self.planned_blobs.fetch_add(blobs, Ordering::Relaxed);
        self.planned_bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut report = self.report();
        report.behind.blobs += blobs;
        report.behind.bytes = report.behind.bytes.saturating_add(bytes);
    }

    /// A planned blob is in the copy, or no longer in the source.
    pub(crate) fn settled(&self, bytes: u64) {
        let mut report = self.report();
        report.behind.blobs = report.behind.blobs.saturating_sub(1);
        report.behind.bytes = report.behind.bytes.saturating_sub(bytes);
    }

    pub(crate) fn done(&self) {
        self.done_blobs.fetch_add(1, Ordering::Relaxed);
        self.tell();
    }

    pub(crate) fn read(&self, bytes: u64) {
        let before = self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before / STEP != (before + bytes) / STEP {
            self.tell();
        }
    }

    fn tell(&self) {
        if let Some(callback) = &self.options.progress {
            callback.tell(Progress {
                planned_blobs: self.planned_blobs.load(Ordering::Relaxed),
                planned_bytes: self.planned_bytes.load(Ordering::Relaxed),
                done_blobs: self.done_blobs.load(Ordering::Relaxed),
                read_bytes: self.read_bytes.load(Ordering::Relaxed),
            });
        }
    }
}
