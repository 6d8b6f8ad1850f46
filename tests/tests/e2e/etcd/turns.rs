//! Concurrent backups, asynchronous ones, and clients that disconnect: every request gets a backup of
//! its own, and one runs at a time.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use keepgate_tests::client::Reply;
use keepgate_tests::etcd::{Etcd, Gate, Member};
use keepgate_tests::gateway::{Gateway, Setup};
use serde_json::Value;

use super::{
    LIST, assert_failed, assert_json, assert_says, assert_store_has, assert_whole, back_up, find,
    list, name, path_of, setup, stored, taken,
};

/// What passes the gate before it closes: enough for requests, and some of a snapshot.
const SOME: u64 = 1 << 20;

/// A member with a large snapshot behind a gate.
fn gated(check: &str, further: &str) -> Option<(Member, Gate, Setup, Gateway)> {
    let member = Etcd::debian(check)?.start();
    member.fill(0, 16, 500_000);
    let gate = Gate::before(member.port());
    let setup = setup(&[gate.url()], further);
    let gateway = setup.start();
    Some((member, gate, setup, gateway))
}

#[test]
fn concurrent_requests_get_one_backup_each() {
    let Some(etcd) = Etcd::debian("etcd backups at once") else { return };
    let member = etcd.start();
    member.fill(0, 1_000, 1_000);
    for count in [2, 10] {
        let setup = setup(&[member.url()], "");
        let gateway = setup.start();
        let answers: Vec<Value> = thread::scope(|scope| {
            let asked: Vec<_> = (0..count).map(|_| scope.spawn(|| back_up(&gateway))).collect();
            asked.into_iter().map(|asked| asked.join().unwrap()).collect()
        });
        let names: BTreeSet<_> = answers.iter().map(name).collect();
        assert_eq!(names.len(), count, "{names:?}");
        assert_eq!(list(&gateway), names.iter().cloned().collect::<Vec<_>>());
        assert_store_has(&setup, &list(&gateway));
        for name in &names {
            assert_whole(&gateway, name);
        }
        gateway.stop();
    }
}

#[test]
fn a_request_that_waits_too_long_for_its_turn_is_told() {
    let check = "etcd backups that wait for their turn";
    let Some((_member, gate, setup, gateway)) = gated(check, "settings = { wait = \"1s\" }") else {
        return;
    };
    let client = gateway.endpoint();
    let old = name(&back_up(&gateway));
    gate.close_after(SOME);
    let first = thread::scope(|scope| {
        let first = scope.spawn(|| client.post(LIST, b""));
        gate.wait_until_closed();
        let begun = Instant::now();
        let second = client.post(LIST, b"");
        assert_eq!(second.status, 503, "{}", second.text());
        assert_json(&second);
        assert_eq!(second.header("retry-after"), Some("5"));
        assert_eq!(second.json()["message"], "another backup is running");
        assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
        // The refusal came while the first backup was still running.
        assert!(!first.is_finished());
        // A list does not wait, and shows only finished backups.
        assert_eq!(list(&gateway), [old.as_str()]);
        assert_eq!(stored(&setup).len(), 1);
        gate.open();
        first.join().unwrap()
    });
    let new = name(&taken(&first));
    // The second request left nothing, then or later.
    let third = name(&back_up(&gateway));
    assert_store_has(&setup, &[old, new, third]);
    gateway.stop();
}

/// Requests a backup without waiting for it; returns the job's id and URL path.
#[track_caller]
fn begin(gateway: &Gateway) -> (String, String) {
    let prefer = [("prefer", "respond-async")];
    let reply = gateway.endpoint().send("POST", LIST, &prefer, b"");
    assert_eq!(reply.status, 202, "{}", reply.text());
    assert_json(&reply);
    assert_eq!(reply.header("preference-applied"), Some("respond-async"));
    let answer = reply.json();
    assert_eq!(answer["message"], "backup started");
    let id = answer["job"].as_str().unwrap().to_owned();
    let location = path_of(reply.header("location").unwrap());
    assert_eq!(location, format!("{LIST}/jobs/{id}"));
    (id, location)
}

fn job(gateway: &Gateway, location: &str) -> Value {
    let reply: Reply = gateway.endpoint().get(location);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_json(&reply);
    reply.json()
}

#[test]
fn an_asynchronous_request_can_be_followed_up() {
    let check = "etcd backups that nobody waits for";
    let Some((_member, gate, setup, gateway)) = gated(check, "") else { return };
    gate.close_after(SOME);
    let (id, location) = begin(&gateway);
    gate.wait_until_closed();
    // What has passed the gate need not have been read yet.
    gateway.eventually("the job to read", |gateway| job(gateway, &location)["done"] != 0);
    let running = job(&gateway, &location);
    assert_eq!((&running["job"], &running["state"]), (&id.into(), &"running".into()), "{running}");
    assert!(find(&running, "filename").is_none(), "{running}");
    assert!(list(&gateway).is_empty() && stored(&setup).is_empty());
    // The next one waits for its turn.
    let (_, next) = begin(&gateway);
    assert_eq!(job(&gateway, &next)["state"], "queued");
    assert!(running["total"].as_u64() > Some(8_000_000), "{running}");
    assert!(running["phase"].as_str().is_some_and(|phase| !phase.is_empty()), "{running}");
    gate.open();
    let mut names = Vec::new();
    for location in [location, next] {
        gateway.eventually("the end of the backup", |gateway| {
            job(gateway, &location)["state"] == "succeeded"
        });
        // The response that a waiting client would get.
        let result = &job(&gateway, &location)["result"];
        assert_eq!(result["message"], "backup successfully", "{result}");
        names.push(name(result));
    }
    assert_eq!(list(&gateway), names);
    for name in &names {
        assert_whole(&gateway, name);
    }
    gateway.stop();
}

#[test]
fn a_backup_can_be_cancelled_at_its_url() {
    let check = "etcd backups that are called off";
    let Some((_member, gate, setup, gateway)) = gated(check, "") else { return };
    let client = gateway.endpoint();
    let old = name(&back_up(&gateway));
    gate.close_after(SOME);
    let (_, location) = begin(&gateway);
    gate.wait_until_closed();
    assert_eq!(client.status("DELETE", &location), 204);
    assert_eq!(job(&gateway, &location)["state"], "cancelled");
    assert_eq!(client.status("DELETE", &location), 409);
    gate.open();
    // The next backup can run at once.
    let new = name(&back_up(&gateway));
    assert_store_has(&setup, &[old, new]);
    gateway.stop();
}

#[test]
fn an_asynchronous_failure_can_be_seen() {
    let check = "etcd backups that fail when nobody waits";
    let Some((mut member, _gate, _setup, gateway)) = gated(check, "") else { return };
    member.program.kill();
    let (_, location) = begin(&gateway);
    gateway.eventually("the end of the backup", |gateway| {
        job(gateway, &location)["state"] == "failed"
    });
    let failed = job(&gateway, &location);
    let said = failed.to_string();
    assert_says(&said, &["127.0.0.1"]);
    assert_says(&assert_failed(&gateway.endpoint().post(LIST, b"")), &["127.0.0.1"]);
    assert!(list(&gateway).is_empty());
    gateway.stop();
}

/// A CronJob's pod is killed or a network breaks: the backup in progress is finished.
#[test]
fn a_client_that_disconnects_changes_nothing() {
    let check = "etcd backups whose clients leave";
    let Some((_member, gate, setup, gateway)) = gated(check, "") else { return };
    gate.close_after(SOME);
    let mut connection = gateway.endpoint().connect();
    connection.write_head("POST", LIST, &[("content-length", "0")]).unwrap();
    gate.wait_until_closed();
    connection.reset();
    assert!(list(&gateway).is_empty());
    gate.open();
    gateway.eventually("the backup", |gateway| list(gateway).len() == 1);
    assert_whole(&gateway, &list(&gateway)[0]);
    assert_store_has(&setup, &list(&gateway));
    gateway.stop();
}
