//! Beginning what is due, and doing it. One loop decides, woken by changes, by the end of jobs and
//! by timers; each attempt is a task of its own, which also writes down how it ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::book::{Begun, Book, Outcome};
use crate::clock::between;
use crate::error::JobsError;
use crate::runner::{Failed, Reporter, Runner};
use crate::{Job, Jobs};

/// The longest sleep. The time of day may jump, so what is due is asked for at least this often.
const STEP: Duration = Duration::from_secs(60);

/// How long after an error of the disk it is tried again.
const AFTER_ERROR: Duration = Duration::from_secs(5);

impl Jobs {
    /// Begins jobs and schedules as they become due, until `stop` is over. Then it interrupts what
    /// runs, which is to the jobs what a kill would be, and returns when every runner's future is
    /// gone. Where this future itself is dropped, the jobs are interrupted too, but that is noticed
    /// at the next call or start only.
    ///
    /// A second call waits for the first.
    pub async fn run(self: &Arc<Self>, runner: Arc<dyn Runner>, stop: impl Future + Send) {
        let _alone = self.dispatching.lock().await;
        let all = CancellationToken::new();
        let mut attempts = JoinSet::new();
        let mut stop = pin!(stop);
        self.interrupt().await;
        loop {
            let turn = self.turn(&all).await;
            for begun in turn.begun {
                attempts.spawn(attempt(self.clone(), runner.clone(), begun, all.clone()));
            }
            tokio::select! {
                _ = &mut stop => break,
                () = self.changed.notified() => {}
                Some(_) = attempts.join_next(), if !attempts.is_empty() => {}
                () = sleep(turn.sleep) => {}
            }
        }
        all.cancel();
        while attempts.join_next().await.is_some() {}
        self.interrupt().await;
    }

    async fn interrupt(self: &Arc<Self>) {
        let result = self.change(Book::interrupt).await.flatten();
        if let Err(error) = result {
            tracing::error!(%error, "the jobs that ran could not be written down as interrupted");
        }
    }

    /// Begins what is due, as much as may run.
    async fn turn(self: &Arc<Self>, all: &CancellationToken) -> Turn {
        let all = all.clone();
        let turn = self.change(move |book, now| {
            let mut begun = Vec::new();
            let mut error = book.start_due(now).err();
            // Jobs are begun also where schedules fail; the disk may have recovered.
            loop {
                match book.begin(&all, now) {
                    Ok(Some(next)) => begun.push(next),
                    Ok(None) => break,
                    Err(failed) => {
                        error = Some(failed);
                        break;
                    }
                }
            }
            let due = book.next_due(now).map(|due| between(now, due));
            let sleep = due.unwrap_or(STEP).min(STEP);
            (Turn { begun, sleep }, error)
        });
        let (turn, error) = match turn.await {
            Ok(turn) => turn,
            Err(error) => (Turn { begun: Vec::new(), sleep: AFTER_ERROR }, Some(error)),
        };
        match error {
            None => turn,
            Some(error) => {
                tracing::error!(%error, "jobs that are due cannot be begun; it is tried again");
                Turn { sleep: AFTER_ERROR, ..turn }
            }
        }
    }
}

/// What is to be done now, and how long nothing is.
struct Turn {
    begun: Vec<Begun>,
    sleep: Duration,
}

/// Makes one attempt, and writes down how it ended.
async fn attempt(jobs: Arc<Jobs>, runner: Arc<dyn Runner>, begun: Begun, all: CancellationToken) {
    let Begun { job, progress, stop } = begun;
    let id = job.id.clone();
    let outcome = outcome(runner, job, progress, &stop).await;
    loop {
        let (ended, outcome) = (id.clone(), outcome.clone());
        let written = jobs.change(move |book, now| book.finish(&ended, outcome, now)).await;
        let Err(error) = written.flatten() else { break };
        log_unwritten(&id, &error);
        // Where the gateway stops meanwhile, the job is taken as interrupted.
        tokio::select! {
            () = all.cancelled() => break,
            () = sleep(AFTER_ERROR) => {}
        }
    }
}

fn log_unwritten(id: &str, error: &JobsError) {
    tracing::error!(job = id, %error, "how a job ended cannot be written; it is tried again");
}

/// Runs the runner until it is done or is to stop. Its future is gone when this returns.
async fn outcome(
    runner: Arc<dyn Runner>,
    job: Job,
    progress: Reporter,
    stop: &CancellationToken,
) -> Outcome {
    let id = job.id.clone();
    let run = async { runner.run(job, progress).await };
    let mut run = Box::pin(AssertUnwindSafe(run).catch_unwind());
    let outcome = tokio::select! {
        // What is done is not thrown away because somebody wanted it to end in the same moment.
        biased;
        done = &mut run => match done {
            Ok(result) => Outcome::Over(result),
            Err(_) => {
                tracing::error!(job = id, "the runner of a job panicked");
                let message = "it broke down; the gateway's log says more".to_owned();
                Outcome::Over(Err(Failed { message, again: true }))
            }
        },
        () = stop.cancelled() => Outcome::Stopped,
    };
    if catch_unwind(AssertUnwindSafe(move || drop(run))).is_err() {
        tracing::error!(job = id, "the runner of a job panicked while it was dropped");
    }
    outcome
}
