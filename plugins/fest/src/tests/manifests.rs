use super::*;

#[test]
fn a_manifest_says_which_files_are_missing() {
    let host = host(&json!({}));
    let text = manifest("web", "2026-01-31T00:00:00Z", &[("./a", b"abc"), ("./empty", b"")]);
    let reply = post(&host, "ann", &text);
    assert_eq!(
        (reply.status, reply.header("location")),
        (201, Some("http://localhost/manifests/web"))
    );
    let answer = json_of(&reply);
    assert_eq!(answer["files"]["./a"]["is_available"], false);
    assert_eq!(answer["files"]["./a"]["available_bytes"], json!([]));
    assert_eq!(answer["files"]["./empty"]["is_available"], true);
    assert_eq!(put(&host, "ann", b"abc").status, 201);
    let answer = json_of(&send(host.get("/manifests/web"), "ann"));
    assert_eq!(answer["files"]["./a"]["is_available"], true);
    assert_eq!(answer["files"]["./a"].get("available_bytes"), None);
    // Whoever names a file that is there has it.
    let other = json_of(&post(&host, "bob", &text));
    assert_eq!(other["files"]["./a"]["is_available"], true);
}

#[test]
fn versions_are_kept_apart_by_user_name_and_time_stamp() {
    let host = host(&json!({}));
    let of = |timestamp: &str, bytes: &[u8]| manifest("web", timestamp, &[("./a", bytes)]);
    assert_eq!(post(&host, "ann", &of("2026-01-30T00:00:00Z", b"one")).status, 201);
    assert_eq!(post(&host, "ann", &of("2026-01-31T00:00:00+0000", b"two")).status, 201);
    assert_eq!(post(&host, "ann", &of("2026-01-29T00:00:00", b"three")).status, 201);
    assert_eq!(post(&host, "ann", &of("2026-01-30T00:00:00Z", b"one")).status, 200);
    let conflict = post(&host, "ann", &of("2026-01-30T00:00:00Z", b"other"));
    assert_eq!((conflict.status, &json_of(&conflict)["error"]), (409, &json!("conflict")));
    let get = |target: &str, user: &str| send(host.get(target), user);
    let newest = json_of(&get("/manifests/name/web", "ann"));
    assert_eq!(newest["timestamp"], "2026-01-31T00:00:00+0000");
    let older = get("/manifests/web?timestamp=2026-01-30T00%3A00%3A00Z", "ann");
    assert_eq!(json_of(&older)["files"]["./a"]["hash"], hash(b"one"));
    for (target, user) in [
        ("/manifests/web", "bob"),
        ("/manifests/other", "ann"),
        ("/manifests/web?timestamp=x", "ann"),
    ] {
        assert_eq!(get(target, user).status, 404, "{target} {user}");
    }
    put(&host, "ann", b"one");
    let list = json_of(&get("/manifests", "ann"));
    let times: Vec<_> =
        list.as_array().unwrap().iter().map(|version| version["timestamp"].clone()).collect();
    assert_eq!(times, ["2026-01-29T00:00:00", "2026-01-30T00:00:00Z", "2026-01-31T00:00:00+0000"]);
    assert_eq!((&list[1]["complete"], &list[1]["missing_bytes"]), (&json!(true), &json!(0)));
    assert_eq!((&list[0]["complete"], &list[0]["missing_bytes"]), (&json!(false), &json!(5)));
    assert_eq!(json_of(&get("/manifests", "bob")), json!([]));
    let page = get("/manifests?limit=2", "ann");
    let link = page.header("link").unwrap();
    let next = link.strip_prefix('<').unwrap().split('>').next().unwrap();
    let rest = json_of(&get(next.strip_prefix("http://localhost").unwrap(), "ann"));
    assert_eq!((json_of(&page).as_array().unwrap().len(), rest.as_array().unwrap().len()), (2, 1));
    let page = get("/manifests?name=web&limit=1", "ann");
    let link = page.header("link").unwrap();
    assert!(link.starts_with("<http://localhost/manifests?name=web&limit=1&after="), "{link}");
}

#[test]
fn a_manifest_that_is_refused_gives_no_right() {
    let host = host(&json!({}));
    put(&host, "ann", b"abc");
    let of = |files: &[(&str, &[u8])]| manifest("web", "2026-01-31T00:00:00Z", files);
    let mut wrong = of(&[("./a", b"abc")]);
    wrong["files"]["./a"]["size"] = json!(4);
    assert_eq!(post(&host, "bob", &wrong).status, 422);
    assert_eq!(post(&host, "bob", &of(&[])).status, 201);
    assert_eq!(post(&host, "bob", &of(&[("./a", b"abc")])).status, 409);
    assert_eq!(send(host.get(&format!("/files/{}", hash(b"abc"))), "bob").status, 404);
}

#[test]
fn an_etag_changes_with_what_is_available() {
    let host = host(&json!({}));
    post(&host, "ann", &manifest("web", "2026-01-31T00:00:00Z", &[("./a", b"abc")]));
    let get = |known: &str| send(host.get("/manifests/web").header("if-none-match", known), "ann");
    let first = get("");
    let etag = first.header("etag").unwrap().to_owned();
    assert_eq!(get(&etag).status, 304);
    put(&host, "ann", b"abc");
    assert_eq!(get(&etag).status, 200);
}

#[test]
fn bad_requests_are_refused_in_the_surfaces_form() {
    let host = host(&json!({"max_manifest": 200}));
    let post = |text: &str| send(host.post("/manifests", text.as_bytes()), "ann");
    for (text, status, code) in [
        ("", 400, "bad_json"),
        (
            "{\"name\":\"a\",\"timestamp\":\"2026-01-31T00:00:00Z\",\"files\":{\"/x\":{}}}",
            400,
            "bad_path",
        ),
        (&" ".repeat(201), 413, "too_large"),
    ] {
        let reply = post(text);
        assert_eq!((reply.status, &json_of(&reply)["error"]), (status, &json!(code)), "{text}");
    }
    let typed = send(host.post("/manifests", b"{}").header("content-type", "text/plain"), "ann");
    assert_eq!(typed.status, 415);
    let nobody = host.get("/manifests").send::<Fest>();
    assert_eq!((nobody.status, &json_of(&nobody)["error"]), (401, &json!("unauthorized")));
    for (method, target, allow) in [
        ("DELETE", "/manifests", "GET, HEAD, POST, OPTIONS"),
        ("DELETE", "/manifests/web", "GET, HEAD, OPTIONS"),
        ("POST", "/files/x", "GET, HEAD, PUT, OPTIONS"),
        ("GET", "/files", "OPTIONS"),
    ] {
        let reply = send(host.request(method, target), "ann");
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{method} {target}");
    }
    assert_eq!(host.record_keys(), [""; 0]);
}

#[test]
fn versions_are_removed_where_that_is_allowed() {
    let host = host(&json!({"deletes": true}));
    for day in ["30", "31"] {
        post(
            &host,
            "ann",
            &manifest("web", &format!("2026-01-{day}T00:00:00Z"), &[("./a", b"abc")]),
        );
    }
    let delete = |target: &str, user: &str| send(host.request("DELETE", target), user).status;
    let target = "/manifests/web?timestamp=2026-01-31T00%3A00%3A00Z";
    assert_eq!(delete("/manifests/web", "ann"), 400);
    assert_eq!(delete(target, "bob"), 404);
    assert_eq!((delete(target, "ann"), delete(target, "ann")), (204, 404));
    assert_eq!(json_of(&send(host.get("/manifests"), "ann")).as_array().unwrap().len(), 1);
    assert_eq!(host.keys().len(), 2, "the text and the index of the other version");
}
