//! What a call reports as changed, and what its observer is told.

use super::*;

pub(super) async fn reported_changes_add_up(store: Store) {
    for round in 0..10_usize {
        let name = format!("folder/blob{}", round % 3);
        let calls = (0..12_usize).map(|index| {
            let (store, key) = (store.clone(), key(&name));
            tokio::spawn(async move {
                if index % 4 == 3 {
                    return -(store.delete(&key).await.unwrap().unwrap_or(0) as i64);
                }
                let length = 1 + index * 1000;
                let body = chunked(&bytes(length, round), 700);
                let stored = store.put(&key, body, PutOptions::default()).await.unwrap();
                match stored.change {
                    Change::Created => length as i64,
                    Change::Replaced { size } => length as i64 - size as i64,
                    Change::Unchanged => 0,
                }
            })
        });
        let sum: i64 = join_all(calls).await.into_iter().map(Result::unwrap).sum();
        let there = store.delete(&key(&name)).await.unwrap();
        assert_eq!(sum, there.unwrap_or(0) as i64);
    }
}

#[derive(Debug, Default)]
pub(super) struct Notes {
    /// The inner none stands between `before_commit` and `after_commit`.
    changes: Mutex<Vec<Option<Option<CommittedChange>>>>,
    refuse: bool,
    /// No blob may go.
    keep: bool,
    /// When the blobs were stored that were to go.
    asked: Mutex<Vec<SystemTime>>,
}

impl CommitObserver for Notes {
    fn admit(&self, _: u64) -> keepgate_store::Result<()> {
        if self.refuse {
            return Err(StoreError::QuotaExceeded("refused".to_owned()));
        }
        Ok(())
    }

    fn admit_removal(&self, stored: SystemTime) -> keepgate_store::Result<()> {
        self.asked.lock().unwrap().push(stored);
        if self.keep { Err(StoreError::Denied("kept".to_owned())) } else { Ok(()) }
    }

    fn before_commit(&self) -> Result<bool, StoreError> {
        self.changes.lock().unwrap().push(None);
        Ok(true)
    }

    fn after_commit(&self, changed: Option<CommittedChange>) {
        let before = self.changes.lock().unwrap().last_mut().unwrap().replace(changed);
        assert!(before.is_none(), "told twice");
    }
}

impl Notes {
    /// One that admits nothing.
    pub(super) fn refusing() -> Self {
        Self { refuse: true, ..Self::default() }
    }

    /// One that lets no blob go.
    fn keeping() -> (Arc<Self>, ObserverHandle) {
        let notes = Arc::new(Self { keep: true, ..Self::default() });
        let observer: Arc<dyn CommitObserver> = notes.clone();
        (notes, ObserverHandle::new(observer))
    }

    /// What it was told, once the store has released it.
    pub(super) fn told(self: Arc<Self>) -> Vec<CommittedChange> {
        // The store no longer holds it.
        let notes = Arc::into_inner(self).unwrap();
        let changes = notes.changes.into_inner().unwrap();
        // Every `before_commit` was followed by an `after_commit`.
        changes.into_iter().filter_map(Option::unwrap).collect()
    }
}

pub(super) fn noted(options: PutOptions) -> (Arc<Notes>, PutOptions) {
    let notes = Arc::new(Notes::default());
    let observer: Arc<dyn CommitObserver> = notes.clone();
    (notes, PutOptions { observer: Some(ObserverHandle::new(observer)), ..options })
}

pub(super) async fn an_observer_is_told_what_changed(store: Store) {
    let blob = key("a/b");
    let metadata = vec![("name".to_owned(), "value".to_owned())];
    let with = |condition| PutOptions { metadata: metadata.clone(), ..when(condition) };
    // If users are counted, more metadata is stored than the caller gave.
    let went = |told: &CommittedChange, size| {
        let gone = told.removed.as_ref().unwrap();
        assert_eq!(gone.size, size);
        assert!(gone.metadata.contains(&metadata[0]), "{gone:?}");
    };

    let (notes, options) = noted(with(Condition::Always));
    store.put(&blob, bytes(9, 1).into_body(), options).await.unwrap();
    assert_eq!(notes.told(), [CommittedChange { removed: None, size: Some(9) }]);
    for body in [bytes(9, 1).into_body(), chunked(&bytes(9, 1), 2)] {
        let (notes, options) = noted(with(Condition::AbsentOrIdentical));
        store.put(&blob, body, options).await.unwrap();
        assert_eq!(notes.told(), []);
    }
    let (notes, options) = noted(with(Condition::Always));
    let etag = store.put(&blob, chunked(&bytes(7, 2), 2), options).await.unwrap().info.etag;
    let told = notes.told();
    assert_eq!((told.len(), told[0].size), (1, Some(7)));
    went(&told[0], 9);
    let (notes, options) = noted(with(Condition::Matches(etag)));
    store.concat(&blob, &pieces(&[blob.clone(), blob.clone()]), options).await.unwrap();
    let told = notes.told();
    assert_eq!((told.len(), told[0].size), (1, Some(14)));
    went(&told[0], 7);

    let notes = Arc::new(Notes::default());
    for expected in [Some(14), None] {
        let observer: Arc<dyn CommitObserver> = notes.clone();
        let observer = Some(ObserverHandle::new(observer));
        let other = DeleteOptions { matches: Some("another".to_owned()), observer };
        let options = DeleteOptions { matches: None, ..other.clone() };
        let refused = store.delete_with(&blob, other).await;
        assert!(matches!(refused, Err(StoreError::PreconditionFailed)), "{refused:?}");
        let deleted = store.delete_with(&blob, options).await;
        assert_eq!(deleted.unwrap(), expected);
    }
    let told = notes.told();
    assert_eq!((told.len(), told[0].size), (1, None));
    went(&told[0], 14);
}

pub(super) async fn an_observer_is_released_when_the_call_is_over(store: Store) {
    let blob = key("a/b");
    put(&store, "a/b", &bytes(9, 1)).await;
    // However a call ends, nobody holds its observer afterwards, and nothing was changed.
    for condition in
        [Condition::Absent, Condition::AbsentOrIdentical, Condition::Matches("another".to_owned())]
    {
        for body in [bytes(8, 2).into_body(), chunked(&bytes(8, 2), 2)] {
            let (notes, options) = noted(when(condition.clone()));
            store.put(&blob, body, options).await.unwrap_err();
            assert_eq!(notes.told(), []);
        }
    }
    for body in [broken(&bytes(400_000, 1)), short(&bytes(400_000, 1), 400_001)] {
        let (notes, options) = noted(PutOptions::default());
        store.put(&blob, body, options).await.unwrap_err();
        assert_eq!(notes.told(), []);
    }
    let (notes, options) = noted(verified(b"other"));
    store.put(&blob, bytes(9, 1).into_body(), options).await.unwrap_err();
    assert_eq!(notes.told(), []);

    // A dropped future releases it as soon as nothing can come of the call any more.
    for count in [1, 9] {
        let (notes, options) = noted(PutOptions::default());
        let (body, taken) = stalling((0..count).map(|seed| bytes(50_000, seed)).collect());
        let upload = tokio::spawn({
            let (store, blob) = (store.clone(), blob.clone());
            async move { store.put(&blob, body, options).await }
        });
        while taken.load(Ordering::Relaxed) < count {
            tokio::task::yield_now().await;
        }
        upload.abort();
        assert!(upload.await.unwrap_err().is_cancelled());
        while Arc::strong_count(&notes) > 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(notes.told(), []);
    }
    // If the future is dropped during the commit or before, the observer is told the outcome.
    for round in 0..200 {
        let (notes, options) = noted(PutOptions::default());
        let body = bytes(10, round).into_body();
        let upload = tokio::spawn({
            let store = store.clone();
            async move { store.put(&key("a/new"), body, options).await }
        });
        for _ in 0..round % 20 {
            tokio::task::yield_now().await;
        }
        upload.abort();
        let _ = upload.await;
        while Arc::strong_count(&notes) > 1 {
            tokio::task::yield_now().await;
        }
        let told = notes.told();
        let there = store.delete(&key("a/new")).await.unwrap();
        assert_eq!(told.first().and_then(|changed| changed.size), there);
    }
}

pub(super) async fn an_observer_may_refuse_a_concat(store: Store) {
    put(&store, "one", &bytes(5, 1)).await;
    let notes = Arc::new(Notes::refusing());
    let observer: Arc<dyn CommitObserver> = notes.clone();
    let options =
        PutOptions { observer: Some(ObserverHandle::new(observer)), ..PutOptions::default() };
    let outcome = store.concat(&key("new"), &pieces(&[key("one")]), options).await;
    assert!(matches!(outcome, Err(StoreError::QuotaExceeded(_))), "{outcome:?}");
    assert_eq!(notes.told(), []);
    assert_eq!(names(&store, "", true).await, ["one"]);
    let (notes, options) = noted(PutOptions::default());
    let part = Part::Slice { offset: 3, length: None };
    let pieces = [Piece::from(key("one")), Piece { key: key("one"), part }];
    store.concat(&key("new"), &pieces, options).await.unwrap();
    assert_eq!(notes.told(), [CommittedChange { removed: None, size: Some(7) }]);
}

/// Asks for everything that would remove `name`, with an observer that lets nothing go; and for moves to it from `other`.
async fn ask_for_removals(store: &Store, name: &str, other: &str) {
    let there = store.head(&key(name)).await.unwrap();
    let moved = store.head(&key(other)).await.unwrap();
    let denied = |notes: Arc<Notes>, error: StoreError, asked: &[SystemTime]| {
        assert!(matches!(&error, StoreError::Denied(why) if why == "kept"), "{error:?}");
        assert!(asked.contains(notes.asked.lock().unwrap().first().unwrap()), "{notes:?}");
        assert_eq!(notes.told(), []);
    };
    for condition in [Condition::Always, Condition::Matches(there.etag.clone())] {
        for body in
            [bytes(8, 2).into_body(), chunked(&bytes(8, 2), 3), chunked(&bytes(400_000, 1), 9000)]
        {
            let (notes, observer) = Notes::keeping();
            let options = PutOptions { observer: Some(observer), ..when(condition.clone()) };
            let error = store.put(&key(name), body, options).await.unwrap_err();
            denied(notes, error, &[there.modified]);
        }
        let (notes, observer) = Notes::keeping();
        let options = PutOptions { observer: Some(observer), ..when(condition.clone()) };
        let error = store.concat(&key(name), &pieces(&[key(other)]), options).await.unwrap_err();
        denied(notes, error, &[there.modified]);
        let (notes, observer) = Notes::keeping();
        let options =
            RenameOptions { condition: condition.clone(), comes: Some(observer), goes: None };
        let error = store.rename(&key(other), &key(name), options).await.unwrap_err();
        denied(notes, error, &[there.modified]);
    }
    let (notes, observer) = Notes::keeping();
    let options = RenameOptions { goes: Some(observer), ..RenameOptions::default() };
    let error = store.rename(&key(other), &key("away/moved"), options).await.unwrap_err();
    denied(notes, error, &[moved.modified]);
    for matches in [None, Some(there.etag.clone())] {
        let (notes, observer) = Notes::keeping();
        let options = DeleteOptions { matches, observer: Some(observer) };
        let error = store.delete_with(&key(name), options).await.unwrap_err();
        denied(notes, error, &[there.modified]);
    }
    assert_eq!(store.head(&key(name)).await.unwrap(), there);
    assert_eq!(store.head(&key(other)).await.unwrap(), moved);
}

pub(super) async fn an_observer_may_keep_a_blob(store: Store) {
    put(&store, "a/b", &bytes(9, 1)).await;
    put(&store, "a/other", &bytes(7, 3)).await;
    ask_for_removals(&store, "a/b", "a/other").await;
    let mut left = names(&store, "", true).await;
    left.retain(|name| !name.ends_with('/'));
    assert_eq!(left, ["a/b", "a/other"]);

    // Whatever removes nothing is none of its business.
    for (name, condition, change) in [
        ("a/new", Condition::Always, Change::Created),
        ("a/newer", Condition::Absent, Change::Created),
        ("a/b", Condition::AbsentOrIdentical, Change::Unchanged),
    ] {
        let (notes, observer) = Notes::keeping();
        let options = PutOptions { observer: Some(observer), ..when(condition) };
        let stored = store.put(&key(name), bytes(9, 1).into_body(), options).await.unwrap();
        assert_eq!((stored.change, notes.asked.lock().unwrap().len()), (change, 0), "{name}");
    }
    let (notes, observer) = Notes::keeping();
    let options = DeleteOptions { matches: None, observer: Some(observer) };
    assert_eq!(store.delete_with(&key("a/nothing"), options).await.unwrap(), None);
    assert_eq!(notes.asked.lock().unwrap().len(), 0);

    // Nor is a blob that has expired.
    let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for condition in [Condition::Always, Condition::Absent] {
        let expired = PutOptions { expires: Some(past), ..PutOptions::default() };
        store.put(&key("a/gone"), bytes(5, 1).into_body(), expired).await.unwrap();
        let (notes, observer) = Notes::keeping();
        let options = PutOptions { observer: Some(observer), ..when(condition) };
        let stored = store.put(&key("a/gone"), bytes(9, 1).into_body(), options).await.unwrap();
        assert_eq!((stored.change, notes.asked.lock().unwrap().len()), (Change::Created, 0));
        store.delete(&key("a/gone")).await.unwrap();
    }
}
