//! The CPU time of a call, and what ends a guest that computes for too long. Change here what is
//! charged to a guest.
//!
//! The clock runs while a thread works on the call and stops while the call waits. It is read twice for
//! each poll, whatever the guest does in it.
//!
//! The first [`TICK`] of a call, which is all that most calls use, is measured by the wall clock, which
//! takes 20 ns to read; the rest by the thread's CPU clock, which takes 0.7 µs. On an overloaded machine
//! a thread is descheduled in the middle of a poll, and by the wall clock alone a well-behaved plugin
//! would be charged for what others compute, ended, and in the end suspended.
//!
//! wasmtime's call hook would leave out everything the host does for the guest without waiting. But it
//! is called twice for each crossing, and handing one request to a guest takes about thirty crossings,
//! one for each text. [`Cpu::free`] leaves out what takes long, moving a body into a store: over a
//! terabyte every bit of work adds up.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::UpdateDeadline;

use crate::shares::Load;

/// How often guests that compute are interrupted, to be charged and to yield.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// The CPU time of one instance. Only one thread works on an instance at a time, and whatever hands the
/// instance to another thread orders their memory accesses.
#[derive(Debug)]
pub(crate) struct Cpu {
    limit: Duration,
    /// The mount's turns at computing.
    load: Option<Arc<Load>>,
    /// Times are relative to this.
    origin: Instant,
    /// Whether the thread's clock is read instead of the wall clock.
    exact: AtomicBool,
    /// Nanoseconds that the call used before `since`.
    used: AtomicU64,
    /// When the clock last started, in nanoseconds.
    since: AtomicU64,
    over: AtomicBool,
}

impl Cpu {
    pub(crate) fn new(limit: Duration, load: Option<Arc<Load>>) -> Self {
        Self {
            limit,
            load,
            origin: Instant::now(),
            exact: AtomicBool::new(false),
            used: AtomicU64::new(0),
            since: AtomicU64::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// Starts a new call.
    pub(crate) fn begin(&self) {
        self.used.store(0, Ordering::Relaxed);
        self.over.store(false, Ordering::Relaxed);
    }

    /// The limit, if the guest was ended because it exceeded it.
    pub(crate) fn over(&self) -> Option<Duration> {
        self.over.load(Ordering::Relaxed).then_some(self.limit)
    }

    /// Runs the clock while `call` is polled, which it is when it is its turn.
    pub(crate) async fn charge<F: Future>(&self, mut call: Pin<&mut F>) -> F::Output {
        let mut turns = self.load.as_ref().map(Load::call);
        std::future::poll_fn(|context| match &mut turns {
            Some(turns) => turns.poll(context, |context| self.poll(context, call.as_mut())),
            None => self.poll(context, call.as_mut()).0,
        })
        .await
    }

    /// The result of one poll, and the nanoseconds that it took.
    fn poll<F: Future>(
        &self,
        context: &mut Context<'_>,
        call: Pin<&mut F>,
    ) -> (Poll<F::Output>, u64) {
        let before = self.used.load(Ordering::Relaxed);
        self.exact.store(Duration::from_nanos(before) >= TICK, Ordering::Relaxed);
        self.since.store(self.now(), Ordering::Relaxed);
        let poll = call.poll(context);
        let used = self.spent();
        self.used.store(used, Ordering::Relaxed);
        (poll, used.saturating_sub(before))
    }

    /// Does work for which the call is not charged.
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
        // A guest that computes for long must not block the thread.
        UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))
    }

    /// Nanoseconds that the call has used until now, while the clock runs.
    fn spent(&self) -> u64 {
        let running = self.now().saturating_sub(self.since.load(Ordering::Relaxed));
        let running = match self.exact.load(Ordering::Relaxed) {
            true => running,
            // Longer, and the guest would have been interrupted: the thread was descheduled.
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
    async fn computing_is_charged_and_waiting_is_not() {
        let limit = Duration::from_millis(500);
        let cpu = Cpu::new(limit, None);
        cpu.begin();
        cpu.charge(pin!(async {
            tokio::time::sleep(limit * 2).await;
            assert!(matches!(cpu.tick(), UpdateDeadline::YieldCustom(..)));
            // The time of several polls adds up.
            while !matches!(cpu.tick(), UpdateDeadline::Interrupt) {
                tokio::task::yield_now().await;
            }
        }))
        .await;
        assert_eq!(cpu.over(), Some(limit));
        // A descheduled thread, here one that sleeps, is charged for one tick at most, ...
        cpu.begin();
        cpu.charge(pin!(async {
            std::thread::sleep(limit * 2);
            assert!(matches!(cpu.tick(), UpdateDeadline::YieldCustom(..)));
        }))
        .await;
        assert_eq!(Duration::from_nanos(cpu.used.load(Ordering::Relaxed)), TICK);
        // ... and for nothing once the call has used that much.
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
