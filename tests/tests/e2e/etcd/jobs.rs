//! `keepgate jobs` with a running gateway, over a Unix socket and over TCP, and without one; and what
//! is reported about a job that was running when the gateway was killed.

use std::process::Command;
use std::thread;

use keepgate_tests::client::{Endpoint, Reply};
use keepgate_tests::etcd::{Etcd, Gate, Member, free_port};
use keepgate_tests::gateway::{Gateway, Setup, text};
use keepgate_tests::program::{Program, keepgate};
use keepgate_tests::tools::{self, Finished};
use serde_json::Value;

use super::{
    LIST, assert_failed, assert_says, assert_whole, back_up, cluster, jobs, list, setup_with,
};

/// Long before anybody would run it.
const YEARLY: &str = "[schedule.yearly]\nmount = \"/\"\njob = \"backup\"\ncron = \"0 0 1 1 *\"\nattempts = 3\n\
     backoff = \"1s\"\n";

/// A member behind a gate, and the setup of a gateway with a schedule.
fn gated(check: &str) -> Option<(Member, Gate, Setup)> {
    let member = Etcd::debian(check)?.start();
    member.fill(0, 16, 500_000);
    let gate = Gate::before(member.port());
    let tables = cluster("main", &[gate.url()], "") + YEARLY;
    let setup = setup_with(&tables, "");
    Some((member, gate, setup))
}

fn command(setup: &Setup, words: &[&str]) -> Command {
    let mut command = keepgate(&["jobs"]);
    command.args(words).args(["--config", text(&setup.config())]);
    command
}

/// `keepgate jobs` with these arguments.
fn run(setup: &Setup, words: &[&str]) -> Finished {
    tools::run(command(setup, words))
}

/// The newest job's id, once there is one.
fn newest(gateway: &Gateway) -> String {
    gateway.eventually("a job", |gateway| !jobs(gateway).is_empty());
    jobs(gateway)[0]["id"].as_str().unwrap().to_owned()
}

fn state(gateway: &Gateway, id: &str) -> Value {
    let job: Reply = gateway.admin.get(&format!("/jobs/{id}"));
    assert_eq!(job.status, 200, "{}", job.text());
    job.json()["state"].clone()
}

#[test]
fn jobs_can_be_listed_shown_run_and_cancelled() {
    let Some((_member, gate, setup)) = gated("keepgate jobs") else { return };
    let gateway = setup.start();
    // Having no jobs is not a failure.
    run(&setup, &["list"]).success();
    back_up(&gateway);
    let first = newest(&gateway);
    let said = run(&setup, &["list"]).success();
    let line = said.lines().find(|line| line.contains(&first));
    assert_says(line.unwrap_or_else(|| panic!("{said}")), &["backup", "main", "succeeded"]);
    let said = run(&setup, &["show", &first]).success();
    assert_says(&said, &[&first, "backup", "succeeded", &list(&gateway)[0]]);

    // Runs a schedule now.
    let said = run(&setup, &["run", "yearly"]).success();
    gateway.eventually("the schedule's backup", |gateway| list(gateway).len() == 2);
    let second = newest(&gateway);
    assert!(second > first && said.contains(&second), "{second}: {said}");
    gateway.eventually("its end", |gateway| state(gateway, &second) == "succeeded");
    let said = run(&setup, &["list"]).success();
    let place = |id: &str| said.find(id).unwrap_or_else(|| panic!("{said}"));
    assert!(place(&second) < place(&first), "the newest comes first: {said}");
    assert_says(&run(&setup, &["show", &second]).success(), &["yearly"]);
    let metric = "keepgate_schedule_last_success_timestamp_seconds{schedule=\"yearly\"}";
    assert!(gateway.metric(metric) > 0.0);

    // In the middle of a job that somebody waits for.
    gate.close_after(1 << 20);
    let client = gateway.endpoint();
    thread::scope(|scope| {
        let asked = scope.spawn(|| client.post(LIST, b""));
        gate.wait_until_closed();
        let third = newest(&gateway);
        assert_eq!(state(&gateway, &third), "running");
        let said = run(&setup, &["list"]).success();
        let line = said.lines().find(|line| line.contains(&third));
        assert_says(line.unwrap_or_else(|| panic!("{said}")), &["running"]);
        run(&setup, &["cancel", &third]).success();
        assert_says(&assert_failed(&asked.join().unwrap()), &["cancel"]);
        assert_eq!(state(&gateway, &third), "cancelled");
        // It has ended, so cancelling it again is an error.
        run(&setup, &["cancel", &third]).fails_with(1);
    });
    gate.open();
    assert_eq!(list(&gateway).len(), 2);

    for words in [&["show", "nosuchjob"][..], &["cancel", "nosuchjob"], &["run", "nosuchschedule"]]
    {
        let error = run(&setup, words).fails_with(1);
        assert!(error.contains(words[1]), "{words:?}: {error}");
    }
    for words in [&["show"][..], &["walk"], &["run", "a", "b"]] {
        run(&setup, words).fails_with(2);
    }
    gateway.stop();
}

/// Output for programs.
#[test]
fn output_can_be_json_and_wait_for_the_end() {
    let Some((mut member, _gate, setup)) = gated("keepgate jobs --json") else { return };
    let gateway = setup.start();
    let json = |said: &str| serde_json::from_str::<Value>(said).unwrap();
    assert_eq!(json(&run(&setup, &["list", "--json"]).success()), Value::Array(Vec::new()));
    let done = json(&run(&setup, &["run", "yearly", "--wait", "--json"]).success());
    assert_eq!((&done["state"], &done["schedule"]), (&"succeeded".into(), &"yearly".into()));
    assert!(done["output"].as_str().unwrap().contains(&list(&gateway)[0]), "{done}");
    let schedules = json(&run(&setup, &["schedules", "--json"]).success());
    assert_eq!(schedules[0]["last_job"], done["id"], "{schedules}");
    assert_says(&run(&setup, &["schedules"]).success(), &["yearly", "succeeded"]);

    member.program.kill();
    let failed = run(&setup, &["run", "yearly", "--wait", "--json"]);
    assert_eq!(failed.status.code(), Some(1));
    let failed = json(&failed.stdout);
    assert_eq!((&failed["state"], &failed["attempt"]), (&"failed".into(), &3.into()));
    assert_says(failed["message"].as_str().unwrap(), &["127.0.0.1"]);
    let of_state = |state| json(&run(&setup, &["list", "--json", "--state", state]).success());
    assert_eq!(of_state("failed")[0]["id"], failed["id"]);
    assert_eq!(of_state("succeeded")[0]["id"], done["id"]);
    assert_eq!(of_state("running"), Value::Array(Vec::new()));
    run(&setup, &["list", "--state", "sleeping"]).fails_with(1);
    let newest = json(&run(&setup, &["list", "--json", "--max", "1"]).success());
    assert_eq!(newest.as_array().map(Vec::len), Some(1));
    gateway.stop();
}

#[test]
fn jobs_can_be_managed_over_tcp() {
    let Some((_member, _gate, setup)) = gated("keepgate jobs over TCP") else { return };
    setup.write();
    let admin = format!("127.0.0.1:{}", free_port());
    let socket = format!("unix:{}", setup.path("admin.sock").display());
    setup.edit(|text| text.replace(&socket, &admin));
    let mut program = Program::start(setup.command());
    program.stderr.wait_for(0, &["serving", "generation="]);
    let said = run(&setup, &["run", "yearly", "--wait", "--json"]).success();
    let job: Value = serde_json::from_str(&said).unwrap();
    let id = job["id"].as_str().unwrap();
    assert_says(&run(&setup, &["show", id]).success(), &[id, "yearly"]);
    assert_says(&run(&setup, &["list"]).success(), &[id, "succeeded"]);
    program.kill();
    // A page in a browser on this machine is not an operator.
    let program = Program::start(setup.command());
    program.stderr.wait_for(0, &["serving", "generation="]);
    let page = Endpoint::tcp(admin.parse().unwrap());
    let from_page = [("origin", "http://example.org")];
    let refused = page.send("POST", "/schedules/yearly/run", &from_page, b"");
    assert_eq!(refused.status, 403, "{}", refused.text());
}

/// Reading works from what the last gateway left; everything else requires a running one.
#[test]
fn jobs_can_be_read_without_a_gateway() {
    let Some((_member, _gate, setup)) = gated("keepgate jobs without a gateway") else { return };
    setup.write();
    // No gateway has ever run.
    assert_says(&run(&setup, &["list"]).fails_with(1), &["jobs.redb"]);
    let gateway = setup.start();
    let id = run(&setup, &["run", "yearly", "--wait", "--json"]).success();
    let id: Value = serde_json::from_str(&id).unwrap();
    let id = id["id"].as_str().unwrap();
    gateway.stop();
    for words in [&["list"][..], &["show", id], &["schedules"]] {
        let finished = run(&setup, words);
        assert_says(&finished.stderr, &["no gateway is running"]);
        assert_says(&finished.success(), &["backup"]);
    }
    for words in [&["cancel", id][..], &["run", "yearly"]] {
        let error = run(&setup, words).fails_with(1);
        let socket = setup.path("admin.sock");
        assert!(error.contains(text(&socket)), "{words:?}: {error}");
        assert!(error.starts_with("keepgate: "), "{words:?}: {error}");
    }
    // A gateway without an admin listener is no better.
    setup.edit(|text| {
        let line = text.lines().find(|line| line.starts_with("address = \"unix:")).unwrap();
        text.replace(&format!("[admin]\n{line}\n"), "")
    });
    assert_says(&run(&setup, &["run", "yearly"]).fails_with(1), &["[admin]"]);
}

/// Requests a backup without waiting for it; returns the job's id.
fn ask(gateway: &Gateway) -> String {
    let prefer = [("prefer", "respond-async")];
    let reply = gateway.endpoint().send("POST", LIST, &prefer, b"");
    assert_eq!(reply.status, 202, "{}", reply.text());
    reply.json()["job"].as_str().unwrap().to_owned()
}

/// A requested job has one attempt, which is lost; a scheduled job with more attempts is retried; a job
/// that had not begun is not affected.
#[test]
fn a_job_interrupted_by_a_kill_is_reported() {
    let Some((_member, gate, setup)) = gated("jobs that kill -9 interrupts") else { return };
    let mut gateway = setup.start();
    gate.close_after(1 << 20);
    let lost = ask(&gateway);
    gate.wait_until_closed();
    assert_eq!(state(&gateway, &lost), "running");
    gateway.program.kill();
    drop(gateway);

    gate.open();
    let mut gateway = setup.start();
    let said = run(&setup, &["show", &lost]).success();
    assert_says(&said, &["failed", "stopped while it ran"]);
    // The client that requested it can still find out.
    let page = gateway.endpoint().get(&format!("{LIST}/jobs/{lost}"));
    assert_eq!((page.status, &page.json()["state"]), (200, &"failed".into()), "{}", page.text());
    assert!(list(&gateway).is_empty());

    gate.close_after(1 << 20);
    run(&setup, &["run", "yearly"]).success();
    let scheduled = newest(&gateway);
    gate.wait_until_closed();
    let waits = ask(&gateway);
    assert_eq!(state(&gateway, &scheduled), "running");
    assert_eq!(state(&gateway, &waits), "queued");
    gateway.program.kill();
    drop(gateway);

    gate.open();
    let gateway = setup.start();
    for (id, attempts) in [(scheduled, 2), (waits, 1)] {
        gateway.eventually("its end", |gateway| state(gateway, &id) == "succeeded");
        let job = gateway.admin.get(&format!("/jobs/{id}")).json();
        assert_eq!(job["attempt"], attempts, "{job}");
    }
    let names = list(&gateway);
    assert_eq!(names.len(), 2);
    for name in &names {
        assert_whole(&gateway, name);
    }
    gateway.stop();
}

/// A gateway that is told to stop does not wait for a backup that may take hours.
#[test]
fn a_job_interrupted_by_a_stop_is_reported() {
    let Some((_member, gate, setup)) = gated("jobs that a stop interrupts") else { return };
    let gateway = setup.start();
    gate.close_after(1 << 20);
    run(&setup, &["run", "yearly"]).success();
    gate.wait_until_closed();
    let id = newest(&gateway);
    gateway.stop();
    assert!(super::stored(&setup).is_empty());
    gate.open();
    let gateway = setup.start();
    gateway.eventually("its end", |gateway| state(gateway, &id) == "succeeded");
    assert_eq!(list(&gateway).len(), 1);
    gateway.stop();
}

/// A run joins a backup in progress, whose success then counts for the schedule.
#[test]
fn a_schedule_joins_a_backup_in_progress() {
    let Some((_member, gate, setup)) = gated("schedules that join a job") else { return };
    let gateway = setup.start();
    gate.close_after(1 << 20);
    let asked = ask(&gateway);
    gate.wait_until_closed();
    let said = run(&setup, &["run", "yearly"]).success();
    assert_says(&said, &[&asked]);
    let metric = "keepgate_schedule_last_success_timestamp_seconds{schedule=\"yearly\"}";
    assert_eq!(gateway.metric(metric), 0.0);
    gate.open();
    gateway.eventually("its end", |gateway| state(gateway, &asked) == "succeeded");
    gateway.eventually("the schedule's success", |gateway| gateway.metric(metric) > 0.0);
    assert_eq!(jobs(&gateway).len(), 1);
    gateway.stop();
}

/// A second gateway with the same data does not touch the jobs of the first.
#[test]
fn jobs_belong_to_one_gateway() {
    let endpoints = ["http://127.0.0.1:1".to_owned()];
    let setup = setup_with(&(cluster("main", &endpoints, "") + YEARLY), "");
    let gateway = setup.start();
    let second = setup.path("second.toml");
    let config = std::fs::read_to_string(setup.config()).unwrap().replace("admin.sock", "2.sock");
    std::fs::write(&second, config).unwrap();
    let error = tools::run(keepgate(&["serve", "--config", text(&second)])).fails_with(1);
    assert_says(&error, &["jobs.redb", "in use"]);
    // `check` does not touch them either.
    tools::run(keepgate(&["check", "--config", text(&second)])).success();
    assert_failed(&gateway.endpoint().post(LIST, b""));
    gateway.stop();
}
