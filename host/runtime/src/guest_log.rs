//! Sanitises and rate-limits what plugins log: texts are cut, control characters escaped, floods
//! dropped. Change the limits here.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use keepgate_core::one_line;
use prometheus::IntCounter;
use tokio::time::Instant;

/// Bytes that a plugin at a mount may log in a burst, ...
const BURST: u64 = 1 << 20;
/// ... and in each second after that.
const RATE: u64 = 32 << 10;
/// Bytes that a line counts besides its text.
const LINE: u64 = 128;
/// How often the log says that lines are dropped.
const NOTICE: Duration = Duration::from_secs(10);

/// The beginning of a text, of at most `most` bytes, cut between characters.
pub(crate) fn shorten(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

/// The same for an owned text.
pub(crate) fn shortened(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}

/// A text of a plugin or of its file for messages and logs: cut, and on one line.
pub(crate) fn on_one_line(text: String, most: usize) -> String {
    let text = shortened(text, most);
    match one_line(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(line) => line,
    }
}

/// What a plugin at a mount may log, and what may be logged because of it: each of its calls can fail.
#[derive(Debug)]
pub(crate) struct GuestLog {
    mount: String,
    plugin: String,
    gate: LogGate,
    /// Lines that were dropped.
    dropped: IntCounter,
}

impl GuestLog {
    /// `dropped` counts the lines that are dropped.
    pub(crate) fn new(mount: &str, plugin: &str, dropped: IntCounter) -> Self {
        Self {
            mount: mount.to_owned(),
            plugin: plugin.to_owned(),
            gate: LogGate::default(),
            dropped,
        }
    }

    /// Whether a line of this many bytes may be written now. If not, the log says so from time to time.
    pub(crate) fn admits(&self, bytes: usize) -> bool {
        let dropped = match self.gate.ask(bytes) {
            Gate::Open => return true,
            Gate::Shut => None,
            Gate::Tell(dropped) => Some(dropped),
        };
        self.dropped.inc();
        if let Some(dropped) = dropped {
            let (mount, plugin) = (&*self.mount, &*self.plugin);
            tracing::warn!(mount, plugin, dropped, "plugin log lines dropped by the rate limit");
        }
        false
    }
}

/// A token bucket of bytes.
#[derive(Debug)]
struct LogGate(Mutex<Budget>);

#[derive(Debug)]
struct Budget {
    /// Bytes that may be logged, as of `at`.
    room: u64,
    at: Instant,
    dropped: u64,
    told: Option<Instant>,
}

/// What happens to a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// It is written.
    Open,
    /// It is dropped.
    Shut,
    /// It is dropped, and it is time to log how many were.
    Tell(u64),
}

impl Default for LogGate {
    fn default() -> Self {
        Self(Mutex::new(Budget { room: BURST, at: Instant::now(), dropped: 0, told: None }))
    }
}

impl LogGate {
    /// Asks whether a line of this many bytes may be written.
    fn ask(&self, bytes: usize) -> Gate {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let since = u64::try_from(now.duration_since(state.at).as_millis()).unwrap_or(u64::MAX);
        let more = since.saturating_mul(RATE) / 1000;
        if more > 0 {
            state.room = state.room.saturating_add(more).min(BURST);
            state.at = now;
        }
        let weight = LINE + bytes as u64;
        if let Some(room) = state.room.checked_sub(weight) {
            state.room = room;
            return Gate::Open;
        }
        state.dropped += 1;
        if state.told.is_some_and(|told| now.duration_since(told) < NOTICE) {
            return Gate::Shut;
        }
        state.told = Some(now);
        Gate::Tell(std::mem::take(&mut state.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_dropped_and_reported_now_and_then() {
        let gate = LogGate::default();
        let lines = |count: u64| (0..count).map(|_| gate.ask(872)).collect::<Vec<_>>();
        let first = lines(2000);
        let open = first.iter().filter(|gate| **gate == Gate::Open).count();
        assert_eq!(open, 1048);
        assert_eq!(first.iter().filter(|gate| matches!(gate, Gate::Tell(_))).count(), 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        let open = lines(100).iter().filter(|gate| **gate == Gate::Open).count();
        assert_eq!(open, 33);
        tokio::time::advance(Duration::from_millis(9000)).await;
        let told = lines(1000).into_iter().find_map(|gate| match gate {
            Gate::Tell(dropped) => Some(dropped),
            _ => None,
        });
        assert_eq!(told, Some(951 + 67 + 1));
    }

    #[test]
    fn texts_are_cut_between_characters_and_cannot_forge_lines() {
        assert_eq!(shorten("aä", 2), "a");
        assert_eq!(shorten("aä", 3), "aä");
        assert_eq!(shortened("ää".to_owned(), 3), "ä");
        let line = on_one_line("a\nERROR \u{1b}[2J ü".to_owned(), 100);
        assert_eq!(line, "a\\nERROR \\u{1b}[2J ü");
    }
}
