//! The double follows the contract's rules for when jobs start and what starts at their end.

use super::*;
use crate::{Description, Plugin, Reply, Request, environment};

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
        Ok(Reply::ok().text(start("work", b"", &options)?))
    }
}

impl Jobs for Worker {
    fn run_job(job: Job, _: Self::Settings) -> Result<Vec<u8>, Failure> {
        environment::set("worker_level", &["x"], 0.5);
        environment::set("worker_level", &["x"], f64::NAN);
        if job.kind == "tidy" {
            let id = String::from_utf8(job.input).unwrap();
            return Ok(format!("{:?}", get(&id)?.state).into_bytes());
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
    assert_eq!((job.state, job.attempt, job.attempts), (State::Queued, 0, 3));
    assert_eq!(job.next, Some(1000));
    host.set_now(1000);
    host.run_jobs();
    let [failed, tidied] = host.jobs().try_into().unwrap();
    assert_eq!((failed.state, failed.next), (State::Failed, None));
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
    assert!(withdraw(&id).unwrap());
    host.run_jobs();
    assert_eq!(host.jobs()[1].output, b"State::Cancelled");
    assert!(host.jobs()[1].principal.is_none());
}

#[test]
fn what_is_joined_begins_no_later_and_has_not_begun() {
    let host = host();
    let begin = |options: Options| start("work", b"", &options).unwrap();
    let first = begin(Options::new("a").not_before(1000));
    let joining = |when_busy| Options::new("a").when_busy(when_busy);
    assert_eq!(begin(joining(WhenBusy::JoinQueued).not_before(1000)), first);
    let second = begin(joining(WhenBusy::JoinQueued));
    assert_ne!(second, first);
    assert_eq!(begin(joining(WhenBusy::Join)), second);
    let refused = start("rest", b"", &Options::new("a"));
    assert!(matches!(refused, Err(Failure::Invalid(_))), "{refused:?}");
    let refused = start("work", b"", &Options::new("b").finally("rest"));
    assert!(matches!(refused, Err(Failure::Invalid(_))), "{refused:?}");
    assert_eq!(host.jobs().len(), 2);
}
