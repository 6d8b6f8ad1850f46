//! Starts what is due, and runs it. One loop decides, woken by changes, by the end of jobs and by
//! timers; each attempt is a task of its own, which also records how it ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::clock::between;
use crate::error::JobsError;
use crate::runner::{Failed, Reporter, Runner};
use crate::state_machine::{Attempt, Outcome, StateMachine};
use crate::{Job, Jobs};

/// The longest sleep. The time of day may jump, so due jobs are looked for at least this often.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// The pause after a disk error.
const RETRY_DELAY: Duration = Duration::from_secs(5);

impl Jobs {
    /// Starts jobs and schedules as they become due, until `stop` completes. Then it interrupts the
    /// running jobs, which is to them as if the gateway had been killed, and returns when every
    /// runner's future is gone. If this future itself is dropped, the jobs are interrupted too, but
    /// that is only recorded at the next call or at the next start.
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
        let result = self.change(StateMachine::interrupt).await.flatten();
        if let Err(error) = result {
            tracing::error!(%error, "cannot record that running jobs were interrupted");
        }
    }

    /// Starts what is due, as much as may run.
    async fn turn(self: &Arc<Self>, all: &CancellationToken) -> Turn {
        let all = all.clone();
        let turn = self.change(move |machine, now| {
            let mut begun = Vec::new();
            let mut error = machine.start_due(now).err();
            // Start jobs even if schedules fail, because the disk may have recovered.
            loop {
                match machine.begin(&all, now) {
                    Ok(Some(next)) => begun.push(next),
                    Ok(None) => break,
                    Err(failed) => {
                        error = Some(failed);
                        break;
                    }
                }
            }
            let due = machine.next_due(now).map(|due| between(now, due));
            let sleep = due.unwrap_or(MAX_SLEEP).min(MAX_SLEEP);
            (Turn { begun, sleep }, error)
        });
        let (turn, error) = match turn.await {
            Ok(turn) => turn,
            Err(error) => (Turn { begun: Vec::new(), sleep: RETRY_DELAY }, Some(error)),
        };
        match error {
            None => turn,
            Some(error) => {
                tracing::error!(%error, "cannot start jobs that are due; retrying");
                Turn { sleep: RETRY_DELAY, ..turn }
            }
        }
    }
}

/// The attempts to make now, and how long to sleep afterwards.
struct Turn {
    begun: Vec<Attempt>,
    sleep: Duration,
}

/// Makes one attempt and records how it ended.
async fn attempt(jobs: Arc<Jobs>, runner: Arc<dyn Runner>, begun: Attempt, all: CancellationToken) {
    let Attempt { job, progress, stop } = begun;
    let id = job.id.clone();
    let outcome = outcome(runner, job, progress, &stop).await;
    loop {
        let (ended, outcome) = (id.clone(), outcome.clone());
        let written = jobs.change(move |machine, now| machine.finish(&ended, outcome, now)).await;
        let Err(error) = written.flatten() else { break };
        log_unwritten(&id, &error);
        // If the gateway stops in the meantime, the job counts as interrupted.
        tokio::select! {
            () = all.cancelled() => break,
            () = sleep(RETRY_DELAY) => {}
        }
    }
}

fn log_unwritten(id: &str, error: &JobsError) {
    tracing::error!(job = id, %error, "cannot record how a job ended; retrying");
}

/// Runs the runner until it is done or told to stop. Its future is gone when this returns.
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
        // A result is not thrown away because the job was cancelled at the same moment.
        biased;
        done = &mut run => match done {
            Ok(result) => Outcome::Over(result),
            Err(_) => {
                tracing::error!(job = id, "job runner panicked");
                let message = "the job's runner panicked; see the gateway's log".to_owned();
                Outcome::Over(Err(Failed { message, again: true }))
            }
        },
        () = stop.cancelled() => Outcome::Stopped,
    };
    if catch_unwind(AssertUnwindSafe(move || drop(run))).is_err() {
        tracing::error!(job = id, "job runner panicked while it was dropped");
    }
    outcome
}
