//! Temporary files: what is reported about bodies, and that nothing is left behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    reason = "tests may panic and print"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{all, broken, chunked, noise, stuck, watched};
use futures_util::FutureExt;
use keepgate_pipes::{Spool, SpoolError};
use keepgate_store::{Body, BodyError};
use sha2::{Digest, Sha256};

/// Files below a folder that this process has open, whether they have names or not.
fn open_files(folder: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap();
    let files = open.filter_map(|one| fs::read_link(one.unwrap().path()).ok());
    files.filter(|file| file.starts_with(folder) && file != folder).count()
}

/// Waits, because files are closed on another thread.
async fn all_are_closed(folder: &Path) {
    let waiting = async {
        while open_files(folder) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[tokio::test]
async fn a_spooled_body_is_unchanged_and_its_size_and_hash_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap().join("made/when/needed");
    let spool = Spool::new(folder.clone(), 1_000_000);
    assert!(!folder.exists());
    for length in [0, 1, 128 * 1024, 256 * 1024, 256 * 1024 + 1, 1_000_000] {
        let bytes = noise(length, 1);
        for body in [chunked(&bytes, 10_000), Body::from_bytes(bytes.clone())] {
            let spooled = spool.read(body).await.unwrap();
            assert_eq!(spooled.size, length as u64);
            assert_eq!(spooled.sha256, <[u8; 32]>::from(Sha256::digest(&bytes)));
            assert_eq!(spooled.body.length(), Some(length as u64));
            assert!(is_empty(&folder), "the file has a name");
            assert!(all(spooled.body).await.unwrap() == bytes);
        }
    }
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    all_are_closed(&folder).await;
}

#[tokio::test]
async fn nothing_beyond_the_limit_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::new(folder.path().to_owned(), 1000);
    assert_eq!(spool.read(chunked(&[1; 1000], 10)).await.unwrap().size, 1000);
    let (watch, body) = watched(vec![1; 1], 1001);
    let outcome = spool.read(body).await;
    assert!(matches!(outcome, Err(SpoolError::TooLarge { limit: 1000 })), "{outcome:?}");
    assert_eq!(watch.read(), 0, "its announced length is enough to refuse it");
    let (watch, body) = watched(vec![1; 1000], u64::MAX / 1000);
    // A body of unknown length is refused too, once it exceeds the limit.
    let outcome = spool.read(Body::from_stream(None, body)).await;
    assert!(matches!(outcome, Err(SpoolError::TooLarge { limit: 1000 })), "{outcome:?}");
    assert!(watch.read() < 300_000);
}

#[tokio::test]
async fn errors_of_the_body_are_reported_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let spool = Spool::new(folder.clone(), u64::MAX);
    for length in [10, 1_000_000] {
        let outcome = spool.read(broken(&noise(length, 1))).await;
        assert!(matches!(outcome, Err(SpoolError::Body(BodyError::TimedOut))), "{outcome:?}");
    }
    // Bodies that do not have the length they announced.
    let says = |length, bytes: &[u8]| Body::from_stream(Some(length), chunked(bytes, 100));
    let outcome = spool.read(says(1001, &[1; 1000])).await;
    assert!(matches!(outcome, Err(SpoolError::Body(BodyError::Truncated))), "{outcome:?}");
    let outcome = spool.read(says(999, &[1; 1000])).await;
    assert!(
        matches!(outcome, Err(SpoolError::Body(BodyError::TooLarge { limit: 999 }))),
        "{outcome:?}"
    );
    assert!(is_empty(&folder));
    all_are_closed(&folder).await;
}

#[tokio::test]
async fn a_dropped_spool_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let spool = Spool::new(folder.clone(), u64::MAX);
    let mut reading = Box::pin(spool.read(stuck(&noise(300_000, 1))));
    while open_files(&folder) == 0 {
        assert!((&mut reading).now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    drop(reading);
    all_are_closed(&folder).await;

    let mut spooled = spool.read(chunked(&noise(1_000_000, 1), 10_000)).await.unwrap();
    assert!(spooled.body.chunk().await.unwrap().is_ok());
    assert_eq!(open_files(&folder), 1);
    drop(spooled);
    all_are_closed(&folder).await;
    assert!(is_empty(&folder));
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    fs::write(&file, "").unwrap();
    let spool = Spool::new(file.join("below"), 10);
    let outcome = spool.read(Body::empty()).await;
    let Err(SpoolError::Io(error)) = outcome else { panic!("{outcome:?}") };
    assert!(error.to_string().contains("a-file/below"), "{error}");
}

#[test]
fn only_leftovers_of_killed_processes_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".keepgate-spool-x1"), "left").unwrap();
    fs::write(folder.path().join("somebody's"), "own").unwrap();
    let _spool = Spool::new(folder.path().to_owned(), 10);
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(names, ["somebody's"]);
}

/// A mount that is removed at the end of the test.
struct Mount(PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(status.unwrap().success() || std::thread::panicking());
    }
}

#[tokio::test]
async fn a_full_file_system_is_reported_and_its_space_released() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let arguments = ["-t", "tmpfs", "-o", "size=1m", "none"];
    let mounted = Command::new("mount").args(arguments).arg(&folder).output().unwrap();
    if !mounted.status.success() {
        let text = String::from_utf8_lossy(&mounted.stderr);
        eprintln!("SKIPPED a_full_file_system: mount {arguments:?}: {}", text.trim());
        return;
    }
    let _mount = Mount(folder.clone());
    let spool = Spool::new(folder.clone(), u64::MAX);
    for _ in 0..3 {
        let outcome = spool.read(chunked(&noise(2_000_000, 1), 10_000)).await;
        assert!(matches!(outcome, Err(SpoolError::NoSpace)), "{outcome:?}");
        // Even if the sender says nothing more.
        let outcome = spool.read(stuck(&noise(2_000_000, 1))).await;
        assert!(matches!(outcome, Err(SpoolError::NoSpace)), "{outcome:?}");
        all_are_closed(&folder).await;
        assert_eq!(spool.read(chunked(&noise(900_000, 1), 10_000)).await.unwrap().size, 900_000);
        all_are_closed(&folder).await;
    }
}
