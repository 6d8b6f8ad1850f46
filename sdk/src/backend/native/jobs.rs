//! `jobs` outside a component: a job runs when somebody waits for it.

use crate::Failure;
pub use crate::bindings::keepgate::plugin::jobs::{Job, Options, Progress, State, WhenBusy};
use crate::testing::{self, with_host};

/// Starts a job.
pub fn start(kind: &str, input: &[u8], options: &Options) -> Result<String, Failure> {
    with_host(|host| host.start_job(kind, input, options))
}

/// A job as it is.
pub fn get(id: &str) -> Result<Job, Failure> {
    with_host(|host| host.job(id).map(|job| job.clone()))
}

/// Waits until a job leaves `state` or so many milliseconds have gone.
pub fn wait(id: &str, leaves: State, milliseconds: u64) -> Result<Job, Failure> {
    if milliseconds > 0 && get(id)?.state == leaves {
        testing::run_job(id);
    }
    get(id)
}

/// Jobs of a kind, newest first.
pub fn list(kind: &str, max: u32) -> Result<Vec<Job>, Failure> {
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    with_host(|host| {
        let jobs = host.jobs.iter().rev().filter(|job| job.kind == kind);
        Ok(jobs.take(max).cloned().collect())
    })
}

/// Ends a job that is queued or runs. False where it had ended before.
pub fn cancel(id: &str) -> Result<bool, Failure> {
    with_host(|host| {
        let open = matches!(host.job(id)?.state, State::Queued | State::Running);
        if open {
            host.end_job(id, State::Cancelled);
        }
        Ok(open)
    })
}

/// Ends a job only where it has not begun. False where it had.
pub fn withdraw(id: &str) -> Result<bool, Failure> {
    if get(id)?.state == State::Queued { cancel(id) } else { Ok(false) }
}

/// How far the job is that runs.
pub fn report(progress: &Progress) -> Result<(), Failure> {
    with_host(|host| {
        let running = host.jobs.iter_mut().find(|job| job.state == State::Running);
        let running = running.ok_or_else(|| Failure::Invalid("no job runs".to_owned()))?;
        running.progress = progress.clone();
        Ok(())
    })
}
