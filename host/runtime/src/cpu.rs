//! The CPU time of a call, and what ends a guest that computes for too long. Change here what is
//! charged to a guest.
//!
//! The clock runs while a thread works on the call, and stands while the call waits for anything.
//! So the clock is read twice for each poll, whatever the guest does in it.
//!
//! Which clock: that of the wall, which costs 20 ns to read, for the first [`TICK`] of a call, which is
//! all that most calls ever use; after that the thread's own, which costs 0.7 µs. On a machine that has
//! more to do than it can, a thread waits for its turn in the middle of a poll, and a good plugin would
//! be charged for what others compute, ended, and put aside in the end.
//!
//! wasmtime's call hook
//! would leave out all that the host does for the guest without waiting; but it is called twice for
//! each crossing, and handing one request to a guest takes some thirty of them, one for each text.
//! What the host does for long, moving a body into a store, is left out by [`Cpu::free`]: of a
//! terabyte each little bit of work adds up.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::UpdateDeadline;

use crate::engine::TICK;

/// What one instance uses. Only one thread works on an instance at a time, and what hands it
/// from one to the other orders their memory accesses.
#[derive(Debug)]
pub(crate) struct Cpu {
    limit: Duration,
    /// Times are counted from here.
    origin: Instant,
    /// Whether the thread's clock is read, and no longer the wall's.
    exact: AtomicBool,
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
            exact: AtomicBool::new(false),
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
            let exact = Duration::from_nanos(self.used.load(Ordering::Relaxed)) >= TICK;
            self.exact.store(exact, Ordering::Relaxed);
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
        let running = match self.exact.load(Ordering::Relaxed) {
            true => running,
            // It would have been interrupted; beyond that the thread was waiting for its turn.
            false => running.min(nanos(TICK)),
        };
        self.used.load(Ordering::Relaxed).saturating_add(running)
    }

    fn now(&self) -> u64 {
        if !self.exact.load(Ordering::Relaxed) {
            return nanos(self.origin.elapsed());
        }
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000);
        seconds.saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
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
        // A thread that has no turn, here by sleeping, is charged for one tick at the most, ...
        cpu.begin();
        cpu.charge(pin!(async {
            std::thread::sleep(limit * 2);
            assert!(matches!(cpu.tick(), UpdateDeadline::YieldCustom(..)));
        }))
        .await;
        assert_eq!(Duration::from_nanos(cpu.used.load(Ordering::Relaxed)), TICK);
        // ... and for nothing once it has computed for that long.
        cpu.charge(pin!(async {
            std::thread::sleep(limit * 2);
            assert!(matches!(cpu.tick(), UpdateDeadline::YieldCustom(..)));
        }))
        .await;
        let used = Duration::from_nanos(cpu.used.load(Ordering::Relaxed));
        assert!(used < TICK * 3, "{used:?}");
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
