//! What surrounds a plugin under test besides stores: clusters with snapshots laid ready, and jobs.

use std::collections::{BTreeMap, VecDeque};

use super::{Host, State, with_host};
use crate::etcd::Facts;
use crate::jobs::{Job, Options, Progress, State as JobState, WhenBusy};
use crate::{Failure, Jobs, glue};

/// Runs a job of the plugin under test.
pub(crate) type Runner = fn(Job) -> Result<Vec<u8>, Failure>;

/// What the next `take` of a cluster gives.
#[derive(Clone, Debug)]
pub struct TestSnapshot {
    pub(crate) facts: Facts,
    pub(crate) bytes: Vec<u8>,
    pub(crate) breaks_off: Option<Failure>,
}

impl TestSnapshot {
    /// A good one, from `http://127.0.0.1:2379`.
    pub fn new(bytes: &[u8]) -> Self {
        let facts = Facts {
            endpoint: "http://127.0.0.1:2379".to_owned(),
            version: "3.4.23".to_owned(),
            cluster_id: 1,
            member_id: 2,
            revision: 3,
            keys: Some(4),
            size: bytes.len() as u64,
        };
        Self { facts, bytes: bytes.to_vec(), breaks_off: None }
    }

    /// From another endpoint.
    pub fn from(mut self, endpoint: &str) -> Self {
        endpoint.clone_into(&mut self.facts.endpoint);
        self
    }

    /// Reading it fails.
    pub fn breaking_off(mut self, failure: Failure) -> Self {
        self.breaks_off = Some(failure);
        self
    }
}

/// Clusters, each with what its next `take`s give.
pub(crate) type Clusters = BTreeMap<String, VecDeque<TestSnapshot>>;

impl Host {
    /// Grants a cluster, and lays snapshots ready: one for each `take`; without one it fails with
    /// `unavailable`.
    pub fn cluster(&self, name: &str, snapshots: &[TestSnapshot]) {
        with_host(|host| {
            let ready = host.clusters.entry(name.to_owned()).or_default();
            ready.extend(snapshots.iter().cloned());
        });
    }

    /// Runs this plugin's jobs when they are waited for.
    pub fn runs_jobs_of<P: Jobs>(&self) {
        with_host(|host| host.runner = Some(glue::run_job::<P>));
    }

    /// Runs all jobs that are queued.
    pub fn run_jobs(&self) {
        let queued = |job: &&Job| job.state == JobState::Queued;
        let ids = with_host(|host| {
            host.jobs.iter().filter(queued).map(|job| job.id.clone()).collect::<Vec<_>>()
        });
        for id in ids {
            run_job(&id);
        }
    }

    /// The jobs so far, oldest first.
    pub fn jobs(&self) -> Vec<Job> {
        with_host(|host| host.jobs.clone())
    }

    /// What time it is, in nanoseconds since the Unix epoch.
    pub fn set_now(&self, nanoseconds: u64) {
        with_host(|host| host.now = nanoseconds);
    }
}

impl State {
    pub(crate) fn clusters(&self) -> Vec<String> {
        self.clusters.keys().cloned().collect()
    }

    pub(crate) fn take_snapshot(
        &mut self,
        cluster: &str,
        except: &[String],
    ) -> Result<TestSnapshot, Failure> {
        let Some(ready) = self.clusters.get_mut(cluster) else {
            return Err(Failure::Denied(format!("the mount grants no cluster named {cluster:?}")));
        };
        let next = ready.iter().position(|ready| !except.contains(&ready.facts.endpoint));
        next.and_then(|next| ready.remove(next))
            .ok_or_else(|| Failure::Unavailable(format!("{cluster}: no endpoint answers")))
    }

    pub(crate) fn start_job(
        &mut self,
        kind: &str,
        input: &[u8],
        options: &Options,
    ) -> Result<String, Failure> {
        let open = |job: &&Job| {
            let open = matches!(job.state, JobState::Queued | JobState::Running);
            open && job.kind == kind && job.key == options.key
        };
        match (self.jobs.iter().find(open), options.when_busy) {
            (Some(job), WhenBusy::Join) => return Ok(job.id.clone()),
            (Some(job), WhenBusy::Refuse) => {
                return Err(Failure::Busy(format!("the job {} is under way", job.id)));
            }
            _ => {}
        }
        let id = format!("job-{}", self.jobs.len() + 1);
        self.jobs.push(Job {
            id: id.clone(),
            kind: kind.to_owned(),
            key: options.key.clone(),
            origin: "test".to_owned(),
            input: input.to_vec(),
            state: JobState::Queued,
            attempt: 0,
            progress: Progress { done: 0, total: None, phase: String::new() },
            created: self.now,
            started: None,
            ended: None,
            message: String::new(),
            output: Vec::new(),
        });
        Ok(id)
    }

    pub(crate) fn job(&mut self, id: &str) -> Result<&mut Job, Failure> {
        self.jobs.iter_mut().find(|job| job.id == id).ok_or(Failure::NotFound)
    }
}

/// Runs a queued job to its end, where somebody runs jobs here.
pub(crate) fn run_job(id: &str) {
    let begun = with_host(|host| {
        let (runner, now) = (host.runner?, host.now);
        let job = host.job(id).ok().filter(|job| job.state == JobState::Queued)?;
        job.state = JobState::Running;
        job.attempt += 1;
        job.started = Some(now);
        Some((runner, job.clone()))
    });
    let Some((runner, job)) = begun else { return };
    let result = runner(job);
    with_host(|host| {
        let now = host.now;
        let Ok(job) = host.job(id) else { return };
        job.ended = Some(now);
        match result {
            Ok(output) => {
                job.state = JobState::Succeeded;
                job.output = output;
            }
            Err(failure) => {
                job.state = JobState::Failed;
                failure.message().clone_into(&mut job.message);
            }
        }
    });
}
