//! What Prometheus scrapes: the text from a registry.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests say plainly what they expect")]

mod common;

use std::sync::Arc;

use common::*;
use keepgate_jobs::{Jobs, Missed, NewJob, Options, Schedule, Trigger, metrics};
use prometheus::{Registry, TextEncoder};

fn text(jobs: &Arc<Jobs>) -> String {
    let registry = Registry::new();
    registry.register(Box::new(metrics(jobs.clone()))).unwrap();
    TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
}

#[track_caller]
fn assert_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|other| other == *line), "{line} is not in\n{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn metrics_are_right_and_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jobs.redb");
    let clock = TestClock::new("2026-11-21T12:00:00Z");
    let open = || Jobs::with_clock(Some(&file), Options::default(), clock.clone()).unwrap();
    let jobs = open();
    let when = Trigger::Cron { pattern: "@hourly".to_owned(), time_zone: "UTC".to_owned() };
    let schedule = Schedule {
        name: "hourly".to_owned(),
        mount: "/".to_owned(),
        kind: "backup".to_owned(),
        key: "main".to_owned(),
        input: Vec::new(),
        when,
        missed: Missed::Skip,
        attempts: 1,
        backoff: seconds(30),
    };
    jobs.set_schedules(vec![schedule.clone()]).await.unwrap();
    assert_lines(
        &text(&jobs),
        &[
            "keepgate_schedule_last_success_timestamp_seconds{schedule=\"hourly\"} 0",
            "keepgate_schedule_last_run_timestamp_seconds{schedule=\"hourly\"} 0",
            "keepgate_schedule_next_run_timestamp_seconds{schedule=\"hourly\"} 1795266000",
            "keepgate_schedule_last_failed{schedule=\"hourly\"} 0",
        ],
    );
    let acts = [Act::Take(5), Act::Fail(false)];
    let script = Script::new(&[("main", &acts), ("down", &[Act::Fail(true)])]);
    let running = Running::new(&jobs, &script);
    let down = NewJob { attempts: 2, backoff: seconds(100_000), ..new("backup", "down") };
    jobs.start(down).await.unwrap();
    until(&clock, "2026-11-21T14:00:05Z").await;
    let lasting = [
        "keepgate_job_last_success_timestamp_seconds{key=\"main\",kind=\"backup\",mount=\"/\"} 1795266005",
        "keepgate_job_last_duration_seconds{key=\"main\",kind=\"backup\",mount=\"/\"} 5",
        "keepgate_schedule_last_success_timestamp_seconds{schedule=\"hourly\"} 1795266005",
        "keepgate_schedule_last_run_timestamp_seconds{schedule=\"hourly\"} 1795269600",
        "keepgate_schedule_next_run_timestamp_seconds{schedule=\"hourly\"} 1795273200",
        "keepgate_schedule_last_failed{schedule=\"hourly\"} 1",
        "keepgate_jobs{kind=\"backup\",mount=\"/\",state=\"queued\"} 1",
        "keepgate_jobs_delayed{kind=\"backup\",mount=\"/\"} 1",
        "keepgate_jobs{kind=\"backup\",mount=\"/\",state=\"running\"} 0",
    ];
    let counted = |succeeded, failed, retries| {
        [
            format!(
                "keepgate_jobs_total{{kind=\"backup\",mount=\"/\",outcome=\"succeeded\"}} {succeeded}"
            ),
            format!(
                "keepgate_jobs_total{{kind=\"backup\",mount=\"/\",outcome=\"failed\"}} {failed}"
            ),
            format!("keepgate_job_retries_total{{kind=\"backup\",mount=\"/\"}} {retries}"),
        ]
    };
    let before = text(&jobs);
    assert_lines(&before, &lasting);
    assert_lines(&before, &counted(1, 1, 1).each_ref().map(String::as_str));
    running.stop().await;
    drop(jobs);
    let jobs = open();
    jobs.set_schedules(vec![schedule]).await.unwrap();
    let after = text(&jobs);
    assert_lines(&after, &lasting);
    assert_lines(&after, &counted(0, 0, 0).each_ref().map(String::as_str));
}
