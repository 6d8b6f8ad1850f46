//! How much is read at once from a client: little from one that is waited for now and then, so
//! that many slow uploads fit into memory; much from one that sends without a break, because
//! fewer chunks are cheaper.
//!
//! Both figures are one byte less than a power of two, because hyper doubles its buffer after each
//! read that fills it.

use std::time::{Duration, Instant};

/// Bytes. A chunk of an upload has as many.
const SMALL: u64 = 16 * 1024 - 1;

/// Bytes. Of such chunks there are up to three in memory besides what a store gathers: one being
/// read, one on its way, one being stored.
const LARGE: u64 = 64 * 1024 - 1;

/// After so many small reads that were full, they are large.
const FULL_READS: u32 = 16;

/// After a break of this length, reads are small again.
const BREAK: Duration = Duration::from_millis(5);

/// How fast a client sends.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Full reads since the last break.
    full_reads: u32,
    /// Nothing has come since then.
    waiting: Option<Instant>,
}

impl Pace {
    /// At most so many bytes are to be read at once.
    pub(super) fn at_once(&self) -> u64 {
        if self.full_reads < FULL_READS { SMALL } else { LARGE }
    }

    /// Nothing is there to be read.
    pub(super) fn wait(&mut self, now: impl FnOnce() -> Instant) {
        // The clock is not read for clients that send little anyway.
        if self.full_reads > 0 {
            self.waiting.get_or_insert_with(now);
        }
    }

    /// So many bytes were read.
    pub(super) fn read(&mut self, bytes: u64, now: impl FnOnce() -> Instant) {
        if self.waiting.take().is_some_and(|since| now() - since >= BREAK) {
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
    fn reads_grow_with_what_comes_and_are_small_after_a_break() {
        let begun = Instant::now();
        let now = || begun;
        let mut pace = Pace::default();
        pace.wait(now);
        for _ in 0..FULL_READS {
            assert_eq!(pace.at_once(), SMALL);
            pace.read(100, now);
            pace.read(SMALL, now);
        }
        assert_eq!(pace.at_once(), LARGE);
        // A break too short to be one.
        pace.wait(now);
        pace.wait(|| begun + BREAK);
        pace.read(LARGE, || begun + BREAK / 2);
        assert_eq!(pace.at_once(), LARGE);
        // It is as long as the time since it began.
        pace.wait(now);
        pace.wait(|| begun + BREAK);
        pace.read(LARGE, || begun + BREAK);
        assert_eq!(pace.at_once(), SMALL);
    }

    #[test]
    fn a_client_that_sends_little_costs_no_look_at_the_clock() {
        let look = || panic!("the clock was looked at");
        let mut pace = Pace::default();
        pace.wait(look);
        pace.read(SMALL - 1, look);
        pace.wait(look);
    }
}
