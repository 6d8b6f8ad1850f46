//! Turns, waiting, and the status of jobs.

use keepgate_sdk::jobs;
use keepgate_sdk::jobs::State;
use keepgate_sdk::testing::check_job;

use super::*;

#[test]
fn a_post_waits_for_its_turn_and_no_longer() {
    let host = Host::new();
    host.cluster("main", &[TestSnapshot::new(SNAPSHOT)]);
    // Nothing runs jobs here, so it never gets its turn.
    let reply = post(&host);
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")));
    assert_eq!(json_of(&reply), json!({"message": "another backup is running"}));
    assert_eq!(host.jobs()[0].state, State::Cancelled, "it was withdrawn");
}

#[test]
fn each_post_makes_its_own() {
    let host = host(2, &json!({}));
    let first = host.post("/api/v1/backup", b"").header("prefer", "respond-async").send::<Etcd>();
    assert_eq!(first.status, 202);
    let second = json_of(&post(&host));
    host.run_jobs();
    assert_eq!(second["message"], "backup successfully");
    assert_eq!((host.jobs().len(), names(&host).len()), (2, 2), "none was joined");
}

#[test]
fn a_client_may_look_later() {
    let host = host(1, &json!({}));
    let preference = "handling=lenient, Respond-Async; x=y";
    let reply = host.post("/api/v1/backup", b"").header("prefer", preference).send::<Etcd>();
    assert_eq!(reply.status, 202);
    assert_eq!(json_of(&reply), json!({"message": "backup started", "job": "job-1"}));
    assert_eq!(reply.header("location"), Some("http://localhost/api/v1/backup/jobs/job-1"));
    assert_eq!(reply.header("preference-applied"), Some("respond-async"));
    assert!(names(&host).is_empty());

    let job = json_of(&send(&host, "GET", "/api/v1/backup/jobs/job-1"));
    assert_eq!((&job["job"], &job["state"]), (&json!("job-1"), &json!("queued")));
    assert_eq!(job["created"], "2026-01-31T23:59:58.250Z");
    assert_eq!((&job["started"], job.get("result")), (&json!(null), None));

    host.run_jobs();
    let job = json_of(&send(&host, "GET", "/api/v1/backup/jobs/job-1"));
    assert_eq!((&job["state"], &job["phase"]), (&json!("succeeded"), &json!("rotating")));
    assert_eq!((&job["done"], &job["total"]), (&json!(SNAPSHOT.len()), &json!(SNAPSHOT.len())));
    assert_eq!(job["result"]["message"], "backup successfully");
    assert_eq!(job["result"]["filename"], FIRST);
    assert_eq!(names(&host), [FIRST]);
}

#[test]
fn a_job_that_failed_says_what_the_post_would_have_said() {
    let host = host(0, &json!({}));
    assert_eq!(post(&host).status, 500);
    let reply = send(&host, "GET", "/api/v1/backup/jobs/job-1");
    let job = json_of(&reply);
    assert_eq!((reply.status, &job["state"]), (200, &json!("failed")));
    let result = json!({
        "message": "failed to save an etcd backup",
        "error": "main: no endpoint answers",
    });
    assert_eq!(job["result"], result);
}

#[test]
fn jobs_are_cancelled_while_they_last() {
    let host = host(1, &json!({}));
    let prefer = || host.post("/api/v1/backup", b"").header("prefer", "respond-async");
    prefer().send::<Etcd>();
    assert_eq!(send(&host, "DELETE", "/api/v1/backup/jobs/job-1").status, 204);
    let refused = send(&host, "DELETE", "/api/v1/backup/jobs/job-1");
    assert_eq!((refused.status, &json_of(&refused)["message"]), (409, &json!("the job has ended")));
    let job = json_of(&send(&host, "GET", "/api/v1/backup/jobs/job-1"));
    assert_eq!(
        (&job["state"], &job["result"]["error"]),
        (&json!("cancelled"), &json!("the job was cancelled"))
    );
    host.run_jobs();
    assert!(names(&host).is_empty());
}

#[test]
fn jobs_of_others_are_not_found() {
    let host = host(1, &json!({}));
    host.cluster("other", &[]);
    post(&host);
    for (method, target) in [
        ("GET", "/api/v1/backup/jobs/job-2"),
        ("GET", "/other/api/v1/backup/jobs/job-1"),
        ("DELETE", "/other/api/v1/backup/jobs/job-1"),
    ] {
        let reply = send(&host, method, target);
        assert_eq!((reply.status, json_of(&reply)), (404, not_found()), "{method} {target}");
    }
    let reply = send(&host, "POST", "/api/v1/backup/jobs/job-1");
    assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD, DELETE")));
}

#[test]
fn the_job_of_a_schedule_makes_a_backup_too() {
    let host = host(1, &json!({}));
    host.cluster("other", &[TestSnapshot::new(SNAPSHOT)]);
    let start = |input: &[u8]| {
        let options = jobs::Options::new("").when_busy(jobs::WhenBusy::Join);
        jobs::start("backup", input, &options).unwrap()
    };
    let job = |id: &str| host.jobs().into_iter().find(|job| job.id == id).unwrap();
    for input in [b"".as_slice(), br#"{"cluster":"other"}"#] {
        let id = start(input);
        host.run_jobs();
        assert_eq!(job(&id).state, State::Succeeded, "{}", job(&id).message);
    }
    assert!(host.blob(FIRST).is_some() && host.blob(&format!("other/{FIRST}")).is_some());
    for (input, words) in [
        (br#"{"clutser":"main"}"#.as_slice(), "unknown field `clutser`"),
        (b"main", "the input of a backup job"),
        (br#"{"cluster":"../x"}"#, "no cluster can be named"),
        (br#"{"cluster":"third"}"#, "third"),
    ] {
        let id = start(input);
        host.run_jobs();
        let job = job(&id);
        assert_eq!(job.state, State::Failed);
        assert!(job.message.contains(words), "{}", job.message);
    }
}

#[test]
fn the_input_of_a_schedule_is_checked_before_it_is_due() {
    let host = host(1, &json!({}));
    host.cluster("other", &[]);
    let check = check_job::<Etcd>;
    assert_eq!(check("backup", b""), Ok("main".to_owned()));
    assert_eq!(check("backup", br#"{"cluster":"other"}"#), Ok("other".to_owned()));
    for (kind, input, words) in [
        ("restore", b"".as_slice(), "\"restore\""),
        ("backup", br#"{"cluster":"third"}"#, "its `etcd` has: main, other"),
        ("backup", br#"{"x":1}"#, "unknown field `x`"),
    ] {
        let said = check(kind, input).unwrap_err();
        assert!(said.contains(words), "{said}");
    }
}
