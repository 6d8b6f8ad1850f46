//! The generic cell rate algorithm (GCRA): a token bucket whose whole state is one time.
//!
//! The crate `governor` has it too, and was not taken: it can only count a request and decide about it in one step, but
//! limits of failed requests decide before a request and count after it, and its table of clients grows without bound.
//!
//! Times are nanoseconds since a moment that does not change, so that they fit into a `u64` for 584 years.

use std::time::Duration;

/// How fast requests may come. A client's state is the time at which it has recovered completely; 0 for a new client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// How much later a client has recovered for each request.
    interval: u64,
    /// How far ahead that time may be.
    tolerance: u64,
}

impl Rate {
    /// `requests` in each period, at most `burst` of them at once.
    pub(super) fn new(requests: u32, per: Duration, burst: u32) -> Self {
        let interval = (nanos(per) / u64::from(requests.max(1))).max(1);
        Self { interval, tolerance: interval.saturating_mul(u64::from(burst.max(1))) }
    }

    /// How long a client must wait before its next request; `None` if it may come now.
    pub(super) fn wait(&self, recovered: u64, now: u64) -> Option<Duration> {
        let wait = self.count(recovered, now).saturating_sub(now.saturating_add(self.tolerance));
        (wait > 0).then(|| Duration::from_nanos(wait))
    }

    /// The state of a client after one more request, whether that was admitted or not.
    pub(super) fn count(&self, recovered: u64, now: u64) -> u64 {
        recovered.max(now).saturating_add(self.interval)
    }

    /// The state of a client as if one of its requests had not been counted.
    pub(super) fn uncount(&self, recovered: u64) -> u64 {
        recovered.saturating_sub(self.interval)
    }
}

/// A duration in nanoseconds.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Counts a request if it may come.
    fn admit(rate: &Rate, recovered: &mut u64, now: u64) -> bool {
        let admitted = rate.wait(*recovered, now).is_none();
        if admitted {
            *recovered = rate.count(*recovered, now);
        }
        admitted
    }

    #[test]
    fn a_burst_is_followed_by_the_rate() {
        let rate = Rate::new(60, Duration::from_secs(60), 3);
        let (mut client, now) = (0, 1000 * SECOND);
        let admitted = (0..5).map(|_| admit(&rate, &mut client, now));
        assert_eq!(admitted.collect::<Vec<_>>(), [true, true, true, false, false]);
        assert_eq!(rate.wait(client, now), Some(Duration::from_secs(1)));
        assert_eq!(rate.wait(client, now + SECOND / 4), Some(Duration::from_millis(750)));
        assert!(!admit(&rate, &mut client, now + SECOND - 1));
        assert!(admit(&rate, &mut client, now + SECOND));
        assert!(!admit(&rate, &mut client, now + SECOND));
        // After a pause the burst is whole again, and not larger.
        let later = now + 3600 * SECOND;
        assert_eq!((0..9).filter(|_| admit(&rate, &mut client, later)).count(), 3);
    }

    #[test]
    fn what_is_counted_beyond_the_limit_has_to_be_waited_for() {
        let rate = Rate::new(1, Duration::from_secs(1), 1);
        let counted = (0..10).fold(0, |client, _| rate.count(client, SECOND));
        assert_eq!(rate.wait(counted, SECOND), Some(Duration::from_secs(10)));
        assert_eq!(rate.wait(rate.uncount(counted), SECOND), Some(Duration::from_secs(9)));
    }

    #[test]
    fn the_largest_values_do_not_overflow() {
        let rate = Rate::new(1, Duration::MAX, u32::MAX);
        assert_eq!(rate.wait(rate.count(u64::MAX, u64::MAX), u64::MAX), None);
        let rate = Rate::new(u32::MAX, Duration::from_nanos(1), 1);
        assert!(rate.count(0, 0) > 0, "every request counts");
    }

    proptest! {
        /// In any stretch of time, at most the burst and what the rate allows for that stretch is admitted, and a client
        /// that waits as long as it was told is admitted.
        #[test]
        fn never_more_than_burst_and_rate(
            requests in 1..50_u32,
            burst in 1..20_u32,
            pauses in proptest::collection::vec(0..2 * SECOND, 1..200),
        ) {
            let per = Duration::from_secs(10);
            let rate = Rate::new(requests, per, burst);
            let interval = nanos(per) / u64::from(requests);
            let (mut client, mut now) = (0, 5 * SECOND);
            let mut admitted: Vec<u64> = Vec::new();
            for pause in pauses {
                now += pause;
                match rate.wait(client, now) {
                    None => {
                        client = rate.count(client, now);
                        admitted.push(now);
                    }
                    Some(wait) => {
                        let then = now + nanos(wait);
                        prop_assert!(rate.wait(client, then).is_none());
                        prop_assert!(rate.wait(client, then - 1).is_some());
                    }
                }
            }
            for (index, first) in admitted.iter().enumerate() {
                for (count, last) in admitted.iter().skip(index).enumerate() {
                    let count = u64::try_from(count).unwrap() + 1;
                    prop_assert!(count <= u64::from(burst) + (last - first) / interval);
                }
            }
        }
    }
}
