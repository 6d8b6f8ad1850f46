//! What survives a restart, a change of the rules, and other programs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use keepgate_store::disk::{DiskOptions, DiskStore};
use keepgate_store::guard::Subfolder;
use keepgate_store::quota::{Drift, Scope};
use keepgate_store::{
    BlobStore, DeleteOptions, Download, Folder, Info, Key, Listing, Part, Piece, RenameOptions,
    Result, Stored,
};

use super::*;

/// A store that counts listings and can be told to lack metadata.
#[derive(Debug, Default)]
struct Probe {
    store: MemoryStore,
    listings: AtomicUsize,
    no_metadata: bool,
}

#[async_trait]
impl BlobStore for Probe {
    async fn head(&self, key: &Key) -> Result<Info> {
        self.store.head(key).await
    }
    async fn get(&self, key: &Key, part: Part) -> Result<Download> {
        self.store.get(key, part).await
    }
    async fn put(&self, key: &Key, body: Body, options: PutOptions) -> Result<Stored> {
        self.store.put(key, body, options).await
    }
    async fn concat(&self, key: &Key, pieces: &[Piece], options: PutOptions) -> Result<Stored> {
        self.store.concat(key, pieces, options).await
    }
    async fn rename(&self, key: &Key, to: &Key, options: RenameOptions) -> Result<Stored> {
        self.store.rename(key, to, options).await
    }
    async fn delete_with(&self, key: &Key, options: DeleteOptions) -> Result<Option<u64>> {
        self.store.delete_with(key, options).await
    }
    async fn list_after(
        &self,
        folder: &Folder,
        recursive: bool,
        after: Option<&str>,
    ) -> Result<Box<dyn Listing>> {
        self.listings.fetch_add(1, Ordering::Relaxed);
        self.store.list_after(folder, recursive, after).await
    }
    async fn prepare(&self, folders: &[Folder]) -> Result<()> {
        self.store.prepare(folders).await
    }
    async fn check_metadata(&self) -> Result<()> {
        match self.no_metadata {
            true => Err(StoreError::Unsupported("no attributes".to_owned())),
            false => Ok(()),
        }
    }
}

#[tokio::test]
async fn counts_survive_a_restart_without_a_walk() {
    let dir = TempDir::new().unwrap();
    let probe = Arc::new(Probe::default());
    put(&(probe.clone() as Store), "alice/old", &bytes(7, 1)).await;
    let open = async |rules: Rules| Quota::open(probe.clone(), rules, options(&dir)).await.unwrap();
    let walks = || probe.listings.swap(0, Ordering::Relaxed);
    let limited = |total, folder, user| Rules {
        total: Some(Amount::limit(total)),
        users: users(&[("*", user)]).users,
        folders: folders(&[("*", folder)]).folders,
    };

    let quota = open(limited(100, 90, 80)).await;
    assert_eq!(walks(), 1, "counted before it returns");
    put(&quota.store(Some("bob")), "alice/new", &bytes(10, 1)).await;
    let expected = sums(&[("the store", 17), ("folder alice", 17), ("user bob", 10)]);
    assert_eq!(used(&quota), expected);
    assert!(quota.close().await.unwrap());
    drop(quota);

    // Other limits need no count either.
    let quota = open(limited(50, 17, 10)).await;
    assert!(quota.is_exact());
    assert_eq!(used(&quota), expected);
    refused(&quota.store(None), "alice/x", bytes(1, 1).into_body()).await;
    // A call after the shutdown, which is not orderly then.
    quota.close().await.unwrap();
    quota.store(None).delete(&key("alice/old")).await.unwrap();
    assert_eq!(walks(), 0);
    while std::fs::read_to_string(options(&dir).state_file).unwrap().contains("\"clean\":true") {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(quota);

    let quota = open(limited(1 << 30, 1 << 30, 1 << 30)).await;
    while !quota.is_exact() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(walks(), 1, "counted in the background");
    let expected = sums(&[("the store", 10), ("folder alice", 10), ("user bob", 10)]);
    assert_eq!(used(&quota), expected);
    assert!(quota.close().await.unwrap());

    // Sums that the file lacks are counted first; so is everything if there is no file.
    for (rules, scopes) in [(folders(&[("al*", 5)]), 2), (users(&[("*", 5)]), 2), (total(5), 1)] {
        let quota = open(rules).await;
        assert!(quota.is_exact());
        assert_eq!(used(&quota).len(), scopes);
        assert_eq!(walks(), usize::from(scopes == 2));
        assert!(quota.close().await.unwrap());
    }
    for text in ["", "{", "{\"version\":99}", "[]"] {
        std::fs::write(options(&dir).state_file, text).unwrap();
        let quota = open(total(5)).await;
        assert_eq!((used(&quota), walks()), (sums(&[("the store", 10)]), 1), "{text}");
    }
}

#[tokio::test]
async fn rules_can_change_while_the_store_is_in_use() {
    let (_dir, inner, quota) = memory(total(100)).await;
    let alice = quota.store(Some("alice"));
    put(&alice, "a/before", &bytes(10, 1)).await;
    // Begun before blobs were counted by user, and finished afterwards.
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let (begun, waiting) = tokio::sync::oneshot::channel::<()>();
    let body = Body::from_stream(
        Some(5),
        stream::once(async move {
            begun.send(()).unwrap();
            receiver.await.unwrap();
            Ok(bytes(5, 1))
        }),
    );
    let slow = tokio::spawn({
        let alice = alice.clone();
        async move { alice.put(&key("a/slow"), body, PutOptions::default()).await }
    });
    waiting.await.unwrap();
    let rules = Rules {
        total: Some(Amount::limit(40)),
        users: users(&[("*", 10)]).users,
        folders: folders(&[("*", 30)]).folders,
    };
    // The change does not wait for the upload.
    quota.change(rules.clone()).await.unwrap();
    assert_eq!(quota.usage()[0].reserved, 5);
    assert_eq!(quota.usage()[1].reserved, 5);
    put(&alice, "a/after", &bytes(10, 1)).await;
    refused(&alice, "b/x", bytes(1, 1).into_body()).await;
    sender.send(()).unwrap();
    slow.await.unwrap().unwrap();
    let expected = sums(&[("the store", 25), ("folder a", 25), ("user alice", 10)]);
    assert_eq!(used(&quota), expected);
    let text = refused(&quota.store(None), "a/x", bytes(6, 1).into_body()).await;
    assert!(text.contains("folder a"), "{text}");
    assert_eq!(quota.recount().await.unwrap(), []);

    // Below what is used: nothing more is admitted, and deleting works.
    quota.change(Rules { total: Some(Amount::limit(20)), ..rules }).await.unwrap();
    refused(&quota.store(None), "b", bytes(1, 1).into_body()).await;
    assert_eq!(quota.store(None).delete(&key("a/before")).await.unwrap(), Some(10));
    put(&quota.store(None), "b", &bytes(5, 1)).await;
    quota.change(Rules::default()).await.unwrap();
    put(&alice, "c", &bytes(500, 1)).await;
    assert_eq!(used(&quota), sums(&[("the store", 520)]));
    let wrong = quota.change(folders(&[("/", 1)])).await;
    assert!(matches!(wrong, Err(StoreError::Invalid(_))), "{wrong:?}");
    assert_eq!(names(&inner, "", true).await.len(), 4);
}

#[tokio::test]
async fn a_count_finds_changes_by_other_programs() {
    let dir = TempDir::new().unwrap();
    let root = TempDir::new().unwrap();
    let store: Store = Arc::new(DiskStore::open(root.path(), DiskOptions::default()).unwrap());
    let every = Some(Duration::from_millis(5));
    let options = QuotaOptions { recount_every: every, ..options(&dir) };
    let quota = Quota::open(store, total(100), options).await.unwrap();
    put(&quota.store(None), "a/b", &bytes(10, 1)).await;
    std::fs::write(root.path().join("a/theirs"), [7; 90]).unwrap();
    while used(&quota) != sums(&[("the store", 100)]) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    refused(&quota.store(None), "c", bytes(1, 1).into_body()).await;

    // More is removed than was counted.
    let (_dir, inner, quota) = memory(total(100)).await;
    put(&quota.store(None), "a", &bytes(10, 1)).await;
    put(&inner, "b", &bytes(30, 1)).await;
    let drift = Drift { scope: Scope::Store, old: 10, new: 40 };
    assert_eq!(quota.recount().await.unwrap(), [drift]);
    put(&inner, "c", &bytes(70, 1)).await;
    quota.store(None).delete(&key("c")).await.unwrap();
    while used(&quota) != sums(&[("the store", 40)]) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_store_without_metadata_has_no_quotas_for_users() {
    let dir = TempDir::new().unwrap();
    let store: Store = Arc::new(Probe { no_metadata: true, ..Probe::default() });
    let outcome = Quota::open(store.clone(), users(&[("*", 1)]), options(&dir)).await;
    let Err(StoreError::Unsupported(text)) = outcome else { panic!("{outcome:?}") };
    assert!(text.contains("quotas for users") && text.contains("no attributes"), "{text}");
    let quota = Quota::open(store, total(10), options(&dir)).await.unwrap();
    assert!(quota.change(users(&[("*", 1)])).await.is_err());
    put(&quota.store(Some("alice")), "a", &bytes(10, 1)).await;
    refused(&quota.store(Some("alice")), "b", bytes(1, 1).into_body()).await;
}

#[tokio::test]
async fn a_folder_that_does_not_exist_yet_is_empty() {
    let (dir, root) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let disk: Store = Arc::new(DiskStore::open(root.path(), DiskOptions::default()).unwrap());
    let store: Store = Arc::new(Subfolder::new(disk, folder("yet/to/be")));
    let quota = Quota::open(store, total(10), options(&dir)).await.unwrap();
    assert_eq!(used(&quota), []);
    put(&quota.store(None), "a", &bytes(10, 1)).await;
    assert_eq!(quota.recount().await.unwrap(), []);
}
