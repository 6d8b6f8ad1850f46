//! Puts a plugin aside that breaks down again and again, for a growing pause, and brings it back by
//! one call on trial. Change here what counts and how a pause grows.
//!
//! What counts is the plugin's own doing: a trap, or a limit of memory, handles or CPU time that it
//! went over. A failure that it hands back is an answer. A call that took too long counts for
//! nothing, since a client that stops sending makes one; neither does one whose client went away.
//!
//! Each breakdown counts one up and each answer one down, so that a plugin that serves most of its
//! requests stays where it is, whatever one client sends it. The state belongs to one plugin at one
//! mount: a new file of the plugin, or a changed mount, begins anew.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::call::{CallError, Limit};

/// So long after the last breakdown nothing is held against a plugin any more.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// When a plugin is put aside, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Put aside after so many more breakdowns than answers; 0 for never. A minute without a
    /// breakdown takes all of them back.
    pub count: u32,
    /// The first pause. Each one that ends in another breakdown makes the next twice as long.
    pub pause: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Default for Faults {
    fn default() -> Self {
        Self { count: 20, pause: Duration::from_secs(5), longest: Duration::from_secs(600) }
    }
}

/// A plugin that is put aside, for operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Aside {
    /// Until the next call on trial, in seconds.
    pub seconds: u64,
    /// Pauses in a row, this one too.
    pub pauses: u32,
    /// How it broke down last.
    pub why: String,
}

/// What a call was for the record of its plugin.
#[derive(Debug)]
enum Verdict {
    Answered,
    BrokeDown(String),
    /// Says nothing of the plugin.
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

/// The record of one plugin at one mount.
#[derive(Debug)]
pub(crate) struct Record {
    rule: Faults,
    mount: String,
    plugin: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Breakdowns less answers.
    score: u32,
    last_fault: Option<Instant>,
    /// Pauses in a row, and when the last of them ended well.
    pauses: u32,
    back: Option<Instant>,
    pause: Option<Pause>,
}

#[derive(Debug)]
struct Pause {
    /// The next call from then on is on trial.
    until: Instant,
    why: String,
}

impl Record {
    pub(crate) fn new(rule: Faults, mount: &str, plugin: &str) -> Self {
        let (mount, plugin) = (mount.to_owned(), plugin.to_owned());
        Self { rule, mount, plugin, state: Mutex::default() }
    }

    /// Lets a call in, or says how long none will be.
    pub(crate) fn admit(&self) -> Result<Admitted<'_>, Duration> {
        let mut state = self.state();
        let (now, length) = (Instant::now(), self.length(state.pauses));
        let Some(pause) = &mut state.pause else {
            return Ok(Admitted { record: self, trial: false });
        };
        if now < pause.until {
            return Err(pause.until - now);
        }
        // The others wait for how this one ends, and no longer than another pause: it may be an
        // upload that takes hours.
        pause.until = now + length;
        Ok(Admitted { record: self, trial: true })
    }

    /// How it is put aside, if it is.
    pub(crate) fn aside(&self) -> Option<Aside> {
        let state = self.state();
        let pause = state.pause.as_ref()?;
        let left = pause.until.saturating_duration_since(Instant::now());
        Some(Aside { seconds: seconds(left), pauses: state.pauses, why: pause.why.clone() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of the pause that is so many in a row.
    fn length(&self, pauses: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(pauses.saturating_sub(1));
        self.rule.pause.saturating_mul(doubled).min(self.rule.longest)
    }

    fn note(&self, trial: bool, verdict: Verdict) {
        let now = Instant::now();
        let mut state = self.state();
        match (verdict, state.pause.is_some()) {
            (Verdict::Answered, false) => state.score = state.score.saturating_sub(1),
            (Verdict::Answered, true) if trial => self.bring_back(&mut state, now),
            (Verdict::BrokeDown(why), true) if trial => self.put_aside(&mut state, now, why),
            (Verdict::Neither, true) if trial => {
                // Nothing was learnt: the next call is on trial at once.
                if let Some(pause) = &mut state.pause {
                    pause.until = now;
                }
            }
            (Verdict::BrokeDown(why), false) => self.hold_against(&mut state, now, why),
            // Calls from before the pause end during it.
            (_, true) | (Verdict::Neither, false) => {}
        }
    }

    fn hold_against(&self, state: &mut State, now: Instant, why: String) {
        if state.last_fault.is_none_or(|last| now.duration_since(last) > FORGOTTEN) {
            state.score = 0;
        }
        state.last_fault = Some(now);
        state.score = state.score.saturating_add(1);
        if self.rule.count == 0 || state.score < self.rule.count {
            return;
        }
        // One that breaks down soon after it was brought back goes on where it was.
        let pause = self.length(state.pauses).max(FORGOTTEN);
        if state.back.is_none_or(|back| now.duration_since(back) > pause) {
            state.pauses = 0;
        }
        self.put_aside(state, now, why);
    }

    fn put_aside(&self, state: &mut State, now: Instant, why: String) {
        state.pauses = state.pauses.saturating_add(1);
        let pause = self.length(state.pauses);
        let (mount, plugin, pauses) = (&*self.mount, &*self.plugin, state.pauses);
        tracing::error!(
            mount,
            plugin,
            pauses,
            "the plugin is put aside for {pause:?}, since it breaks down again and again: {why}; \
             a new file of it ends the pause"
        );
        state.pause = Some(Pause { until: now + pause, why });
    }

    fn bring_back(&self, state: &mut State, now: Instant) {
        let (mount, plugin, pauses) = (&*self.mount, &*self.plugin, state.pauses);
        tracing::info!(mount, plugin, pauses, "the plugin answers again and is brought back");
        state.pause = None;
        state.score = 0;
        state.back = Some(now);
    }
}

/// A call that was let in. Dropped without a word, it counts for nothing.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    record: &'a Record,
    trial: bool,
}

impl Admitted<'_> {
    /// Tells how the call ended.
    pub(crate) fn ended<T>(mut self, done: &Result<T, CallError>) {
        let trial = std::mem::take(&mut self.trial);
        self.record.note(trial, Verdict::of(done));
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if self.trial {
            self.record.note(true, Verdict::Neither);
        }
    }
}

/// Whole seconds, rounded up, as `Retry-After` has them.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Failure;

    const RULE: Faults =
        Faults { count: 3, pause: Duration::from_secs(5), longest: Duration::from_secs(12) };

    fn record() -> Record {
        Record::new(RULE, "/", "x")
    }

    #[expect(clippy::needless_pass_by_value, reason = "made where it is handed over")]
    fn ends(record: &Record, done: Result<(), CallError>) {
        record.admit().unwrap().ended(&done);
    }

    fn trap() -> Result<(), CallError> {
        Err(CallError::Trapped("unreachable".to_owned()))
    }

    fn pauses(record: &Record) -> Option<u32> {
        record.aside().map(|aside| aside.pauses)
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_breaks_down_more_than_it_answers_is_put_aside() {
        let record = record();
        for _ in 0..50 {
            ends(&record, trap());
            ends(&record, trap());
            ends(&record, Ok(()));
            ends(&record, Err(Failure::NotFound.into()));
        }
        assert_eq!(record.aside(), None);
        for _ in 0..50 {
            // A client's doing, or nobody's.
            ends(&record, Err(CallError::OverLimit(Limit::Time(RULE.pause))));
            ends(&record, Err(CallError::Busy(1)));
            drop(record.admit().unwrap());
        }
        assert_eq!(record.aside(), None);
        // What is long ago is forgotten.
        for _ in 0..50 {
            ends(&record, trap());
            tokio::time::advance(FORGOTTEN * 2).await;
        }
        assert_eq!(record.aside(), None);
        for _ in 0..3 {
            ends(&record, Err(CallError::OverLimit(Limit::Memory(1))));
        }
        let aside = record.aside().unwrap();
        assert_eq!((aside.seconds, aside.pauses), (5, 1));
        assert!(aside.why.contains("memory"), "{aside:?}");
        assert_eq!(record.admit().unwrap_err(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_grows_until_a_trial_goes_well() {
        let record = record();
        (0..3).for_each(|_| ends(&record, trap()));
        for (pause, next) in [(5, 10), (10, 12), (12, 12)] {
            tokio::time::advance(Duration::from_secs(pause) - Duration::from_millis(1)).await;
            assert!(record.admit().is_err(), "{pause}");
            tokio::time::advance(Duration::from_millis(1)).await;
            let trial = record.admit().unwrap();
            assert!(record.admit().is_err(), "only one is on trial");
            trial.ended(&trap());
            assert_eq!(record.aside().unwrap().seconds, next);
        }
        tokio::time::advance(Duration::from_secs(12)).await;
        ends(&record, Ok(()));
        assert_eq!(record.aside(), None);
        // It is not trusted at once.
        (0..3).for_each(|_| ends(&record, trap()));
        assert_eq!(pauses(&record), Some(5));
        tokio::time::advance(Duration::from_secs(12)).await;
        ends(&record, Ok(()));
        tokio::time::advance(FORGOTTEN * 2).await;
        (0..3).for_each(|_| ends(&record, trap()));
        assert_eq!(pauses(&record), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_tells_nothing_makes_room_for_the_next() {
        let record = record();
        let before = record.admit().unwrap();
        (0..3).for_each(|_| ends(&record, trap()));
        // A call from before the pause does not end it.
        before.ended(&Ok::<_, CallError>(()));
        assert!(record.aside().is_some());
        tokio::time::advance(RULE.pause).await;
        drop(record.admit().unwrap());
        let hangs = record.admit().unwrap();
        assert!(record.admit().is_err());
        tokio::time::advance(RULE.pause).await;
        ends(&record, Ok(()));
        assert_eq!(record.aside(), None);
        hangs.ended(&Ok::<_, CallError>(()));
        assert_eq!(record.aside(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn zero_is_never() {
        let record = Record::new(Faults { count: 0, ..RULE }, "/", "x");
        (0..1000).for_each(|_| ends(&record, trap()));
        assert_eq!(record.aside(), None);
    }
}
