//! Uploads that are interrupted, and what they leave behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use keepgate_store::disk::Features;
use keepgate_store::{BodyError, Condition, PutOptions, StoreError};
use rustix::fs::FlockOperation;
use tempfile::TempDir;

use super::*;

#[tokio::test]
async fn a_folder_removed_during_an_upload_is_an_error_and_the_next_upload_works() {
    for dir in places() {
        let store = open(dir.path());
        store.prepare(&[folder("a")]).await.unwrap();
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let (begun, waiting) = tokio::sync::oneshot::channel::<()>();
        let late = async move {
            begun.send(()).unwrap();
            receiver.await.unwrap();
            Ok(Bytes::from("late"))
        };
        let body = keepgate_store::Body::from_stream(None, futures_util::stream::once(late));
        let upload = tokio::spawn({
            let store = store.clone();
            async move { store.put(&key("a/b"), body, PutOptions::default()).await }
        });
        waiting.await.unwrap();
        fs::remove_dir_all(dir.path().join("a")).unwrap();
        sender.send(()).unwrap();
        let outcome = upload.await.unwrap();
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
        put(&store, "a/b", &bytes(1, 1)).await;
        assert_eq!(files(dir.path()), [dir.path().join("a/b")]);
    }
}

/// Waits until only these files are there, because the thread that held a dropped upload releases it
/// a moment later.
async fn only(root: &Path, expected: &[PathBuf]) {
    let settled = async {
        while files(root) != expected {
            tokio::task::yield_now().await;
        }
    };
    let outcome = tokio::time::timeout(Duration::from_secs(20), settled).await;
    assert!(outcome.is_ok(), "left: {:?}", files(root));
}

#[tokio::test]
async fn failed_and_dropped_uploads_leave_no_file() {
    let mut all_seen = Vec::new();
    let ways = places().into_iter().map(|dir| (dir, Features::default()));
    for (dir, features) in ways.chain([(TempDir::new().unwrap(), named())]) {
        let store = open_with(dir.path(), features);
        put(&store, "a/old", &bytes(10, 1)).await;
        let old = [dir.path().join("a/old")];
        let mut seen = BTreeSet::new();
        for name in ["a/new", "a/old", "b/c/new"] {
            for count in [0, 1, 5, 9] {
                let (body, taken) = stalling((0..count).map(|seed| bytes(50_000, seed)).collect());
                let blob = key(name);
                let mut upload = store.put(&blob, body, PutOptions::default());
                while taken.load(Ordering::Relaxed) < count {
                    let turn = tokio::time::timeout(Duration::from_millis(1), &mut upload).await;
                    assert!(turn.is_err());
                }
                seen.insert(files(dir.path()).len());
                drop(upload);
                only(dir.path(), &old).await;
            }
            // A failure leaves nothing, at once.
            let outcome =
                store.put(&key(name), broken(&bytes(400_000, 1)), PutOptions::default()).await;
            assert!(matches!(outcome, Err(StoreError::Body(BodyError::TimedOut))));
            assert_eq!(files(dir.path()), old);
            let outcome =
                store.put(&key(name), chunked(&bytes(400_000, 1), 9999), verified(b"")).await;
            assert!(matches!(outcome, Err(StoreError::ChecksumMismatch { .. })));
            assert_eq!(files(dir.path()), old);
        }
        let outcome = store.put(&key("a/old"), "x".into_body(), when(Condition::Absent)).await;
        assert!(outcome.is_err());
        assert_eq!(files(dir.path()), old);
        all_seen.push(seen);
    }
    // At least one of them had unfinished files to leave behind.
    assert!(all_seen.iter().any(|seen| seen.contains(&2)), "{all_seen:?}");
}

#[tokio::test]
async fn opening_sweeps_what_dead_processes_left_and_spares_live_ones() {
    let dir = TempDir::new().unwrap();
    let living = open_with(dir.path(), named());
    let (body, taken) = stalling((0..9).map(|seed| bytes(50_000, seed)).collect());
    let blob = key("a");
    let mut upload = living.put(&blob, body, PutOptions::default());
    while taken.load(Ordering::Relaxed) < 9 {
        assert!(tokio::time::timeout(Duration::from_millis(1), &mut upload).await.is_err());
    }
    let unfinished = files(dir.path());
    assert_eq!(unfinished.len(), 1);

    // Another process was killed; what it left has no lock.
    let dead = dir.path().join("b/.keepgate-upload-1");
    fs::create_dir(dir.path().join("b")).unwrap();
    fs::write(&dead, b"half").unwrap();
    // The same of an earlier version, and of one that is alive, simulated by our lock.
    let tmp = dir.path().join(".keepgate/tmp");
    for name in ["dead", "foreign"] {
        fs::create_dir_all(tmp.join(name)).unwrap();
        fs::write(tmp.join(name).join("upload"), b"half").unwrap();
        fs::write(tmp.join(name).join("lock"), b"").unwrap();
    }
    let lock = fs::File::open(tmp.join("foreign/lock")).unwrap();
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
    // A sweep touches neither blobs nor other folders of the same names.
    fs::create_dir_all(dir.path().join("tmp/x")).unwrap();
    fs::write(dir.path().join("tmp/x/upload"), b"blob").unwrap();
    fs::write(dir.path().join("tmp/x/lock"), b"blob").unwrap();
    fs::write(dir.path().join(".keepgate/state"), b"").unwrap();

    let other = open(dir.path());
    assert!(!tmp.join("dead").exists() && !dead.exists());
    assert!(tmp.join("foreign/upload").exists());
    assert!(unfinished[0].exists());
    assert!(dir.path().join(".keepgate/state").exists());
    assert_eq!(names(&other, "tmp", true).await, ["tmp/x/lock", "tmp/x/upload"]);

    drop(lock);
    drop(other);
    let again = open(dir.path());
    assert!(!tmp.join("foreign").exists());
    drop(upload);
    drop((living, again));
    only(dir.path(), &[".keepgate/state", "tmp/x/upload"].map(|name| dir.path().join(name))).await;
    assert!(!tmp.exists());
}

#[tokio::test]
async fn a_commit_in_progress_finishes_without_its_caller() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path());
    let mut unfinished = 0;
    for round in 0..200 {
        let key = key(&format!("blob{round}"));
        let blob = bytes(1000, round);
        // In memory, so that the first poll starts the commit, and nobody waits for the result.
        let mut upload = Box::pin(store.put(&key, blob.clone().into_body(), verified(&blob)));
        let turn = futures_util::future::poll_immediate(&mut upload).await;
        unfinished += usize::from(turn.is_none());
        drop(upload);
    }
    assert!(unfinished > 0, "every upload finished at once, so nothing was tested");
    let expected: Vec<_> = (0..200).map(|round| dir.path().join(format!("blob{round}"))).collect();
    let mut sorted = expected.clone();
    sorted.sort_unstable();
    only(dir.path(), &sorted).await;
    for (round, path) in expected.iter().enumerate() {
        assert_eq!(fs::read(path).unwrap(), bytes(1000, round));
    }
}
