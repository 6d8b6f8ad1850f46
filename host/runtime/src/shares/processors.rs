//! The processors, which mounts share by taking turns when they compute for long.
//!
//! Guests run on the threads that serve everything else. One that computes gives its thread back every 10 ms, but it comes
//! back at once, and 256 of them are a queue of more than a second for every other request. So the calls of a mount whose
//! polls are long, all together, wait outside that queue: as many run at once as there are processors, the next one is of
//! the mount that has computed least, and each runs on a thread of its own, so that the threads of the runtime stay free.
//! Mounts whose polls are short, which are most, pay for two counters.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use prometheus::Counter;
use tokio::runtime::{Handle, RuntimeFlavor};

/// Polls that take as long as this on average are long ...
const LONG: Duration = Duration::from_millis(1);
/// ... if the calls in flight, at that average, would keep others waiting for longer than this.
const MOST_AHEAD: Duration = Duration::from_millis(5);
/// The average is over about this many polls, as a power of two.
const MEMORY: u32 = 3;
/// How often a mount's log may say that its calls wait.
const SAID_EVERY: Duration = Duration::from_secs(60);
/// A wait for one turn that is worth a line. A call has a turn for every 10 ms that it computes.
const LONG_WAIT: Duration = Duration::from_millis(200);

/// The turns of all mounts.
pub(crate) struct Processors {
    state: Mutex<State>,
}

struct State {
    /// Turns that nobody has.
    free: usize,
    mounts: BTreeMap<u64, Queue>,
    next: u64,
    /// Where the mount that began last is, in nanoseconds of computing.
    now: u64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Arc<Ticket>>,
    /// Nanoseconds that the mount has computed, moved up to `now` when it comes back after a pause: whoever has not
    /// computed for an hour cannot have everything for the next.
    computed: u64,
}

/// A place in a queue. Everything but the waker changes under the lock of the state.
struct Ticket {
    stage: AtomicU8,
    waker: Mutex<Waker>,
}

const WAITS: u8 = 0;
const HAS_TURN: u8 = 1;
const GONE: u8 = 2;

/// What is known of the calls of one mount.
pub(crate) struct Load {
    processors: Arc<Processors>,
    id: u64,
    /// How long a poll takes, in nanoseconds.
    average: AtomicU64,
    in_flight: AtomicUsize,
    /// The mount's path, for messages.
    mount: String,
    /// Seconds that its calls have waited.
    waited: Counter,
    last_said: Mutex<Option<Instant>>,
}

impl Processors {
    pub(crate) fn new(count: usize) -> Arc<Self> {
        let state = State { free: count.max(1), mounts: BTreeMap::new(), next: 0, now: 0 };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// A mount that takes part.
    pub(crate) fn join(self: &Arc<Self>, mount: &str, waited: Counter) -> Load {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        state.mounts.insert(id, Queue::default());
        Load {
            processors: self.clone(),
            id,
            average: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            mount: mount.to_owned(),
            waited,
            last_said: Mutex::new(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives the free turns to those who wait.
    fn give(&mut self) {
        while self.free > 0 {
            let waits = |(id, queue): (&u64, &Queue)| {
                (!queue.waiting.is_empty()).then_some((queue.computed.max(self.now), *id))
            };
            // Among equals, the one that has computed less before.
            let Some((at, id)) = self.mounts.iter().filter_map(waits).min() else { return };
            let Some(queue) = self.mounts.get_mut(&id) else { return };
            let Some(ticket) = queue.waiting.pop_front() else { return };
            if ticket.stage.load(Ordering::Relaxed) == GONE {
                continue;
            }
            queue.computed = at;
            self.now = at;
            self.free -= 1;
            ticket.stage.store(HAS_TURN, Ordering::Relaxed);
            ticket.waker.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
        }
    }
}

impl Load {
    /// A call that begins.
    pub(crate) fn call(self: &Arc<Self>) -> Call {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Call { load: self.clone(), ticket: None, since: None }
    }

    /// Whether its polls have to take turns.
    fn is_long(&self) -> bool {
        let average = self.average.load(Ordering::Relaxed);
        let calls = self.in_flight.load(Ordering::Relaxed) as u64;
        average >= nanos(LONG) && average.saturating_mul(calls) > nanos(MOST_AHEAD)
    }

    fn polled(&self, took: u64) {
        // Two threads may lose each other's measurement, which is only one of many.
        let average = self.average.load(Ordering::Relaxed);
        let next = average - (average >> MEMORY) + (took >> MEMORY);
        self.average.store(next, Ordering::Relaxed);
    }

    fn waited(&self, time: Duration) {
        self.waited.inc_by(time.as_secs_f64());
        if time < LONG_WAIT {
            return;
        }
        let mut last = self.last_said.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= SAID_EVERY) {
            *last = Some(Instant::now());
            tracing::warn!(
                mount = self.mount,
                waited_seconds = time.as_secs_f64(),
                calls = self.in_flight.load(Ordering::Relaxed),
                "calls of this mount wait for a processor, because they or those of other mounts compute for long"
            );
        }
    }
}

impl std::fmt::Debug for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Load({})", self.mount)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.processors.lock().mounts.remove(&self.id);
    }
}

/// A call in flight.
pub(crate) struct Call {
    load: Arc<Load>,
    ticket: Option<Arc<Ticket>>,
    /// When it began to wait for its turn.
    since: Option<Instant>,
}

impl Call {
    /// Polls the call, when it is its turn. `took` returns how long the poll took, in nanoseconds of processor time.
    pub(crate) fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> (Poll<T>, u64),
    ) -> Poll<T> {
        if self.ticket.is_none() && !self.load.is_long() {
            let (polled, took) = poll(context);
            self.load.polled(took);
            return polled;
        }
        if !self.has_turn(context.waker()) {
            return Poll::Pending;
        }
        if let Some(since) = self.since.take() {
            self.load.waited(since.elapsed());
        }
        let (polled, took) = if on_many_threads() {
            // Whatever else this thread had to do goes on on another.
            tokio::task::block_in_place(|| poll(context))
        } else {
            poll(context)
        };
        self.load.polled(took);
        self.end_turn(took);
        polled
    }

    fn has_turn(&mut self, waker: &Waker) -> bool {
        let mut state = self.load.processors.lock();
        let ticket = self.ticket.get_or_insert_with(|| {
            let stage = AtomicU8::new(WAITS);
            let ticket = Arc::new(Ticket { stage, waker: Mutex::new(waker.clone()) });
            if let Some(queue) = state.mounts.get_mut(&self.load.id) {
                queue.waiting.push_back(ticket.clone());
            }
            ticket
        });
        ticket.waker.lock().unwrap_or_else(PoisonError::into_inner).clone_from(waker);
        if ticket.stage.load(Ordering::Relaxed) == WAITS {
            state.give();
        }
        let has_turn = ticket.stage.load(Ordering::Relaxed) == HAS_TURN;
        if !has_turn {
            self.since.get_or_insert_with(Instant::now);
        }
        has_turn
    }

    fn end_turn(&mut self, took: u64) {
        let Some(ticket) = self.ticket.take() else { return };
        let mut state = self.load.processors.lock();
        if ticket.stage.swap(GONE, Ordering::Relaxed) == HAS_TURN {
            state.free += 1;
            if let Some(queue) = state.mounts.get_mut(&self.load.id) {
                queue.computed = queue.computed.saturating_add(took);
            }
        }
        state.give();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.load.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.end_turn(0);
    }
}

fn on_many_threads() -> bool {
    Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn load(processors: &Arc<Processors>) -> Arc<Load> {
        Arc::new(processors.join("/m", Counter::new("waited", "-").unwrap()))
    }

    /// Polls `call` once, as if it took so long, and notes who computed.
    async fn compute(call: &mut Call, took: Duration, log: &Mutex<Vec<char>>, who: char) {
        poll_fn(|context| {
            call.poll(context, |_| {
                log.lock().unwrap().push(who);
                (Poll::Ready(()), nanos(took))
            })
        })
        .await;
    }

    #[tokio::test]
    async fn short_polls_wait_for_nobody() {
        let processors = Processors::new(1);
        let load = load(&processors);
        let mut calls: Vec<_> = (0..256).map(|_| load.call()).collect();
        let log = Mutex::default();
        for call in &mut calls {
            compute(call, Duration::from_micros(900), &log, 's').await;
            assert!(call.ticket.is_none());
        }
        assert_eq!(processors.lock().free, 1);
    }

    /// Twenty calls of one mount compute for 10 ms at a time, and one of another mount for 2 ms.
    #[tokio::test]
    async fn many_calls_of_one_mount_are_not_ahead_of_a_call_of_another() {
        let processors = Processors::new(1);
        let log = Arc::new(Mutex::default());
        let mut tasks = Vec::new();
        let held = load(&processors);
        held.average.store(u64::MAX >> 1, Ordering::Relaxed);
        let mut first = held.call();
        // Nobody begins before all wait.
        assert!(first.has_turn(Waker::noop()));
        for (who, milliseconds, polls, callers) in [('a', 10, 40, 20), ('b', 2, 50, 1)] {
            let load = load(&processors);
            load.average.store(nanos(Duration::from_secs(1)), Ordering::Relaxed);
            for _ in 0..callers {
                let (load, log) = (load.clone(), log.clone());
                tasks.push(tokio::spawn(async move {
                    let mut call = load.call();
                    for _ in 0..polls {
                        compute(&mut call, Duration::from_millis(milliseconds), &log, who).await;
                        load.average.store(nanos(Duration::from_secs(1)), Ordering::Relaxed);
                    }
                }));
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(log.lock().unwrap().is_empty());
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        let log = log.lock().unwrap();
        let last_b = log.iter().rposition(|who| *who == 'b').unwrap();
        let ahead = log[..last_b].iter().filter(|who| **who == 'a').count();
        // Whoever has just had a turn is not there when the next one begins, so they alternate.
        assert!((10..=60).contains(&ahead), "50 polls of 2 ms beside {ahead} of 10 ms");
        assert_eq!(processors.lock().free, 1);
    }

    #[tokio::test]
    async fn a_call_that_is_dropped_gives_its_turn_to_the_next() {
        let processors = Processors::new(1);
        let load = load(&processors);
        load.average.store(u64::MAX >> 1, Ordering::Relaxed);
        let (mut a, mut b, mut c) = (load.call(), load.call(), load.call());
        assert!(a.has_turn(Waker::noop()));
        assert!(!b.has_turn(Waker::noop()) && !c.has_turn(Waker::noop()));
        drop(b);
        drop(a);
        assert!(c.has_turn(Waker::noop()));
        drop(c);
        assert_eq!(processors.lock().free, 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn long_polls_leave_the_threads_to_others() {
        let processors = Processors::new(2);
        let load = load(&processors);
        load.average.store(nanos(Duration::from_secs(1)), Ordering::Relaxed);
        let mut tasks = Vec::new();
        for _ in 0..8 {
            let mut call = load.call();
            tasks.push(tokio::spawn(async move {
                poll_fn(|context| {
                    call.poll(context, |_| {
                        std::thread::sleep(Duration::from_millis(100));
                        (Poll::Ready(()), nanos(Duration::from_millis(100)))
                    })
                })
                .await;
            }));
        }
        // With its threads blocked, the runtime would get to this when the last of them is done.
        let mut others = 0;
        while !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
            tokio::spawn(async {}).await.unwrap();
            others += 1;
        }
        assert!(others > 50, "{others}");
    }
}
