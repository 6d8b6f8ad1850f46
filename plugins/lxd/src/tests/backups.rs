//! Backups from the request to the objects, and what is left when they fail.

use keepgate_sdk::jobs::State;

use super::*;

const OPERATION: &str = "/1.0/operations/11";

/// What LXD is asked before the job runs, and after.
fn prepare(host: &Host) {
    let instance = json!({
        "profiles": ["default", "p1"],
        "expanded_devices": {"root": {"path": "/", "pool": "fast", "type": "disk"}},
    });
    host.upstream(
        "lxd",
        &[
            answers("GET", "/1.0/instances/u2", &instance),
            answers("GET", "/1.0/instances/u2", &instance),
            answers(
                "GET",
                "/1.0/profiles/default",
                &json!({"name": "default", "config": {}, "devices": {}}),
            ),
            answers(
                "GET",
                "/1.0/profiles/p1",
                &json!({"name": "p1", "config": {"a": "1"}, "description": "x"}),
            ),
            begins("POST", "/1.0/instances/u2/backups", OPERATION),
        ],
    );
}

/// Posts, and returns the reply. The job has not run.
fn post(host: &Host, query: &str) -> TestReply {
    host.post(&format!("/1.0/instances/u2/backups{query}"), b"").send::<Lxd>()
}

#[test]
fn a_backup_is_stored_with_its_profiles() {
    let host = host(&json!({}));
    prepare(&host);
    let reply = post(&host, "?optimize=true&tags=os%3DUbuntu%26v%3D1");
    assert_eq!(reply.status, 202, "{}", reply.text());
    assert_eq!(reply.header("location"), Some("http://localhost/1.0/operations/job-1"));
    let expected = json!({
        "type": "async", "status": "Operation created", "status_code": 100, "operation": "/1.0/operations/job-1",
        "metadata": {"name": NAME, "optimized": true, "compressed": true},
    });
    assert_eq!(json_of(&reply), expected);
    let show = || json_of(&send(&host, "GET", &format!("/1.0/instances/u2/backups/{BASE}")));
    assert_eq!(show()["metadata"]["state"], "queued");
    let deleted = send(&host, "DELETE", &format!("/1.0/instances/u2/backups/{BASE}"));
    assert_eq!(deleted.status, 409);

    let name = name_in_lxd(&host);
    host.upstream(
        "lxd",
        &[
            ended(OPERATION, 103, ""),
            ended(OPERATION, 200, ""),
            answers(
                "GET",
                &format!("/1.0/instances/u2/backups/{name}"),
                &json!({"optimized_storage": true}),
            ),
            TestExchange::new("GET", &format!("/1.0/instances/u2/backups/{name}/export"))
                .answer(200, b"the instance"),
            begins("DELETE", &format!("/1.0/instances/u2/backups/{name}"), "/1.0/operations/12"),
            ended("/1.0/operations/12", 200, ""),
        ],
    );
    host.run_jobs();
    for job in host.jobs() {
        assert_eq!(job.state, State::Succeeded, "{} {}", job.kind, job.message);
    }
    assert_eq!(
        host.keys(),
        [
            "u2/backup_2022-02-16-04-1040_instance.tar.gz",
            "u2/backup_2022-02-16-04-1040_profile_000_default.yaml",
            "u2/backup_2022-02-16-04-1040_profile_001_p1.yaml",
        ]
    );
    assert_eq!(host.blob("u2/backup_2022-02-16-04-1040_instance.tar.gz").unwrap(), b"the instance");
    let info = show()["metadata"].clone();
    assert_eq!(
        (&info["size"], &info["optimized"], &info["compressed"]),
        (&json!(12), &json!(true), &json!(true))
    );
    assert_eq!(info["tags"], json!({"os": "Ubuntu", "v": "1"}));
    let operation = json_of(&send(&host, "GET", "/1.0/operations/job-1"));
    assert_eq!(
        (&operation["metadata"]["status"], &operation["metadata"]["status_code"]),
        (&json!("Success"), &json!(200))
    );
    let asked = host.sent("lxd").into_iter().find(|sent| sent.method == "POST").unwrap();
    let asked: Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!(asked["name"], name);
    assert_eq!(asked["expires_at"], "2022-02-17T04:10:40.000Z");
    assert_eq!(
        (&asked["optimized_storage"], &asked["compression_algorithm"]),
        (&json!(true), &json!("gzip"))
    );
}

#[test]
fn names_of_one_second_are_different() {
    let host = host(&json!({}));
    for _ in 0..3 {
        host.upstream("lxd", &[answers("GET", "/1.0/instances/u2", &json!({"profiles": []}))]);
    }
    let names: Vec<_> =
        (0..3).map(|_| json_of(&post(&host, ""))["metadata"]["name"].clone()).collect();
    let expected = ["", "-2", "-3"].map(|number| json!(format!("{BASE}{number}.tar.gz")));
    assert_eq!(names, expected);
}

#[test]
fn a_backup_that_fails_leaves_its_reason_and_nothing_else() {
    let host = host(&json!({}));
    prepare(&host);
    assert_eq!(post(&host, "").status, 202);
    let name = name_in_lxd(&host);
    host.upstream(
        "lxd",
        &[
            ended(OPERATION, 400, "Create backup: no such file"),
            answers(
                "GET",
                "/1.0/storage-pools/fast/resources",
                &json!({"space": {"used": 3 << 20, "total": 4 << 20}}),
            ),
            refuses("DELETE", &format!("/1.0/instances/u2/backups/{name}"), 404, "not found"),
        ],
    );
    host.run_jobs();
    assert!(host.keys().is_empty(), "{:?}", host.keys());
    let target = format!("/1.0/instances/u2/backups/{NAME}");
    let info = json_of(&send(&host, "GET", &target))["metadata"].clone();
    assert_eq!(
        (&info["state"], &info["error"]),
        (
            &json!("failed"),
            &json!(
                "Create backup: no such file (3 of 4 MiB of its storage pool \"fast\" are used)"
            )
        )
    );
    let list = json_of(&send(&host, "GET", "/1.0/instances/u2/backups"));
    assert_eq!(list["metadata"], json!([]));
    assert_eq!(send(&host, "DELETE", &target).status, 200);
    host.run_jobs();
    assert_eq!(send(&host, "GET", &target).status, 404);
    assert_eq!(send(&host, "DELETE", &target).status, 404);
}

#[test]
fn a_transfer_that_breaks_off_leaves_no_profiles() {
    let host = host(&json!({}));
    prepare(&host);
    post(&host, "");
    let name = name_in_lxd(&host);
    host.upstream(
        "lxd",
        &[
            ended(OPERATION, 200, ""),
            answers("GET", &format!("/1.0/instances/u2/backups/{name}"), &json!({})),
            TestExchange::new("GET", &format!("/1.0/instances/u2/backups/{name}/export"))
                .answer(200, b"the instance")
                .cut(5),
            begins("DELETE", &format!("/1.0/instances/u2/backups/{name}"), "/1.0/operations/12"),
            ended("/1.0/operations/12", 200, ""),
        ],
    );
    host.run_jobs();
    assert!(host.keys().is_empty(), "{:?}", host.keys());
    let export =
        host.sent("lxd").into_iter().find(|sent| sent.target.ends_with("/export")).unwrap();
    assert!(export.resume);
}

#[test]
fn success_without_a_backup_is_a_failure() {
    for (end, words) in [
        (ended(OPERATION, 200, ""), "somebody removed it"),
        (
            refuses("GET", &format!("{OPERATION}/wait?timeout=20"), 404, "not found"),
            "started again",
        ),
    ] {
        let host = host(&json!({}));
        prepare(&host);
        post(&host, "");
        let name = name_in_lxd(&host);
        host.upstream(
            "lxd",
            &[
                end,
                refuses("GET", &format!("/1.0/instances/u2/backups/{name}"), 404, "not found"),
                refuses("DELETE", &format!("/1.0/instances/u2/backups/{name}"), 404, "not found"),
            ],
        );
        host.run_jobs();
        let job = host.jobs().into_iter().find(|job| job.kind == "backup").unwrap();
        assert!(job.state == State::Failed && job.message.contains(words), "{}", job.message);
    }
}

#[test]
fn receivers_are_told_of_the_beginning_and_the_end_and_signatures_are_right() {
    let host = host(&json!({"notify_endpoint": "http://h/x"}));
    host.hmac_key("notifications", b"a key of a test, sixteen");
    prepare(&host);
    host.upstream(
        "notifications",
        &[
            TestExchange::new("POST", "http://h/x"),
            TestExchange::new("POST", "http://h/x").answer(500, b""),
            TestExchange::new("POST", "http://h/x").answer(204, b""),
        ],
    );
    post(&host, "?optimize=1");
    let name = name_in_lxd(&host);
    host.upstream(
        "lxd",
        &[
            ended(OPERATION, 400, "no space"),
            refuses("DELETE", &format!("/1.0/instances/u2/backups/{name}"), 404, "not found"),
        ],
    );
    host.run_jobs();
    host.set_now(NOW + 1_000_000_000);
    host.run_jobs();
    let sent = host.sent("notifications");
    let events: Vec<Value> =
        sent.iter().map(|sent| serde_json::from_slice(&sent.body).unwrap()).collect();
    let states: Vec<_> = events.iter().map(|event| event["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["started", "failed", "failed"]);
    assert_eq!(events[1], events[2]);
    assert_eq!(events[2]["error"], "no space");
    assert_eq!((&events[2]["opType"], &events[2]["name"]), (&json!("backup"), &json!(NAME)));
    assert_eq!(events[2]["rawURL"], "/1.0/instances/u2/backups?optimize=1");
    assert_eq!(events[2]["failedAt"], "2022-02-16T04:10:40.000Z");
    let operation = json_of(&send(&host, "GET", "/1.0/operations/job-1"));
    assert_eq!(
        operation["metadata"]["metadata"]["notifications"],
        json!([
            {"state": "started", "status": "delivered", "attempts": 1},
            {"state": "failed", "status": "delivered", "attempts": 2},
        ])
    );
    let signature =
        sent[0].headers.iter().find(|(name, _)| name == "x-keepgate-signature").unwrap();
    assert!(signature.1.starts_with("sha256=") && signature.1.len() == 71);
}

#[test]
fn retention_keeps_what_the_operator_wants() {
    let host = host(&json!({"keep": {"last": 1}}));
    host.put("u2/backup_2022-02-15-04-1040_instance.tar.gz", b"old");
    host.put("u2/backup_2022-02-15-04-1040_profile_000_default.yaml", b"old");
    host.put("u2/mine_instance.tar.gz", b"named by hand");
    prepare(&host);
    post(&host, "");
    let name = name_in_lxd(&host);
    host.upstream(
        "lxd",
        &[
            ended(OPERATION, 200, ""),
            answers("GET", &format!("/1.0/instances/u2/backups/{name}"), &json!({})),
            TestExchange::new("GET", &format!("/1.0/instances/u2/backups/{name}/export"))
                .answer(200, b"new"),
            refuses("DELETE", &format!("/1.0/instances/u2/backups/{name}"), 404, "not found"),
        ],
    );
    host.run_jobs();
    let instances: Vec<_> =
        host.keys().into_iter().filter(|key| key.ends_with("_instance.tar.gz")).collect();
    assert_eq!(
        instances,
        ["u2/backup_2022-02-16-04-1040_instance.tar.gz", "u2/mine_instance.tar.gz"]
    );
    assert!(host.blob("u2/backup_2022-02-15-04-1040_profile_000_default.yaml").is_none());
}

#[test]
fn a_schedule_backs_up_all_instances() {
    use keepgate_sdk::testing::check_job;

    let host = host(&json!({"notify_endpoint": "http://h/x"}));
    let input = |input: Value| check_job::<Lxd>("backups", input.to_string().as_bytes());
    assert_eq!(input(json!({"instance": "*"})), Ok("default/*".to_owned()));
    assert_eq!(input(json!({"instance": "u2", "project": "web"})), Ok("web/u2".to_owned()));
    for wrong in
        [json!({}), json!({"instance": "a/b"}), json!({"instance": "*", "compression": "rar"})]
    {
        assert!(input(wrong.clone()).is_err(), "{wrong}");
    }
    let listed = json!(["/1.0/instances/u2", "/1.0/instances/v1?project=default"]);
    host.upstream("lxd", &[answers("GET", "/1.0/instances", &listed)]);
    let options = keepgate_sdk::jobs::Options::new("default/*");
    let asked = json!({"instance": "*", "compression": "zstd"});
    keepgate_sdk::jobs::start_with("backups", &asked, &options).unwrap();
    host.run_jobs();
    let jobs = host.jobs();
    let backups: Vec<Value> = jobs
        .iter()
        .filter(|job| job.kind == "backup")
        .map(|job| serde_json::from_slice(&job.input).unwrap())
        .collect();
    let of = |name: &str| {
        let found = backups.iter().find(|input| input["instance"] == name).unwrap();
        assert_eq!((&found["compression"], &found["base"]), (&json!("zstd"), &json!(BASE)));
        assert_eq!(found["notify"]["url"], "http://h/x");
    };
    of("u2");
    of("v1");
    let scheduled = jobs.iter().find(|job| job.kind == "backups").unwrap();
    assert_eq!(scheduled.state, State::Succeeded, "{}", scheduled.message);
}
