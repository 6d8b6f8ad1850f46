//! Work that outlives a request: jobs that are kept on disk, run one at a time for each key, tried
//! again, cancelled and shown to operators; and schedules that start them. This room knows neither
//! HTTP nor plugins: whoever runs jobs is a [`Runner`].
//!
//! | file | what it is for |
//! | --- | --- |
//! | `job`, `runner`, `error` | what a job is; who does its work; what may go wrong |
//! | `book` | every change of a job's or schedule's state; memory follows the disk |
//! | `dispatch` | the loop that begins what is due, and the tasks that do it |
//! | `schedule` | patterns, intervals, and when each schedule runs next |
//! | `history` | which ended jobs are kept |
//! | `file`, `form` | the layout on disk, which alone names redb; forms in JSON |
//! | `metrics` | figures for alerts |
//! | `clock`, `id` | the time, and names of jobs in its order |
//!
//! # What is promised
//!
//! - A job whose start was acknowledged is there after any end of the process or the machine, and
//!   so is every change of its state that somebody could see. Progress is written with the next
//!   change of state only.
//! - Of a mount, kind and key one job runs at a time; the next one begins when the future of the
//!   one before is gone. Jobs begin in the order of their starts, except that one that waits for
//!   another attempt lets others pass.
//! - A job that ran when the gateway stopped or was killed is queued again where it has attempts
//!   left, and failed else. What it says is "the gateway stopped while it ran".
//! - A job that another's end is to start is on disk from the moment at which that one has ended, in
//!   whatever way, and so is run by whatever gateway comes then.
//! - An attempt is made at least as often as is written down, and may be repeated although it
//!   succeeded: where the gateway was killed, or the disk failed, between the success and its
//!   record. So jobs should do no harm when they are run twice.
//! - The file belongs to one process at a time.

mod book;
mod clock;
mod dispatch;
mod error;
mod file;
mod form;
mod history;
mod id;
mod job;
mod metrics;
mod runner;
mod schedule;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use self::book::{Book, Cancelling};
use self::file::JobFile;
use self::metrics::Figures;

pub use self::clock::{Clock, SystemClock};
pub use self::error::{JobsError, ScheduleError, StartError};
pub use self::job::{
    BACKOFF, FINAL_ATTEMPTS, Filter, Job, MAX_BACKOFF, MAX_CLAIMS, MAX_INPUT, MAX_LIVE,
    MAX_MESSAGE, MAX_NAME, MAX_OUTPUT, MAX_PAUSE, NewJob, Progress, State, User, WhenBusy,
};
pub use self::metrics::metrics;
pub use self::runner::{Failed, Reporter, Runner};
pub use self::schedule::{Missed, Schedule, ScheduleStatus, When};

/// How long [`Jobs::cancel`] waits for a job that was told to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is kept, and how much runs at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many ended jobs of each mount and kind are kept.
    pub keep: usize,
    /// How long ended jobs are kept. The newest success of each mount, kind and key is kept longer.
    pub keep_for: Duration,
    /// How many jobs run at once, from 1.
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
    book: Mutex<Book>,
    /// Held for moments only.
    figures: Arc<Mutex<Figures>>,
    clock: Arc<dyn Clock>,
    /// Steps wait for a disk, and are made on threads that may.
    may_block: bool,
    /// Something may be due that was not before.
    changed: Notify,
    /// Held by whoever dispatches.
    dispatching: tokio::sync::Mutex<()>,
}

impl Jobs {
    /// Opens the file, or makes it with mode 0600 in a folder that exists. Blocks.
    ///
    /// # Errors
    ///
    /// [`JobsError::InUse`] where another process has it, [`JobsError::Version`] and
    /// [`JobsError::Damaged`] where it cannot be used, [`JobsError::File`] where the disk fails.
    pub fn open(file: &Path, options: Options) -> Result<Arc<Self>, JobsError> {
        Self::new(JobFile::open(file)?, options, Arc::new(SystemClock), true)
    }

    /// Jobs that are gone with this value. For tests.
    ///
    /// # Panics
    ///
    /// Where memory itself fails as a disk would.
    #[expect(clippy::expect_used, reason = "tests want no result of what cannot fail")]
    pub fn in_memory() -> Arc<Self> {
        Self::with_clock(None, Options::default(), Arc::new(SystemClock)).expect("memory")
    }

    /// The same with another clock; in memory where there is no file. For tests: every step is made
    /// on the caller's thread, so that a clock of tokio's that is paused does not run on meanwhile.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
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
        let figures = Arc::<Mutex<Figures>>::default();
        let options = Options { at_once: options.at_once.max(1), ..options };
        let book = Mutex::new(Book::open(file, options, clock.now(), figures.clone())?);
        let (changed, dispatching) = Default::default();
        Ok(Arc::new(Self { book, figures, clock, may_block, changed, dispatching }))
    }

    /// Starts a job and returns its id, or that of the one that it joins. Durable when it returns.
    ///
    /// # Errors
    ///
    /// [`StartError::Invalid`], [`StartError::Busy`] with [`WhenBusy::Refuse`],
    /// [`StartError::TooMany`] from [`MAX_LIVE`] jobs of the mount on, and what writing the file
    /// may fail with. It was not started then.
    pub async fn start(self: &Arc<Self>, new: NewJob) -> Result<String, StartError> {
        self.change_and_wake(move |book, now| book.start(new, now)).await?
    }

    /// A job as it is now; none where it is unknown or kept no longer.
    ///
    /// # Errors
    ///
    /// What reading the file may fail with.
    pub async fn get(self: &Arc<Self>, id: &str) -> Result<Option<Job>, JobsError> {
        let id = id.to_owned();
        let found = self.change(move |book, _| book.look(&id)).await??;
        Ok(found.map(|(job, _)| job))
    }

    /// The newest jobs that a filter takes, newest first; at most so many.
    ///
    /// # Errors
    ///
    /// What reading the file may fail with.
    pub async fn list(self: &Arc<Self>, filter: Filter, max: usize) -> Result<Vec<Job>, JobsError> {
        self.change(move |book, _| book.list(&filter, max)).await?
    }

    /// Waits until a job is not, or no longer, in a state, but at most so long; the job as it is
    /// then. One that left the state and was soon back in it, such as by an attempt that failed at
    /// once, has left it. None where the job is unknown.
    ///
    /// # Errors
    ///
    /// What reading the file may fail with.
    pub async fn wait(
        self: &Arc<Self>,
        id: &str,
        leaves: State,
        limit: Duration,
    ) -> Result<Option<Job>, JobsError> {
        let far = Duration::from_secs(365 * 24 * 3600);
        let deadline = Instant::now() + limit.min(far);
        let looked_for = id.to_owned();
        let found = self.change(move |book, _| book.look(&looked_for)).await??;
        let Some((job, changes)) = found else { return Ok(None) };
        let Some(mut changes) = changes.filter(|_| job.state == leaves) else {
            return Ok(Some(job));
        };
        // Over or not: what the job is by then is the answer.
        let _ = timeout_at(deadline, changes.changed()).await;
        self.get(id).await
    }

    /// Ends a job that waits, or runs: then its runner's future is dropped, and this returns once
    /// it is gone. False where the job had ended, or did so before it could be stopped; none where
    /// it is unknown.
    ///
    /// # Errors
    ///
    /// [`JobsError::StillRuns`] where it does not stop within half a minute, and what writing the
    /// file may fail with.
    pub async fn cancel(self: &Arc<Self>, id: &str) -> Result<Option<bool>, JobsError> {
        let wanted = id.to_owned();
        let told = self.change(move |book, now| book.cancel(&wanted, false, now)).await??;
        let mut state = match told {
            Cancelling::Unknown => return Ok(None),
            Cancelling::TooLate => return Ok(Some(false)),
            Cancelling::Done => return Ok(Some(true)),
            Cancelling::Told(state) => state,
        };
        let ended = timeout_at(Instant::now() + PATIENCE, state.wait_for(|state| state.is_over()));
        match ended.await {
            Ok(Ok(state)) => Ok(Some(*state == State::Cancelled)),
            _ => Err(JobsError::StillRuns(id.to_owned())),
        }
    }

    /// Ends a job only where no attempt of it has begun. False where one had; none where the job is
    /// unknown.
    ///
    /// # Errors
    ///
    /// What writing the file may fail with.
    pub async fn withdraw(self: &Arc<Self>, id: &str) -> Result<Option<bool>, JobsError> {
        let id = id.to_owned();
        match self.change(move |book, now| book.cancel(&id, true, now)).await?? {
            Cancelling::Unknown => Ok(None),
            Cancelling::Done => Ok(Some(true)),
            Cancelling::TooLate | Cancelling::Told(_) => Ok(Some(false)),
        }
    }

    /// Puts these schedules in the place of those before; at the start and at each reload. One
    /// whose times did not change keeps its next time. The first call after [`open`](Self::open)
    /// decides about runs that were missed. Durable when it returns.
    ///
    /// # Errors
    ///
    /// [`JobsError::Schedule`] where one cannot be used, or two have a name; and what writing the
    /// file may fail with. The old ones stay then.
    pub async fn set_schedules(
        self: &Arc<Self>,
        schedules: Vec<Schedule>,
    ) -> Result<(), JobsError> {
        self.change_and_wake(move |book, now| book.set_schedules(schedules, now)).await?
    }

    /// What is known of the schedules, by name.
    pub async fn schedules(self: &Arc<Self>) -> Vec<ScheduleStatus> {
        // A book that broke down is as good as one without schedules.
        self.change(|book, _| book.schedules()).await.unwrap_or_default()
    }

    /// Starts a schedule's job now and returns its id, or that of the one that it joins; if that one
    /// waits for another attempt, it waits no longer. When the schedule runs next does not change.
    ///
    /// # Errors
    ///
    /// [`StartError::UnknownSchedule`], and as [`start`](Self::start).
    pub async fn run_now(self: &Arc<Self>, name: &str) -> Result<String, StartError> {
        let name = name.to_owned();
        self.change_and_wake(move |book, now| book.start_schedule(&name, false, now)).await?
    }

    /// Does something after which more may be due. Whoever dispatches hears of it also where nobody
    /// waits for the outcome any more.
    async fn change_and_wake<T: Send + 'static>(
        self: &Arc<Self>,
        step: impl FnOnce(&mut Book, SystemTime) -> T + Send + 'static,
    ) -> Result<T, JobsError> {
        let jobs = self.clone();
        let step = move |book: &mut Book, now| {
            let done = step(book, now);
            jobs.changed.notify_one();
            done
        };
        self.change(step).await
    }

    /// Does something with the book where it may block. It is done to its end also where nobody
    /// waits for it any more.
    async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        step: impl FnOnce(&mut Book, SystemTime) -> T + Send + 'static,
    ) -> Result<T, JobsError> {
        let jobs = self.clone();
        let step = move || {
            let mut book = jobs.book.lock().unwrap_or_else(PoisonError::into_inner);
            let now = jobs.clock.now();
            step(&mut book, now)
        };
        if !self.may_block {
            return Ok(step());
        }
        tokio::task::spawn_blocking(step)
            .await
            .map_err(|error| JobsError::Broken(error.to_string()))
    }
}

/// All that a file holds, for whoever looks at it while no gateway runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Newest first.
    pub jobs: Vec<Job>,
    /// By name; those too that are no longer in the configuration.
    pub schedules: Vec<ScheduleStatus>,
}

/// Reads a file of jobs that no gateway has open. A job that says it is running was so when its
/// gateway was killed. Blocks.
///
/// # Errors
///
/// [`JobsError::Missing`], [`JobsError::InUse`], and as [`Jobs::open`].
pub fn read(file: &Path) -> Result<Snapshot, JobsError> {
    let content = JobFile::open_existing(file)?.content()?;
    let jobs = content.jobs.into_iter().rev().map(|record| record.job).collect();
    let schedules = content.schedules.iter().map(schedule::Planned::status).collect();
    Ok(Snapshot { jobs, schedules })
}
