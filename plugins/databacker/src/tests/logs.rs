//! Log lines: how they come in, and are kept within bounds. How they are read is in `log_streams`.

use keepgate_sdk::Timestamp;

use super::keys::gzip;
use super::telemetry::{Client, RUN, dump};
use super::*;
use crate::logs::keep;

const DAY: u64 = 86_400 * SECOND;

impl Client {
    fn log_path(&self) -> String {
        format!("/engines/telemetry/{}/log", self.id)
    }

    fn logs_as(&self, host: &Host, kind: &str, body: &[u8]) -> TestReply {
        send(self.signed(host.post(&self.log_path(), body)).header("content-type", kind))
    }

    /// Sends lines and returns the path of their log.
    pub(super) fn logs(&self, host: &Host, body: &str) -> String {
        let reply = self.logs_as(host, "application/x-ndjson", body.as_bytes());
        assert_eq!((reply.status, reply.body.len()), (201, 0), "{}", reply.text());
        reply.header("location").unwrap().strip_prefix(URL).unwrap().to_owned()
    }

    pub(super) fn list(&self, host: &Host) -> Vec<Value> {
        json_of(&ann(host.get(&format!("/admin/instances/{}/logs", self.id))))
            .as_array()
            .unwrap()
            .clone()
    }

    fn usage(&self, host: &Host) -> Value {
        json_of(&ann(host.get(&format!("/admin/instances/{}", self.id))))["logs"].clone()
    }
}

pub(super) fn line(run: &str, level: &str, message: &str) -> String {
    let time = Timestamp::now();
    format!(
        "{}\n",
        json!({"run": run, "timestamp": time, "level": level, "fields": {}, "message": message})
    )
}

/// The messages of a log, as it is sent for this query.
pub(super) fn messages(host: &Host, path: &str) -> Vec<String> {
    let reply = ann(host.get(path));
    assert_eq!(
        (reply.status, reply.header("content-type")),
        (200, Some("application/x-ndjson")),
        "{}",
        reply.text()
    );
    assert!(reply.failure.is_none());
    let text = reply.text();
    let lines = text.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["message"].as_str().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn an_old_client_asks_sends_arrays_and_finds_them_again() {
    let host = host();
    let client = Client::new(&host);
    for path in [client.log_path(), format!("/telemetry/{}/log", client.id)] {
        let probe = send(client.signed(host.get(&path)));
        assert_eq!(
            probe.header("content-type"),
            Some("application/vnd.databack.log-status.v1+json")
        );
        assert_eq!(
            json_of(&probe),
            json!({"log": format!("{URL}/engines/telemetry/{}/log", client.id)})
        );
        assert_eq!(send(client.signed(host.request("HEAD", &path))).status, 200);
        let delete = send(client.signed(host.request("DELETE", &path)));
        assert_eq!((delete.status, delete.header("allow")), (405, Some("GET, HEAD, POST")));
    }
    let (one, two) = (line(RUN, "INFO", "one"), line("", "error", "two"));
    let array = format!("[{},{}]", one.trim(), two.trim());
    let reply = client.logs_as(&host, "application/json", array.as_bytes());
    assert_eq!(
        (reply.status, reply.header("location")),
        (201, Some(format!("{URL}/admin/logs/{RUN}").as_str()))
    );
    let path = format!("/admin/logs/{RUN}");
    assert_eq!(messages(&host, &path), ["one", "two"]);
    // Other lines, in the other shapes.
    client.logs(&host, &format!("{}{}", line(RUN, "debug", "three"), line(RUN, "info", "four")));
    let object = line(RUN, "info", "five");
    let vendor = "application/vnd.databack.log.v1+json";
    assert_eq!(client.logs_as(&host, vendor, object.as_bytes()).status, 201);
    assert_eq!(messages(&host, &path), ["one", "two", "three", "four", "five"]);
    let list = client.list(&host);
    let size = ann(host.get(&path)).body.len();
    let expected =
        json!([{"id": RUN, "date": NOW / SECOND, "completion": 500, "size": size, "lines": 5}]);
    assert_eq!(Value::from(list), expected);
}

#[test]
fn lines_of_no_run_are_the_log_of_a_day() {
    let host = host();
    let client = Client::new(&host);
    let first = client.logs(&host, &line("", "info", "one"));
    assert_eq!(client.logs(&host, &line("", "info", "two")), first);
    assert!(crate::instance::is_uuid(first.strip_prefix("/admin/logs/").unwrap()), "{first}");
    host.set_now(NOW + DAY);
    let second = client.logs(&host, &line("", "info", "three"));
    assert_ne!(second, first);
    assert_ne!(Client::numbered(&host, 2, "").logs(&host, &line("", "info", "four")), second);
    assert_eq!(
        (messages(&host, &first), messages(&host, &second)),
        (vec!["one".to_owned(), "two".to_owned()], vec!["three".to_owned()])
    );
    let ids: Vec<_> = client
        .list(&host)
        .iter()
        .map(|log| format!("/admin/logs/{}", log["id"].as_str().unwrap()))
        .collect();
    assert_eq!(ids, [second, first], "newest first");
    let page = ann(host.get(&format!("/admin/instances/{}/logs?limit=1", client.id)));
    let link = page.header("link").unwrap().to_owned();
    let next = link[1..].split('>').next().unwrap().strip_prefix("http://localhost").unwrap();
    let rest = ann(host.get(next));
    assert_eq!(
        (
            json_of(&rest)[0]["id"].as_str().map(|id| format!("/admin/logs/{id}")),
            rest.header("link")
        ),
        (Some(ids[1].clone()), None)
    );
}

#[test]
fn one_bad_line_is_named_and_nothing_is_stored() {
    let host = host();
    let client = Client::new(&host);
    let body = format!("{}{{\"level\":\"info\"}}\n", line(RUN, "info", "x"));
    assert_eq!(send(client.signed(host.get(&client.log_path()))).status, 200);
    let records = host.record_keys();
    let reply = client.logs_as(&host, "application/x-ndjson", body.as_bytes());
    assert_eq!(reply.status, 400);
    assert_eq!(json_of(&reply)["message"], "line 2: missing field `message`");
    assert_eq!((host.keys(), host.record_keys()), (Vec::new(), records));

    assert_eq!(client.logs_as(&host, "text/plain", b"x").status, 415);
    assert_eq!(client.logs_as(&host, "application/json", &vec![b' '; (4 << 20) + 1]).status, 413);
    let foreign = Client::numbered(&host, 2, "");
    let reply = send(foreign.signed(host.post(&client.log_path(), body.as_bytes())));
    assert_eq!(reply.status, 404);
}

#[test]
fn compressed_lines_are_read_within_bounds() {
    let host = host();
    let client = Client::new(&host);
    let post = |body: &[u8]| {
        let request = client.signed(host.post(&client.log_path(), body));
        send(
            request
                .header("content-type", "application/x-ndjson")
                .header("content-encoding", "gzip"),
        )
    };
    let body = line(RUN, "info", "x");
    assert_eq!(post(&gzip(body.as_bytes())).status, 201);
    assert_eq!(post(&gzip(&vec![b' '; (4 << 20) + 1])).status, 413);
    assert_eq!(post(b"no").status, 400);
    // The same lines, uncompressed, are the same body.
    client.logs(&host, &body);
    assert_eq!(client.list(&host)[0]["lines"], 1);
}

#[test]
fn a_body_that_comes_again_within_a_day_is_stored_once() {
    let host = host();
    let client = Client::new(&host);
    let body = line("", "info", "x");
    assert_eq!(send(client.signed(host.get(&client.log_path()))).status, 200);
    // As if the gateway had died after the lines, and before the records.
    host.fail_commit(Failure::Unavailable("died".to_owned()));
    let died = client.logs_as(&host, "application/json", body.as_bytes());
    assert_eq!((died.status, host.keys().len()), (503, 1));
    let log = client.logs(&host, &body);
    let (records, blobs) = (host.record_keys(), host.keys());
    // It did not get to know of the answer.
    host.set_now(NOW + DAY - SECOND);
    assert_eq!(client.logs(&host, &body), log);
    assert_eq!((host.record_keys(), host.keys()), (records, blobs));
    assert_eq!(messages(&host, &log), ["x"]);
    host.set_now(NOW + DAY);
    assert_ne!(client.logs(&host, &body), log, "another day");
    host.full();
    let full = client.logs_as(&host, "application/json", line("", "info", "y").as_bytes());
    assert_eq!((full.status, full.header("retry-after")), (503, Some("30")));
}

#[test]
fn secrets_in_lines_are_not_stored() {
    let host = host();
    let client = Client::new(&host);
    let body =
        json!({"message": "push to s3://u:hunter2@b failed", "fields": {"password": "hunter2"}});
    client.logs(&host, &body.to_string());
    for key in host.keys() {
        let lines = String::from_utf8(host.blob(&key).unwrap()).unwrap();
        assert!(!lines.contains("hunter2") && lines.contains("s3://***@b"), "{lines}");
    }
}

#[test]
fn a_log_is_its_instances_own() {
    let host = host();
    let (one, two) = (Client::numbered(&host, 1, "acme"), Client::numbered(&host, 2, "other"));
    let log = one.logs(&host, &line(RUN, "info", "one"));
    // It names another instance's run, and gets a log of its own.
    let other = two.logs(&host, &line(RUN, "info", "two"));
    assert_ne!(other, log);
    assert_eq!(
        (messages(&host, &log), messages(&host, &other)),
        (vec!["one".to_owned()], vec!["two".to_owned()])
    );
    let eve = |path: &str| send(host.get(path).user("eve")).status;
    assert_eq!((eve(&log), eve(&other)), (200, 404));
    assert_eq!(eve(&format!("/admin/instances/{}/logs", two.id)), 404);
    assert_eq!(send(host.get(&log)).status, 401);
}

#[test]
fn the_oldest_logs_make_room_and_that_is_told() {
    let host = host_with(json!({"keep": {"log_bytes": 4096}}));
    let client = Client::new(&host);
    let run = |number: u64| format!("{number:08x}-e29b-41d4-a716-446655440000");
    for number in 0..6 {
        host.set_now(NOW + number * SECOND);
        client.logs(
            &host,
            &format!("{}{}", line(&run(number), "info", "a"), line(&run(number), "info", "b")),
        );
    }
    // Each counts 1 KiB at least.
    let ids: Vec<_> =
        client.list(&host).iter().map(|log| log["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, [run(5), run(4), run(3), run(2)]);
    assert_eq!(client.usage(&host), json!({"bytes": 4096, "droppedLines": 4, "droppedLogs": 2}));
    assert_eq!(host.keys().len(), 4);
    assert_eq!(ann(host.get(&format!("/admin/logs/{}", run(0)))).status, 404);
    assert!(!host.record_keys().iter().any(|key| key.contains(&run(0)) && !key.starts_with("b/")));

    // What has no room, whatever goes, removes nothing.
    client.logs(&host, &line(&run(9), "info", &"x".repeat(5000)));
    assert_eq!((client.list(&host).len(), host.keys().len()), (4, 4));
    assert_eq!(client.usage(&host)["droppedLines"], 5);

    // The log of the last run stays, however old it is, and what there is no room for is dropped.
    client.sends(&host, &dump(1, &run(2))[2]);
    for number in 6..12 {
        host.set_now(NOW + number * SECOND);
        client.logs(&host, &line(&run(11), "info", &number.to_string()));
    }
    let list = client.list(&host);
    let ids: Vec<_> = list.iter().map(|log| log["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, [run(11), run(2)]);
    assert_eq!((&list[0]["lines"], &list[0]["droppedLines"]), (&json!(3), &json!(3)));
    assert_eq!(client.usage(&host)["droppedLines"], 5 + 6 + 3);
    // A body that has no room at all is an answer, too.
    let (big, records) = ("x".repeat(5000), host.keys());
    client.logs(&host, &line(&run(11), "info", &big));
    assert_eq!(host.keys(), records);
}

#[test]
fn old_logs_go_a_few_at_a_time() {
    let host = host();
    let (one, two) = (Client::numbered(&host, 1, ""), Client::numbered(&host, 2, ""));
    for client in [&one, &two] {
        client.logs(&host, &line("", "info", "a"));
        client.logs(&host, &line("", "info", "b"));
    }
    // A blob that nobody names.
    let stray = host.keys()[0].replace("0000000000-", "0000000007-");
    host.put(&stray, b"x");
    host.set_now(NOW + 3 * DAY);
    let log = one.logs(&host, &line(RUN, "info", "c"));
    let old = Timestamp(NOW + DAY);
    assert!(!keep::remove_older_than(Timestamp(0), 10).unwrap());
    assert_eq!(host.record_keys().iter().filter(|key| key.starts_with("b/")).count(), 1);
    let mut calls = 1;
    while keep::remove_older_than(old, 1).unwrap() {
        calls += 1;
        assert!(calls < 10);
    }
    assert!(calls > 1);
    assert_eq!((one.list(&host).len(), two.list(&host).len(), host.keys().len()), (1, 0, 1));
    assert_eq!(messages(&host, &log), ["c"]);
    assert_eq!(one.usage(&host), json!({"bytes": 1024, "droppedLines": 0, "droppedLogs": 0}));
    let left = |begin: &str| host.record_keys().iter().filter(|key| key.starts_with(begin)).count();
    assert_eq!((left("gp/"), left("gd/"), left("G/"), left("g/")), (1, 0, 1, 1));
}

#[test]
fn a_mount_that_only_appends_keeps_the_blobs_of_old_logs() {
    let host = host();
    let client = Client::new(&host);
    client.logs(&host, &line(RUN, "info", "a"));
    host.append_only(|_| false);
    assert!(!keep::remove_older_than(Timestamp(NOW + 1), 10).unwrap());
    assert_eq!((client.list(&host).len(), host.keys().len()), (0, 1));
    // The same run again: what is still there is not taken for its lines.
    host.set_now(NOW + 2 * DAY);
    let log = client.logs(&host, &line(RUN, "info", "b"));
    assert_eq!(messages(&host, &log), ["b"]);
}
