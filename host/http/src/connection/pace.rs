//! How much is read from a client at once: little from one that pauses, so that many slow uploads fit
//! into memory, and much from one that sends without a break, because fewer chunks are cheaper.
//!
//! Both sizes are one byte less than a power of two, because hyper doubles its buffer after each read
//! that fills it.

use std::time::{Duration, Instant};

/// Bytes per read, and so per chunk of an upload.
const SMALL: u64 = 16 * 1024 - 1;

/// Bytes per read. Up to three such chunks are in memory besides a store's buffer: one being read, one
/// in transit, one being stored.
const LARGE: u64 = 64 * 1024 - 1;

/// Reads become large after this many full small ones.
const FULL_READS: u32 = 16;

/// Reads become small again after a pause of this length.
const PAUSE: Duration = Duration::from_millis(5);

/// How fast a client sends.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Full reads since the last pause.
    full_reads: u32,
    /// Since when nothing has come.
    waiting: Option<Instant>,
}

impl Pace {
    /// How many bytes to read at most.
    pub(super) fn read_size(&self) -> u64 {
        if self.full_reads < FULL_READS { SMALL } else { LARGE }
    }

    /// Called when there is nothing to read.
    pub(super) fn wait(&mut self, now: impl FnOnce() -> Instant) {
        // Saves reading the clock for clients that send little anyway.
        if self.full_reads > 0 {
            self.waiting.get_or_insert_with(now);
        }
    }

    /// Called after a read of this many bytes.
    pub(super) fn read(&mut self, bytes: u64, now: impl FnOnce() -> Instant) {
        if self.waiting.take().is_some_and(|since| now() - since >= PAUSE) {
            self.full_reads = 0;
        }
        if bytes >= SMALL {
            self.full_reads = self.full_reads.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_grow_with_the_pace_and_shrink_after_a_pause() {
        let begun = Instant::now();
        let now = || begun;
        let mut pace = Pace::default();
        pace.wait(now);
        for _ in 0..FULL_READS {
            assert_eq!(pace.read_size(), SMALL);
            pace.read(100, now);
            pace.read(SMALL, now);
        }
        assert_eq!(pace.read_size(), LARGE);
        // Too short for a pause.
        pace.wait(now);
        pace.wait(|| begun + PAUSE);
        pace.read(LARGE, || begun + PAUSE / 2);
        assert_eq!(pace.read_size(), LARGE);
        // A pause counts from its beginning.
        pace.wait(now);
        pace.wait(|| begun + PAUSE);
        pace.read(LARGE, || begun + PAUSE);
        assert_eq!(pace.read_size(), SMALL);
    }

    #[test]
    fn the_clock_is_not_read_for_clients_that_send_little() {
        let look = || panic!("the clock was read");
        let mut pace = Pace::default();
        pace.wait(look);
        pace.read(SMALL - 1, look);
        pace.wait(look);
    }
}
