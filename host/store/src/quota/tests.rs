//! Calls of every kind at once, interleaved with counts, and with the gateway killed at any moment:
//! compares what is counted, what is there, and what the state file says.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use tempfile::TempDir;

use super::state_file::Saved;
use super::*;
use crate::disk::{DiskOptions, DiskStore};
use crate::memory::MemoryStore;
use crate::{Body, BodyError, Condition, Folder, Key, Part, Piece, PutOptions, RenameOptions};

type Store = Arc<dyn BlobStore>;

/// A sequence of numbers determined by its seed (SplitMix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }
}

const KEYS: [&str; 7] = ["a", "f/a", "f/b", "f/d/c", "g/a", "g/b", "z"];
const TOTAL: u64 = 60_000;
const FOLDER: u64 = 30_000;
const USER: u64 = 25_000;
const STEP: u64 = 15_000;

fn rules() -> Rules {
    Rules {
        total: Some(Amount::limit(TOTAL)),
        folders: vec![FolderRule { pattern: "*".to_owned(), limit: Amount::limit(FOLDER) }],
        users: vec![UserRule { user: "*".to_owned(), limit: Amount::limit(USER) }],
    }
}

fn options(dir: &Path) -> QuotaOptions {
    QuotaOptions { state_file: dir.join("state"), lock: None, recount_every: None }
}

async fn open(store: &Store, dir: &Path) -> Arc<Quota> {
    let quota = Quota::open(Arc::clone(store), rules(), options(dir)).await.unwrap();
    // Small, so that the state file is written often.
    let mut ledger = quota.shared.ledger();
    (ledger.step, ledger.room) = (STEP, 0);
    drop(ledger);
    quota
}

/// The bytes that are there, by store and folder; also by user if nothing is being changed.
async fn truth(store: &Store, owners: bool) -> BTreeMap<Scope, u64> {
    let mut sums = BTreeMap::from([(Scope::Store, 0)]);
    let mut listing = store.list(&Folder::top(), true).await.unwrap();
    // In memory, the first step returns everything as of one moment.
    loop {
        let entries = listing.next(1000).await.unwrap();
        if entries.is_empty() {
            return sums;
        }
        for entry in entries {
            let mut scopes = vec![Scope::Store];
            if let Some((folder, _)) = entry.key.split_once('/') {
                scopes.push(Scope::Folder(folder.to_owned()));
            }
            if owners {
                let info = store.head(&Key::new(entry.key).unwrap()).await.unwrap();
                let owner = ledger::owner_of(&info.metadata);
                scopes.extend(owner.map(|owner| Scope::User(owner.to_owned())));
            }
            for scope in scopes.into_iter().filter(|_| entry.size > 0) {
                *sums.entry(scope).or_default() += entry.size;
            }
        }
    }
}

fn counted(quota: &Quota) -> BTreeMap<Scope, u64> {
    let usage = quota.usage().into_iter();
    usage
        .inspect(|usage| assert_eq!(usage.reserved, 0, "{usage:?}"))
        .filter(|usage| usage.used > 0 || usage.scope == Scope::Store)
        .map(|usage| (usage.scope, usage.used))
        .collect()
}

/// A body in chunks that yields between them, and that may fail at its end.
fn slow(random: &mut Random, known: bool, fails: bool) -> Body {
    let length = [0, 1, 300, 2_000, 9_000, 20_000][random.below(6)];
    let piece = 1 + random.below(4000);
    let mut chunks: Vec<_> =
        vec![7; length].chunks(piece).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    if fails {
        chunks.push(Err(BodyError::TimedOut));
    }
    let chunks = stream::iter(chunks).then(|chunk| async {
        tokio::task::yield_now().await;
        chunk
    });
    Body::from_stream(known.then_some(length as u64), chunks)
}

/// One call of any kind; its result does not matter.
async fn call(store: Store, seed: u64) {
    let random = &mut Random(seed);
    let key = Key::new(KEYS[random.below(KEYS.len())]).unwrap();
    let condition = match random.below(8) {
        0 => Condition::Absent,
        1 | 2 => Condition::AbsentOrIdentical,
        3 => match store.head(&key).await {
            Ok(info) => Condition::Matches(info.etag),
            Err(_) => Condition::Absent,
        },
        _ => Condition::Always,
    };
    let mut options = PutOptions { condition, ..PutOptions::default() };
    let outcome = match random.below(15) {
        0..3 => store.delete(&key).await.map(drop),
        12.. => {
            let from = Key::new(KEYS[random.below(KEYS.len())]).unwrap();
            let options = RenameOptions { condition: options.condition, ..Default::default() };
            store.rename(&from, &key, options).await.map(drop)
        }
        3 => {
            let parts = [KEYS[random.below(KEYS.len())], KEYS[random.below(KEYS.len())]];
            let parts = parts.map(|part| Piece::from(Key::new(part).unwrap()));
            store.concat(&key, &parts, options).await.map(drop)
        }
        4 => {
            options.sha256 = Some([0; 32]);
            store.put(&key, slow(random, true, false), options).await.map(drop)
        }
        5 => store.put(&key, slow(random, false, true), options).await.map(drop),
        6 => {
            // In memory.
            let bytes = vec![7; random.below(5000)];
            store.put(&key, Body::from_bytes(bytes), options).await.map(drop)
        }
        kind => store.put(&key, slow(random, kind % 2 == 0, false), options).await.map(drop),
    };
    if let Err(StoreError::Io { .. } | StoreError::NoSpace) = outcome {
        panic!("{outcome:?}");
    }
}

/// Many concurrent calls, some of them cancelled.
async fn churn(quota: &Arc<Quota>, seed: u64, calls: u64) {
    let tasks = (0..8).map(|task| {
        let views = [None, Some("alice"), Some("bob")].map(|user| quota.store(user));
        tokio::spawn(async move {
            let random = &mut Random(seed * 1000 + task);
            for number in 0..calls {
                let view = Arc::clone(&views[random.below(3)]);
                let call = tokio::spawn(call(view, seed * 1_000_000 + task * 10_000 + number));
                if random.below(4) == 0 {
                    for _ in 0..random.below(30) {
                        tokio::task::yield_now().await;
                    }
                    call.abort();
                }
                if let Err(error) = call.await
                    && let Ok(panic) = error.try_into_panic()
                {
                    std::panic::resume_unwind(panic);
                }
            }
        })
    });
    for task in join_all(tasks).await {
        task.unwrap();
    }
    // Commits of cancelled calls.
    while !quota.shared.ledger().is_quiet() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_count_is_exact_after_any_mix_of_calls() {
    for seed in 0..16 {
        let dir = TempDir::new().unwrap();
        let on_disk = seed % 4 == 3;
        let store: Store = if on_disk {
            let root = dir.path().join("root");
            Arc::new(DiskStore::open(root, DiskOptions::default()).unwrap())
        } else {
            Arc::new(MemoryStore::new())
        };
        let quota = open(&store, dir.path()).await;
        let over = Arc::new(AtomicBool::new(false));
        let recounts = tokio::spawn({
            let (quota, over) = (Arc::clone(&quota), Arc::clone(&over));
            async move {
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(quota.recount().await.unwrap(), [], "seed {seed}");
                    tokio::task::yield_now().await;
                }
            }
        });
        let looks = tokio::spawn({
            let (store, over) = (Arc::clone(&store), Arc::clone(&over));
            async move {
                while !over.load(Ordering::Relaxed) && !on_disk {
                    for (scope, bytes) in truth(&store, false).await {
                        let limit = if scope == Scope::Store { TOTAL } else { FOLDER };
                        assert!(bytes <= limit, "seed {seed}: {scope} has {bytes}");
                    }
                    tokio::task::yield_now().await;
                }
            }
        });
        churn(&quota, seed, if on_disk { 25 } else { 80 }).await;
        over.store(true, Ordering::Relaxed);
        recounts.await.unwrap();
        looks.await.unwrap();
        let truth = truth(&store, true).await;
        assert_eq!(counted(&quota), truth, "seed {seed}");
        assert_eq!(quota.recount().await.unwrap(), []);

        // After an orderly restart the quota knows the same.
        assert!(quota.close().await.unwrap());
        let quota = open(&store, dir.path()).await;
        assert!(quota.is_exact());
        assert_eq!(counted(&quota), truth);
    }
}

/// What the state file promises: no more than this is there.
fn bound(saved: &Saved) -> impl Fn(&Scope) -> u64 + use<> {
    let totals = saved.totals(&Compiled::new(rules()).unwrap()).unwrap();
    let ahead = saved.ahead;
    move |scope| totals.get(scope).bytes + ahead
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_kill_the_count_is_never_too_low() {
    let checks = Arc::new(AtomicUsize::new(0));
    for seed in 100..108 {
        let dir = TempDir::new().unwrap();
        let store: Store = Arc::new(MemoryStore::new());
        let quota = open(&store, dir.path()).await;
        let over = Arc::new(AtomicBool::new(false));
        let killer = tokio::spawn({
            let (store, over, checks) =
                (Arc::clone(&store), Arc::clone(&over), Arc::clone(&checks));
            let file = dir.path().join("state");
            async move {
                while !over.load(Ordering::Relaxed) {
                    tokio::task::yield_now().await;
                    let saved = Saved::read(&file).unwrap().unwrap();
                    let there = truth(&store, false).await;
                    if Saved::read(&file).unwrap().unwrap() != saved {
                        continue;
                    }
                    assert!(!saved.clean);
                    let bound = bound(&saved);
                    for (scope, bytes) in &there {
                        assert!(bound(scope) >= *bytes, "seed {seed}: {scope} has {bytes}");
                    }
                    if checks.fetch_add(1, Ordering::Relaxed) % 50 == 0 {
                        restart(&saved, &there).await;
                    }
                }
            }
        });
        churn(&quota, seed, 60).await;
        over.store(true, Ordering::Relaxed);
        killer.await.unwrap();
    }
    assert!(checks.load(Ordering::Relaxed) > 100, "{checks:?}");
}

/// Starts a gateway with this state file over a store with these contents.
async fn restart(saved: &Saved, there: &BTreeMap<Scope, u64>) {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("state"), serde_json::to_vec(saved).unwrap()).unwrap();
    let store: Store = Arc::new(MemoryStore::new());
    let mut top = there[&Scope::Store];
    for (scope, bytes) in there {
        if let Scope::Folder(name) = scope {
            top -= bytes;
            let key = Key::new(format!("{name}/blob")).unwrap();
            let body = Body::from_bytes(vec![1; usize::try_from(*bytes).unwrap()]);
            store.put(&key, body, PutOptions::default()).await.unwrap();
        }
    }
    let body = Body::from_bytes(vec![1; usize::try_from(top).unwrap()]);
    store.put(&Key::new("blob").unwrap(), body, PutOptions::default()).await.unwrap();
    let quota = Quota::open(Arc::clone(&store), rules(), options(dir.path())).await.unwrap();
    for usage in quota.usage() {
        let bytes = there.get(&usage.scope).copied().unwrap_or(0);
        assert!(usage.used >= bytes, "{usage:?}, but there are {bytes}");
    }
    // Wait for the count that starts by itself; there is no other.
    while !quota.is_exact() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(counted(&quota), truth(&store, true).await);
}

#[tokio::test]
async fn nothing_is_stored_if_the_state_cannot_be_written() {
    let dir = TempDir::new().unwrap();
    let place = dir.path().join("place");
    let store: Store = Arc::new(MemoryStore::new());
    let quota = open(&store, &place).await;
    let view = quota.store(None);
    let put = async |length: usize| {
        let key = Key::new(format!("blob{length}")).unwrap();
        view.put(&key, Body::from_bytes(vec![1; length]), PutOptions::default()).await
    };
    put(10).await.unwrap();
    std::fs::remove_dir_all(&place).unwrap();
    // A missing folder would be made again.
    std::fs::write(&place, b"").unwrap();
    quota.shared.ledger().room = 0;
    let before = quota.usage();
    let Err(StoreError::Io { action, path, .. }) = put(20).await else { panic!() };
    assert!(action.contains("quota") && path.starts_with(&place), "{action} {}", path.display());
    assert_eq!(quota.usage(), before);
    assert_eq!(view.delete(&Key::new("blob10").unwrap()).await.unwrap(), Some(10));
    std::fs::remove_file(&place).unwrap();
    put(30).await.unwrap();
    assert_eq!(quota.usage()[0].used, 30);
}

#[tokio::test]
async fn removed_bytes_stay_reserved_until_the_removal_is_durable() {
    let dir = TempDir::new().unwrap();
    let store: Store = Arc::new(MemoryStore::new());
    let quota = open(&store, dir.path()).await;
    let key = Key::new("a").unwrap();
    let body = Body::from_bytes(vec![1; 100]);
    quota.store(None).put(&key, body, PutOptions::default()).await.unwrap();
    let reservation = reservation::Reservation::new(&quota.shared, &key, None, None, None);
    crate::CommitObserver::before_commit(&reservation).unwrap();
    let gone = crate::RemovedBlob { size: 100, metadata: Vec::new() };
    crate::CommitObserver::after_commit(
        &reservation,
        Some(crate::CommittedChange { removed: Some(gone), size: None }),
    );
    let sums = |quota: &Quota| (quota.usage()[0].used, quota.usage()[0].reserved);
    assert_eq!(sums(&quota), (0, 100));
    drop(reservation);
    assert_eq!(sums(&quota), (0, 0));
    assert!(quota.store(None).get(&key, Part::Whole).await.is_ok(), "the store is unchanged");
}
