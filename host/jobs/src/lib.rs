//! Background jobs: kept on disk, run one at a time for each key, retried, cancelled and shown to
//! operators; and schedules that start them. This crate knows neither HTTP nor plugins: the code
//! that runs jobs implements [`Runner`].
//!
//! | file | what it is for |
//! | --- | --- |
//! | `job`, `runner`, `error` | what a job is; the trait that runs one; errors |
//! | `state_machine` | every change of a job's or schedule's state; memory follows the disk |
//! | `dispatch` | the loop that starts what is due, and the tasks that run it |
//! | `schedule` | patterns, intervals, and when each schedule runs next |
//! | `history` | which finished jobs are kept |
//! | `file`, `serde_formats` | the layout on disk; JSON formats |
//! | `metrics` | metrics for alerts |
//! | `clock`, `ulid` | the time; ids that sort by it |
//!
//! # Guarantees
//!
//! - A job whose start was acknowledged survives any end of the process or the machine, and so does
//!   every change of its state that somebody could see. Progress is only written with the next
//!   change of state.
//! - At most one job of a mount, kind and key runs at a time; the next one starts when the future of
//!   the previous one is gone. Jobs run in the order in which they were started, except that a job
//!   that waits for another attempt lets others pass.
//! - A job that was running when the gateway stopped or was killed is queued again if it has
//!   attempts left; otherwise it is marked failed. Its message is "the gateway stopped while it ran".
//! - A job that is started by the end of another (`finally`) is on disk from the moment the other one
//!   ends, however it ends, so the next gateway runs it if this one cannot.
//! - An attempt is made at least as often as is recorded. It may be repeated although it succeeded,
//!   if the gateway is killed, or the disk fails, between the success and its record. So jobs must
//!   do no harm when they are run twice.
//! - The file belongs to one process at a time.

mod clock;
mod dispatch;
mod error;
mod file;
mod history;
mod job;
mod metrics;
mod runner;
mod schedule;
mod serde_formats;
mod state_machine;
mod ulid;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use self::file::JobFile;
use self::metrics::MetricValues;
use self::state_machine::{CancelOutcome, StateMachine};

pub use self::clock::{Clock, SystemClock};
pub use self::error::{JobsError, ScheduleError, StartError};
pub use self::job::{
    BACKOFF, FINAL_ATTEMPTS, Filter, Job, MAX_BACKOFF, MAX_CLAIMS, MAX_INPUT, MAX_LIVE,
    MAX_MESSAGE, MAX_NAME, MAX_OUTPUT, MAX_PAUSE, NewJob, Progress, State, User, WhenBusy,
};
pub use self::metrics::metrics;
pub use self::runner::{Failed, Reporter, Runner};
pub use self::schedule::{Missed, Schedule, ScheduleStatus, Trigger};
pub use keepgate_datafile::FileError;

/// How long [`Jobs::cancel`] waits for a job to stop.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(30);

/// How many jobs are kept, and how many run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many finished jobs of each mount and kind are kept.
    pub keep: usize,
    /// How long finished jobs are kept. The newest success of each mount, kind and key is kept longer.
    pub keep_for: Duration,
    /// How many jobs run at once, at least 1. Each mount may run one in any case.
    pub at_once: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { keep: 200, keep_for: Duration::from_secs(90 * 24 * 3600), at_once: 4 }
    }
}

/// All jobs and schedules of a gateway.
#[derive(Debug)]
pub struct Jobs {
    /// Held while the disk is written.
    machine: Mutex<StateMachine>,
    /// Held only for moments.
    metric_values: Arc<Mutex<MetricValues>>,
    clock: Arc<dyn Clock>,
    /// Whether steps run on threads that may block, because they wait for a disk.
    may_block: bool,
    /// Notified when something may have become due.
    changed: Notify,
    /// Held by the running dispatcher.
    dispatching: tokio::sync::Mutex<()>,
}

impl Jobs {
    /// Opens the file, or creates it with mode 0600 in an existing folder. Blocks.
    ///
    /// # Errors
    ///
    /// [`FileError::InUse`] if another process has it, [`FileError::Version`] and
    /// [`FileError::Damaged`] if it cannot be used, [`FileError::Failed`] if the disk fails.
    pub fn open(file: &Path, options: Options) -> Result<Arc<Self>, JobsError> {
        Self::new(JobFile::open(file)?, options, Arc::new(SystemClock), true)
    }

    /// Jobs in memory, lost when this value is dropped. For tests.
    ///
    /// # Panics
    ///
    /// If the database fails in memory as it would on a bad disk.
    #[expect(clippy::expect_used, reason = "tests want no result of what cannot fail")]
    pub fn in_memory() -> Arc<Self> {
        Self::with_clock(None, Options::default(), Arc::new(SystemClock)).expect("memory")
    }

    /// Like [`open`](Self::open), with another clock, and in memory if there is no file. For tests: every
    /// step runs on the caller's thread, so that tokio's paused clock does not advance during it.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn with_clock(
        file: Option<&Path>,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, JobsError> {
        let file = match file {
            Some(path) => JobFile::open(path)?,
            None => JobFile::in_memory()?,
        };
        Self::new(file, options, clock, false)
    }

    fn new(
        file: JobFile,
        options: Options,
        clock: Arc<dyn Clock>,
        may_block: bool,
    ) -> Result<Arc<Self>, JobsError> {
        let metric_values = Arc::<Mutex<MetricValues>>::default();
        let options = Options { at_once: options.at_once.max(1), ..options };
        let machine =
            Mutex::new(StateMachine::open(file, options, clock.now(), metric_values.clone())?);
        let (changed, dispatching) = Default::default();
        Ok(Arc::new(Self { machine, metric_values, clock, may_block, changed, dispatching }))
    }

    /// Starts a job and returns its id, or the id of the job that it joins. Durable when it returns.
    ///
    /// # Errors
    ///
    /// [`StartError::Invalid`], [`StartError::Busy`] with [`WhenBusy::Refuse`],
    /// [`StartError::TooMany`] if the mount has [`MAX_LIVE`] jobs already, and any error of writing
    /// the file. The job was not started then.
    pub async fn start(self: &Arc<Self>, new: NewJob) -> Result<String, StartError> {
        self.change_and_wake(move |machine, now| machine.start(new, now)).await?
    }

    /// A job in its current state; `None` if it is unknown or no longer kept.
    ///
    /// # Errors
    ///
    /// Any error of reading the file.
    pub async fn get(self: &Arc<Self>, id: &str) -> Result<Option<Job>, JobsError> {
        let id = id.to_owned();
        let found = self.change(move |machine, _| machine.find(&id)).await??;
        Ok(found.map(|(job, _)| job))
    }

    /// At most `max` jobs that match a filter, newest first.
    ///
    /// # Errors
    ///
    /// Any error of reading the file.
    pub async fn list(self: &Arc<Self>, filter: Filter, max: usize) -> Result<Vec<Job>, JobsError> {
        self.list_while(filter, max, |_| true).await
    }

    /// As [`list`](Self::list), but ends before the first job that `admits` refuses: a job has up to 64 KiB of input and
    /// as much output, so whoever lists many of them may want to count.
    ///
    /// # Errors
    ///
    /// Any error of reading the file.
    pub async fn list_while(
        self: &Arc<Self>,
        filter: Filter,
        max: usize,
        admits: impl FnMut(&Job) -> bool + Send + 'static,
    ) -> Result<Vec<Job>, JobsError> {
        self.change(move |machine, _| machine.list(&filter, max, admits)).await?
    }

    /// Waits until a job leaves a state, or is not in it, for at most `limit`, and returns the job as
    /// it is then. A job that left the state and soon returned to it, for example because an attempt
    /// failed at once, has left it. `None` if the job is unknown.
    ///
    /// # Errors
    ///
    /// Any error of reading the file.
    pub async fn wait(
        self: &Arc<Self>,
        id: &str,
        leaves: State,
        limit: Duration,
    ) -> Result<Option<Job>, JobsError> {
        let far = Duration::from_secs(365 * 24 * 3600);
        let deadline = Instant::now() + limit.min(far);
        let looked_for = id.to_owned();
        let found = self.change(move |machine, _| machine.find(&looked_for)).await??;
        let Some((job, changes)) = found else { return Ok(None) };
        let Some(mut changes) = changes.filter(|_| job.state == leaves) else {
            return Ok(Some(job));
        };
        // Timed out or not: the answer is the job as it is by then.
        let _ = timeout_at(deadline, changes.changed()).await;
        self.get(id).await
    }

    /// Cancels a job. If it is running, its runner's future is dropped, and this returns once the
    /// future is gone. False if the job had ended, or ended before it could be stopped; `None` if it is
    /// unknown.
    ///
    /// # Errors
    ///
    /// [`JobsError::StillRuns`] if it does not stop within 30 seconds, and any error of writing the
    /// file.
    pub async fn cancel(self: &Arc<Self>, id: &str) -> Result<Option<bool>, JobsError> {
        let wanted = id.to_owned();
        let told = self.change(move |machine, now| machine.cancel(&wanted, false, now)).await??;
        let mut state = match told {
            CancelOutcome::Unknown => return Ok(None),
            CancelOutcome::TooLate => return Ok(Some(false)),
            CancelOutcome::Done => return Ok(Some(true)),
            CancelOutcome::Signalled(state) => state,
        };
        let ended =
            timeout_at(Instant::now() + CANCEL_TIMEOUT, state.wait_for(|state| state.is_over()));
        match ended.await {
            Ok(Ok(state)) => Ok(Some(*state == State::Cancelled)),
            _ => Err(JobsError::StillRuns(id.to_owned())),
        }
    }

    /// Cancels a job only if no attempt has begun. False if one had; `None` if the job is unknown.
    ///
    /// # Errors
    ///
    /// Any error of writing the file.
    pub async fn withdraw(self: &Arc<Self>, id: &str) -> Result<Option<bool>, JobsError> {
        let id = id.to_owned();
        match self.change(move |machine, now| machine.cancel(&id, true, now)).await?? {
            CancelOutcome::Unknown => Ok(None),
            CancelOutcome::Done => Ok(Some(true)),
            CancelOutcome::TooLate | CancelOutcome::Signalled(_) => Ok(Some(false)),
        }
    }

    /// Replaces the schedules, at startup and at each reload. A schedule whose times did not change
    /// keeps its next run. The first call after [`open`](Self::open) decides about missed runs.
    /// Durable when it returns.
    ///
    /// # Errors
    ///
    /// [`JobsError::Schedule`] if one is invalid or two have the same name, and any error of writing
    /// the file. The old schedules stay in force then.
    pub async fn set_schedules(
        self: &Arc<Self>,
        schedules: Vec<Schedule>,
    ) -> Result<(), JobsError> {
        self.change_and_wake(move |machine, now| machine.set_schedules(schedules, now)).await?
    }

    /// The status of all schedules, by name.
    pub async fn schedules(self: &Arc<Self>) -> Vec<ScheduleStatus> {
        // If the state machine panicked, there are no schedules to report.
        self.change(|machine, _| machine.schedules()).await.unwrap_or_default()
    }

    /// Starts a schedule's job now and returns its id, or the id of the job that it joins; if that
    /// one waits for another attempt, it stops waiting. The schedule's next run does not change.
    ///
    /// # Errors
    ///
    /// [`StartError::UnknownSchedule`], and as for [`start`](Self::start).
    pub async fn run_now(self: &Arc<Self>, name: &str) -> Result<String, StartError> {
        let name = name.to_owned();
        self.change_and_wake(move |machine, now| machine.start_schedule(&name, false, now)).await?
    }

    /// Runs a step after which more may be due. The dispatcher is woken even if the caller has
    /// stopped waiting for the result.
    async fn change_and_wake<T: Send + 'static>(
        self: &Arc<Self>,
        step: impl FnOnce(&mut StateMachine, SystemTime) -> T + Send + 'static,
    ) -> Result<T, JobsError> {
        let jobs = self.clone();
        let step = move |machine: &mut StateMachine, now| {
            let done = step(machine, now);
            jobs.changed.notify_one();
            done
        };
        self.change(step).await
    }

    /// Runs a step of the state machine where it may block. It runs to its end even if the caller
    /// has stopped waiting for it.
    async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        step: impl FnOnce(&mut StateMachine, SystemTime) -> T + Send + 'static,
    ) -> Result<T, JobsError> {
        let jobs = self.clone();
        let step = move || {
            let mut machine = jobs.machine.lock().unwrap_or_else(PoisonError::into_inner);
            let now = jobs.clock.now();
            step(&mut machine, now)
        };
        if !self.may_block {
            return Ok(step());
        }
        tokio::task::spawn_blocking(step)
            .await
            .map_err(|error| JobsError::Broken(error.to_string()))
    }
}

/// The content of a file of jobs, to be inspected while no gateway runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileContents {
    /// Newest first.
    pub jobs: Vec<Job>,
    /// By name, including those that are no longer in the configuration.
    pub schedules: Vec<ScheduleStatus>,
}

/// Reads a file of jobs that no gateway has open. A job whose state is running was running when its
/// gateway was killed. Blocks.
///
/// # Errors
///
/// [`FileError::Missing`], [`FileError::InUse`], and as for [`Jobs::open`].
pub fn read(file: &Path) -> Result<FileContents, JobsError> {
    let content = JobFile::open_existing(file)?.content()?;
    let jobs = content.jobs.into_iter().rev().map(|record| record.job).collect();
    let schedules = content.schedules.iter().map(schedule::PlannedSchedule::status).collect();
    Ok(FileContents { jobs, schedules })
}
