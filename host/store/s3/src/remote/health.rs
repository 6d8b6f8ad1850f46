//! How many requests are made at once, and whether any is: a server that keeps failing is left alone for a while.
//!
//! Attempts count, not requests, because one request may try for minutes. Any answer that is not a failure of the
//! server's ends the row of failures. While the breaker is open, requests fail at once, also those that wait for their
//! turn; then one attempt is let through, and its outcome decides.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::metrics::StoreMetrics;
use crate::options::{BreakerOptions, S3Options};

/// Turns of requests, and the circuit breaker of one server.
#[derive(Debug)]
pub(crate) struct Health {
    options: BreakerOptions,
    row: Mutex<Row>,
    open: watch::Sender<bool>,
    turns: Semaphore,
    /// How long a request waits for its turn.
    patience: Duration,
    metrics: Option<StoreMetrics>,
}

/// Failures since the last answer.
#[derive(Debug, Default)]
struct Row {
    failures: u32,
    /// When the first of them began.
    since: Option<Instant>,
    /// The last of them.
    reason: String,
    /// While the breaker is open: when the next trial is.
    until: Option<Instant>,
}

/// Why a request is not made. The text is for operators.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotNow(pub(crate) String);

impl Health {
    pub(crate) fn new(options: &S3Options) -> Arc<Self> {
        Arc::new(Self {
            options: options.breaker.clone(),
            row: Mutex::default(),
            open: watch::Sender::new(false),
            turns: Semaphore::new(options.max_requests.clamp(1, Semaphore::MAX_PERMITS)),
            patience: options.budget,
            metrics: options.metrics.clone(),
        })
    }

    fn row(&self) -> MutexGuard<'_, Row> {
        self.row.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of a request.
    pub(crate) async fn turn(&self) -> Result<SemaphorePermit<'_>, NotNow> {
        self.refuses()?;
        if let Ok(turn) = self.turns.try_acquire() {
            return Ok(turn);
        }
        let _waiting = self.metrics.as_ref().map(StoreMetrics::waiting);
        let mut open = self.open.subscribe();
        tokio::select! {
            turn = tokio::time::timeout(self.patience, self.turns.acquire()) => match turn {
                Ok(Ok(turn)) => {
                    self.refuses()?;
                    Ok(turn)
                }
                Ok(Err(_)) => Err(NotNow("the store is closed".to_owned())),
                Err(_) => Err(NotNow(format!(
                    "too many requests: no turn within {} seconds", self.patience.as_secs()
                ))),
            },
            _ = open.wait_for(|open| *open) => Err(self.told(&self.row())),
        }
    }

    fn told(&self, row: &Row) -> NotNow {
        NotNow(format!(
            "left alone for {} seconds at a time because it failed {} times in a row: {}",
            self.options.pause.as_secs_f32(),
            row.failures,
            row.reason
        ))
    }

    /// Fails while the breaker is open and no trial is due.
    fn refuses(&self) -> Result<(), NotNow> {
        let row = self.row();
        match row.until {
            Some(until) if Instant::now() < until => Err(self.told(&row)),
            _ => Ok(()),
        }
    }

    /// Lets an attempt through. While the breaker is open, that is one at a time, and it is a trial.
    pub(crate) fn admit(&self) -> Result<(), NotNow> {
        let mut row = self.row();
        let Some(until) = row.until else {
            return Ok(());
        };
        let now = Instant::now();
        if now < until {
            return Err(self.told(&row));
        }
        // No other one, unless this one takes longer than a pause: it may never tell what came of it.
        row.until = Some(now + self.options.pause);
        Ok(())
    }

    /// The server answered.
    pub(crate) fn answered(&self) {
        let mut row = self.row();
        if row.failures == 0 {
            return;
        }
        let was_open = row.until.is_some();
        *row = Row::default();
        drop(row);
        if was_open {
            tracing::info!("store's server answers again");
            self.show(false);
        }
    }

    /// An attempt that began then failed by the server's fault.
    pub(crate) fn failed(&self, begun: Instant, reason: String) {
        let mut row = self.row();
        row.failures = row.failures.saturating_add(1);
        let since = row.since.map_or(begun, |since| since.min(begun));
        row.since = Some(since);
        row.reason = reason;
        let many = self.options.failures > 0 && row.failures >= self.options.failures;
        let was_open = row.until.is_some();
        let opens = many && since.elapsed() >= self.options.after;
        if !was_open && !opens {
            return;
        }
        row.until = Some(Instant::now() + self.options.pause);
        let reason = row.reason.clone();
        drop(row);
        if !was_open {
            tracing::warn!(reason, "store's server keeps failing; requests fail at once");
            self.show(true);
        }
    }

    fn show(&self, open: bool) {
        self.open.send_replace(open);
        if let Some(metrics) = &self.metrics {
            metrics.breaker(open);
        }
    }

    /// Why requests fail, if the last attempts did.
    pub(crate) fn reason(&self) -> Option<String> {
        let row = self.row();
        row.until.map(|_| self.told(&row).0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may panic")]
mod tests {
    use super::*;

    fn health(pause: Duration) -> Arc<Health> {
        let breaker = BreakerOptions { failures: 3, after: Duration::ZERO, pause };
        Health::new(&S3Options { breaker, max_requests: 1, ..S3Options::new("b") })
    }

    #[tokio::test]
    async fn a_row_of_failures_opens_the_breaker_and_a_trial_closes_it() {
        let health = health(Duration::from_millis(50));
        let fail = || health.failed(Instant::now(), "status 500".to_owned());
        fail();
        fail();
        health.answered();
        fail();
        fail();
        assert!(health.reason().is_none() && health.admit().is_ok());
        fail();
        assert!(health.reason().unwrap().contains("status 500"));
        assert!(health.admit().is_err() && health.turn().await.is_err());
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(health.admit().is_ok(), "a trial");
        assert!(health.admit().is_err(), "only one");
        fail();
        assert!(health.admit().is_err(), "it failed");
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(health.admit().is_ok());
        health.answered();
        assert!(health.admit().is_ok() && health.admit().is_ok());
        assert_eq!(health.reason(), None);
    }

    #[tokio::test]
    async fn who_waits_for_a_turn_fails_when_the_breaker_opens() {
        let health = health(Duration::from_secs(600));
        let held = health.turn().await.unwrap();
        let waiting = tokio::spawn({
            let health = Arc::clone(&health);
            async move { health.turn().await.map(drop) }
        });
        tokio::task::yield_now().await;
        (0..3).for_each(|_| health.failed(Instant::now(), "x".to_owned()));
        assert!(waiting.await.unwrap().is_err());
        drop(held);
    }

    #[test]
    fn a_short_row_of_failures_does_not_open_the_breaker() {
        let breaker =
            BreakerOptions { after: Duration::from_secs(600), ..BreakerOptions::default() };
        let health = Health::new(&S3Options { breaker, ..S3Options::new("b") });
        (0..1000).for_each(|_| health.failed(Instant::now(), "x".to_owned()));
        assert!(health.admit().is_ok());
    }
}
