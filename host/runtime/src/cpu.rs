//! The CPU time of a call, and what ends a guest that computes for too long. Change here what is
//! charged to a guest.
//!
//! The clock runs while a thread works on the call, and stands while the call waits for anything.
//! So the clock is read twice for each poll, whatever the guest does in it. wasmtime's call hook
//! would leave out all that the host does for the guest without waiting; but it is called twice for
//! each crossing, and handing one request to a guest takes some thirty of them, one for each text.
//! What the host does for long, moving a body into a store, is left out by [`Cpu::free`]: of a
//! terabyte each little bit of work adds up.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wasmtime::UpdateDeadline;

/// What one instance uses. Only one thread works on an instance at a time, and what hands it
/// from one to the other orders their memory accesses.
#[derive(Debug)]
pub(crate) struct Cpu {
    limit: Duration,
    /// Times are counted from here.
    origin: Instant,
    /// Nanoseconds of the call before `since`.
    used: AtomicU64,
    /// When the clock began to run, in nanoseconds.
    since: AtomicU64,
    over: AtomicBool,
}

impl Cpu {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            origin: Instant::now(),
            used: AtomicU64::new(0),
            since: AtomicU64::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// A new call begins.
    pub(crate) fn begin(&self) {
        self.used.store(0, Ordering::Relaxed);
        self.over.store(false, Ordering::Relaxed);
    }

    /// The limit, where the guest was ended because it went over it.
    pub(crate) fn over(&self) -> Option<Duration> {
        self.over.load(Ordering::Relaxed).then_some(self.limit)
    }

    /// Runs the clock while `call` is polled.
    pub(crate) async fn charge<F: Future>(&self, mut call: Pin<&mut F>) -> F::Output {
        std::future::poll_fn(|context| {
            self.since.store(self.now(), Ordering::Relaxed);
            let poll = call.as_mut().poll(context);
            self.used.store(self.spent(), Ordering::Relaxed);
            poll
        })
        .await
    }

    /// Does work of the host's that the call is not charged for.
    pub(crate) async fn free<F: Future>(&self, work: F) -> F::Output {
        let used = self.spent();
        let done = work.await;
        self.since.store(self.now(), Ordering::Relaxed);
        self.used.store(used, Ordering::Relaxed);
        done
    }

    /// Called whenever the epoch moves while the guest computes.
    pub(crate) fn tick(&self) -> UpdateDeadline {
        if Duration::from_nanos(self.spent()) > self.limit {
            self.over.store(true, Ordering::Relaxed);
            return UpdateDeadline::Interrupt;
        }
        // A guest that computes for long must not hold the thread.
        UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))
    }

    /// Nanoseconds of the call until now, while the clock runs.
    fn spent(&self) -> u64 {
        let running = self.now().saturating_sub(self.since.load(Ordering::Relaxed));
        self.used.load(Ordering::Relaxed).saturating_add(running)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test]
    async fn what_computes_is_charged_and_what_waits_is_not() {
        let limit = Duration::from_millis(500);
        let cpu = Cpu::new(limit);
        cpu.begin();
        cpu.charge(pin!(async {
            tokio::time::sleep(limit * 2).await;
            assert!(matches!(cpu.tick(), UpdateDeadline::YieldCustom(..)));
            // In several polls: they add up.
            while !matches!(cpu.tick(), UpdateDeadline::Interrupt) {
                tokio::task::yield_now().await;
            }
        }))
        .await;
        assert_eq!(cpu.over(), Some(limit));
        cpu.begin();
        assert_eq!(cpu.over(), None);
        cpu.charge(pin!(async {
            let busy = async {
                let begun = Instant::now();
                while begun.elapsed() < limit * 2 {
                    tokio::task::yield_now().await;
                }
            };
            cpu.free(busy).await;
            assert!(matches!(cpu.tick(), UpdateDeadline::YieldCustom(..)));
        }))
        .await;
    }
}
