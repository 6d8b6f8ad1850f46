//! Which job runs when, what happens after failures, and how jobs are cancelled.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say plainly what they expect"
)]

mod common;

use std::sync::Arc;

use common::*;
use keepgate_jobs::{Filter, Jobs, MAX_LIVE, NewJob, Options, StartError, State, WhenBusy};

const START: &str = "2026-11-21T12:00:00Z";

fn jobs() -> Arc<Jobs> {
    in_memory(&TestClock::new(START), Options::default())
}

#[tokio::test(start_paused = true)]
async fn a_job_runs_and_its_output_is_kept() {
    let running = Running::new(&jobs(), &Script::new(&[("main", &[Act::Take(5)])]));
    let id = running.jobs.start(new("backup", "main")).await.unwrap();
    let job = begun(&running.jobs, &id).await;
    assert_eq!((job.attempt, job.ended), (1, None));
    let job = running.end(&id).await;
    assert_eq!(job.state, State::Succeeded);
    assert_eq!(job.output, b"done in attempt 1");
    assert_eq!(job.ended.unwrap().duration_since(job.started.unwrap()).unwrap(), seconds(5));
    // Waiting for a job that is over returns at once.
    let again = running.jobs.wait(&id, State::Running, seconds(1_000_000)).await.unwrap();
    assert_eq!(again, Some(job));
    assert_eq!(running.jobs.get("00000000000000000000000000").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn waiting_is_limited() {
    let jobs = jobs();
    let id = jobs.start(new("backup", "main")).await.unwrap();
    let job = jobs.wait(&id, State::Queued, seconds(60)).await.unwrap().unwrap();
    assert_eq!(job.state, State::Queued);
}

#[tokio::test(start_paused = true)]
async fn progress_is_visible_while_a_job_runs_and_kept_afterwards() {
    let running = Running::new(&jobs(), &Script::new(&[("main", &[Act::Report(4)])]));
    let id = running.jobs.start(new("backup", "main")).await.unwrap();
    begun(&running.jobs, &id).await;
    tokio::time::sleep(seconds(1)).await;
    let progress = running.jobs.get(&id).await.unwrap().unwrap().progress;
    assert_eq!((progress.done, progress.total, progress.phase.as_str()), (4, Some(9), "streaming"));
    assert_eq!(running.jobs.cancel(&id).await.unwrap(), Some(true));
    assert_eq!(running.jobs.get(&id).await.unwrap().unwrap().progress, progress);
}

#[tokio::test(start_paused = true)]
async fn jobs_of_one_key_run_in_order_and_other_keys_run_beside_them() {
    let script = Script::new(&[("a", &[Act::Take(10)]), ("b", &[Act::Take(10)])]);
    let jobs = jobs();
    let mut ids = Vec::new();
    for key in ["a", "a", "b", "a"] {
        ids.push(jobs.start(new("backup", key)).await.unwrap());
    }
    assert!(ids.is_sorted());
    let running = Running::new(&jobs, &script);
    for id in &ids {
        assert_eq!(running.end(id).await.state, State::Succeeded);
    }
    assert_eq!(script.begins(), [0, 0, 10, 20]);
    let began = |index: usize| Seen::Began(ids[index].clone(), 1);
    let gone = |index: usize| Seen::Gone(ids[index].clone());
    let order = script.order();
    assert_eq!(order[..2], [began(0), began(2)]);
    let place = |seen: Seen| order.iter().position(|other| *other == seen).unwrap();
    assert!(place(gone(0)) < place(began(1)) && place(gone(1)) < place(began(3)), "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn the_number_of_running_jobs_is_limited_and_mounts_share_it_fairly() {
    let options = Options { at_once: 2, ..Options::default() };
    let jobs = in_memory(&TestClock::new(START), options);
    let script = Script::new(&[("other", &[Act::Take(10)]), ("0", &[Act::Take(10)])]);
    for key in 0..6 {
        let key = key.to_string();
        script.set(&key, Act::Take(10));
        jobs.start(new("backup", &key)).await.unwrap();
    }
    let other = NewJob { mount: "/other/".to_owned(), ..new("backup", "other") };
    let other = jobs.start(other).await.unwrap();
    let running = Running::new(&jobs, &script);
    begun(&running.jobs, &other).await;
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(script.begins(), [0, 0]);
    let state = Some(State::Running);
    assert_eq!(jobs.list(Filter { state, ..Filter::default() }, 10).await.unwrap().len(), 2);
    tokio::time::sleep(seconds(100)).await;
    assert_eq!(script.begins(), [0, 0, 10, 10, 20, 20, 30]);
}

#[tokio::test(start_paused = true)]
async fn jobs_that_never_end_hold_up_no_other_mount() {
    let options = Options { at_once: 2, ..Options::default() };
    let jobs = in_memory(&TestClock::new(START), options);
    let acts: [(&str, &[Act]); 3] =
        [("main", &[Act::Take(5)]), ("second", &[Act::Take(5)]), ("third", &[Act::Take(5)])];
    let script = Script::new(&acts);
    for key in 0..6 {
        let key = key.to_string();
        script.set(&key, Act::Hang);
        jobs.start(new("backup", &key)).await.unwrap();
    }
    let running = Running::new(&jobs, &script);
    tokio::time::sleep(seconds(1)).await;
    let other = |key: &str| NewJob { mount: "/other/".to_owned(), ..new("backup", key) };
    let mut ids = Vec::new();
    for key in ["main", "second", "third"] {
        ids.push(running.jobs.start(other(key)).await.unwrap());
    }
    for id in ids {
        assert_eq!(running.end(&id).await.state, State::Succeeded);
    }
    // One after the other, as there is room for only one.
    assert_eq!(script.begins(), [0, 0, 1, 6, 11]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn failed_attempts_are_retried_after_doubling_pauses() {
    let acts = [Act::Fail(true), Act::Panic, Act::Fail(true), Act::Take(1)];
    let script = Script::new(&[("main", &acts)]);
    let running = Running::new(&jobs(), &script);
    let id = running.jobs.start(NewJob { attempts: 5, ..new("backup", "main") }).await.unwrap();
    begun(&running.jobs, &id).await;
    tokio::time::sleep(seconds(1)).await;
    let job = running.jobs.get(&id).await.unwrap().unwrap();
    assert_eq!((job.state, job.message.as_str()), (State::Queued, "the cluster is down"));
    assert_eq!(job.next_attempt.unwrap().duration_since(job.created).unwrap(), seconds(30));
    tokio::time::sleep(seconds(30)).await;
    let job = running.jobs.get(&id).await.unwrap().unwrap();
    assert!(job.message.contains("panicked"), "{job:?}");
    let job = running.end(&id).await;
    assert_eq!((job.state, job.attempt, job.message.as_str()), (State::Succeeded, 4, ""));
    assert_eq!(script.begins(), [0, 30, 90, 210]);
}

#[tokio::test(start_paused = true)]
async fn a_job_fails_after_its_last_attempt_or_when_a_retry_is_pointless() {
    let acts: [(&str, &[Act]); 2] = [("a", &[Act::Fail(true)]), ("b", &[Act::Fail(false)])];
    let running = Running::new(&jobs(), &Script::new(&acts));
    for (key, attempt) in [("a", 3), ("b", 1)] {
        let start = NewJob { attempts: 3, ..new("backup", key) };
        let id = running.jobs.start(start).await.unwrap();
        let job = running.end(&id).await;
        assert_eq!((job.state, job.attempt), (State::Failed, attempt));
        assert_eq!(job.message, "the cluster is down");
        assert_eq!(job.next_attempt, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_waits_for_another_attempt_lets_others_pass_but_can_be_joined() {
    let script = Script::new(&[("main", &[Act::Fail(true), Act::Take(0)])]);
    let running = Running::new(&jobs(), &script);
    let start = NewJob { attempts: 2, backoff: seconds(500), ..new("backup", "main") };
    let first = running.jobs.start(start.clone()).await.unwrap();
    begun(&running.jobs, &first).await;
    tokio::time::sleep(seconds(1)).await;
    let job = running.jobs.get(&first).await.unwrap().unwrap();
    assert_eq!((job.state, job.attempt), (State::Queued, 1));
    let join = NewJob { when_busy: WhenBusy::Join, ..start.clone() };
    assert_eq!(running.jobs.start(join).await.unwrap(), first);
    let refuse = NewJob { when_busy: WhenBusy::Refuse, ..start.clone() };
    let refused = running.jobs.start(refuse.clone()).await;
    assert!(matches!(refused, Err(StartError::Busy { id }) if id == first));
    let second = running.jobs.start(start).await.unwrap();
    assert_eq!(running.end(&second).await.state, State::Succeeded);
    assert_eq!(running.end(&first).await.attempt, 2);
    assert_eq!(script.begins(), [0, 1, 500]);
    // Nothing is in its way any more.
    assert!(running.jobs.start(refuse).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_job_is_gone_before_the_next_one_starts() {
    let script = Script::new(&[("main", &[Act::Hang, Act::Take(0)])]);
    let running = Running::new(&jobs(), &script);
    let first = running.jobs.start(NewJob { attempts: 9, ..new("backup", "main") }).await.unwrap();
    let second = running.jobs.start(new("backup", "main")).await.unwrap();
    let third = running.jobs.start(new("backup", "main")).await.unwrap();
    begun(&running.jobs, &first).await;
    assert_eq!(running.jobs.withdraw(&first).await.unwrap(), Some(false));
    assert_eq!(running.jobs.withdraw(&third).await.unwrap(), Some(true));
    assert_eq!(running.jobs.cancel(&first).await.unwrap(), Some(true));
    assert_eq!(script.order()[1], Seen::Gone(first.clone()));
    assert_eq!(running.end(&second).await.state, State::Succeeded);
    for id in [&first, &third] {
        let job = running.end(id).await;
        assert_eq!((job.state, job.message.as_str()), (State::Cancelled, "cancelled"));
    }
    assert_eq!(running.jobs.cancel(&second).await.unwrap(), Some(false));
    assert_eq!(running.jobs.cancel("nothing").await.unwrap(), None);
    assert_eq!(running.jobs.withdraw("nothing").await.unwrap(), None);
    assert_eq!(script.begins().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_job_between_attempts_can_be_cancelled_but_not_withdrawn() {
    let running = Running::new(&jobs(), &Script::new(&[("main", &[Act::Fail(true)])]));
    let id = running.jobs.start(NewJob { attempts: 2, ..new("backup", "main") }).await.unwrap();
    begun(&running.jobs, &id).await;
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(running.jobs.withdraw(&id).await.unwrap(), Some(false));
    assert_eq!(running.jobs.cancel(&id).await.unwrap(), Some(true));
    assert_eq!(running.end(&id).await.state, State::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn stopping_interrupts_running_jobs_and_the_next_run_resumes_them() {
    let script = Script::new(&[("main", &[Act::Hang, Act::Take(0)]), ("once", &[Act::Hang])]);
    let running = Running::new(&jobs(), &script);
    let id = running.jobs.start(NewJob { attempts: 2, ..new("backup", "main") }).await.unwrap();
    let once = running.jobs.start(new("backup", "once")).await.unwrap();
    begun(&running.jobs, &id).await;
    begun(&running.jobs, &once).await;
    let jobs = running.stop().await;
    assert_eq!(script.order().len(), 4, "both futures are gone");
    let job = jobs.get(&id).await.unwrap().unwrap();
    assert_eq!(job.state, State::Queued);
    assert_eq!(job.message, "the gateway stopped while it ran; it is tried again");
    let job = jobs.get(&once).await.unwrap().unwrap();
    assert_eq!(job.state, State::Failed);
    assert_eq!(job.message, "the gateway stopped while it ran");
    let running = Running::new(&jobs, &script);
    let job = running.end(&id).await;
    assert_eq!((job.state, job.attempt), (State::Succeeded, 2));
}

#[tokio::test(start_paused = true)]
async fn the_number_of_a_mounts_jobs_is_limited() {
    let jobs = jobs();
    for number in 0..MAX_LIVE {
        jobs.start(new("backup", &number.to_string())).await.unwrap();
    }
    let more = jobs.start(new("backup", "more")).await;
    assert!(matches!(more, Err(StartError::TooMany { live: MAX_LIVE })), "{more:?}");
    let join = NewJob { when_busy: WhenBusy::Join, ..new("backup", "5") };
    assert!(jobs.start(join).await.is_ok());
    let other = NewJob { mount: "/other/".to_owned(), ..new("backup", "more") };
    assert!(jobs.start(other).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_oversized_output_is_a_failure_that_says_so() {
    struct Talker;
    #[async_trait::async_trait]
    impl keepgate_jobs::Runner for Talker {
        async fn run(
            &self,
            _: keepgate_jobs::Job,
            _: keepgate_jobs::Reporter,
        ) -> Result<Vec<u8>, keepgate_jobs::Failed> {
            Ok(vec![b'x'; keepgate_jobs::MAX_OUTPUT + 1])
        }
    }
    let jobs = jobs();
    let id = jobs.start(NewJob { attempts: 3, ..new("backup", "main") }).await.unwrap();
    let stop = async {
        let job = end(&jobs, &id).await;
        assert_eq!((job.state, job.attempt), (State::Failed, 1));
        assert!(job.message.contains("returned 65537 bytes"), "{}", job.message);
    };
    jobs.run(Arc::new(Talker), stop).await;
}

#[tokio::test(start_paused = true)]
async fn lists_are_filtered_and_newest_first() {
    let running = Running::new(&jobs(), &Script::new(&[("b", &[Act::Fail(false)])]));
    let a = running.jobs.start(new("backup", "a")).await.unwrap();
    let b = running.jobs.start(new("check", "b")).await.unwrap();
    running.end(&a).await;
    running.end(&b).await;
    let jobs = running.stop().await;
    let c = jobs.start(new("backup", "c")).await.unwrap();
    let list = async |filter: Filter, max| -> Vec<String> {
        jobs.list(filter, max).await.unwrap().into_iter().map(|job| job.id).collect()
    };
    let all = Filter::default();
    assert_eq!(list(all.clone(), 10).await, [c.clone(), b.clone(), a.clone()]);
    assert_eq!(list(all.clone(), 2).await, [c.clone(), b.clone()]);
    let backups = Filter { kind: Some("backup".to_owned()), ..all.clone() };
    assert_eq!(list(backups, 10).await, [c, a]);
    let failed = Filter { state: Some(State::Failed), ..all.clone() };
    assert_eq!(list(failed, 10).await, [b]);
    let elsewhere = Filter { mount: Some("/other/".to_owned()), ..all };
    assert!(list(elsewhere, 10).await.is_empty());
}
