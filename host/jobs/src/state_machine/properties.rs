//! Compares the state machine with a simpler model of the same rules: a list of jobs that is scanned
//! from its beginning. After every step, in any order, both must agree.

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use super::*;
use crate::error::StartError;
use crate::job::{NewJob, WhenBusy};
use crate::runner::Failed;

const AT_ONCE: usize = 2;
const BACKOFF: u64 = 10;

#[derive(Clone, Debug)]
enum Step {
    Start {
        mount: usize,
        key: usize,
        attempts: u32,
        when_busy: WhenBusy,
        /// Seconds until it may begin.
        delay: Option<u64>,
        finally: bool,
    },
    Begin,
    /// One of the running jobs ends like this; the index is taken modulo their number.
    Finish {
        which: usize,
        how: How,
    },
    Cancel {
        which: usize,
        unless_begun: bool,
    },
    Pass {
        seconds: u64,
    },
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Well,
    Again,
    Badly,
    Stopped,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let when_busy = prop_oneof![
        4 => Just(WhenBusy::Queue),
        1 => Just(WhenBusy::Join),
        1 => Just(WhenBusy::JoinQueued),
        1 => Just(WhenBusy::Refuse)
    ];
    let delays = prop::option::weighted(0.3, 0..60_u64);
    let how = prop_oneof![
        3 => Just(How::Well),
        3 => Just(How::Again),
        1 => Just(How::Badly),
        1 => Just(How::Stopped)
    ];
    let step = prop_oneof![
        6 => (0..2_usize, 0..2_usize, 1..4_u32, when_busy, delays, any::<bool>()).prop_map(
            |(mount, key, attempts, when_busy, delay, finally)| Step::Start {
                mount, key, attempts, when_busy, delay, finally
            }
        ),
        8 => Just(Step::Begin),
        6 => (any::<usize>(), how).prop_map(|(which, how)| Step::Finish { which, how }),
        2 => (any::<usize>(), any::<bool>())
            .prop_map(|(which, unless_begun)| Step::Cancel { which, unless_begun }),
        3 => (0..30_u64).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..120)
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Plain {
    id: String,
    mount: String,
    kind: &'static str,
    key: String,
    state: State,
    attempt: u32,
    attempts: u32,
    next: Option<SystemTime>,
    is_cancelled: bool,
    finally: bool,
    after: Option<String>,
}

impl Plain {
    fn is_like(&self, other: &Self) -> bool {
        (&self.mount, self.kind, &self.key) == (&other.mount, other.kind, &other.key)
    }

    /// Whether a job that may begin at that time is joined to this one.
    fn is_joined(&self, when_busy: WhenBusy, from: SystemTime) -> bool {
        let in_time = self.attempt > 0 || self.next.is_none_or(|next| next <= from);
        match when_busy {
            WhenBusy::Queue => false,
            WhenBusy::Refuse => true,
            WhenBusy::Join => in_time,
            WhenBusy::JoinQueued => in_time && self.attempt == 0,
        }
    }

    fn end(&mut self, how: How, now: SystemTime) {
        let backoff = if self.after.is_some() { crate::BACKOFF.as_secs() } else { BACKOFF };
        let pause = backoff * 2_u64.pow(self.attempt - 1);
        self.state = match how {
            How::Well => State::Succeeded,
            _ if self.is_cancelled => State::Cancelled,
            How::Badly => State::Failed,
            How::Again | How::Stopped if self.attempt == self.attempts => State::Failed,
            How::Again => {
                self.next = Some(now + Duration::from_secs(pause));
                State::Queued
            }
            How::Stopped => State::Queued,
        };
    }
}

fn running(jobs: &[Plain]) -> Vec<usize> {
    (0..jobs.len()).filter(|index| jobs[*index].state == State::Running).collect()
}

/// The job that starts next.
fn next(jobs: &[Plain], now: SystemTime) -> Option<usize> {
    let running = running(jobs);
    let is_free = |job: &Plain| !running.iter().any(|other| jobs[*other].is_like(job));
    let load =
        |job: &Plain| running.iter().filter(|other| jobs[**other].mount == job.mount).count();
    let due = (0..jobs.len()).filter(|index| {
        let job = &jobs[*index];
        let is_due = job.state == State::Queued && job.next.is_none_or(|next| next <= now);
        is_due && is_free(job) && (running.len() < AT_ONCE || load(job) == 0)
    });
    // The first of several equal candidates.
    due.min_by_key(|index| load(&jobs[*index]))
}

struct Both {
    machine: StateMachine,
    plain: Vec<Plain>,
    now: SystemTime,
    /// The tokens of attempts, by job.
    told: BTreeMap<String, CancellationToken>,
}

fn options() -> Options {
    Options { keep: 1000, keep_for: Duration::from_secs(1 << 30), at_once: AT_ONCE }
}

impl Both {
    fn new() -> Self {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let file = JobFile::in_memory().unwrap();
        let machine = StateMachine::open(file, options(), now, Arc::default()).unwrap();
        Self { machine, plain: Vec::new(), now, told: BTreeMap::new() }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Start { mount, key, attempts, when_busy, delay, finally } => {
                let (mount, key) = (["/", "/x/"][mount], ["a", "b"][key]);
                let next = delay.map(|seconds| self.now + Duration::from_secs(seconds));
                self.start(
                    Plain {
                        id: String::new(),
                        mount: mount.to_owned(),
                        kind: "backup",
                        key: key.to_owned(),
                        state: State::Queued,
                        attempt: 0,
                        attempts,
                        next: next.filter(|next| *next > self.now),
                        is_cancelled: false,
                        finally,
                        after: None,
                    },
                    when_busy,
                );
            }
            Step::Begin => self.begin(),
            Step::Finish { which, how } => self.finish(which, how),
            Step::Cancel { which, unless_begun } => self.cancel(which, unless_begun),
            Step::Pass { seconds } => self.now += Duration::from_secs(seconds),
            Step::Restart => self.restart(),
        }
        self.compare();
    }

    fn start(&mut self, job: Plain, when_busy: WhenBusy) {
        let new = NewJob {
            mount: job.mount.clone(),
            kind: job.kind.to_owned(),
            key: job.key.clone(),
            origin: "test".to_owned(),
            schedule: None,
            user: None,
            input: Vec::new(),
            attempts: job.attempts,
            backoff: Duration::from_secs(BACKOFF),
            not_before: job.next,
            finally: job.finally.then(|| "tidy".to_owned()),
            when_busy,
        };
        let started = self.machine.start(new, self.now);
        let from = job.next.unwrap_or(self.now);
        let alike = |other: &&Plain| {
            let is_there = !other.state.is_over() && other.is_like(&job);
            is_there && other.is_joined(when_busy, from)
        };
        match (self.plain.iter().rfind(alike), when_busy) {
            (Some(there), WhenBusy::Refuse) => {
                assert!(matches!(started, Err(StartError::Busy { id }) if id == there.id));
            }
            (Some(there), _) => assert_eq!(started.unwrap(), there.id),
            (None, _) => {
                let id = started.unwrap();
                assert!(self.plain.iter().all(|other| other.id < id));
                self.plain.push(Plain { id, ..job });
            }
        }
    }

    fn begin(&mut self) {
        let begun = self.machine.begin(&CancellationToken::new(), self.now).unwrap();
        let expected = next(&self.plain, self.now);
        let id = expected.map(|index| self.plain[index].id.clone());
        assert_eq!(begun.as_ref().map(|begun| begun.job.id.clone()), id);
        if let (Some(begun), Some(index)) = (begun, expected) {
            let job = &mut self.plain[index];
            (job.state, job.attempt, job.next) = (State::Running, job.attempt + 1, None);
            self.told.insert(job.id.clone(), begun.stop);
        }
    }

    fn finish(&mut self, which: usize, how: How) {
        let running = running(&self.plain);
        let Some(index) = running.get(which % running.len().max(1)) else { return };
        let job = &mut self.plain[*index];
        let failed = |again| Err(Failed { message: "down".to_owned(), again });
        let outcome = match how {
            How::Well => Outcome::Over(Ok(b"x".to_vec())),
            How::Again => Outcome::Over(failed(true)),
            How::Badly => Outcome::Over(failed(false)),
            How::Stopped => Outcome::Stopped,
        };
        self.machine.finish(&job.id, outcome.clone(), self.now).unwrap();
        job.end(how, self.now);
        // Reporting it again changes nothing.
        self.machine.finish(&job.id, outcome, self.now).unwrap();
        self.follow(&[*index]);
    }

    /// Checks that the finished ones among these jobs have started what they must start, in order.
    fn follow(&mut self, ended: &[usize]) {
        let over = ended.iter().map(|index| &self.plain[*index]);
        let over: Vec<Plain> =
            over.filter(|job| job.state.is_over() && job.finally).cloned().collect();
        for job in over {
            let started = self.machine.live.values().map(|live| &live.record.job);
            let mut started = started.filter(|other| other.after.as_ref() == Some(&job.id));
            let id = started.next().unwrap().id.clone();
            assert_eq!(started.next(), None, "two jobs follow {job:?}");
            assert!(self.plain.iter().all(|other| other.id < id));
            self.plain.push(Plain {
                id,
                kind: "tidy",
                state: State::Queued,
                attempt: 0,
                attempts: crate::FINAL_ATTEMPTS,
                next: None,
                is_cancelled: false,
                finally: false,
                after: Some(job.id.clone()),
                ..job
            });
        }
    }

    fn cancel(&mut self, which: usize, unless_begun: bool) {
        if self.plain.is_empty() {
            return;
        }
        let index = which % self.plain.len();
        let job = &mut self.plain[index];
        let came = self.machine.cancel(&job.id, unless_begun, self.now).unwrap();
        let is_too_late = job.state.is_over() || unless_begun && job.attempt > 0;
        match came {
            CancelOutcome::TooLate => assert!(is_too_late),
            CancelOutcome::Done => {
                assert!(!is_too_late && job.state == State::Queued);
                job.state = State::Cancelled;
                job.next = None;
                self.follow(&[index]);
            }
            CancelOutcome::Signalled(_) => {
                assert!(!is_too_late && job.state == State::Running);
                assert!(self.told[&job.id].is_cancelled());
                job.is_cancelled = true;
            }
            CancelOutcome::Unknown => panic!("{job:?} is unknown"),
        }
    }

    fn restart(&mut self) {
        let empty = JobFile::in_memory().unwrap();
        let file = std::mem::replace(&mut self.machine.file, empty);
        self.machine = StateMachine::open(file, options(), self.now, Arc::default()).unwrap();
        let interrupted = running(&self.plain);
        for index in &interrupted {
            // A pending cancellation is forgotten with the process.
            self.plain[*index].is_cancelled = false;
            self.plain[*index].end(How::Stopped, self.now);
        }
        self.follow(&interrupted);
    }

    fn compare(&mut self) {
        let jobs = self.machine.list(&Filter::default(), 1000, |_| true).unwrap();
        let ids: Vec<&String> = jobs.iter().rev().map(|job| &job.id).collect();
        assert_eq!(ids, self.plain.iter().map(|job| &job.id).collect::<Vec<_>>());
        for (job, plain) in jobs.iter().rev().zip(&self.plain) {
            assert_eq!((job.state, job.attempt), (plain.state, plain.attempt), "{plain:?}");
            assert_eq!((job.kind.as_str(), &job.after), (plain.kind, &plain.after), "{plain:?}");
            if let Some(ended) = &plain.after {
                assert_eq!(
                    (job.input.as_slice(), job.attempts),
                    (ended.as_bytes(), plain.attempts)
                );
            }
            let next = plain.next.filter(|_| plain.state == State::Queued);
            assert_eq!(job.next_attempt, next, "{plain:?}");
            assert_eq!(job.ended.is_some(), plain.state.is_over());
        }
        let running = running(&self.plain);
        let mounts: BTreeSet<_> = running.iter().map(|index| &self.plain[*index].mount).collect();
        assert!(running.len() - mounts.len() < AT_ONCE);
        for (place, index) in running.iter().enumerate() {
            let alike = |other: &usize| self.plain[*other].is_like(&self.plain[*index]);
            assert!(!running[place + 1..].iter().any(alike));
        }
    }
}

/// Failed cases are stored beside this file and tried first.
fn config() -> ProptestConfig {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/state_machine/properties.regressions");
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn it_behaves_like_the_list_model(steps in steps()) {
        let mut both = Both::new();
        steps.iter().for_each(|step| both.take(step));
    }
}
