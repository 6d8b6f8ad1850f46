//! Jobs in memory. A job runs when something waits for it or when the test says so, and has one attempt,
//! whatever its options.

use std::collections::BTreeMap;

use super::{Job, Options, Progress, State, WhenBusy};
use crate::testing::{Caller, Host, with};
use crate::{Body, Failure, Jobs, environment, glue};

/// Runs a job of the plugin under test.
type Runner = fn(Job) -> Result<Vec<u8>, Failure>;

#[derive(Debug, Default)]
struct Queue {
    /// Oldest first.
    jobs: Vec<Job>,
    /// The kind of job that starts when a job has ended, by that job's id.
    finally: BTreeMap<String, String>,
    runner: Option<Runner>,
    /// The kinds of jobs that the plugin under test runs.
    kinds: Vec<String>,
}

/// Starts a job and returns its id. Fails with [`Failure::Invalid`] for a kind that the plugin does not run,
/// and with [`Failure::Busy`] if there are too many jobs, or if one with this key exists and the options do
/// not allow another.
pub fn start(kind: &str, input: &[u8], options: &Options) -> Result<String, Failure> {
    with(|queue: &mut Queue| queue.start(kind, input, options))
}

/// The same body. If its bytes are not what [`pipes::verified`](crate::pipes::verified) or
/// [`pipes::checked`](crate::pipes::checked) expects, the host starts this job when it notices; here that is at once. Fails like [`start`] for what that would refuse.
pub fn start_on_mismatch(
    data: Body,
    kind: &str,
    input: &[u8],
    options: &Options,
) -> Result<Body, Failure> {
    with(|queue: &mut Queue| queue.check_kinds(kind, options))?;
    if let Some(Failure::ChecksumMismatch(_)) = data.ends_with() {
        // The host only says in the log that it cannot be started.
        let _ = start(kind, input, options);
    }
    Ok(data)
}

/// A job in its current state. Fails with [`Failure::NotFound`] if it does not exist or belongs to another
/// mount.
pub fn get(id: &str) -> Result<Job, Failure> {
    with(|queue: &mut Queue| queue.job(id).map(|job| job.clone()))
}

/// Waits until a job leaves the state `leaves`, or this many milliseconds have passed, and returns the job as
/// it is then. [`job_api::wait`](crate::job_api::wait) waits for its end.
pub fn wait(id: &str, leaves: State, milliseconds: u64) -> Result<Job, Failure> {
    if milliseconds > 0 && get(id)?.state == leaves {
        run(id);
    }
    get(id)
}

/// The mount's jobs of a kind, newest first, at most `max`.
pub fn list(kind: &str, max: u32) -> Result<Vec<Job>, Failure> {
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    Ok(with(|queue: &mut Queue| {
        let jobs = queue.jobs.iter().rev().filter(|job| job.kind == kind);
        jobs.take(max).cloned().collect()
    }))
}

/// Cancels a job that is queued or running. Returns false if it has ended already.
pub fn cancel(id: &str) -> Result<bool, Failure> {
    with(|queue: &mut Queue| {
        let open = matches!(queue.job(id)?.state, State::Queued | State::Running);
        if open {
            queue.end(id, State::Cancelled);
        }
        Ok(open)
    })
}

/// Cancels a job that has not begun. Returns false if it has.
pub fn withdraw(id: &str) -> Result<bool, Failure> {
    if get(id)?.state == State::Queued { cancel(id) } else { Ok(false) }
}

/// Reports the progress of the running job. Fails with [`Failure::Invalid`] outside of one.
pub fn report(progress: &Progress) -> Result<(), Failure> {
    with(|queue: &mut Queue| {
        let running = queue.jobs.iter_mut().find(|job| job.state == State::Running);
        let running = running.ok_or_else(|| Failure::Invalid("no job runs".to_owned()))?;
        running.progress = progress.clone();
        Ok(())
    })
}

impl Host {
    /// Runs this plugin's jobs when something waits for them.
    pub fn runs_jobs_of<P: Jobs>(&self) {
        let kinds = P::describe().0.jobs;
        let runner: Runner = glue::run_job::<P>;
        with(|queue: &mut Queue| (queue.runner, queue.kinds) = (Some(runner), kinds));
    }

    /// Runs all jobs that are queued and due, and those that start when they end.
    pub fn run_jobs(&self) {
        while let Some(id) = with(|queue: &mut Queue| queue.next_due()) {
            run(&id);
        }
    }

    /// The jobs so far, oldest first.
    pub fn jobs(&self) -> Vec<Job> {
        with(|queue: &mut Queue| queue.jobs.clone())
    }
}

impl Queue {
    fn check_kinds(&self, kind: &str, options: &Options) -> Result<(), Failure> {
        for kind in std::iter::once(kind).chain(options.finally.as_deref()) {
            if self.runner.is_some() && !self.kinds.iter().any(|known| known == kind) {
                return Err(Failure::Invalid(format!("the plugin runs no job {kind:?}")));
            }
        }
        Ok(())
    }

    fn start(&mut self, kind: &str, input: &[u8], options: &Options) -> Result<String, Failure> {
        self.check_kinds(kind, options)?;
        let from = options.not_before.unwrap_or(0).max(environment::now());
        let joined = |job: &&Job| {
            let open = matches!(job.state, State::Queued | State::Running);
            let in_time = job.next.is_none_or(|next| next <= from);
            let alike = open && job.kind == kind && job.key == options.key;
            alike
                && match options.when_busy {
                    WhenBusy::Queue => false,
                    WhenBusy::Refuse => true,
                    WhenBusy::Join => in_time,
                    WhenBusy::JoinQueued => in_time && job.attempt == 0,
                }
        };
        match self.jobs.iter().rfind(joined) {
            Some(job) if options.when_busy == WhenBusy::Refuse => {
                return Err(Failure::Busy(format!("the job {} has not ended", job.id)));
            }
            Some(job) => return Ok(job.id.clone()),
            None => {}
        }
        let id = self.add(kind, input, options);
        if let Some(kind) = &options.finally {
            self.finally.insert(id.clone(), kind.clone());
        }
        Ok(id)
    }

    fn add(&mut self, kind: &str, input: &[u8], options: &Options) -> String {
        let (id, now) = (format!("job-{}", self.jobs.len() + 1), environment::now());
        self.jobs.push(Job {
            id: id.clone(),
            kind: kind.to_owned(),
            key: options.key.clone(),
            origin: "test".to_owned(),
            principal: with(|caller: &mut Caller| caller.0.clone()),
            input: input.to_vec(),
            state: State::Queued,
            attempt: 0,
            attempts: options.attempts,
            next: options.not_before.filter(|time| *time > now),
            progress: Progress { done: 0, total: None, phase: String::new() },
            created: now,
            started: None,
            ended: None,
            message: String::new(),
            output: Vec::new(),
        });
        id
    }

    /// Ends a job, and starts the job that follows it, for the same user.
    fn end(&mut self, id: &str, state: State) {
        let Ok(job) = self.job(id) else { return };
        (job.state, job.ended, job.next) = (state, Some(environment::now()), None);
        let (key, principal) = (job.key.clone(), job.principal.clone());
        if let Some(kind) = self.finally.remove(id) {
            // As often as the host would try it.
            let options = Options::new(&key).attempts(5);
            let caller = Caller::replace(principal);
            self.add(&kind, id.as_bytes(), &options);
            Caller::replace(caller);
        }
    }

    /// The oldest job that is queued and due.
    fn next_due(&self) -> Option<String> {
        self.runner?;
        let now = environment::now();
        let queued = self.jobs.iter().filter(|job| job.state == State::Queued);
        let due = queued.filter(|job| job.next.is_none_or(|next| next <= now));
        due.map(|job| job.id.clone()).next()
    }

    fn job(&mut self, id: &str) -> Result<&mut Job, Failure> {
        self.jobs.iter_mut().find(|job| job.id == id).ok_or(Failure::NotFound)
    }
}

/// Runs a queued job to its end, if it is due and the plugin under test runs jobs.
fn run(id: &str) {
    let begun = with(|queue: &mut Queue| {
        let (runner, now) = (queue.runner?, environment::now());
        let job = queue.job(id).ok().filter(|job| job.state == State::Queued)?;
        if job.next.is_some_and(|next| next > now) {
            return None;
        }
        (job.state, job.started, job.next) = (State::Running, Some(now), None);
        job.attempt += 1;
        Some((runner, job.clone()))
    });
    let Some((runner, job)) = begun else { return };
    let caller = Caller::replace(job.principal.clone());
    let result = runner(job);
    Caller::replace(caller);
    with(|queue: &mut Queue| {
        let Ok(job) = queue.job(id) else { return };
        let state = match result {
            Ok(output) => {
                job.output = output;
                State::Succeeded
            }
            Err(failure) => {
                failure.message().clone_into(&mut job.message);
                State::Failed
            }
        };
        queue.end(id, state);
    });
}

#[cfg(test)]
mod tests;
