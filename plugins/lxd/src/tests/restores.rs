//! Restores, and what is left when they fail.

use keepgate_sdk::jobs::State;

use super::*;

const OPERATION: &str = "/1.0/operations/21";

fn stored(settings: &Value) -> Host {
    let host = host(settings);
    host.put(&format!("u2/{BASE}_instance.tar.gz"), b"the instance");
    host.put(&format!("u2/{BASE}_profile_000_default.yaml"), b"name: default\nconfig: {}\n");
    host.put(
        &format!("u2/{BASE}_profile_001_p1.yaml"),
        b"name: p1\nconfig:\n  a: \"1\"\ndescription: x\n",
    );
    host
}

fn post(host: &Host, query: &str) -> TestReply {
    host.post(&format!("/1.0/instances/u2/backups/{NAME}{query}"), b"").send::<Lxd>()
}

fn profiles(host: &Host) {
    host.upstream(
        "lxd",
        &[
            answers("GET", "/1.0/profiles/default", &json!({"name": "default"})),
            refuses("GET", "/1.0/profiles/p1", 404, "Profile not found"),
            TestExchange::new("POST", "/1.0/profiles")
                .json(201, &json!({"type": "sync", "metadata": {}})),
        ],
    );
}

#[test]
fn an_instance_is_restored_under_another_name_and_started() {
    let host = stored(&json!({}));
    host.upstream(
        "lxd",
        &[
            refuses("GET", "/1.0/instances/c2", 404, "Instance not found"),
            answers("GET", "/1.0/storage-pools/fast", &json!({"name": "fast"})),
        ],
    );
    let reply = post(&host, "?as=c2&pool=fast");
    assert_eq!(reply.status, 202, "{}", reply.text());
    assert_eq!(json_of(&reply).get("metadata"), None);
    profiles(&host);
    host.upstream(
        "lxd",
        &[
            begins("POST", "/1.0/instances", OPERATION),
            ended(OPERATION, 200, ""),
            begins("PUT", "/1.0/instances/c2/state", "/1.0/operations/22"),
            ended("/1.0/operations/22", 200, ""),
        ],
    );
    host.run_jobs();
    for job in host.jobs() {
        assert_eq!(job.state, State::Succeeded, "{} {}", job.kind, job.message);
    }
    let sent = host.sent("lxd");
    let made: Value = serde_json::from_slice(
        &sent.iter().find(|sent| sent.target == "/1.0/profiles").unwrap().body,
    )
    .unwrap();
    assert_eq!(made, json!({"name": "p1", "config": {"a": "1"}, "description": "x"}));
    let import = sent.iter().find(|sent| sent.target == "/1.0/instances").unwrap();
    assert_eq!(import.body, b"the instance");
    for header in [("x-lxd-name", "c2"), ("x-lxd-pool", "fast")] {
        assert!(
            import.headers.contains(&(header.0.to_owned(), header.1.to_owned())),
            "{:?}",
            import.headers
        );
    }
    assert_eq!(host.keys().len(), 3, "{:?}", host.keys());
}

#[test]
fn what_can_be_known_is_refused_at_once() {
    let host = stored(&json!({}));
    assert_eq!(send(&host, "POST", "/1.0/instances/u2/backups/other").status, 404);
    assert_eq!(post(&host, "?as=2c").status, 400);
    host.upstream(
        "lxd",
        &[
            answers("GET", "/1.0/instances/u2", &json!({})),
            refuses("GET", "/1.0/instances/u2", 404, "Instance not found"),
            refuses("GET", "/1.0/storage-pools/slow", 404, "Storage pool not found"),
            refuses("GET", "/1.0/instances/u2", 404, "Instance not found"),
            refuses("GET", "/1.0/instances/u2", 404, "Instance not found"),
        ],
    );
    let reply = post(&host, "");
    assert_eq!(reply.status, 409);
    assert!(json_of(&reply)["error"].as_str().unwrap().contains("instance exists"));
    let reply = post(&host, "?pool=slow");
    assert_eq!(reply.status, 400);
    assert!(json_of(&reply)["error"].as_str().unwrap().contains("slow"));
    assert_eq!(post(&host, "").status, 202);
    assert_eq!(post(&host, "").status, 409, "a restore to the same name");
    assert_eq!(send(&host, "DELETE", &format!("/1.0/instances/u2/backups/{BASE}")).status, 409);
}

#[test]
fn profiles_of_a_failed_restore_are_removed() {
    let host = stored(&json!({}));
    host.upstream("lxd", &[refuses("GET", "/1.0/instances/u2", 404, "Instance not found")]);
    post(&host, "");
    profiles(&host);
    host.upstream(
        "lxd",
        &[
            begins("POST", "/1.0/instances", OPERATION),
            ended(OPERATION, 400, "tar: Unexpected EOF in archive"),
            TestExchange::new("DELETE", "/1.0/profiles/p1").json(200, &json!({"type": "sync"})),
        ],
    );
    host.run_jobs();
    let job = host.jobs().into_iter().find(|job| job.kind == "restore").unwrap();
    assert_eq!(job.message, "tar: Unexpected EOF in archive");
    let removed: Vec<_> =
        host.sent("lxd").into_iter().filter(|sent| sent.method == "DELETE").collect();
    assert_eq!(removed.len(), 1);
    assert_eq!(host.keys().len(), 3, "{:?}", host.keys());
}

#[test]
fn an_instance_that_cannot_be_started_stays() {
    let host = stored(&json!({}));
    host.upstream("lxd", &[refuses("GET", "/1.0/instances/u2", 404, "Instance not found")]);
    post(&host, "");
    profiles(&host);
    host.upstream(
        "lxd",
        &[
            begins("POST", "/1.0/instances", OPERATION),
            ended(OPERATION, 200, ""),
            begins("PUT", "/1.0/instances/u2/state", "/1.0/operations/22"),
            ended("/1.0/operations/22", 400, "Failed to exec"),
        ],
    );
    host.run_jobs();
    let operation =
        json_of(&send(&host, "GET", "/1.0/operations/job-1/wait?timeout=1"))["metadata"].clone();
    assert_eq!(operation["status"], "Failure");
    let why = "the instance was restored and cannot be started: Failed to exec";
    assert_eq!(operation["err"], why);
    assert!(host.sent("lxd").iter().all(|sent| sent.method != "DELETE"), "its profiles stay");
}
