//! Options of a start: a time before which the job does not begin, joining only queued jobs, and a
//! job that is started by its end.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say plainly what they expect"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use keepgate_jobs::{
    FINAL_ATTEMPTS, Filter, Job, Jobs, MAX_CLAIMS, MAX_LIVE, NewJob, Options, StartError, State,
    User, WhenBusy,
};

const START: &str = "2026-11-21T12:00:00Z";

fn jobs() -> Arc<Jobs> {
    in_memory(&TestClock::new(START), Options::default())
}

#[tokio::test(start_paused = true)]
async fn a_job_does_not_begin_before_its_time() {
    let clock = TestClock::new(START);
    let script = Script::new(&[("main", &[Act::Fail(true), Act::Take(0)])]);
    let running = Running::new(&in_memory(&clock, Options::default()), &script);
    let now = running.jobs.start(new("backup", "other")).await.unwrap();
    running.end(&now).await;
    // Days away, longer than any pause, and not at a whole millisecond.
    let time = at("2026-11-24T12:00:00Z") + Duration::from_nanos(1);
    let start = NewJob { not_before: Some(time), attempts: 2, ..new("backup", "main") };
    let id = running.jobs.start(start).await.unwrap();
    let job = running.jobs.get(&id).await.unwrap().unwrap();
    assert_eq!((job.state, job.attempt), (State::Queued, 0));
    assert!(job.next_attempt.unwrap() >= time);
    until(&clock, "2026-11-24T11:59:59Z").await;
    assert_eq!(running.jobs.get(&id).await.unwrap().unwrap().attempt, 0);
    let job = running.end(&id).await;
    assert_eq!((job.state, job.attempt, job.next_attempt), (State::Succeeded, 2, None));
    assert!(job.started.unwrap() >= time + seconds(30));
    assert!(job.started.unwrap() < time + seconds(31));
    // A time in the past is ignored.
    let past = NewJob { not_before: Some(at(START)), ..new("backup", "main") };
    let past = running.jobs.start(past).await.unwrap();
    assert_eq!(running.end(&past).await.state, State::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_joined_job_begins_no_later_than_requested() {
    let clock = TestClock::new(START);
    let jobs = in_memory(&clock, Options::default());
    let later = Some(at("2026-11-22T12:00:00Z"));
    let planned = NewJob { not_before: later, ..new("backup", "main") };
    let planned = jobs.start(planned).await.unwrap();
    let ask = |when_busy, not_before| NewJob { when_busy, not_before, ..new("backup", "main") };
    let refused = jobs.start(ask(WhenBusy::Refuse, None)).await;
    assert!(matches!(refused, Err(StartError::Busy { id }) if id == planned));
    for when_busy in [WhenBusy::Join, WhenBusy::JoinQueued] {
        assert_eq!(jobs.start(ask(when_busy, later)).await.unwrap(), planned);
        let day_after = Some(at("2026-11-23T12:00:00Z"));
        assert_eq!(jobs.start(ask(when_busy, day_after)).await.unwrap(), planned);
    }
    // Times are kept in milliseconds, so the same moment of a finer clock is the same time.
    let fine = Some(at("2026-11-21T13:00:00Z") + Duration::from_nanos(10));
    let finely = NewJob { not_before: fine, ..new("backup", "fine") };
    let first = jobs.start(finely.clone()).await.unwrap();
    let again = NewJob { when_busy: WhenBusy::Join, ..finely };
    assert_eq!(jobs.start(again).await.unwrap(), first);
    let now = jobs.start(ask(WhenBusy::Join, None)).await.unwrap();
    assert_ne!(now, planned);
    assert_eq!(jobs.start(ask(WhenBusy::JoinQueued, None)).await.unwrap(), now);
}

#[tokio::test(start_paused = true)]
async fn join_queued_joins_only_a_job_that_has_not_begun() {
    let acts = [Act::Fail(true), Act::Take(10)];
    let running = Running::new(&jobs(), &Script::new(&[("main", &acts)]));
    let ask = |when_busy| NewJob { when_busy, attempts: 2, ..new("backup", "main") };
    let first = running.jobs.start(ask(WhenBusy::JoinQueued)).await.unwrap();
    begun(&running.jobs, &first).await;
    tokio::time::sleep(seconds(1)).await;
    // It waits for its second attempt, so it has begun.
    assert_eq!(running.jobs.start(ask(WhenBusy::Join)).await.unwrap(), first);
    let second = running.jobs.start(ask(WhenBusy::JoinQueued)).await.unwrap();
    assert_ne!(second, first);
    begun(&running.jobs, &second).await;
    let third = running.jobs.start(ask(WhenBusy::JoinQueued)).await.unwrap();
    assert_ne!(third, second);
    assert_eq!(running.jobs.start(ask(WhenBusy::JoinQueued)).await.unwrap(), third);
    assert_eq!(running.jobs.start(ask(WhenBusy::Join)).await.unwrap(), third);
    assert_eq!(running.end(&third).await.state, State::Succeeded);
}

/// The jobs that were started by the end of this one.
async fn followers(jobs: &Arc<Jobs>, id: &str) -> Vec<Job> {
    let all = jobs.list(Filter::default(), 10_000).await.unwrap();
    all.into_iter().filter(|job| job.after.as_deref() == Some(id)).collect()
}

#[tokio::test(start_paused = true)]
async fn every_end_of_a_job_starts_its_follower() {
    let acts: [(&str, &[Act]); 4] = [
        ("good", &[Act::Take(1)]),
        ("bad", &[Act::Fail(true)]),
        ("hang", &[Act::Hang]),
        ("waits", &[Act::Take(1)]),
    ];
    let script = Script::new(&acts);
    let running = Running::new(&jobs(), &script);
    let ann = User {
        name: "ann".to_owned(),
        method: "htpasswd".to_owned(),
        claims: vec![("group".to_owned(), "ops".to_owned())],
    };
    let finally = |key: &str| NewJob {
        user: Some(ann.clone()),
        finally: Some("tidy".to_owned()),
        ..new("backup", key)
    };
    let far = Some(at("2027-01-01T00:00:00Z"));
    let mut ids = Vec::new();
    for start in [
        finally("good"),
        NewJob { attempts: 2, ..finally("bad") },
        finally("hang"),
        NewJob { not_before: far, ..finally("waits") },
    ] {
        ids.push(running.jobs.start(start).await.unwrap());
    }
    let [good, bad, hang, waits] = ids.try_into().unwrap();
    begun(&running.jobs, &hang).await;
    tokio::time::sleep(seconds(2)).await;
    // Not after a failed attempt that is followed by another one.
    assert!(followers(&running.jobs, &bad).await.is_empty());
    assert_eq!(running.jobs.cancel(&hang).await.unwrap(), Some(true));
    assert_eq!(running.jobs.withdraw(&waits).await.unwrap(), Some(true));
    running.end(&bad).await;
    for (id, key) in [(&good, "good"), (&bad, "bad"), (&hang, "hang"), (&waits, "waits")] {
        let ended = running.end(id).await;
        let [follower] = followers(&running.jobs, id).await.try_into().unwrap();
        assert_eq!(follower.input, id.as_bytes());
        assert_eq!((follower.kind.as_str(), follower.key.as_str()), ("tidy", key));
        assert_eq!(follower.origin, format!("job {id}"));
        assert_eq!((follower.user.as_ref(), follower.finally), (Some(&ann), None));
        assert_eq!((follower.created, follower.attempts), (ended.ended.unwrap(), FINAL_ATTEMPTS));
        assert_eq!(follower.schedule, None);
    }
    let [after_good] = followers(&running.jobs, &good).await.try_into().unwrap();
    assert_eq!(running.end(&after_good.id).await.state, State::Succeeded);
    assert!(followers(&running.jobs, &after_good.id).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_job_is_kept_until_its_follower_has_ended() {
    let options = Options { keep: 0, ..Options::default() };
    let script = Script::new(&[("main", &[Act::Fail(false), Act::Fail(true), Act::Take(1)])]);
    let running = Running::new(&in_memory(&TestClock::new(START), options), &script);
    let start = NewJob { finally: Some("tidy".to_owned()), ..new("backup", "main") };
    let id = running.jobs.start(start).await.unwrap();
    begun(&running.jobs, &id).await;
    tokio::time::sleep(seconds(1)).await;
    // The follower has failed once and will be retried.
    let [follower] = followers(&running.jobs, &id).await.try_into().unwrap();
    assert_eq!((follower.state, follower.attempt), (State::Queued, 1));
    assert_eq!(running.jobs.get(&id).await.unwrap().unwrap().state, State::Failed);
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(running.end(&follower.id).await.state, State::Succeeded);
    assert_eq!(running.jobs.get(&id).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_follower_is_started_even_if_the_mount_is_at_its_limit() {
    let jobs = jobs();
    let start = NewJob { finally: Some("tidy".to_owned()), ..new("backup", "main") };
    let id = jobs.start(start).await.unwrap();
    for _ in 1..MAX_LIVE {
        jobs.start(new("backup", "main")).await.unwrap();
    }
    assert_eq!(jobs.withdraw(&id).await.unwrap(), Some(true));
    assert_eq!(followers(&jobs, &id).await.len(), 1);
    let refused = jobs.start(new("backup", "main")).await;
    assert!(matches!(refused, Err(StartError::TooMany { live: MAX_LIVE })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn oversized_users_and_kinds_are_refused() {
    let user = |claim: usize| User {
        claims: vec![("c".to_owned(), "x".repeat(claim - 1))],
        ..User::default()
    };
    let jobs = jobs();
    let good = NewJob { user: Some(user(MAX_CLAIMS)), ..new("backup", "main") };
    jobs.start(good.clone()).await.unwrap();
    let name = "x".repeat(257);
    for wrong in [
        NewJob { user: Some(user(MAX_CLAIMS + 1)), ..good.clone() },
        NewJob { user: Some(User { name: name.clone(), ..User::default() }), ..good.clone() },
        NewJob { finally: Some(name), ..good.clone() },
        NewJob { finally: Some(String::new()), ..good },
    ] {
        let refused = jobs.start(wrong).await;
        assert!(matches!(refused, Err(StartError::Invalid(_))), "{refused:?}");
    }
}
