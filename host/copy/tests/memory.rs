//! Memory does not grow with the number of blobs: 500,000 new ones, and as many missing.
//!
//! Held in memory, they would need more than 100 MB. A test program of its own, because it measures the
//! process.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use keepgate_copy::{CopyOptions, Deletes, Order};
use keepgate_store::{
    BlobStore, Body, Change, DeleteOptions, Download, Entry, Folder, Info, Key, Listing, Part,
    Piece, PutOptions, RenameOptions, Result, StoreError, Stored,
};

const NAMES: usize = 500_000;
/// In KiB.
const MOST: u64 = 48 * 1024;

/// A store with blobs that are made as they are asked for, and that keeps none.
#[derive(Debug)]
struct Endless(std::ops::Range<usize>);

fn name(at: usize) -> String {
    format!("a/folder/with/a/rather/long/name/so/that/keys/need/memory/{at:020}")
}

fn info(key: &Key) -> Info {
    Info {
        key: key.clone(),
        size: 3,
        modified: SystemTime::UNIX_EPOCH,
        etag: "an etag of usual length 0123456789".to_owned(),
        content_type: None,
        metadata: Vec::new(),
        tags: Vec::new(),
        expires: None,
    }
}

struct Names(std::ops::Range<usize>);

#[async_trait]
impl Listing for Names {
    async fn next(&mut self, max: usize) -> Result<Vec<Entry>> {
        let names = self.0.by_ref().take(max).map(|at| Entry {
            key: name(at),
            size: 3,
            modified: SystemTime::UNIX_EPOCH,
            etag: "an etag of usual length 0123456789".to_owned(),
            folder: false,
        });
        Ok(names.collect())
    }
}

#[async_trait]
impl BlobStore for Endless {
    async fn head(&self, key: &Key) -> Result<Info> {
        let at: usize = key.name().parse().unwrap();
        if self.0.contains(&at) { Ok(info(key)) } else { Err(StoreError::NotFound) }
    }

    async fn get(&self, key: &Key, _: Part) -> Result<Download> {
        Ok(Download { info: info(key), offset: 0, length: 3, body: Body::from_bytes("abc") })
    }

    async fn put(&self, key: &Key, body: Body, _: PutOptions) -> Result<Stored> {
        body.collect(3).await?;
        Ok(Stored { info: info(key), change: Change::Created })
    }

    async fn concat(&self, _: &Key, _: &[Piece], _: PutOptions) -> Result<Stored> {
        Err(StoreError::Unsupported("not needed".to_owned()))
    }

    async fn rename(&self, _: &Key, _: &Key, _: RenameOptions) -> Result<Stored> {
        Err(StoreError::Unsupported("not needed".to_owned()))
    }

    async fn delete_with(&self, _: &Key, _: DeleteOptions) -> Result<Option<u64>> {
        Ok(Some(3))
    }

    async fn list_after(&self, _: &Folder, _: bool, _: Option<&str>) -> Result<Box<dyn Listing>> {
        Ok(Box::new(Names(self.0.clone())))
    }

    async fn prepare(&self, _: &[Folder]) -> Result<()> {
        Ok(())
    }

    async fn check_metadata(&self) -> Result<()> {
        Ok(())
    }
}

/// The most memory that the process had so far, in KiB.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

fn options(state: &Path, day: u64) -> CopyOptions {
    let deletes = Deletes {
        after: Duration::from_secs(24 * 3600),
        max_missing: 1.0,
        state: state.to_owned(),
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(day * 24 * 3600),
    };
    CopyOptions { order: Order::plain(), deletes: Some(deletes), ..CopyOptions::default() }
}

#[tokio::test]
async fn memory_does_not_grow_with_the_number_of_blobs() {
    let Some(before) = peak() else {
        eprintln!("SKIPPED: this system does not say how much memory a process has used");
        return;
    };
    let state = tempfile::tempdir().unwrap();
    let (from, to) = (Arc::new(Endless(0..NAMES)), Arc::new(Endless(0..0)));
    let (report, outcome) = keepgate_copy::copy(from, to, options(state.path(), 1)).await;
    outcome.unwrap();
    assert_eq!(report.copied.blobs, NAMES as u64);
    for (day, removed) in [(2, 0), (3, NAMES as u64 - 1)] {
        let (from, to) = (Arc::new(Endless(0..1)), Arc::new(Endless(0..NAMES)));
        let (report, outcome) = keepgate_copy::copy(from, to, options(state.path(), day)).await;
        outcome.unwrap();
        assert_eq!((report.missing.count, report.removed.count), (NAMES as u64 - 1, removed));
    }
    let grown = peak().unwrap() - before;
    assert!(grown < MOST, "{grown} KiB more than before");
    println!("{NAMES} names: {grown} KiB");
}
