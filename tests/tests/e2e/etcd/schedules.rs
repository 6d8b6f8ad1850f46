//! Scheduled backups, and what an alert sees of them: the last success, even if there never was one;
//! the last failure; and what was missed while the gateway was down.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt as _;
use keepgate_jobs::{BACKOFF, Clock, Jobs, Missed, Options, Schedule, ScheduleStatus, Trigger};
use keepgate_tests::etcd::{Etcd, free_port};
use keepgate_tests::gateway::Gateway;

use super::{LIST, assert_whole, cluster, jobs, list, list_of, setup, setup_with};

const HOUR: Duration = Duration::from_secs(3600);

fn schedule(name: &str, further: &str) -> String {
    format!("[schedule.{name}]\nmount = \"/\"\njob = \"backup\"\n{further}\n")
}

/// A schedule's metric, such as `last_success`.
fn metric(gateway: &Gateway, what: &str, schedule: &str) -> f64 {
    gateway.metric(&format!("keepgate_schedule_{what}{{schedule=\"{schedule}\"}}"))
}

fn last_success(gateway: &Gateway, schedule: &str) -> f64 {
    metric(gateway, "last_success_timestamp_seconds", schedule)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

#[test]
fn a_schedule_runs_and_updates_its_metrics() {
    let Some(etcd) = Etcd::debian("etcd backups by the clock") else { return };
    let member = etcd.start();
    member.put("key", "value");
    let begun = now();
    let tables = cluster("main", &[member.url()], "")
        + &schedule("often", "every = \"1s\"\ninput = { cluster = \"main\" }");
    let gateway = setup_with(&tables, "settings = { rotate = 3 }").start();
    gateway.eventually("the first backup", |gateway| last_success(gateway, "often") > 0.0);
    let first = last_success(&gateway, "often");
    assert!((begun - 2.0..now() + 2.0).contains(&first), "{first}");
    gateway.eventually("another one", |gateway| last_success(gateway, "often") > first);
    gateway.eventually("rotation", |gateway| jobs(gateway).len() > 4);
    assert_eq!(metric(&gateway, "last_failed", "often"), 0.0);
    assert!(metric(&gateway, "last_run_timestamp_seconds", "often") >= first - 1.0);
    assert!(metric(&gateway, "next_run_timestamp_seconds", "often") > first);
    let newest = &jobs(&gateway)[0];
    assert_eq!(newest["origin"], "schedule often", "{newest}");
    assert_eq!(newest["key"], "main", "{newest}");
    let names = list(&gateway);
    assert!(names.len() <= 4, "{names:?}");
    gateway.stop();
}

/// After a restart an alert on the age of the last success neither fires nor goes quiet.
#[test]
fn metrics_for_alerts_survive_a_restart() {
    let Some(etcd) = Etcd::debian("schedules of etcd backups after a restart") else { return };
    let member = etcd.start();
    let tables = cluster("main", &[member.url()], "") + &schedule("often", "every = \"1s\"");
    let setup = setup_with(&tables, "");
    let mut gateway = setup.start();
    gateway.eventually("the first backup", |gateway| last_success(gateway, "often") > 0.0);
    let before = last_success(&gateway, "often");
    gateway.program.kill();
    drop(gateway);
    setup.edit(|text| text.replace("every = \"1s\"", "cron = \"0 0 1 1 *\""));
    let gateway = setup.start();
    assert!(last_success(&gateway, "often") >= before);
    let next = metric(&gateway, "next_run_timestamp_seconds", "often");
    assert!(next > now() && next < now() + 367.0 * 86_400.0, "{next}");
    assert_whole(&gateway, &list(&gateway)[0]);
    gateway.stop();
}

#[test]
fn a_failing_schedule_is_visible_in_the_metrics() {
    let Some(etcd) = Etcd::debian("etcd backups by the clock that fail") else { return };
    let mut member = etcd.start();
    let dead = format!("http://127.0.0.1:{}", free_port());
    let tables = cluster("main", &[member.url()], "")
        + &cluster("dead", &[dead], "")
        + &schedule("good", "every = \"1s\"")
        + &schedule("never", "every = \"1s\"\ninput = { cluster = \"dead\" }\nattempts = 1");
    let setup = setup_with(&tables, "");
    setup.write();
    setup.edit(|text| {
        text.replace("etcd = { main = \"main\" }", "etcd = { main = \"main\", dead = \"dead\" }")
    });
    let gateway = setup.start();
    gateway.eventually("a failure", |gateway| metric(gateway, "last_failed", "never") == 1.0);
    // The metric exists and is 0, so `time() - x > 7200` is true.
    let text = gateway.admin.get("/metrics").text();
    let line = "keepgate_schedule_last_success_timestamp_seconds{schedule=\"never\"} 0";
    assert!(text.lines().any(|found| found == line), "{text}");
    gateway.eventually("a success", |gateway| last_success(gateway, "good") > 0.0);
    assert_eq!(metric(&gateway, "last_failed", "good"), 0.0);

    member.program.kill();
    gateway.eventually("a failure", |gateway| metric(gateway, "last_failed", "good") == 1.0);
    let stays = last_success(&gateway, "good");
    assert!(stays > 0.0 && stays < now());
    let failed = jobs(&gateway).into_iter().find(|job| job["state"] == "failed").unwrap();
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("127.0.0.1"), "{failed}");

    member.start_again();
    gateway.eventually("a success", |gateway| {
        metric(gateway, "last_failed", "good") == 0.0 && last_success(gateway, "good") > stays
    });
    assert!(!list(&gateway).is_empty());
    assert!(list_of(&gateway, &format!("/dead{LIST}")).is_empty());
    gateway.stop();
}

/// A failed run is retried, and counts as one success in the end.
#[test]
fn a_failed_run_is_retried() {
    let Some(etcd) = Etcd::debian("etcd backups that are tried again") else { return };
    let mut member = etcd.start();
    member.program.kill();
    let tables = cluster("main", &[member.url()], "")
        + &schedule("stubborn", "every = \"1s\"\nattempts = 100\nbackoff = \"1s\"");
    let gateway = setup_with(&tables, "").start();
    gateway.eventually("a second attempt", |gateway| {
        jobs(gateway).iter().any(|job| job["attempt"].as_u64() >= Some(2))
    });
    // The next runs do not pile up behind it.
    assert_eq!(jobs(&gateway).len(), 1);
    assert_eq!(last_success(&gateway, "stubborn"), 0.0);
    member.start_again();
    gateway.eventually("a success", |gateway| last_success(gateway, "stubborn") > 0.0);
    gateway.stop();
}

/// A clock that stands still.
#[derive(Debug)]
struct Stopped(SystemTime);

impl Clock for Stopped {
    fn now(&self) -> SystemTime {
        self.0
    }
}

/// Makes every schedule in a gateway's file of jobs due two hours ago, as if the gateway had been down
/// since: opens the file three hours ago, when a run after the interval of an hour is planned.
fn let_two_hours_pass(file: &Path) {
    let schedule = |status: ScheduleStatus| Schedule {
        name: status.name,
        mount: status.mount,
        kind: status.kind,
        key: status.key,
        input: Vec::new(),
        when: Trigger::Every { interval: HOUR, jitter: Duration::ZERO },
        missed: Missed::Skip,
        attempts: 1,
        backoff: BACKOFF,
    };
    let schedules =
        keepgate_jobs::read(file).unwrap().schedules.into_iter().map(schedule).collect();
    let clock = Arc::new(Stopped(SystemTime::now() - 3 * HOUR));
    let jobs = Jobs::with_clock(Some(file), Options::default(), clock).unwrap();
    jobs.set_schedules(schedules).now_or_never().unwrap().unwrap();
}

/// The operator decides what happens to a run that was due while the gateway was down.
#[test]
fn missed_runs_are_caught_up_or_skipped() {
    let Some(etcd) = Etcd::debian("missed etcd backups") else { return };
    let member = etcd.start();
    let tables = cluster("main", &[member.url()], "")
        + &schedule("caught_up", "every = \"1h\"\nmissed = \"run\"")
        + &schedule("left_out", "every = \"1h\"\nmissed = \"skip\"");
    let setup = setup_with(&tables, "");
    let gateway = setup.start();
    let names = ["caught_up", "left_out"];
    // Both run once at startup; their next run is in an hour.
    gateway.eventually("both runs", |gateway| {
        names.iter().all(|name| last_success(gateway, name) > 0.0)
    });
    let ran = |gateway: &Gateway, name| metric(gateway, "last_run_timestamp_seconds", name);
    let before = names.map(|name| ran(&gateway, name));
    gateway.stop();
    let_two_hours_pass(&setup.path("state/jobs.redb"));

    let begun = now().floor();
    let gateway = setup.start();
    gateway.program.stderr.wait_for(0, &["missed run started", "caught_up"]);
    gateway.program.stderr.wait_for(0, &["missed run skipped", "left_out"]);
    gateway.eventually("the missed backup", |gateway| {
        ran(gateway, "caught_up") > before[0] && last_success(gateway, "caught_up") > before[0]
    });
    assert_eq!(ran(&gateway, "left_out"), before[1], "a run that is skipped is not a run");
    for name in names {
        let next = metric(&gateway, "next_run_timestamp_seconds", name);
        assert!(next > begun && next < now() + 3600.0, "{name} runs next at {next}");
    }
    gateway.stop();
}

#[test]
fn schedules_that_cannot_be_kept_are_refused() {
    let endpoints = ["http://127.0.0.1:1".to_owned()];
    for (further, word) in [
        ("", "every"),
        ("every = \"1h\"\ncron = \"0 * * * *\"", "cron"),
        ("cron = \"61 * * * *\"", "cron"),
        ("cron = \"every day\"", "cron"),
        ("cron = \"0 * * * *\"\ntime_zone = \"Europe/Atlantis\"", "Atlantis"),
        ("every = \"0s\"", "longer than zero"),
        ("every = \"10ms\"", "one second"),
        ("every = \"1h\"\nmissed = \"perhaps\"", "perhaps"),
        ("every = \"1h\"\nattempts = 0", "attempt"),
    ] {
        let tables = cluster("main", &endpoints, "") + &schedule("s", further);
        let finished = super::check(&setup_with(&tables, ""), &[]);
        assert_eq!(finished.status.code(), Some(1), "{further}: {}", finished.stdout);
        let said = finished.stdout + &finished.stderr;
        assert!(said.contains(word), "{further}: {said}");
    }
    for (from, to, word) in [
        ("mount = \"/\"", "mount = \"/nowhere\"", "/nowhere"),
        ("job = \"backup\"", "job = \"restore\"", "restore"),
    ] {
        let setup = setup(&endpoints, "").table(&schedule("s", "every = \"1h\""));
        setup.write();
        setup.edit(|text| text.replacen(from, to, 1));
        let finished = super::check(&setup, &[]);
        assert_eq!(finished.status.code(), Some(1), "{to}: {}", finished.stdout);
        let said = finished.stdout + &finished.stderr;
        assert!(said.contains(word), "{to}: {said}");
    }
}
