//! Runs: what is derived from spans, and how it is listed.

use keepgate_sdk::Timestamp;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::telemetry::{Client, RUN, dump, failed, span, target, text, with};
use super::*;
use crate::telemetry::ingest;
use crate::{layout, runs};

const HOUR: u64 = 3600 * SECOND;

#[test]
fn a_failed_run_says_why() {
    let host = host();
    let client = Client::new(&host);
    let refused = "Access denied for user 'root'@'db' (using password: YES)";
    let tried = "failed to dump database: it did not work";
    client.sends(
        &host,
        &[
            failed(span(1, 3, 2, "database_dump", 1, 2), refused),
            failed(span(1, 2, 1, "dump", 1, 3), tried),
        ],
    );
    let root = Span { status: None, ..span(1, 1, 0, "run", 0, 4) };
    let attributes = [("backup.status", text("error")), ("backup.exit_code", Any::IntValue(1))];
    client.sends(&host, &[with(root, &attributes)]);
    let run = &client.runs(&host, "")[0];
    assert_eq!(
        (&run["status"], &run["exitCode"], &run["kind"]),
        (&json!("error"), &json!(1), &json!("dump"))
    );
    assert_eq!(run["message"], refused, "the innermost part says it best");

    // One of two targets fails, and the root says nothing of it.
    let upload = failed(span(2, 2, 1, "upload", 1, 2), "no such bucket");
    let silent = Span { status: None, ..span(2, 1, 0, "run", 10, 12) };
    client.sends(&host, &[target(upload, "daily", "s3://u:p@b/x"), silent]);
    let run = &client.runs(&host, "")[0];
    assert_eq!((&run["status"], &run["message"]), (&json!("error"), &json!("no such bucket")));
    let expected =
        json!([{"name": "daily", "type": "s3", "url": "s3://***@b/x", "status": "error"}]);
    assert_eq!(run["targets"], expected);
}

#[test]
fn prunes_and_restores_are_told_apart_and_a_start_is_no_run() {
    let host = host();
    let client = Client::new(&host);
    client.sends(
        &host,
        &[
            span(1, 2, 1, "prune", 0, 1),
            span(1, 3, 2, "pruneTarget file:///b", 0, 1),
            span(1, 1, 0, "run", 0, 1),
        ],
    );
    client.sends(&host, &[span(2, 2, 1, "restore", 10, 11), span(2, 1, 0, "run", 10, 11)]);
    client.sends(&host, &[span(3, 1, 0, "startup", 20, 21)]);
    let kinds: Vec<_> = client.runs(&host, "").iter().map(|run| run["kind"].clone()).collect();
    assert_eq!(kinds, ["restore", "prune"]);
    assert_eq!(client.runs(&host, "")[1]["targets"][0]["url"], "file:///b");
    // What seemed to be a run was none.
    client.sends(&host, &[span(4, 2, 1, "connect", 30, 31)]);
    assert_eq!(client.runs(&host, "").len(), 3);
    client.sends(&host, &[span(4, 1, 0, "startup", 30, 32)]);
    assert_eq!(client.runs(&host, "").len(), 2);
    assert_eq!(client.last(&host)["kind"], "restore");
    assert!(!host.record_keys().iter().any(|key| key.starts_with("R/0404")));
}

#[test]
fn a_run_whose_root_does_not_come_is_unknown() {
    let host = host();
    let client = Client::new(&host);
    client.sends(&host, &dump(1, RUN)[0]);
    host.set_now(NOW + 24 * HOUR);
    assert_eq!(client.runs(&host, "?status=running").len(), 1);
    host.set_now(NOW + 25 * HOUR);
    assert_eq!(client.runs(&host, "?status=running").len(), 0);
    assert_eq!(client.runs(&host, "?status=unknown").len(), 1);
    assert_eq!(client.last(&host)["status"], "unknown");
    client.sends(&host, &dump(1, RUN)[2]);
    assert_eq!(client.last(&host)["status"], "ok");
}

#[test]
fn an_id_belongs_to_who_had_it_first() {
    let host = host();
    let (one, two) = (Client::numbered(&host, 1, "acme"), Client::numbered(&host, 2, "other"));
    one.sends(&host, &dump(1, RUN)[2]);
    // The same id, then the same trace as well, of another instance.
    two.sends(&host, &dump(2, RUN)[2]);
    two.sends(&host, &dump(1, RUN)[2]);
    assert_eq!(one.runs(&host, "")[0]["id"], RUN);
    let ids: Vec<_> =
        two.runs(&host, "").iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, [format!("{}.{}", "01".repeat(16), two.id), "02".repeat(16)]);
    let get = |run: &str| send(host.get(&format!("/admin/runs/{run}")).user("eve"));
    assert_eq!(json_of(&get(RUN))["instance"], one.id);
    let foreign = get(&ids[1]);
    assert_eq!((foreign.status, foreign.text()), (404, get("nothing").text()));
    assert_eq!(
        send(host.get(&format!("/admin/instances/{}/runs", two.id)).user("eve")).status,
        404
    );
    assert_eq!(ann(host.get("/admin/runs/a%00b")).status, 404);
}

#[test]
fn lists_are_bounded_by_times_and_status_and_have_pages() {
    let host = host();
    let client = Client::new(&host);
    for number in 1..=20_u8 {
        let from = u64::from(number) * 10;
        let root = span(number, 1, 0, "run", from, from + 1);
        let root = if number % 5 == 0 { failed(root, "no") } else { root };
        client.sends(&host, &[root]);
    }
    let starts = |query: &str| {
        let starts = client
            .runs(&host, query)
            .into_iter()
            .map(|run| run["start"].as_str().unwrap()[14..19].to_owned());
        starts.collect::<Vec<_>>()
    };
    assert_eq!(starts("?status=error"), ["03:20", "02:30", "01:40", "00:50"]);
    let between = "?since=2026-01-31T00:00:30Z&until=2026-01-31T00:00:50Z";
    assert_eq!(starts(between), ["00:50", "00:40", "00:30"]);
    for wrong in ["?since=soon", "?until=x", "?status=good", "?limit=0"] {
        let reply = ann(host.get(&format!("/admin/instances/{}/runs{wrong}", client.id)));
        assert_eq!(reply.status, 400, "{wrong}");
    }
    let (mut path, mut all) = (
        format!("/admin/instances/{}/runs?limit=7&until=2026-01-31T00:03:10Z", client.id),
        Vec::new(),
    );
    loop {
        let reply = ann(host.get(&path));
        let page = json_of(&reply);
        all.extend(
            page.as_array().unwrap().iter().map(|run| run["start"].as_str().unwrap().to_owned()),
        );
        let Some(link) = reply.header("link") else { break };
        path = link[1..]
            .split('>')
            .next()
            .unwrap()
            .strip_prefix("http://localhost")
            .unwrap()
            .to_owned();
    }
    assert_eq!(all.len(), 19);
    assert!(all.windows(2).all(|pair| pair[0] > pair[1]));
}

#[test]
fn many_runs_of_many_instances_are_listed() {
    let host = host_with(json!({"max_instances": 10_000}));
    let mut ids = Vec::new();
    for number in 0..2000_u64 {
        let id = format!("{number:08x}-0000-4000-8000-000000000000");
        let instance: crate::instance::Instance = serde_json::from_value(json!({
            "id": id, "account": "", "name": "", "state": "active", "created": Timestamp(NOW), "keys": [],
            "encryption_public_key": null,
        }))
        .unwrap();
        let mut commit = keepgate_sdk::records::Commit::new();
        commit = commit.put_json(&layout::instance(&id), &instance).unwrap();
        for run in 0..10_u64 {
            let start = Timestamp(NOW + run * HOUR + number);
            let kept = json!({
                "id": format!("{number}-{run}"), "instance": id, "kind": "dump", "status": "ok", "start": start,
                "end": start, "bytes": run, "exitCode": 0, "message": "", "databases": [], "targets": [],
                "trace": "", "seen": start,
            });
            commit = commit
                .put_json(&layout::run(&id, start, &format!("{number}-{run}")), &kept)
                .unwrap();
            if run == 9 {
                commit = commit.put_json(&layout::last_run(&id), &kept).unwrap();
            }
        }
        commit.run().unwrap();
        ids.push(id);
    }
    let reply = ann(host.get("/admin/instances?limit=1000"));
    let list = json_of(&reply);
    assert_eq!(list.as_array().unwrap().len(), 1000);
    assert!(list.as_array().unwrap().iter().all(|one| one["lastRun"]["bytes"] == 9));
    for id in [&ids[0], &ids[777], &ids[1999]] {
        let first = ann(host.get(&format!("/admin/instances/{id}/runs?limit=6")));
        let bytes = |reply: &TestReply| {
            json_of(reply)
                .as_array()
                .unwrap()
                .iter()
                .map(|run| run["bytes"].as_u64().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(bytes(&first), [9, 8, 7, 6, 5, 4]);
        let link = first.header("link").unwrap().to_owned();
        let next = link[1..].split('>').next().unwrap().strip_prefix("http://localhost").unwrap();
        let second = ann(host.get(next));
        assert_eq!((bytes(&second), second.header("link")), (vec![3, 2, 1, 0], None));
    }
}

#[test]
fn old_spans_and_runs_go_a_few_at_a_time() {
    let host = host();
    let (one, two) = (Client::numbered(&host, 1, ""), Client::numbered(&host, 2, ""));
    for batch in dump(1, RUN) {
        one.sends(&host, &batch);
    }
    two.sends(&host, &dump(2, "x")[2]);
    host.set_now(NOW + 100 * HOUR);
    one.sends(
        &host,
        &[Span { start_time_unix_nano: NOW + 99 * HOUR, ..span(3, 1, 0, "run", 0, 0) }],
    );
    let old = Timestamp(NOW + HOUR);
    assert!(ingest::remove_older_than(old, 1).unwrap());
    assert!(!ingest::remove_older_than(old, 1).unwrap());
    assert!(!ingest::remove_older_than(old, 1).unwrap());
    let of = |begin: &str| host.record_keys().iter().filter(|key| key.starts_with(begin)).count();
    assert_eq!((of("s/"), of("sx/"), of("T/"), of("r/")), (1, 1, 1, 3));
    let run = json_of(&ann(host.get(&format!("/admin/runs/{RUN}"))));
    assert_eq!((&run["bytes"], &run["phases"]), (&json!(4711), &json!([])));

    assert!(runs::keep::remove_older_than(old, 1).unwrap());
    assert!(!runs::keep::remove_older_than(old, 1).unwrap());
    assert_eq!((one.runs(&host, "").len(), two.runs(&host, "").len()), (1, 0));
    assert_eq!((two.last(&host), of("R/")), (Value::Null, 1));
}
