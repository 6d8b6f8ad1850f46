//! Schedules on a clock set by the test: when they run, what is missed, and their status.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests say plainly what they expect"
)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::*;
use keepgate_jobs::{
    FileError, Filter, Jobs, JobsError, Missed, NewJob, Options, Schedule, ScheduleStatus,
    StartError, State, Trigger,
};

const START: &str = "2026-11-21T12:00:00Z";

fn cron(pattern: &str, time_zone: &str) -> Trigger {
    Trigger::Cron { pattern: pattern.to_owned(), time_zone: time_zone.to_owned() }
}

fn every(interval: u64, jitter: u64) -> Trigger {
    Trigger::Every { interval: seconds(interval), jitter: seconds(jitter) }
}

fn schedule(when: Trigger) -> Schedule {
    Schedule {
        name: "hourly".to_owned(),
        mount: "/".to_owned(),
        kind: "backup".to_owned(),
        key: "main".to_owned(),
        input: b"{}".to_vec(),
        when,
        missed: Missed::Skip,
        attempts: 1,
        backoff: seconds(30),
    }
}

async fn status(jobs: &Arc<Jobs>) -> ScheduleStatus {
    let mut all = jobs.schedules().await;
    assert_eq!(all.len(), 1);
    all.remove(0)
}

/// When the jobs were started, oldest first, in seconds since the start.
async fn starts(jobs: &Arc<Jobs>) -> Vec<u64> {
    let jobs = jobs.list(Filter::default(), 1000).await.unwrap();
    let since = |job: &keepgate_jobs::Job| job.created.duration_since(at(START)).unwrap();
    jobs.iter().rev().map(|job| since(job).as_secs()).collect()
}

fn open(file: &Path, clock: &Arc<TestClock>) -> Arc<Jobs> {
    Jobs::with_clock(Some(file), Options::default(), clock.clone()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_pattern_runs_at_its_times_and_the_results_are_recorded() {
    let clock = TestClock::new(START);
    let jobs = in_memory(&clock, Options::default());
    jobs.set_schedules(vec![schedule(cron("*/20 * * * *", "UTC"))]).await.unwrap();
    let before = status(&jobs).await;
    assert_eq!(before.next, Some(at("2026-11-21T12:20:00Z")));
    assert_eq!((before.last_run, before.last_success, before.last_outcome), (None, None, None));
    let script = Script::new(&[("main", &[Act::Take(7), Act::Fail(false), Act::Hang])]);
    let running = Running::new(&jobs, &script);
    until(&clock, "2026-11-21T12:30:00Z").await;
    let after = status(&jobs).await;
    assert_eq!(after.next, Some(at("2026-11-21T12:40:00Z")));
    assert_eq!(after.last_run, Some(at("2026-11-21T12:20:00Z")));
    assert_eq!(after.last_success, Some(at("2026-11-21T12:20:07Z")));
    assert_eq!(after.last_outcome, Some(State::Succeeded));
    let job = jobs.get(after.last_job.as_deref().unwrap()).await.unwrap().unwrap();
    assert_eq!((job.origin.as_str(), job.schedule.as_deref()), ("schedule hourly", Some("hourly")));
    until(&clock, "2026-11-21T12:41:00Z").await;
    let failed = status(&jobs).await;
    assert_eq!(failed.last_outcome, Some(State::Failed));
    assert_eq!(failed.last_success, after.last_success);
    // A job that hangs is joined by every later run, so runs do not pile up.
    until(&clock, "2026-11-21T15:30:00Z").await;
    assert_eq!(starts(&jobs).await, [1200, 2400, 3600]);
    let joined = status(&jobs).await;
    assert_eq!(joined.last_run, Some(at("2026-11-21T15:20:00Z")));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_interval_starts_at_once_and_does_not_drift() {
    let clock = TestClock::new(START);
    let jobs = in_memory(&clock, Options::default());
    jobs.set_schedules(vec![schedule(every(100, 0))]).await.unwrap();
    let running = Running::new(&jobs, &Script::new(&[("main", &[Act::Take(33)])]));
    tokio::time::sleep(seconds(350)).await;
    assert_eq!(starts(&jobs).await, [0, 100, 200, 300]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn jitter_delays_each_run_anew_without_drift() {
    let clock = TestClock::new(START);
    let jobs = in_memory(&clock, Options::default());
    jobs.set_schedules(vec![schedule(every(1000, 500))]).await.unwrap();
    let running = Running::new(&jobs, &Script::new(&[]));
    tokio::time::sleep(seconds(40 * 1000 - 1)).await;
    let starts = starts(&jobs).await;
    assert_eq!(starts.len(), 40);
    let late: Vec<u64> = (0..).zip(&starts).map(|(run, start)| start - run * 1000).collect();
    assert!(late.iter().all(|late| *late < 501), "{late:?}");
    let differ: std::collections::HashSet<_> = late.iter().collect();
    assert!(differ.len() > 20, "{late:?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn missed_runs_are_run_once_or_skipped() {
    for (missed, expected) in [
        (Missed::Run, vec![600, 4 * 3600 + 1230, 4 * 3600 + 1800]),
        (Missed::Skip, vec![600, 4 * 3600 + 1800]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("jobs.redb");
        let clock = TestClock::new(START);
        let schedule = Schedule { missed, ..schedule(cron("*/10 * * * *", "UTC")) };
        let running = Running::new(&open(&file, &clock), &Script::new(&[]));
        running.jobs.set_schedules(vec![schedule.clone()]).await.unwrap();
        tokio::time::sleep(seconds(700)).await;
        drop(running.stop().await);
        clock.set("2026-11-21T16:20:30Z");
        let jobs = open(&file, &clock);
        jobs.set_schedules(vec![schedule]).await.unwrap();
        let running = Running::new(&jobs, &Script::new(&[]));
        tokio::time::sleep(seconds(600)).await;
        assert_eq!(starts(&jobs).await, expected, "{missed:?}");
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_at_the_very_moment_loses_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.redb");
    let clock = TestClock::new(START);
    let daily = schedule(cron("0 13 * * *", "UTC"));
    open(&file, &clock).set_schedules(vec![daily.clone()]).await.unwrap();
    clock.set("2026-11-21T13:00:20Z");
    let jobs = open(&file, &clock);
    jobs.set_schedules(vec![daily]).await.unwrap();
    let running = Running::new(&jobs, &Script::new(&[]));
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(starts(&jobs).await, [3620]);
    assert_eq!(status(&jobs).await.next, Some(at("2026-11-22T13:00:00Z")));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reload_only_moves_schedules_that_changed() {
    let clock = TestClock::new(START);
    let jobs = in_memory(&clock, Options::default());
    let interval = schedule(every(3600, 1800));
    jobs.set_schedules(vec![interval.clone()]).await.unwrap();
    let next = status(&jobs).await.next;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let changed = Schedule { input: b"other".to_vec(), ..interval.clone() };
        jobs.set_schedules(vec![changed]).await.unwrap();
        assert_eq!(status(&jobs).await.next, next);
    }
    jobs.set_schedules(vec![schedule(cron("@daily", "UTC"))]).await.unwrap();
    assert_eq!(status(&jobs).await.next, Some(at("2026-11-22T00:00:00Z")));
    jobs.set_schedules(Vec::new()).await.unwrap();
    assert!(jobs.schedules().await.is_empty());
    let running = Running::new(&jobs, &Script::new(&[]));
    tokio::time::sleep(seconds(100_000)).await;
    assert!(starts(&jobs).await.is_empty());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_comes_back_is_remembered_and_has_missed_nothing() {
    let clock = TestClock::new(START);
    let jobs = in_memory(&clock, Options::default());
    let hourly = Schedule { missed: Missed::Run, ..schedule(cron("@hourly", "UTC")) };
    jobs.set_schedules(vec![hourly.clone()]).await.unwrap();
    let running = Running::new(&jobs, &Script::new(&[]));
    tokio::time::sleep(seconds(3700)).await;
    let success = status(&jobs).await.last_success;
    assert!(success.is_some());
    jobs.set_schedules(Vec::new()).await.unwrap();
    tokio::time::sleep(seconds(10_000)).await;
    jobs.set_schedules(vec![hourly]).await.unwrap();
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(starts(&jobs).await, [3600]);
    assert_eq!(status(&jobs).await.last_success, success);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_ahead_delays_nothing() {
    let clock = TestClock::new("2027-06-01T00:00:30Z");
    let jobs = in_memory(&clock, Options::default());
    let interval = Schedule { name: "interval".to_owned(), ..schedule(every(600, 0)) };
    let interval = Schedule { key: "interval".to_owned(), ..interval };
    jobs.set_schedules(vec![schedule(cron("@hourly", "UTC")), interval]).await.unwrap();
    let running = Running::new(&jobs, &Script::new(&[]));
    tokio::time::sleep(seconds(10)).await;
    clock.set(START);
    tokio::time::sleep(seconds(61)).await;
    let next: Vec<_> = jobs.schedules().await.iter().map(|one| one.next.unwrap()).collect();
    assert_eq!(next[0], at("2026-11-21T13:00:00Z"));
    assert!(next[1] <= at("2026-11-21T12:11:00Z"), "{next:?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_clock_jump_due_jobs_run_within_a_minute() {
    let clock = TestClock::new(START);
    let jobs = in_memory(&clock, Options::default());
    jobs.set_schedules(vec![schedule(cron("0 3 * * *", "UTC"))]).await.unwrap();
    let running = Running::new(&jobs, &Script::new(&[]));
    tokio::time::sleep(seconds(10)).await;
    clock.set("2026-11-25T09:00:00Z");
    tokio::time::sleep(seconds(61)).await;
    assert_eq!(starts(&jobs).await.len(), 1);
    assert_eq!(status(&jobs).await.next, Some(at("2026-11-26T03:00:00Z")));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn operators_can_run_a_schedule_at_any_time() {
    let clock = TestClock::new(START);
    let jobs = in_memory(&clock, Options::default());
    jobs.set_schedules(vec![schedule(cron("0 3 * * *", "UTC"))]).await.unwrap();
    let running = Running::new(&jobs, &Script::new(&[("main", &[Act::Take(9)])]));
    let id = jobs.run_now("hourly").await.unwrap();
    assert_eq!(jobs.run_now("hourly").await.unwrap(), id, "the second joins the first");
    let job = running.end(&id).await;
    assert_eq!((job.origin.as_str(), job.schedule.as_deref()), ("operator", Some("hourly")));
    let status = status(&jobs).await;
    assert_eq!(status.last_success, Some(at("2026-11-21T12:00:09Z")));
    assert_eq!(status.next, Some(at("2026-11-22T03:00:00Z")));
    let unknown = jobs.run_now("nightly").await;
    assert!(matches!(unknown, Err(StartError::UnknownSchedule(name)) if name == "nightly"));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_operators_run_does_not_wait_for_the_next_attempt_but_a_planned_one_does() {
    let clock = TestClock::new(START);
    let jobs = in_memory(&clock, Options::default());
    let schedule =
        Schedule { attempts: 3, backoff: seconds(5000), ..schedule(cron("@hourly", "UTC")) };
    jobs.set_schedules(vec![schedule]).await.unwrap();
    let script = Script::new(&[("main", &[Act::Fail(true), Act::Fail(true), Act::Take(0)])]);
    let running = Running::new(&jobs, &script);
    let id = jobs.run_now("hourly").await.unwrap();
    tokio::time::sleep(seconds(4000)).await;
    let job = jobs.get(&id).await.unwrap().unwrap();
    assert_eq!((job.state, job.attempt), (State::Queued, 1), "it waits 5000 s, as planned");
    assert_eq!(status(&jobs).await.last_run, Some(at("2026-11-21T13:00:00Z")));
    assert_eq!(jobs.run_now("hourly").await.unwrap(), id);
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(jobs.get(&id).await.unwrap().unwrap().attempt, 2);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_joined_another_job_counts_for_the_schedule() {
    let clock = TestClock::new(START);
    let jobs = in_memory(&clock, Options::default());
    jobs.set_schedules(vec![schedule(cron("@hourly", "UTC"))]).await.unwrap();
    let running = Running::new(&jobs, &Script::new(&[("main", &[Act::Take(5000)])]));
    let id = jobs.start(new("backup", "main")).await.unwrap();
    assert_eq!(running.end(&id).await.state, State::Succeeded);
    let status = status(&jobs).await;
    assert_eq!(status.last_job, Some(id));
    assert_eq!(status.last_success, Some(at("2026-11-21T13:23:20Z")));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_for_which_there_is_no_room_counts_as_failed() {
    let clock = TestClock::new(START);
    let options = Options { at_once: 1, ..Options::default() };
    let jobs = in_memory(&clock, options);
    for number in 0..keepgate_jobs::MAX_LIVE {
        jobs.start(new("other", &number.to_string())).await.unwrap();
    }
    jobs.set_schedules(vec![schedule(cron("@hourly", "UTC"))]).await.unwrap();
    let running = Running::new(&jobs, &Script::new(&[("0", &[Act::Hang])]));
    until(&clock, "2026-11-21T13:00:01Z").await;
    let status = status(&jobs).await;
    assert_eq!(status.last_outcome, Some(State::Failed));
    assert_eq!(status.next, Some(at("2026-11-21T14:00:00Z")));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn invalid_schedules_are_refused_and_the_old_ones_stay() {
    let jobs = in_memory(&TestClock::new(START), Options::default());
    let good = schedule(cron("@hourly", "UTC"));
    jobs.set_schedules(vec![good.clone()]).await.unwrap();
    let twice = vec![schedule(every(60, 0)), schedule(every(60, 0))];
    let wrong = [
        (twice, "two schedules of this name"),
        (vec![schedule(cron("99 * * * *", "UTC"))], "99 * * * *"),
        (vec![Schedule { attempts: 0, ..good }], "at least one attempt"),
    ];
    for (schedules, says) in wrong {
        let error = jobs.set_schedules(schedules).await.unwrap_err();
        assert!(matches!(error, JobsError::Schedule { .. }), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(status(&jobs).await.when, "@hourly in UTC");
    }
}

#[tokio::test(start_paused = true)]
async fn schedules_can_be_read_from_the_file_without_a_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.redb");
    let clock = TestClock::new(START);
    let jobs = open(&file, &clock);
    jobs.set_schedules(vec![schedule(cron("@hourly", "UTC"))]).await.unwrap();
    let id = jobs.start(NewJob { attempts: 2, ..new("backup", "main") }).await.unwrap();
    let in_use = keepgate_jobs::read(&file);
    assert!(matches!(in_use, Err(JobsError::File(FileError::InUse(_)))), "{in_use:?}");
    drop(jobs);
    let snapshot = keepgate_jobs::read(&file).unwrap();
    assert_eq!(snapshot.jobs[0].id, id);
    assert_eq!(snapshot.schedules[0].next, Some(at("2026-11-21T13:00:00Z")));
    let json = serde_json::to_string(&snapshot).unwrap();
    assert_eq!(serde_json::from_str::<keepgate_jobs::FileContents>(&json).unwrap(), snapshot);
}
