//! Log lines of old releases: the three forms of a body are one log.

use keepgate_tests::databacker::config::Remote;
use keepgate_tests::databacker::logs::{Logger, line};
use keepgate_tests::databacker::seed::Seed;
use keepgate_tests::databacker::uuid;
use serde_json::{Value, json};

use super::{Admin, Instance, below_mount, mounted};

/// What administrators read, line by line.
#[track_caller]
fn read(admin: &Admin, log: &str) -> Vec<Value> {
    let reply = admin.send("GET", log, "");
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn lines_of_old_releases_are_kept_whatever_form_they_come_in() {
    let mounted = mounted("", "");
    let gateway = mounted.setup.start();
    let (admin, port) = (Admin::ann(&gateway), gateway.port());
    let run = uuid();
    let lines: Vec<Value> =
        [("info", "beginning dump"), ("warning", "slow"), ("error", "no space")]
            .into_iter()
            .zip(1..)
            .map(|((level, message), second)| line(&run, level, message, second))
            .collect();
    let start = |instance: &Instance| Logger::start(&instance.logs(port)).unwrap();

    let one = admin.register(&mounted);
    let logger = start(&one);
    let posted = logger.post(&lines).unwrap();
    let log = below_mount(&posted);
    let kept = read(&admin, &log);
    // Fractions of seconds may be written or not.
    let second = |line: &Value| line["timestamp"].as_str().unwrap()[..19].to_owned();
    let parts = |line: &Value| (line["run"].clone(), line["message"].clone(), second(line));
    assert_eq!(
        kept.iter().map(parts).collect::<Vec<_>>(),
        lines.iter().map(parts).collect::<Vec<_>>()
    );
    // The answer was lost, and the client sends it again.
    let again = logger.post(&lines).unwrap();
    assert_eq!(again.header("location"), posted.header("location"));
    assert_eq!(read(&admin, &log), kept);
    let list = admin.get(&format!("/admin/instances/{}/logs", one.id));
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");

    let two = admin.register(&mounted);
    let all: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let posted = start(&two).post_as("application/x-ndjson", all.as_bytes());
    assert_eq!(posted.status, 201, "{}", posted.text());
    assert_eq!(read(&admin, &below_mount(&posted)), kept, "the same lines, one below the other");

    let three = admin.register(&mounted);
    let logger = start(&three);
    let posted = logger.post_as("application/json", lines[0].to_string().as_bytes());
    assert_eq!(posted.status, 201, "{}", posted.text());
    assert_eq!(read(&admin, &below_mount(&posted)), kept[..1], "a single line");

    // A line that is wrong refuses all, and the answer says which.
    let mut wrong = lines.clone();
    wrong[1] = json!({"run": run, "level": "info"});
    let array = Value::from(&wrong[..]).to_string();
    let rows: String = wrong.iter().map(|line| format!("{line}\n")).collect();
    for (media_type, body, place) in
        [("application/json", array, "element 1 "), ("application/x-ndjson", rows, "line 2")]
    {
        let refused = logger.post_as(media_type, body.as_bytes());
        let said = refused.text();
        assert!(refused.status == 400 && said.contains(place), "{} {said}", refused.status);
    }
    assert_eq!(read(&admin, &below_mount(&posted)).len(), 1);

    // An instance that is not registered does not start.
    let unknown = Remote { credentials: Seed::random().credentials(), ..one.logs(port) };
    assert!(Logger::start(&unknown).unwrap_err().contains("401"));
    gateway.stop();
}
