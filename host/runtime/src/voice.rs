//! What a plugin says reaches operators and clients in a bearable form: no endless texts, no forged
//! lines, no flood. Change here how much that is.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Bytes that a plugin at a mount may log at once, ...
const BURST: u64 = 1 << 20;
/// ... and for each second from then on.
const RATE: u64 = 32 << 10;
/// What a line weighs besides its text.
const LINE: u64 = 128;
/// How often a flood is told of.
const TOLD: Duration = Duration::from_secs(10);

/// At most `most` bytes, cut between characters.
pub(crate) fn shorten(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

/// The same for a text that is at hand.
pub(crate) fn shortened(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}

/// Adds a text to a line of the log. Control characters are written as Rust escapes them: a line
/// break would begin a line that looks like the gateway's own.
pub(crate) fn push_escaped(line: &mut String, text: &str) {
    for character in text.chars() {
        if character.is_control() {
            // Writing into a string cannot fail.
            let _ = write!(line, "{}", character.escape_default());
        } else {
            line.push(character);
        }
    }
}

/// How much a plugin at a mount has logged.
#[derive(Debug)]
pub(crate) struct LogGate(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Bytes that may be logged at `at`.
    room: u64,
    at: Instant,
    dropped: u64,
    told: Option<Instant>,
}

/// What is to be done with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Written.
    Open,
    /// Dropped, silently.
    Shut,
    /// Dropped, and it is time to say that so many were.
    Tell(u64),
}

impl Default for LogGate {
    fn default() -> Self {
        Self(Mutex::new(State { room: BURST, at: Instant::now(), dropped: 0, told: None }))
    }
}

impl LogGate {
    /// Asks for a line of so many bytes.
    pub(crate) fn ask(&self, bytes: usize) -> Gate {
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
        if state.told.is_some_and(|told| now.duration_since(told) < TOLD) {
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
    async fn a_flood_is_dropped_and_told_of_now_and_then() {
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
    fn texts_are_cut_between_characters_and_forge_no_lines() {
        assert_eq!(shorten("aä", 2), "a");
        assert_eq!(shorten("aä", 3), "aä");
        assert_eq!(shortened("ää".to_owned(), 3), "ä");
        let mut line = String::new();
        push_escaped(&mut line, "a\nERROR \u{1b}[2J ü");
        assert_eq!(line, "a\\nERROR \\u{1b}[2J ü");
    }
}
