//! Sees each attempt of each request, as the SDK makes them: asks the circuit breaker, tells it what came of the attempt,
//! counts bytes and repetitions, and looks at the server's clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime};

use aws_sdk_s3::config::interceptors::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
    FinalizerInterceptorContextRef,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::retries::RequestAttempts;
use aws_smithy_types::DateTime;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use aws_smithy_types::date_time::Format;

use super::health::{Health, NotNow};
use crate::error::explain;
use crate::metrics::StoreMetrics;

/// The clock's difference is not known.
const UNKNOWN: i64 = i64::MIN;

/// Sees each attempt. Clones see the same.
#[derive(Clone, Debug)]
pub(super) struct Observer {
    health: Arc<Health>,
    metrics: Option<StoreMetrics>,
    /// Seconds that the server's clock is ahead of this machine's.
    skew: Arc<AtomicI64>,
}

/// When an attempt began; kept with it.
#[derive(Clone, Copy, Debug)]
struct Begun(Instant);

impl Storable for Begun {
    type Storer = StoreReplace<Self>;
}

impl Observer {
    pub(super) fn new(health: Arc<Health>, metrics: Option<StoreMetrics>) -> Self {
        Self { health, metrics, skew: Arc::new(AtomicI64::new(UNKNOWN)) }
    }

    /// Seconds that the server's clock is ahead, as its last response said.
    pub(super) fn skew(&self) -> Option<i64> {
        Some(self.skew.load(Ordering::Relaxed)).filter(|skew| *skew != UNKNOWN)
    }
}

impl Intercept for Observer {
    fn name(&self) -> &'static str {
        "Observer"
    }

    fn read_before_attempt(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        state: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.health.admit()?;
        state.interceptor_state().store_put(Begun(Instant::now()));
        let Some(metrics) = &self.metrics else {
            return Ok(());
        };
        metrics.sent(context.request().body().content_length().unwrap_or_default());
        let attempt = state.load::<RequestAttempts>().map_or(1, RequestAttempts::attempts);
        if attempt > 1 {
            metrics.retry(state.load::<Metadata>().map_or("unknown", Metadata::name));
        }
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        if let (Some(date), Ok(now)) = (date, now) {
            let now = i64::try_from(now.as_secs()).unwrap_or_default();
            self.skew.store(date.secs().saturating_sub(now), Ordering::Relaxed);
        }
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        state: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(Begun(begun)) = state.load::<Begun>().copied() else {
            return Ok(());
        };
        if let Some(response) = context.response() {
            match response.status().as_u16() {
                501 => self.health.answered(),
                status @ (408 | 429 | 500..=599) => {
                    self.health.failed(begun, format!("status {status}"));
                }
                _ => self.health.answered(),
            }
            return Ok(());
        }
        // Without a response, only what concerns the connection says something about the server.
        if let Some(Err(error)) = context.output_or_error() {
            let is_silent = error.is_timeout_error()
                || error
                    .as_connector_error()
                    .is_some_and(|error| error.is_io() || error.is_timeout());
            if is_silent {
                let reason = match error.as_connector_error() {
                    Some(error) => explain(error),
                    None => "no answer in time".to_owned(),
                };
                self.health.failed(begun, reason);
            }
        }
        Ok(())
    }
}

/// Why the breaker refused an attempt, if that is what failed.
pub(super) fn not_now<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a NotNow> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<NotNow>() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}
