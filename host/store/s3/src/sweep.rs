//! Removes what killed gateways left: parts of uploads, claims and probes. Only a gateway's own objects, and uploads that
//! a record of a gateway names, are touched.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::primitives::AggregatedBytes;
use keepgate_store::Result;

use crate::claim::{self, CLAIMS};
use crate::parts::{RECORDS, Record};
use crate::probe::PROBES;
use crate::remote::{Failure, Found};
use crate::{Inner, remote};

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Swept {
    /// Uploads whose parts were removed.
    pub uploads: u64,
    /// Claims of keys.
    pub claims: u64,
}

pub(crate) async fn sweep(store: &Arc<Inner>) -> Result<Swept> {
    let mut swept = Swept::default();
    let age = store.remote.options.abandoned_after;
    for found in old(store, RECORDS, age).await? {
        let token = found.name.rsplit('/').next().unwrap_or_default();
        if store.running.has(token) {
            continue;
        }
        if let Some(record) = read(store, &found.name).await? {
            let aborted = store.remote.abort(&record.object, &record.upload).await;
            aborted.map_err(|failure| store.told(failure))?;
            tracing::info!(object = record.object, "abandoned upload removed");
            swept.uploads += 1;
        }
        remove(store, &found).await?;
    }
    for found in old(store, CLAIMS, claim::OLD).await? {
        remove(store, &found).await?;
        swept.claims += 1;
    }
    for found in old(store, PROBES, age).await? {
        remove(store, &found).await?;
    }
    Ok(swept)
}

/// The gateway's own objects in a folder that are old.
async fn old(store: &Arc<Inner>, folder: &str, age: Duration) -> Result<Vec<Found>> {
    let prefix = store.own(&format!("{folder}/"));
    let (mut all, mut page) = (Vec::new(), None);
    loop {
        let listed = store.remote.list(&prefix, false, None, page.as_deref(), 1000).await;
        let listed = listed.map_err(|failure| store.told(failure))?;
        all.extend(listed.objects.into_iter().filter(|found| {
            let elapsed = SystemTime::now().duration_since(remote::time(found.seconds));
            elapsed.is_ok_and(|elapsed| elapsed >= age)
        }));
        page = listed.next;
        if page.is_none() {
            return Ok(all);
        }
    }
}

async fn read(store: &Arc<Inner>, name: &str) -> Result<Option<Record>> {
    let sending = match store.remote.get(name, None, None).await {
        Ok(sending) => sending,
        Err(Failure::Missing) => return Ok(None),
        Err(failure) => return Err(store.told(failure)),
    };
    let bytes = sending.bytes.collect().await.map(AggregatedBytes::into_bytes);
    Ok(bytes.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

async fn remove(store: &Arc<Inner>, found: &Found) -> Result<()> {
    let version = match store.capabilities.versions {
        true => store.look(&found.name).await?.and_then(|there| there.version),
        false => None,
    };
    let removed = store.remote.remove_own(&found.name, version.as_deref()).await;
    removed.map_err(|failure| store.told(failure))
}
