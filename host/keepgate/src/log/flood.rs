//! Bounds how much one place of the program may log.
//!
//! Whatever fails for each request, or each call that a plugin makes, is logged as often as somebody makes it fail. So
//! each place that logs has a budget of lines; the lines above it are counted, and from time to time a line says how many
//! there were. What plugins log themselves has a budget for each mount already (`guest_log.rs` of the runtime).

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines that one place may write at once, ...
const BURST: f64 = 1000.0;
/// ... and in each second after that.
const RATE: f64 = 50.0;
/// How often a place's dropped lines are reported.
const NOTICE: Duration = Duration::from_secs(10);
/// The target of lines that plugins log.
const PLUGINS: &str = "plugin";

/// Drops lines above the budget of the place that writes them. `P` tells places apart.
#[derive(Debug)]
pub(super) struct FloodControl<P = Identifier>(Mutex<HashMap<P, Budget>>);

impl<P> Default for FloodControl<P> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// What one place may still write.
#[derive(Debug)]
struct Budget {
    lines: f64,
    at: Instant,
    dropped: u64,
    told: Option<Instant>,
}

impl<P: Eq + Hash> FloodControl<P> {
    /// Whether a line of this place may be written, and how many were dropped if it is time to say so.
    fn admit(&self, place: P, now: Instant) -> (bool, Option<u64>) {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let budget = places.entry(place).or_insert_with(|| Budget {
            lines: BURST,
            at: now,
            dropped: 0,
            told: None,
        });
        let since = now.saturating_duration_since(budget.at).as_secs_f64();
        budget.lines = (budget.lines + since * RATE).min(BURST);
        budget.at = now;
        let admitted = budget.lines >= 1.0;
        if admitted {
            budget.lines -= 1.0;
        } else {
            budget.dropped += 1;
        }
        let due = budget.told.is_none_or(|told| now.saturating_duration_since(told) >= NOTICE);
        let told = budget.dropped > 0 && due;
        if told {
            budget.told = Some(now);
        }
        (admitted, told.then(|| std::mem::take(&mut budget.dropped)))
    }
}

/// Whether lines of this kind have a budget. What operators switch on to look at something is shown whole.
fn is_bounded(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO && metadata.target() != PLUGINS
}

impl<S: Subscriber> Layer<S> for FloodControl {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if !is_bounded(metadata) {
            return true;
        }
        let (admitted, dropped) = self.admit(metadata.callsite(), Instant::now());
        if let Some(dropped) = dropped {
            let (file, line) = (metadata.file(), metadata.line());
            tracing::warn!(dropped, file, line, "log lines dropped; one place logs too much");
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    struct Count(Arc<AtomicUsize>);

    impl<S: Subscriber> Layer<S> for Count {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn one_place_that_logs_too_much_silences_only_itself() {
        let written = Arc::new(AtomicUsize::new(0));
        let count = || written.swap(0, Ordering::Relaxed);
        let lines = tracing_subscriber::registry()
            .with(FloodControl::default())
            .with(Count(written.clone()));
        tracing::subscriber::with_default(lines, || {
            let begun = Instant::now();
            for _ in 0..5000 {
                tracing::error!("a flood");
            }
            let most = BURST + begun.elapsed().as_secs_f64() * RATE + 1.0;
            let flood = count() as f64;
            assert!(flood >= BURST && flood <= most, "{flood} lines");
            tracing::error!("another place");
            assert_eq!(count(), 1);
            for _ in 0..5000 {
                tracing::debug!("wanted");
                tracing::error!(target: "plugin", "has a budget of its own");
            }
            assert_eq!(count(), 10_000);
        });
    }

    #[test]
    fn what_is_dropped_is_counted_and_told_every_ten_seconds() {
        let control = FloodControl::<&str>::default();
        let begun = Instant::now();
        let at = |millis| control.admit("a place", begun + Duration::from_millis(millis));
        assert!((0..1000).all(|_| at(0) == (true, None)));
        assert_eq!(at(0), (false, Some(1)));
        assert!((0..100).all(|_| at(0) == (false, None)));
        // Two seconds are worth a hundred lines.
        assert!((0..100).all(|_| at(2000) == (true, None)));
        assert_eq!(at(2000), (false, None));
        assert_eq!(at(10_000), (true, Some(101)));
        assert_eq!(at(10_001), (true, None));
    }
}
