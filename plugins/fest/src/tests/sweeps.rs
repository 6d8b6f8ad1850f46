use super::*;

/// Runs a sweep as an operator would, and returns what it says.
fn sweep(host: &Host, input: &Value) -> Value {
    // Not those that come by themselves.
    for job in host.jobs() {
        if job.state == keepgate_sdk::jobs::State::Queued {
            keepgate_sdk::jobs::cancel(&job.id).unwrap();
        }
    }
    let options = keepgate_sdk::jobs::Options::new("operator");
    let id = keepgate_sdk::jobs::start_with("sweep", input, &options).unwrap();
    host.run_jobs();
    let job = host.jobs().into_iter().find(|job| job.id == id).unwrap();
    assert_eq!(job.state, keepgate_sdk::jobs::State::Succeeded, "{}", job.message);
    serde_json::from_slice(&job.output).unwrap()
}

fn is_there(host: &Host, bytes: &[u8]) -> bool {
    send(host.get(&format!("/files/{}", hash(bytes))), "ann").status == 200
}

#[test]
fn files_go_that_no_manifest_names() {
    let host = host(&json!({}));
    put(&host, "ann", b"named");
    put(&host, "ann", b"forgotten");
    post(&host, "ann", &manifest("web", "2026-01-31T00:00:00Z", &[("./a", b"named")]));
    assert_eq!(sweep(&host, &json!({}))["files"], 0, "they are young");
    host.set_now(NOW + 8 * DAY);
    let dry = sweep(&host, &json!({"dry_run": true}));
    assert_eq!((&dry["files"], &dry["file_bytes"]), (&json!(1), &json!(9)));
    assert!(is_there(&host, b"forgotten"));
    assert_eq!(sweep(&host, &json!({}))["files"], 1);
    assert!(is_there(&host, b"named") && !is_there(&host, b"forgotten"));
    assert_eq!(host.keys().iter().filter(|key| key.starts_with("data/")).count(), 1);
    assert_eq!(put(&host, "ann", b"forgotten").status, 201);
    assert!(is_there(&host, b"forgotten"));
}

#[test]
fn a_file_that_was_said_to_go_is_looked_at_again() {
    let host = host(&json!({}));
    put(&host, "ann", b"abc");
    // A sweep was killed after it had said so.
    let doomed = format!("d/{}", hash(b"abc"));
    keepgate_sdk::records::Commit::new().put(&doomed, b"").run().unwrap();
    assert!(!is_there(&host, b"abc"));
    let text = manifest("web", "2026-01-31T00:00:00Z", &[("./a", b"abc")]);
    assert_eq!(json_of(&post(&host, "ann", &text))["files"]["./a"]["is_available"], false);
    assert_eq!(put(&host, "ann", b"abc").status, 201, "the client was told to upload it");
    assert!(is_there(&host, b"abc"));
    assert_eq!(host.keys().iter().filter(|key| key.starts_with("data/")).count(), 1);

    keepgate_sdk::records::Commit::new().put(&doomed, b"").run().unwrap();
    sweep(&host, &json!({}));
    assert!(is_there(&host, b"abc"), "a manifest names it now");
}

#[test]
fn parts_go_that_nobody_goes_on_with() {
    let host = host(&json!({"partial": "1day"}));
    let target = format!("/files/{}", hash(b"abcdef"));
    let part = host.request("PUT", &target).header("content-range", "bytes 0-2/6").body(b"abc");
    assert_eq!(send(part, "ann").status, 202);
    put(&host, "ann", b"whole");
    assert_eq!(sweep(&host, &json!({}))["parts"], 0);
    host.set_now(NOW + 2 * DAY);
    let swept = sweep(&host, &json!({}));
    assert_eq!((&swept["parts"], &swept["part_bytes"]), (&json!(1), &json!(3)));
    assert!(is_there(&host, b"whole"));
    assert!(host.record_keys().iter().all(|key| !key.starts_with("p/")));
}

#[test]
fn versions_go_that_the_settings_do_not_keep() {
    let host = host(&json!({"keep": {"last": 1}}));
    put(&host, "ann", b"old");
    for (day, bytes) in [("29", b"old"), ("30", b"new")] {
        post(
            &host,
            "ann",
            &manifest("web", &format!("2026-01-{day}T00:00:00Z"), &[("./a", bytes)]),
        );
    }
    post(&host, "bob", &manifest("web", "2026-01-01T00:00:00Z", &[]));
    assert_eq!(
        sweep(&host, &json!({}))["versions"],
        json!([]),
        "the newest that is complete stays"
    );
    put(&host, "ann", b"new");
    assert_eq!(sweep(&host, &json!({}))["versions"], json!(["ann/web/2026-01-29T00:00:00Z"]));
    let list = json_of(&send(host.get("/manifests"), "ann"));
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(json_of(&send(host.get("/manifests"), "bob")).as_array().unwrap().len(), 1);
}

#[test]
fn a_sweep_comes_by_itself() {
    let host = host(&json!({}));
    post(&host, "ann", &manifest("web", "2026-01-31T00:00:00Z", &[]));
    assert_eq!(host.jobs().len(), 1);
    post(&host, "ann", &manifest("web", "2026-01-30T00:00:00Z", &[]));
    assert_eq!(host.jobs().len(), 1, "one is enough");
    host.set_now(NOW + DAY);
    host.run_jobs();
    assert_eq!(host.jobs().len(), 2, "the next one");
}

#[test]
fn damaged_files_are_found_and_healed_by_the_next_upload() {
    let host = host(&json!({}));
    put(&host, "ann", b"right");
    put(&host, "ann", b"wrong");
    let key = host.keys().into_iter().find(|key| key.contains(&hash(b"wrong"))).unwrap();
    host.put(&key, b"wrung");
    let options = keepgate_sdk::jobs::Options::new("all");
    let id = keepgate_sdk::jobs::start_with("verify", &json!({}), &options).unwrap();
    host.run_jobs();
    let job = host.jobs().into_iter().find(|job| job.id == id).unwrap();
    let found: Value = serde_json::from_slice(&job.output).unwrap();
    assert_eq!((&found["files"], &found["damaged"]), (&json!(2), &json!([hash(b"wrong")])));
    assert!(is_there(&host, b"right") && !is_there(&host, b"wrong"));
    let text = manifest("web", "2026-01-31T00:00:00Z", &[("./a", b"wrong")]);
    assert_eq!(json_of(&post(&host, "ann", &text))["files"]["./a"]["is_available"], false);
    assert_eq!(put(&host, "ann", b"wrong").status, 201);
    assert!(is_there(&host, b"wrong"));
}
