//! The bandwidth limit of a run: a token bucket in a dozen lines. Time is tokio's, so that tests
//! need not wait for it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What may be sent at once after a pause, in seconds of the rate.
const BURST: Duration = Duration::from_millis(250);

/// Makes its callers wait so that all of them together stay below a rate.
#[derive(Debug)]
pub(crate) struct Limiter {
    bytes_per_second: u64,
    /// When everything that was taken so far has been paid for.
    paid: Mutex<Instant>,
}

impl Limiter {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), paid: Mutex::new(Instant::now()) }
    }

    /// Returns when this many more bytes may be sent.
    pub(crate) async fn take(&self, bytes: usize) {
        let until = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            // A pause earns no more than a burst.
            let earliest = Instant::now().checked_sub(BURST);
            let start = earliest.map_or(*paid, |earliest| earliest.max(*paid));
            *paid = start + self.cost(bytes);
            *paid
        };
        sleep_until(until).await;
    }

    fn cost(&self, bytes: usize) -> Duration {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn callers_together_stay_below_the_rate() {
        let (limiter, begun) = (Limiter::new(1000), Instant::now());
        let one = async {
            for _ in 0..10 {
                limiter.take(500).await;
            }
        };
        let two = async {
            for _ in 0..10 {
                limiter.take(1000).await;
            }
        };
        tokio::join!(one, two);
        // 15,000 bytes at 1000 per second.
        assert_eq!(begun.elapsed().as_secs(), 15);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_earns_no_more_than_a_burst() {
        let limiter = Limiter::new(1000);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let begun = Instant::now();
        limiter.take(10_000).await;
        assert!(begun.elapsed() >= Duration::from_secs(9), "{:?}", begun.elapsed());
    }
}
