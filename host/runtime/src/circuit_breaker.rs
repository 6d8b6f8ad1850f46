//! Stops calls to a plugin that keeps breaking down: for a pause that doubles each time, and then until
//! one trial call succeeds. Change here what counts as a breakdown and how a pause grows.
//!
//! Only the plugin's own fault counts: a trap, or exceeding a limit of memory, handles or CPU time. A
//! failure that it returns is an answer. A call that times out does not count, because a client that
//! stops sending causes one; nor does a call whose client went away.
//!
//! Each breakdown adds one to the score and each answer takes one away, so one client cannot suspend a
//! plugin that serves most of its requests. The score belongs to one plugin at one mount: a new file of
//! the plugin or a changed mount starts at zero.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use keepgate_core::{CallError, Limit};

/// A plugin's score is reset this long after its last breakdown.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// When a plugin is suspended, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Suspended after this many more breakdowns than answers; 0 for never. A minute without a
    /// breakdown resets the score.
    pub count: u32,
    /// The first pause. If its trial call breaks down too, the next pause is twice as long.
    pub pause: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Default for Faults {
    fn default() -> Self {
        Self { count: 20, pause: Duration::from_secs(5), longest: Duration::from_secs(600) }
    }
}

/// An open circuit breaker: the plugin is suspended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Open {
    /// Until the next trial call, in seconds.
    pub seconds: u64,
    /// Pauses in a row, including this one.
    pub pauses: u32,
    /// The last breakdown.
    pub why: String,
}

/// What a call says about its plugin.
#[derive(Debug)]
enum Verdict {
    Answered,
    BrokeDown(String),
    /// Nothing.
    Neither,
}

impl Verdict {
    fn of<T>(done: &Result<T, CallError>) -> Self {
        match done {
            Ok(_) | Err(CallError::Failure(_)) => Self::Answered,
            Err(CallError::OverLimit(Limit::Time(_))) => Self::Neither,
            Err(error @ (CallError::Trapped(_) | CallError::OverLimit(_))) => {
                Self::BrokeDown(error.to_string())
            }
            Err(_) => Self::Neither,
        }
    }
}

/// The circuit breaker of one plugin at one mount.
#[derive(Debug)]
pub(crate) struct CircuitBreaker {
    rule: Faults,
    mount: String,
    plugin: String,
    state: Mutex<Score>,
}

#[derive(Debug, Default)]
struct Score {
    /// Breakdowns less answers.
    score: u32,
    last_fault: Option<Instant>,
    /// Pauses in a row, and when the last of them ended with an answer.
    pauses: u32,
    back: Option<Instant>,
    pause: Option<Pause>,
}

#[derive(Debug)]
struct Pause {
    /// The next call after that is a trial.
    until: Instant,
    why: String,
}

impl CircuitBreaker {
    pub(crate) fn new(rule: Faults, mount: &str, plugin: &str) -> Self {
        let (mount, plugin) = (mount.to_owned(), plugin.to_owned());
        Self { rule, mount, plugin, state: Mutex::default() }
    }

    /// Admits a call, or returns how long none will be.
    pub(crate) fn admit(&self) -> Result<Admitted<'_>, Duration> {
        let mut state = self.state();
        let (now, length) = (Instant::now(), self.length(state.pauses));
        let Some(pause) = &mut state.pause else {
            return Ok(Admitted { breaker: self, trial: false });
        };
        if now < pause.until {
            return Err(pause.until - now);
        }
        // Other calls are refused until the trial ends, but no longer than another pause: the trial may
        // be an upload that takes hours.
        pause.until = now + length;
        Ok(Admitted { breaker: self, trial: true })
    }

    /// The pause, if the breaker is open.
    pub(crate) fn open(&self) -> Option<Open> {
        let state = self.state();
        let pause = state.pause.as_ref()?;
        let left = pause.until.saturating_duration_since(Instant::now());
        Some(Open { seconds: seconds(left), pauses: state.pauses, why: pause.why.clone() })
    }

    fn state(&self) -> MutexGuard<'_, Score> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The length of the pause that is the `pauses`th in a row.
    fn length(&self, pauses: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(pauses.saturating_sub(1));
        self.rule.pause.saturating_mul(doubled).min(self.rule.longest)
    }

    fn note(&self, trial: bool, verdict: Verdict) {
        let now = Instant::now();
        let mut state = self.state();
        match (verdict, state.pause.is_some()) {
            (Verdict::Answered, false) => state.score = state.score.saturating_sub(1),
            (Verdict::Answered, true) if trial => self.close(&mut state, now),
            (Verdict::BrokeDown(why), true) if trial => self.trip(&mut state, now, why),
            (Verdict::Neither, true) if trial => {
                // The trial was inconclusive: the next call is a trial at once.
                if let Some(pause) = &mut state.pause {
                    pause.until = now;
                }
            }
            (Verdict::BrokeDown(why), false) => self.count(&mut state, now, why),
            // Calls that began before the pause end during it.
            (_, true) | (Verdict::Neither, false) => {}
        }
    }

    fn count(&self, state: &mut Score, now: Instant, why: String) {
        if state.last_fault.is_none_or(|last| now.duration_since(last) > FORGOTTEN) {
            state.score = 0;
        }
        state.last_fault = Some(now);
        state.score = state.score.saturating_add(1);
        if self.rule.count == 0 || state.score < self.rule.count {
            return;
        }
        // A plugin that breaks down soon after its suspension ended gets the next longer pause.
        let pause = self.length(state.pauses).max(FORGOTTEN);
        if state.back.is_none_or(|back| now.duration_since(back) > pause) {
            state.pauses = 0;
        }
        self.trip(state, now, why);
    }

    fn trip(&self, state: &mut Score, now: Instant, why: String) {
        state.pauses = state.pauses.saturating_add(1);
        let pause = self.length(state.pauses);
        let (mount, plugin, pauses) = (&*self.mount, &*self.plugin, state.pauses);
        tracing::error!(
            mount,
            plugin,
            pauses,
            pause_seconds = pause.as_secs_f64(),
            reason = why,
            "plugin suspended because it keeps breaking down; a new plugin file ends the suspension"
        );
        state.pause = Some(Pause { until: now + pause, why });
    }

    fn close(&self, state: &mut Score, now: Instant) {
        let (mount, plugin, pauses) = (&*self.mount, &*self.plugin, state.pauses);
        tracing::info!(mount, plugin, pauses, "plugin resumed");
        state.pause = None;
        state.score = 0;
        state.back = Some(now);
    }
}

/// An admitted call. If it is dropped before `ended` is called, it does not count.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    breaker: &'a CircuitBreaker,
    trial: bool,
}

impl Admitted<'_> {
    /// Records how the call ended.
    pub(crate) fn ended<T>(mut self, done: &Result<T, CallError>) {
        let trial = std::mem::take(&mut self.trial);
        self.breaker.note(trial, Verdict::of(done));
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if self.trial {
            self.breaker.note(true, Verdict::Neither);
        }
    }
}

/// Whole seconds, rounded up, as in `Retry-After`.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepgate_core::Failure;

    const RULE: Faults =
        Faults { count: 3, pause: Duration::from_secs(5), longest: Duration::from_secs(12) };

    fn breaker() -> CircuitBreaker {
        CircuitBreaker::new(RULE, "/", "x")
    }

    #[expect(clippy::needless_pass_by_value, reason = "made where it is handed over")]
    fn ends(breaker: &CircuitBreaker, done: Result<(), CallError>) {
        breaker.admit().unwrap().ended(&done);
    }

    fn trap() -> Result<(), CallError> {
        Err(CallError::Trapped("unreachable".to_owned()))
    }

    fn pauses(breaker: &CircuitBreaker) -> Option<u32> {
        breaker.open().map(|open| open.pauses)
    }

    #[tokio::test(start_paused = true)]
    async fn a_plugin_that_breaks_down_more_than_it_answers_is_suspended() {
        let breaker = breaker();
        for _ in 0..50 {
            ends(&breaker, trap());
            ends(&breaker, trap());
            ends(&breaker, Ok(()));
            ends(&breaker, Err(Failure::NotFound.into()));
        }
        assert_eq!(breaker.open(), None);
        for _ in 0..50 {
            // The client's fault, or nobody's.
            ends(&breaker, Err(CallError::OverLimit(Limit::Time(RULE.pause))));
            ends(&breaker, Err(CallError::Busy(1)));
            drop(breaker.admit().unwrap());
        }
        assert_eq!(breaker.open(), None);
        // Old breakdowns are forgotten.
        for _ in 0..50 {
            ends(&breaker, trap());
            tokio::time::advance(FORGOTTEN * 2).await;
        }
        assert_eq!(breaker.open(), None);
        for _ in 0..3 {
            ends(&breaker, Err(CallError::OverLimit(Limit::Memory(1))));
        }
        let open = breaker.open().unwrap();
        assert_eq!((open.seconds, open.pauses), (5, 1));
        assert!(open.why.contains("memory"), "{open:?}");
        assert_eq!(breaker.admit().unwrap_err(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_grows_until_a_trial_succeeds() {
        let breaker = breaker();
        (0..3).for_each(|_| ends(&breaker, trap()));
        for (pause, next) in [(5, 10), (10, 12), (12, 12)] {
            tokio::time::advance(Duration::from_secs(pause) - Duration::from_millis(1)).await;
            assert!(breaker.admit().is_err(), "{pause}");
            tokio::time::advance(Duration::from_millis(1)).await;
            let trial = breaker.admit().unwrap();
            assert!(breaker.admit().is_err(), "there is one trial at a time");
            trial.ended(&trap());
            assert_eq!(breaker.open().unwrap().seconds, next);
        }
        tokio::time::advance(Duration::from_secs(12)).await;
        ends(&breaker, Ok(()));
        assert_eq!(breaker.open(), None);
        // The pauses go on where they were, until a while after the trial.
        (0..3).for_each(|_| ends(&breaker, trap()));
        assert_eq!(pauses(&breaker), Some(5));
        tokio::time::advance(Duration::from_secs(12)).await;
        ends(&breaker, Ok(()));
        tokio::time::advance(FORGOTTEN * 2).await;
        (0..3).for_each(|_| ends(&breaker, trap()));
        assert_eq!(pauses(&breaker), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_inconclusive_trial_is_followed_by_another() {
        let breaker = breaker();
        let before = breaker.admit().unwrap();
        (0..3).for_each(|_| ends(&breaker, trap()));
        // A call from before the pause does not end it.
        before.ended(&Ok::<_, CallError>(()));
        assert!(breaker.open().is_some());
        tokio::time::advance(RULE.pause).await;
        drop(breaker.admit().unwrap());
        let hangs = breaker.admit().unwrap();
        assert!(breaker.admit().is_err());
        tokio::time::advance(RULE.pause).await;
        ends(&breaker, Ok(()));
        assert_eq!(breaker.open(), None);
        hangs.ended(&Ok::<_, CallError>(()));
        assert_eq!(breaker.open(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_of_zero_never_suspends() {
        let breaker = CircuitBreaker::new(Faults { count: 0, ..RULE }, "/", "x");
        (0..1000).for_each(|_| ends(&breaker, trap()));
        assert_eq!(breaker.open(), None);
    }
}
