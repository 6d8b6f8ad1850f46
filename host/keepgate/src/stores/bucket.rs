//! A bucket of S3 as a store.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use keepgate_store::BlobStore;
use keepgate_store_s3::{Diagnosis, S3Options, S3Store};
use serde_json::json;

use super::overview::Report;
use super::{Environment, coordinator};
use crate::config::{self, Config};

/// How long a start or a reload waits for the server, before it goes on without the store.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Clone, Debug)]
pub(crate) struct OpenBucket {
    options: Arc<S3Options>,
    store: S3Store,
    pub(super) blobs: Arc<dyn BlobStore>,
}

impl OpenBucket {
    /// Opens it, or returns `before` if nothing has changed. A server that is away does not keep the gateway from
    /// starting: until it is back, requests are answered with 503.
    pub(super) async fn open(
        config: &Config,
        (name, bucket): (&str, &config::Bucket),
        before: Option<&Self>,
        environment: Environment<'_>,
    ) -> Result<Self> {
        let about = || format!("[store.{name}]");
        let mut options =
            bucket.to_options(Some(environment.metrics.store(name))).with_context(about)?;
        options.coordinator = coordinator::of(config, bucket).with_context(about)?;
        options.clock = environment.clock;
        if let Some(before) = before.filter(|before| *before.options == options) {
            return Ok(before.clone());
        }
        let store = S3Store::new(options.clone()).with_context(about)?;
        // The store itself says in the log what came of it, and tries again.
        let opened = tokio::time::timeout(PATIENCE, store.open()).await;
        if let Ok(Err(error)) = opened
            && error.is_permanent()
        {
            return Err(anyhow!(error)).with_context(about);
        }
        Ok(Self::around(options, store))
    }

    /// One that connects to nothing until it is used.
    pub(super) fn to_look_at(
        config: &Config,
        (name, bucket): (&str, &config::Bucket),
    ) -> Result<Self> {
        let about = || format!("[store.{name}]");
        let mut options = bucket.to_options(None).with_context(about)?;
        options.coordinator = coordinator::of(config, bucket).with_context(about)?;
        let store = S3Store::new(options.clone()).with_context(about)?;
        Ok(Self::around(options, store))
    }

    fn around(options: S3Options, store: S3Store) -> Self {
        let blobs = Arc::new(store.clone());
        Self { options: Arc::new(options), store, blobs }
    }

    /// Tries everything that the store needs.
    pub(super) async fn diagnose(&self) -> Diagnosis {
        keepgate_store_s3::diagnose(&self.options).await
    }

    /// What was seen last. Connects to nothing.
    pub(super) fn report(&self) -> Report {
        let state = self.store.state();
        let mut report = Report { lines: vec![state.place], ..Report::default() };
        report.lines.extend(state.limitations.iter().cloned());
        for (name, value) in [
            ("bucket", json!(self.options.bucket)),
            ("prefix", json!(self.options.prefix)),
            ("endpoint", json!(self.options.endpoint)),
            ("limitations", json!(state.limitations)),
        ] {
            report.status.insert(name.to_owned(), value);
        }
        if !state.available {
            let reason = state.reason.unwrap_or_else(|| "it was not opened yet".to_owned());
            report.unavailable = Some(reason);
        }
        report
    }

    /// Bucket, prefix and server: what makes it another store.
    pub(super) fn place(&self) -> String {
        let S3Options { bucket, prefix, endpoint, .. } = &*self.options;
        let endpoint = endpoint.as_deref().unwrap_or("AWS");
        format!("s3://{bucket}/{} at {endpoint}", prefix.trim_matches('/'))
    }
}
