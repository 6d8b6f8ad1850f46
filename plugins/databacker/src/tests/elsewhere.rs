//! What another server answers.

use super::*;

fn elsewhere() -> Host {
    host_with(json!({"elsewhere": {
        "/engines/restore/*": "https://other.example.com/api",
        "/engines/restore/old": "gone",
        "/accounts/*/users": "https://accounts.example.com",
        "/exact": "http://exact.example.com:8080/x",
    }}))
}

#[test]
fn paths_that_match_are_redirected_with_what_is_below_the_mount() {
    let host = elsewhere();
    for (method, path, status, location) in [
        ("GET", "/engines/restore/a", 301, "https://other.example.com/api/engines/restore/a"),
        ("HEAD", "/engines/restore/a", 301, "https://other.example.com/api/engines/restore/a"),
        ("POST", "/engines/restore/a", 308, "https://other.example.com/api/engines/restore/a"),
        ("DELETE", "/engines/restore/a", 308, "https://other.example.com/api/engines/restore/a"),
        (
            "GET",
            "/engines/restore/a%2Fb/c/?x=%20&y",
            301,
            "https://other.example.com/api/engines/restore/a%2Fb/c/?x=%20&y",
        ),
        ("GET", "/exact?\u{e9}", 301, "http://exact.example.com:8080/x/exact?%C3%A9"),
        ("GET", "/accounts/7/users", 301, "https://accounts.example.com/accounts/7/users"),
        ("GET", "/exact", 301, "http://exact.example.com:8080/x/exact"),
    ] {
        let reply = send(host.request(method, path));
        assert_eq!((reply.status, reply.header("location")), (status, Some(location)), "{path}");
        assert!(json_of(&reply)["message"].as_str().unwrap().contains(location));
    }
    for (path, status) in [
        ("/engines/restore/old", 410),
        ("/engines/restore", 404),
        ("/accounts/7/users/8", 404),
        ("/accounts/users", 404),
        ("/exact/more", 404),
        ("/unknown", 404),
    ] {
        let reply = send(host.get(path));
        assert_eq!(reply.status, status, "{path}");
        assert!(json_of(&reply)["message"].is_string());
    }
}

#[test]
fn only_what_is_below_the_mount_is_kept() {
    let _host = host();
    let mut request = keepgate_sdk::Request {
        method: keepgate_sdk::Method::Get,
        base: "https://h/a/b".to_owned(),
        target: "/a/b/exact?q".to_owned(),
        address: None,
        id: String::new(),
        segments: vec!["exact".to_owned()],
        trailing_slash: false,
        query: Vec::new(),
        headers: Vec::new(),
        principal: None,
        body: keepgate_sdk::Body::from_bytes(b""),
    };
    let settings = json!({"elsewhere": {"/exact": "https://x", "/": "https://y"}});
    let settings: crate::Settings = serde_json::from_value(settings).unwrap();
    let location = |request: &keepgate_sdk::Request| {
        let reply = crate::elsewhere::answer(request, &settings).unwrap().unwrap();
        reply.headers.into_iter().find(|(name, _)| name == "location").unwrap().1
    };
    assert_eq!(location(&request), "https://x/exact?q");
    request.segments.clear();
    request.target = "/a/b".to_owned();
    assert_eq!(location(&request), "https://y");
    request.target = "/a/b/".to_owned();
    request.trailing_slash = true;
    assert_eq!(location(&request), "https://y/");
}

#[test]
fn reports_are_logs_now() {
    let host = host();
    let there = format!("{URL}/engines/telemetry/x/log?a=b");
    let get = send(host.get("/report/x?a=b"));
    assert_eq!((get.status, get.header("location")), (301, Some(there.as_str())));
    let post = send(host.post("/report/x?a=b", b"{}"));
    assert_eq!((post.status, post.header("location")), (308, Some(there.as_str())));
    let delete = send(host.request("DELETE", "/report/x"));
    assert_eq!((delete.status, delete.header("allow")), (405, Some("GET, HEAD, POST")));
}
