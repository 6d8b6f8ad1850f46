//! Missed runs and silent instances.

use keepgate_sdk::Timestamp;
use keepgate_sdk::records::{self, Commit};

use super::events::{answers, hooked, hooked_with, instance, run, webhook};
use super::*;
use crate::instance::Instance;
use crate::layout;
use crate::run::Status;
use crate::schedule::{self, Schedule};

const HOOK: &str = "https://hooks.example.com/s";
const HOUR: u64 = 3600;

fn daily_at_three() -> Schedule {
    Schedule { cron: Some("0 3 * * *".to_owned()), ..Schedule::default() }
}

/// Writes what is expected, as the request that changes a configuration does.
fn expect(instance: &Instance, schedule: Option<&Schedule>) {
    schedule::expect(Commit::new(), &instance.id, schedule).unwrap().run().unwrap();
    schedule::begin();
}

/// A run of an instance begins at this time.
fn begins(instance: &Instance, at: u64) {
    let run = run(instance, Status::Running, Timestamp(at));
    let commit = Commit::new().put_json(&layout::last_run(&instance.id), &run).unwrap();
    commit.run().unwrap();
}

/// Lets hours pass, with what is due in each.
fn hours(host: &Host, hours: u64) {
    for _ in 0..hours {
        host.set_now(Timestamp::now().0 + HOUR * SECOND);
        host.run_jobs();
    }
}

/// The bodies of what was sent.
fn told(host: &Host) -> Vec<Value> {
    let sent = host.sent("hooks");
    sent.iter().map(|sent| serde_json::from_slice(&sent.body).unwrap()).collect()
}

fn hook(host: &Host) {
    let body = json!({"url": HOOK, "events": ["run.missed", "instance.silent"]});
    webhook(host, "ann", &body);
    answers(host, HOOK, &[200; 20]);
}

#[test]
fn a_run_that_was_missed_is_told_once() {
    let host = hooked();
    hook(&host);
    let instance = instance(&host, "");
    expect(&instance, Some(&daily_at_three()));
    hours(&host, 3);
    assert!(told(&host).is_empty(), "it is due now");
    hours(&host, 1);
    let events = told(&host);
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["event"], "run.missed");
    let three = Timestamp(NOW + 3 * HOUR * SECOND);
    assert_eq!(events[0]["missed"], json!({"expected": three, "times": 1}));
    hours(&host, 10);
    assert_eq!(told(&host).len(), 1);
    assert_eq!(host.count("databacker_missed_runs_total"), 1);

    // The next day it comes, and the day after it does not.
    begins(&instance, NOW + 27 * HOUR * SECOND);
    hours(&host, 24);
    assert_eq!(told(&host).len(), 1);
    hours(&host, 24);
    assert_eq!(told(&host).len(), 2);
}

#[test]
fn a_week_off_is_one_event_for_each_instance() {
    let host = hooked();
    hook(&host);
    let instance = instance(&host, "");
    expect(&instance, Some(&daily_at_three()));
    begins(&instance, NOW + 3 * HOUR * SECOND);
    hours(&host, 5);
    host.set_now(NOW + 7 * 24 * HOUR * SECOND);
    host.run_jobs();
    let events = told(&host);
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["missed"]["times"], 6);
}

#[test]
fn a_change_at_the_same_time_costs_neither_an_event_nor_tells_one_twice() {
    let host = hooked();
    hook(&host);
    let instance = instance(&host, "");
    expect(&instance, Some(&daily_at_three()));
    hours(&host, 3);
    host.set_now(Timestamp::now().0 + HOUR * SECOND);
    // Those that are written together are then written one by one.
    host.fail_commit(Failure::PreconditionFailed);
    host.run_jobs();
    assert_eq!(told(&host).len(), 1);
    hours(&host, 5);
    assert_eq!(told(&host).len(), 1);
    assert_eq!(host.count("databacker_missed_runs_total"), 1);
}

#[test]
fn a_schedule_that_stays_is_expected_on_and_one_that_goes_is_not() {
    let host = hooked();
    hook(&host);
    let instance = instance(&host, "");
    expect(&instance, Some(&daily_at_three()));
    let first = host.record(&layout::expected(&instance.id)).unwrap();
    hours(&host, 2);
    expect(&instance, Some(&daily_at_three()));
    assert_eq!(host.record(&layout::expected(&instance.id)).unwrap(), first);
    let never = Schedule { cron: Some("0 0 30 2 *".to_owned()), ..Schedule::default() };
    expect(&instance, Some(&never));
    hours(&host, 30);
    expect(&instance, None);
    assert_eq!(host.record(&layout::expected(&instance.id)), None);
    assert!(told(&host).is_empty());
}

#[test]
fn nothing_is_expected_of_instances_that_are_disabled_or_removed() {
    let host = hooked_with(json!({"silent_after": "6h"}));
    hook(&host);
    let instance = instance(&host, "");
    expect(&instance, Some(&daily_at_three()));
    let path = format!("/admin/instances/{}", instance.id);
    ann(host.request("PATCH", &path).body(br#"{"state": "disabled"}"#));
    hours(&host, 40);
    assert!(told(&host).is_empty());
    // Enabled again, it is given time.
    ann(host.request("PATCH", &path).body(br#"{"state": "active"}"#));
    hours(&host, 4);
    assert!(told(&host).is_empty());
    assert_eq!(ann(host.request("DELETE", &path)).status, 204);
    assert_eq!(host.record(&layout::expected(&instance.id)), None);
    // A configuration that came at the same time does not bring it back.
    expect(&instance, Some(&daily_at_three()));
    hours(&host, 48);
    assert_eq!(host.record(&layout::expected(&instance.id)), None);
    assert!(told(&host).is_empty());
}

#[test]
fn silence_is_told_once_until_the_instance_is_back() {
    let host = hooked_with(json!({"silent_after": "6h"}));
    hook(&host);
    let instance = instance(&host, "");
    let once = Schedule { once: true, ..Schedule::default() };
    expect(&instance, Some(&once));
    hours(&host, 4);
    instance.seen(None);
    hours(&host, 5);
    assert!(told(&host).is_empty());
    hours(&host, 20);
    let events = told(&host);
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["event"], "instance.silent");
    assert_eq!(events[0]["lastSeen"], json!(Timestamp(NOW + 4 * HOUR * SECOND)));
    assert_eq!(host.gauge("databacker_silent_instances"), Some(1.0));
    instance.seen(None);
    hours(&host, 2);
    assert_eq!(host.gauge("databacker_silent_instances"), Some(0.0));
    hours(&host, 5);
    assert_eq!(told(&host).len(), 2);
}

#[test]
fn two_thousand_instances_are_looked_at_in_one_pass() {
    let host = hooked();
    let mut template = serde_json::to_value(instance(&host, "")).unwrap();
    let ids: Vec<String> =
        (0..2000).map(|number| format!("00000000-0000-4000-8000-{number:012}")).collect();
    for id in &ids {
        template["id"] = id.as_str().into();
        let commit = Commit::new().put_json(&layout::instance(id), &template).unwrap();
        schedule::expect(commit, id, Some(&daily_at_three())).unwrap().run().unwrap();
    }
    schedule::begin();
    hours(&host, 4);
    assert_eq!(host.count("databacker_missed_runs_total"), 2000);
    let passes: Vec<_> = host.jobs().into_iter().filter(|job| job.kind == "due").collect();
    assert!(passes.len() <= 6, "{}", passes.len());
    assert_eq!(records::scan(layout::EXPECTED).count(), 2000);
    let waiting = passes.iter().filter(|job| job.next.is_some());
    assert_eq!(waiting.count(), 1, "the successor");
}
