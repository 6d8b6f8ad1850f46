//! What is removed when it is old, and what starts the jobs that run by themselves.

use keepgate_sdk::Timestamp;
use keepgate_sdk::records::Commit;

use super::events::{answers, hooked_with, instance, run, webhook};
use super::*;
use crate::events::{Event, Kind};
use crate::layout;

const DAY: u64 = 86_400;

fn days(host: &Host, days: u64) {
    for _ in 0..days {
        host.set_now(Timestamp::now().0 + DAY * SECOND);
        host.run_jobs();
    }
}

fn below(host: &Host, prefix: &str) -> usize {
    host.record_keys().iter().filter(|key| key.starts_with(prefix)).count()
}

#[test]
fn what_is_old_is_removed_daily() {
    let host = hooked_with(json!({"keep": {"audit": "40d"}}));
    let url = "https://hooks.example.com/r";
    let made = webhook(&host, "ann", &json!({"url": url, "events": ["run.ok"]}));
    instance(&host, "");
    answers(&host, url, &[200; 2]);
    let test = format!("/admin/webhooks/{}/test", made["id"].as_str().unwrap());
    ann(host.post(&test, b""));
    let now = NOW / SECOND;
    let mut commit = Commit::new();
    // More than a commit can change.
    for number in 0..100 {
        commit =
            commit.put(&layout::assertion("i", &number.to_string()), now.to_string().as_bytes());
    }
    commit.clone().run().unwrap();
    for number in 100..200 {
        let key = layout::assertion("i", &number.to_string());
        Commit::new().put(&key, b"nonsense").run().unwrap();
    }
    let valid = (now + 3 * DAY).to_string();
    Commit::new().put(&layout::assertion("i", "valid"), valid.as_bytes()).run().unwrap();
    // An event that was never taken out, as if jobs had been switched off. It has no account and no webhook.
    let event = Event::new(Kind::RunOk, None);
    let key = layout::outbox(event.time, &event.id);

    days(&host, 1);
    assert_eq!(below(&host, "j/"), 1);
    days(&host, 3);
    assert_eq!(below(&host, "j/"), 0);
    days(&host, 25);
    Commit::new().put_json(&key, &event).unwrap().run().unwrap();
    ann(host.post(&test, b""));
    assert_eq!((below(&host, "v/"), below(&host, "a/"), below(&host, "o/")), (2, 4, 1));
    days(&host, 2);
    assert_eq!((below(&host, "v/"), below(&host, "o/")), (1, 0));
    days(&host, 10);
    assert_eq!(below(&host, "a/"), 1, "what was done later stays");
    let open = host.jobs().into_iter().filter(|job| job.kind == "retain" && job.ended.is_none());
    assert_eq!(open.count(), 1, "one successor");
}

#[test]
fn the_daily_job_delivers_what_was_left() {
    let host = hooked_with(json!({}));
    let url = "https://hooks.example.com/r";
    webhook(&host, "ann", &json!({"url": url, "events": ["run.ok"]}));
    let instance = instance(&host, "");
    answers(&host, url, &[200]);
    let run = run(&instance, crate::run::Status::Ok, Timestamp(NOW));
    crate::events::run_ended(Commit::new(), &instance, &run).unwrap().run().unwrap();
    days(&host, 1);
    assert_eq!(host.sent("hooks").len(), 1);
}

#[test]
fn the_first_request_of_a_day_brings_back_jobs_that_were_cancelled() {
    let host = hooked_with(json!({}));
    let instance = instance(&host, "");
    let open = |kind: &str| {
        let jobs = host.jobs().into_iter();
        jobs.filter(|job| job.kind == kind && job.ended.is_none()).count()
    };
    let cancel = || {
        for job in host.jobs() {
            keepgate_sdk::jobs::cancel(&job.id).unwrap();
        }
    };
    cancel();
    instance.seen(None);
    assert_eq!((open("retain"), open("due")), (1, 1));
    let started = host.jobs().len();
    host.set_now(NOW + 600 * SECOND);
    instance.seen(None);
    assert_eq!(host.jobs().len(), started, "not each time");
    cancel();
    host.set_now(NOW + DAY * SECOND);
    instance.seen(None);
    assert_eq!((open("retain"), open("due")), (1, 1));
}
