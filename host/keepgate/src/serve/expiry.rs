//! Removes blobs that have expired, in rounds, for as long as the gateway runs. What a blob's expiry is, and why a
//! round need not list a store, is in `keepgate_store::expiry`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use keepgate_store::BlobStore;
use keepgate_store::expiry::{Removed, remove_expired};

use super::pages::Current;

/// From the start to the first round, and between two of them. Blobs are marked in slots of a quarter of an hour, so
/// more rounds would find nothing.
const FIRST: Duration = Duration::from_secs(60);
const ROUNDS: Duration = Duration::from_secs(5 * 60);

/// Stores in which blobs may expire, by name: with their quotas, and without what mounts allow their clients.
pub(super) type Expiring = Vec<(String, Arc<dyn BlobStore>)>;

/// Goes on until it is aborted.
pub(super) async fn run(current: Arc<ArcSwap<Current>>) {
    let mut problems = BTreeMap::new();
    tokio::time::sleep(FIRST).await;
    loop {
        let stores = current.load().expiring.clone();
        for (name, store) in stores {
            let problem = round(&name, &*store).await.err();
            if let Some(problem) = &problem
                && problems.get(&name) != Some(problem)
            {
                tracing::warn!(
                    store = name,
                    error = problem,
                    "blobs that have expired cannot be removed; it is tried again"
                );
            }
            // What stays the same is in the log once.
            match problem {
                Some(problem) => problems.insert(name, problem),
                None => problems.remove(&name),
            };
        }
        tokio::time::sleep(ROUNDS).await;
    }
}

/// The text says what cannot be removed and why.
async fn round(name: &str, store: &dyn BlobStore) -> Result<(), String> {
    let Removed { blobs, bytes, failed, error } =
        remove_expired(store).await.map_err(|error| error.to_string())?;
    if blobs > 0 {
        tracing::info!(store = name, blobs, bytes, "removed what has expired");
    }
    match error {
        Some(error) => Err(format!("{failed} blobs; of one of them: {error}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use keepgate_store::clock::Clock;
    use keepgate_store::disk::{DiskOptions, DiskStore};
    use keepgate_store::expiry::time;
    use keepgate_store::{Body, Key, PutOptions};

    use super::*;

    #[tokio::test]
    async fn a_round_removes_what_has_expired_or_says_why_not() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::stopped_at(time(0));
        let options = DiskOptions { clock: clock.clone(), ..DiskOptions::default() };
        let store = DiskStore::open(dir.path(), options).unwrap();
        let key = Key::new("a/b").unwrap();
        let options = PutOptions { expires: Some(time(1)), ..PutOptions::default() };
        store.put(&key, Body::from_bytes("x"), options).await.unwrap();
        clock.set(time(3_600_000_000_000));
        round("main", &store).await.unwrap();
        assert!(!dir.path().join("a/b").exists());

        let options = PutOptions { expires: Some(time(1)), ..PutOptions::default() };
        store.put(&key, Body::from_bytes("x"), options).await.unwrap();
        clock.set(time(7_200_000_000_000));
        std::fs::rename(dir.path().join("a"), dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", dir.path().join("a")).unwrap();
        let problem = round("main", &store).await.unwrap_err();
        assert!(problem.contains("1 blobs") && problem.contains("symbolic link"), "{problem}");
        assert!(dir.path().join("elsewhere/b").exists());
    }
}
