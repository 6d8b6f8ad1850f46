//! Markers of blobs that expire: small objects of the gateway's own that hold a key, at `.keepgate/expiry/SLOT/TOKEN`.
//! See [`keepgate_store::expiry`].

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::primitives::AggregatedBytes;
use keepgate_store::expiry::{MARKERS, Slot};
use keepgate_store::{DeleteOptions, Due, Key, Result, StoreError};

use crate::remote::{Failure, Guard};
use crate::{Inner, attributes, delete};

/// Markers that are listed at once.
const PAGE: usize = 1000;
/// How long a blob is left alone that the bucket would not let go.
const LATER: Duration = Duration::from_secs(6 * 60 * 60);

/// Writes the marker of a blob that is about to be committed.
pub(crate) async fn mark(store: &Arc<Inner>, key: &Key, expires: SystemTime) -> Result<()> {
    let slot = Slot::of(expires, store.remote.options.clock.now()).name();
    let name = store.own(&format!("{MARKERS}/{slot}/{}", attributes::token()?));
    let bytes = key.as_str().to_owned();
    let written = store.remote.put_own(&store.capabilities, &name, bytes, &Guard::None).await;
    written.map(|_| ()).map_err(|failure| store.told(failure))
}

/// Markers that are due. They are listed by time, so the list ends at the first that is not.
pub(crate) async fn due(store: &Arc<Inner>, after: Option<&str>, max: usize) -> Result<Vec<Due>> {
    let prefix = store.own(&format!("{MARKERS}/"));
    let after = after.map(|after| format!("{prefix}{after}"));
    let (mut page, mut due) = (None, Vec::new());
    let now = store.remote.options.clock.now();
    loop {
        let count = i32::try_from(max.min(PAGE)).unwrap_or(1);
        let after = after.as_deref();
        let listed = store.remote.list(&prefix, false, after, page.as_deref(), count).await;
        let listed = listed.map_err(|failure| store.told(failure))?;
        for found in listed.objects {
            let Some(marker) = found.name.strip_prefix(&prefix) else { continue };
            let slot = marker.split_once('/').and_then(|(slot, _)| Slot::named(slot));
            match slot {
                Some(slot) if !slot.is_due(now) => return Ok(due),
                Some(_) => {}
                None => continue,
            }
            let marker = marker.to_owned();
            if let Some(key) = read(store, &found.name).await? {
                due.push(Due { marker, key });
            }
            if due.len() == max {
                return Ok(due);
            }
        }
        page = listed.next;
        if page.is_none() {
            return Ok(due);
        }
    }
}

async fn read(store: &Arc<Inner>, name: &str) -> Result<Option<Key>> {
    let sending = match store.remote.get(name, None, None).await {
        Ok(sending) => sending,
        // Another gateway has removed it.
        Err(Failure::Missing) => return Ok(None),
        Err(failure) => return Err(store.told(failure)),
    };
    let bytes = sending.bytes.collect().await.map(AggregatedBytes::into_bytes);
    let key = bytes.ok().and_then(|bytes| String::from_utf8(bytes.into()).ok());
    Ok(key.and_then(|key| Key::new(key).ok()))
}

/// Removes a blob if it has expired, and its marker.
pub(crate) async fn expire(
    store: &Arc<Inner>,
    due: &Due,
    options: DeleteOptions,
) -> Result<Option<u64>> {
    let removed = match Box::pin(delete::expired(store, &due.key, options)).await {
        Err(StoreError::Denied(reason)) => {
            // The bucket keeps it for now, as an object lock does.
            tracing::debug!(key = %due.key, reason, "a blob that has expired cannot be removed yet");
            mark(store, &due.key, store.remote.options.clock.now() + LATER).await?;
            None
        }
        removed => removed?,
    };
    let name = store.own(&format!("{MARKERS}/{}", due.marker));
    let version = match store.capabilities.versions {
        true => store.look(&name).await?.and_then(|there| there.version),
        false => None,
    };
    let unmarked = store.remote.remove_own(&name, version.as_deref()).await;
    unmarked.map_err(|failure| store.told(failure))?;
    Ok(removed)
}
