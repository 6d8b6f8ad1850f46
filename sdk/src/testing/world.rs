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
        let kinds = P::describe().0.jobs;
        let runner: Runner = glue::run_job::<P>;
        with_host(|host| (host.runner, host.kinds) = (Some(runner), kinds));
    }

    /// Runs all jobs that are queued and must not wait for a time, and those that their ends start.
    pub fn run_jobs(&self) {
        while let Some(id) = with_host(|host| host.next_job()) {
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
        for kind in std::iter::once(kind).chain(options.finally.as_deref()) {
            if self.runner.is_some() && !self.kinds.iter().any(|known| known == kind) {
                return Err(Failure::Invalid(format!("the plugin runs no job {kind:?}")));
            }
        }
        let from = options.not_before.unwrap_or(0).max(self.now);
        let joined = |job: &&Job| {
            let open = matches!(job.state, JobState::Queued | JobState::Running);
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
                return Err(Failure::Busy(format!("the job {} is under way", job.id)));
            }
            Some(job) => return Ok(job.id.clone()),
            None => {}
        }
        let id = self.add_job(kind, input, options);
        if let Some(kind) = &options.finally {
            self.finally.insert(id.clone(), kind.clone());
        }
        Ok(id)
    }

    fn add_job(&mut self, kind: &str, input: &[u8], options: &Options) -> String {
        let id = format!("job-{}", self.jobs.len() + 1);
        self.jobs.push(Job {
            id: id.clone(),
            kind: kind.to_owned(),
            key: options.key.clone(),
            origin: "test".to_owned(),
            principal: self.principal.clone(),
            input: input.to_vec(),
            state: JobState::Queued,
            attempt: 0,
            attempts: options.attempts,
            next: options.not_before.filter(|time| *time > self.now),
            progress: Progress { done: 0, total: None, phase: String::new() },
            created: self.now,
            started: None,
            ended: None,
            message: String::new(),
            output: Vec::new(),
        });
        id
    }

    /// A job has ended in this state; starts what its end is to start.
    pub(crate) fn end_job(&mut self, id: &str, state: JobState) {
        let now = self.now;
        let Ok(job) = self.job(id) else { return };
        (job.state, job.ended, job.next) = (state, Some(now), None);
        let (key, principal) = (job.key.clone(), job.principal.clone());
        if let Some(kind) = self.finally.remove(id) {
            // As often as the host would try it.
            let options = Options::new(&key).attempts(5);
            let of_call = std::mem::replace(&mut self.principal, principal);
            self.add_job(&kind, id.as_bytes(), &options);
            self.principal = of_call;
        }
    }

    /// The oldest job that is queued and due.
    fn next_job(&self) -> Option<String> {
        self.runner?;
        let queued = self.jobs.iter().filter(|job| job.state == JobState::Queued);
        let due = queued.filter(|job| job.next.is_none_or(|next| next <= self.now));
        due.map(|job| job.id.clone()).next()
    }

    pub(crate) fn job(&mut self, id: &str) -> Result<&mut Job, Failure> {
        self.jobs.iter_mut().find(|job| job.id == id).ok_or(Failure::NotFound)
    }
}

/// Runs a queued job to its end, where somebody runs jobs here and its time has come. There is one
/// attempt, however many it has.
pub(crate) fn run_job(id: &str) {
    let begun = with_host(|host| {
        let (runner, now) = (host.runner?, host.now);
        let job = host.job(id).ok().filter(|job| job.state == JobState::Queued)?;
        if job.next.is_some_and(|next| next > now) {
            return None;
        }
        (job.state, job.started, job.next) = (JobState::Running, Some(now), None);
        job.attempt += 1;
        let job = job.clone();
        let of_call = std::mem::replace(&mut host.principal, job.principal.clone());
        Some((runner, job, of_call))
    });
    let Some((runner, job, of_call)) = begun else { return };
    let result = runner(job);
    with_host(|host| {
        host.principal = of_call;
        let Ok(job) = host.job(id) else { return };
        let state = match result {
            Ok(output) => {
                job.output = output;
                JobState::Succeeded
            }
            Err(failure) => {
                failure.message().clone_into(&mut job.message);
                JobState::Failed
            }
        };
        host.end_job(id, state);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Description, Plugin, Reply, Request, environment, jobs};

    struct Worker;

    impl Plugin for Worker {
        type Settings = serde_json::Value;

        fn describe() -> Description {
            let description = Description::new("worker", "1").job("work").job("tidy");
            description.gauge("worker_level", "What was set last", &["what"])
        }

        fn handle(_: Request, _: Self::Settings) -> Result<Reply, Failure> {
            let later = environment::now() + 1000;
            let options = Options::new("a").attempts(3).finally("tidy").not_before(later);
            Ok(Reply::ok().text(jobs::start("work", b"", &options)?))
        }
    }

    impl Jobs for Worker {
        fn run_job(job: Job, _: Self::Settings) -> Result<Vec<u8>, Failure> {
            environment::set("worker_level", &["x"], 0.5);
            environment::set("worker_level", &["x"], f64::NAN);
            if job.kind == "tidy" {
                let id = String::from_utf8(job.input).unwrap();
                return Ok(format!("{:?}", jobs::get(&id)?.state).into_bytes());
            }
            Err(Failure::Invalid("as the test wants".to_owned()))
        }
    }

    fn host() -> Host {
        let host = Host::new();
        host.runs_jobs_of::<Worker>();
        host
    }

    #[test]
    fn a_job_waits_for_its_time_and_is_followed_for_its_user() {
        let host = host();
        let id = host.get("/").user("ann").send::<Worker>().text();
        host.run_jobs();
        let job = host.jobs()[0].clone();
        assert_eq!((job.state, job.attempt, job.attempts), (JobState::Queued, 0, 3));
        assert_eq!(job.next, Some(1000));
        host.set_now(1000);
        host.run_jobs();
        let [failed, tidied] = host.jobs().try_into().unwrap();
        assert_eq!((failed.state, failed.next), (JobState::Failed, None));
        assert_eq!((tidied.input, tidied.key, tidied.attempts), (id.into_bytes(), failed.key, 5));
        assert_eq!(tidied.output, b"State::Failed");
        assert_eq!(tidied.principal.unwrap().name, "ann");
        assert_eq!(host.gauge("worker_level x"), Some(0.5));
        assert_eq!(host.gauge("worker_level y"), None);
    }

    #[test]
    fn one_that_is_cancelled_is_followed_too() {
        let host = host();
        let id = host.get("/").send::<Worker>().text();
        assert!(jobs::withdraw(&id).unwrap());
        host.run_jobs();
        assert_eq!(host.jobs()[1].output, b"State::Cancelled");
        assert!(host.jobs()[1].principal.is_none());
    }

    #[test]
    fn what_is_joined_begins_no_later_and_has_not_begun() {
        let host = host();
        let start = |options: Options| jobs::start("work", b"", &options).unwrap();
        let first = start(Options::new("a").not_before(1000));
        let joining = |when_busy| Options::new("a").when_busy(when_busy);
        assert_eq!(start(joining(WhenBusy::JoinQueued).not_before(1000)), first);
        let second = start(joining(WhenBusy::JoinQueued));
        assert_ne!(second, first);
        assert_eq!(start(joining(WhenBusy::Join)), second);
        let refused = jobs::start("rest", b"", &Options::new("a"));
        assert!(matches!(refused, Err(Failure::Invalid(_))), "{refused:?}");
        let refused = jobs::start("work", b"", &Options::new("b").finally("rest"));
        assert!(matches!(refused, Err(Failure::Invalid(_))), "{refused:?}");
        assert_eq!(host.jobs().len(), 2);
    }
}
