//! An object on its way in parts.
//!
//! Before the first part is sent, a small object of the gateway's own says that this upload is the gateway's: lists of
//! uploads show neither metadata nor who began them. `sweep` finds uploads of killed gateways by it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use keepgate_store::{Result, StoreError};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::remote::{Failure, Guard, Kept};
use crate::source::{self, Piece};
use crate::{Inner, remote};

/// The folder of the records of uploads, among the gateway's own objects.
pub(crate) const RECORDS: &str = "uploads";

/// What the record of an upload says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) object: String,
    pub(crate) upload: String,
}

/// Uploads of this process, by their tokens. None of them is swept.
#[derive(Debug, Default)]
pub(crate) struct Running(Mutex<HashSet<String>>);

impl Running {
    fn all(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has(&self, token: &str) -> bool {
        self.all().contains(token)
    }
}

/// An upload in parts. Dropping it before it is completed removes its parts.
#[derive(Debug)]
pub(crate) struct Parts {
    upload: Arc<Upload>,
    sending: JoinSet<Result<remote::Part, Failure>>,
    turns: Arc<Semaphore>,
    begun: i32,
    done: Vec<remote::Part>,
    copied: bool,
}

/// What is left to remove of an upload.
#[derive(Debug)]
struct Upload {
    store: Arc<Inner>,
    runtime: tokio::runtime::Handle,
    object: String,
    id: String,
    token: String,
    /// The record's version, in a bucket with versions.
    record: Mutex<Option<String>>,
    completed: std::sync::atomic::AtomicBool,
}

impl Parts {
    /// Begins an upload. `copied` says that some parts are copies.
    pub(crate) async fn begin(
        store: &Arc<Inner>,
        object: &str,
        token: &str,
        kept: &Kept,
        copied: bool,
    ) -> Result<Self> {
        store.running.all().insert(token.to_owned());
        let begun = store.remote.begin_parts(&store.capabilities, object, kept, copied).await;
        let id = match begun {
            Ok(id) => id,
            Err(failure) => {
                store.running.all().remove(token);
                return Err(store.told(failure));
            }
        };
        let upload = Upload {
            store: Arc::clone(store),
            runtime: tokio::runtime::Handle::current(),
            object: object.to_owned(),
            id: id.clone(),
            token: token.to_owned(),
            record: Mutex::default(),
            completed: false.into(),
        };
        let parts = Self {
            upload: Arc::new(upload),
            sending: JoinSet::new(),
            turns: Arc::new(Semaphore::new(store.remote.options.parallel_parts.max(1))),
            begun: 0,
            done: Vec::new(),
            copied,
        };
        let record = Record { object: object.to_owned(), upload: id };
        let record = serde_json::to_vec(&record)
            .map_err(|error| StoreError::Invalid(format!("the record of an upload: {error}")))?;
        let name = store.own(&format!("{RECORDS}/{token}"));
        let written = store.remote.put_own(&store.capabilities, &name, record, &Guard::None).await;
        let written = written.map_err(|failure| store.told(failure))?;
        let mut record = parts.upload.record.lock().unwrap_or_else(PoisonError::into_inner);
        *record = written;
        drop(record);
        Ok(parts)
    }

    /// Begins to send a part. Waits while as many as allowed are being sent, and reports one that failed.
    pub(crate) async fn send(&mut self, piece: Piece) -> Result<()> {
        let turn = self.turn().await?;
        self.begun += 1;
        let (upload, number, copied) = (Arc::clone(&self.upload), self.begun, self.copied);
        self.sending.spawn(async move {
            let store = &upload.store;
            // The server checks SHA-256 or MD5.
            let with_md5 = !store.capabilities.part_sha256 || copied;
            let digests = source::digests(&piece.bytes, with_md5).await.map_err(Failure::Store)?;
            let place = (upload.object.as_str(), upload.id.as_str(), number);
            let bytes = piece.bytes.clone();
            let sent = Box::pin(store.remote.put_part(
                &store.capabilities,
                place,
                bytes,
                &digests,
                copied,
            ))
            .await;
            drop((piece, turn));
            sent
        });
        Ok(())
    }

    /// Begins to copy a part: bytes of another object, which must still have this etag.
    pub(crate) async fn copy(&mut self, source: &str, etag: &str, range: (u64, u64)) -> Result<()> {
        let turn = self.turn().await?;
        self.begun += 1;
        let (upload, number) = (Arc::clone(&self.upload), self.begun);
        let (source, etag) = (source.to_owned(), etag.to_owned());
        self.sending.spawn(async move {
            let place = (upload.object.as_str(), upload.id.as_str(), number);
            let copied =
                Box::pin(upload.store.remote.copy_part(place, &source, &etag, range)).await;
            drop(turn);
            copied
        });
        Ok(())
    }

    async fn turn(&mut self) -> Result<tokio::sync::OwnedSemaphorePermit> {
        while let Some(done) = self.sending.try_join_next() {
            self.keep(done)?;
        }
        loop {
            if let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() {
                return Ok(turn);
            }
            match self.sending.join_next().await {
                Some(done) => self.keep(done)?,
                None => tokio::task::yield_now().await,
            }
        }
    }

    fn keep(
        &mut self,
        done: Result<Result<remote::Part, Failure>, tokio::task::JoinError>,
    ) -> Result<()> {
        let done = done.map_err(|error| {
            StoreError::Unavailable(format!("the gateway is stopping: {error}"))
        })?;
        self.done.push(done.map_err(|failure| self.upload.store.told(failure))?);
        Ok(())
    }

    /// Waits until all parts are there.
    pub(crate) async fn sent(&mut self) -> Result<()> {
        while let Some(done) = self.sending.join_next().await {
            self.keep(done)?;
        }
        self.done.sort_by_key(|part| part.number);
        Ok(())
    }

    /// The etag that the object will have, if it comes from the bytes.
    pub(crate) fn etag(&self) -> Option<String> {
        crate::repeats::etag_of_parts(self.done.iter().map(|part| part.etag.as_str()))
    }

    /// The commit: makes the object of its parts.
    pub(crate) async fn complete(&self, guard: &Guard) -> Result<(), Failure> {
        let Upload { store, object, id, .. } = &*self.upload;
        store.remote.complete(&store.capabilities, (object, id), &self.done, guard).await
    }

    /// The object is there; only the record is left to remove.
    pub(crate) fn completed(&self) {
        self.upload.completed.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        let (mut sending, upload) = (std::mem::take(&mut self.sending), Arc::clone(&self.upload));
        if sending.is_empty() {
            return;
        }
        // A part that arrives after the upload was aborted could stay, so those on their way are waited for.
        self.upload.runtime.spawn(async move {
            while sending.join_next().await.is_some() {}
            drop(upload);
        });
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let completed = self.completed.load(std::sync::atomic::Ordering::Relaxed);
        let (store, token) = (Arc::clone(&self.store), std::mem::take(&mut self.token));
        let version = self.record.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let (object, id) = (std::mem::take(&mut self.object), std::mem::take(&mut self.id));
        self.runtime.spawn(async move {
            // If this fails, the sweep finds the record.
            let removed = if completed { Ok(()) } else { store.remote.abort(&object, &id).await };
            if removed.is_ok() {
                let record = store.own(&format!("{RECORDS}/{token}"));
                let _ = store.remote.remove_own(&record, version.as_deref()).await;
            }
            store.running.all().remove(&token);
        });
    }
}
