//! A clock that tests set, and a scripted runner. Tokio's clock is paused and advances when
//! everybody waits, so no test waits in real time.

#![allow(dead_code, clippy::indexing_slicing, reason = "each test binary uses only a part")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use keepgate_jobs::{Clock, Failed, Job, Jobs, NewJob, Options, Reporter, Runner, State, WhenBusy};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub(crate) fn at(text: &str) -> SystemTime {
    text.parse::<jiff::Timestamp>().unwrap().into()
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The time of day: the initial time plus what has passed on tokio's clock.
#[derive(Debug)]
pub(crate) struct TestClock(Mutex<(SystemTime, Instant)>);

impl TestClock {
    pub(crate) fn new(text: &str) -> Arc<Self> {
        Arc::new(Self(Mutex::new((at(text), Instant::now()))))
    }

    /// Sets the clock, as an administrator or NTP would.
    pub(crate) fn set(&self, text: &str) {
        *self.0.lock().unwrap() = (at(text), Instant::now());
    }
}

impl Clock for TestClock {
    fn now(&self) -> SystemTime {
        let (start, since) = *self.0.lock().unwrap();
        start + since.elapsed()
    }
}

/// Lets things happen until this time.
pub(crate) async fn until(clock: &TestClock, text: &str) {
    let left = at(text).duration_since(clock.now()).unwrap();
    tokio::time::sleep(left).await;
}

pub(crate) fn new(kind: &str, key: &str) -> NewJob {
    NewJob {
        mount: "/".to_owned(),
        kind: kind.to_owned(),
        key: key.to_owned(),
        origin: "test".to_owned(),
        schedule: None,
        user: None,
        input: b"{}".to_vec(),
        attempts: 1,
        backoff: seconds(30),
        not_before: None,
        finally: None,
        when_busy: WhenBusy::Queue,
    }
}

/// What an attempt does.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Succeeds after this many seconds.
    Take(u64),
    /// Fails at once; true if another attempt may help.
    Fail(bool),
    Panic,
    /// Never ends by itself.
    Hang,
    /// Reports progress and hangs.
    Report(u64),
}

/// An observed event of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Began(String, u32),
    /// Its future was dropped, for whatever reason.
    Gone(String),
}

/// For each key, the acts of its attempts in order; the last one is repeated.
#[derive(Debug, Default)]
pub(crate) struct Script {
    acts: Mutex<HashMap<String, Vec<Act>>>,
    pub(crate) seen: Mutex<Vec<(Seen, Instant)>>,
}

impl Script {
    pub(crate) fn new(acts: &[(&str, &[Act])]) -> Arc<Self> {
        let acts = acts.iter().map(|(key, acts)| ((*key).to_owned(), acts.to_vec())).collect();
        Arc::new(Self { acts: Mutex::new(acts), seen: Mutex::default() })
    }

    pub(crate) fn set(&self, key: &str, act: Act) {
        self.acts.lock().unwrap().insert(key.to_owned(), vec![act]);
    }

    fn next(&self, key: &str) -> Act {
        let mut acts = self.acts.lock().unwrap();
        match acts.get_mut(key) {
            None => Act::Take(0),
            Some(acts) if acts.len() == 1 => acts[0].clone(),
            Some(acts) => acts.remove(0),
        }
    }

    pub(crate) fn see(&self, seen: Seen) {
        self.seen.lock().unwrap().push((seen, Instant::now()));
    }

    pub(crate) fn order(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().iter().map(|(seen, _)| seen.clone()).collect()
    }

    /// Seconds from the first start to each one.
    pub(crate) fn begins(&self) -> Vec<u64> {
        let seen = self.seen.lock().unwrap();
        let began = seen.iter().filter(|(seen, _)| matches!(seen, Seen::Began(..)));
        let times: Vec<Instant> = began.map(|(_, time)| *time).collect();
        times.iter().map(|time| (*time - times[0]).as_secs()).collect()
    }
}

pub(crate) struct Gone<'a>(&'a Script, String);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.see(Seen::Gone(self.1.clone()));
    }
}

#[async_trait]
impl Runner for Script {
    async fn run(&self, job: Job, progress: Reporter) -> Result<Vec<u8>, Failed> {
        assert_eq!(job.state, State::Running);
        self.see(Seen::Began(job.id.clone(), job.attempt));
        let _gone = Gone(self, job.id.clone());
        match self.next(&job.key) {
            Act::Take(time) => {
                tokio::time::sleep(seconds(time)).await;
                Ok(format!("done in attempt {}", job.attempt).into_bytes())
            }
            Act::Fail(again) => Err(Failed { message: "the cluster is down".to_owned(), again }),
            Act::Panic => panic!("as the test wants"),
            Act::Hang => std::future::pending().await,
            Act::Report(done) => {
                let phase = "streaming".to_owned();
                progress.report(keepgate_jobs::Progress { done, total: Some(9), phase });
                std::future::pending().await
            }
        }
    }
}

/// Jobs with a running dispatcher.
pub(crate) struct Running {
    pub(crate) jobs: Arc<Jobs>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) fn new(jobs: &Arc<Jobs>, runner: &Arc<Script>) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (jobs, runner) = (jobs.clone(), runner.clone());
        let running = jobs.clone();
        let task = tokio::spawn(async move {
            running.run(runner, stopped).await;
        });
        Self { jobs, stop: Some(stop), task }
    }

    pub(crate) async fn stop(mut self) -> Arc<Jobs> {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.await.unwrap();
        self.jobs
    }

    /// The job when it is over.
    pub(crate) async fn end(&self, id: &str) -> Job {
        end(&self.jobs, id).await
    }
}

pub(crate) async fn end(jobs: &Arc<Jobs>, id: &str) -> Job {
    loop {
        let job = jobs.get(id).await.unwrap().unwrap();
        if job.state.is_over() {
            return job;
        }
        jobs.wait(id, job.state, seconds(100_000)).await.unwrap().unwrap();
    }
}

/// Waits until a job has begun its first attempt.
pub(crate) async fn begun(jobs: &Arc<Jobs>, id: &str) -> Job {
    let job = jobs.wait(id, State::Queued, seconds(100_000)).await.unwrap().unwrap();
    assert_eq!(job.attempt, 1, "{job:?}");
    job
}

pub(crate) fn in_memory(clock: &Arc<TestClock>, options: Options) -> Arc<Jobs> {
    Jobs::with_clock(None, options, clock.clone()).unwrap()
}
