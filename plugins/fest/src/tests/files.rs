use super::*;

fn range(
    host: &Host,
    user: &str,
    bytes: &[u8],
    first: usize,
    last: usize,
    total: &str,
) -> TestReply {
    let target = format!("/files/{}", hash(bytes));
    let range = format!("bytes {first}-{last}/{total}");
    let request = host.request("PUT", &target).header("content-range", &range);
    send(request.body(&bytes[first..=last]), user)
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from(n * 7 % 251).unwrap()).collect()
}

#[test]
fn a_file_is_stored_once_and_read_by_those_who_know_it() {
    let host = host(&json!({}));
    let target = format!("/files/{}", hash(b"abc"));
    let reply = put(&host, "ann", b"abc");
    assert_eq!(reply.status, 201);
    assert_eq!(json_of(&reply), json!({"hash": hash(b"abc"), "size": 3, "is_available": true}));
    assert_eq!(put(&host, "ann", b"abc").status, 200);
    let got = send(host.get(&target.to_uppercase().replace("/FILES", "/files")), "ann");
    assert_eq!((got.status, got.body.as_slice()), (200, &b"abc"[..]));
    assert_eq!(got.header("etag"), Some(&*format!("\"{}\"", hash(b"abc"))));
    assert_eq!(got.header("cache-control"), Some("private, immutable"));
    // Bob has neither uploaded nor named it.
    assert_eq!(send(host.get(&target), "bob").status, 404);
    post(&host, "bob", &manifest("x", "2026-01-31T00:00:00Z", &[("./a", b"abc")]));
    assert_eq!(send(host.get(&target), "bob").status, 200);
    assert_eq!(put(&host, "eve", b"abc").status, 200);
    assert_eq!(host.keys().iter().filter(|key| key.starts_with("data/")).count(), 1);
    for (header, value, status) in [
        ("range", "bytes=1-1", 206),
        ("range", "bytes=9-", 416),
        ("range", "bytes=x", 200),
        ("content-range", "bytes 0-1/*", 206),
        ("content-range", "bytes x", 400),
        ("if-none-match", &format!("\"{}\"", hash(b"abc")), 304),
    ] {
        let reply = send(host.get(&target).header(header, value), "ann");
        assert_eq!(reply.status, status, "{header}: {value}");
    }
}

#[test]
fn wrong_bytes_are_not_kept() {
    let host = host(&json!({}));
    let target = format!("/files/{}", hash(b"abc"));
    for wrong in [b"abd".to_vec(), bytes(300_000)] {
        let reply = send(host.request("PUT", &target).body(&wrong), "ann");
        assert_eq!((reply.status, &json_of(&reply)["error"]), (422, &json!("hash_mismatch")));
        assert_eq!(json_of(&reply)["actual"], hash(&wrong));
    }
    assert!(host.keys().is_empty(), "{:?}", host.keys());
    for (target, code) in [("/files/abc", "bad_hash"), ("/files/%2e", "bad_name")] {
        let reply = send(host.request("PUT", target).body(b"x"), "ann");
        assert_eq!((reply.status, &json_of(&reply)["error"]), (400, &json!(code)), "{target}");
    }
    let coded = host.request("PUT", &target).header("content-encoding", "gzip").body(b"abc");
    assert_eq!(send(coded, "ann").status, 415);
}

#[test]
fn ranges_come_in_any_order_and_more_than_once() {
    let host = host(&json!({}));
    let all = bytes(100);
    let text = manifest("web", "2026-01-31T00:00:00Z", &[("./a", &all)]);
    post(&host, "ann", &text);
    let reply = range(&host, "ann", &all, 50, 79, "100");
    assert_eq!((reply.status, &json_of(&reply)["available_bytes"]), (202, &json!([[50, 79]])));
    assert_eq!(range(&host, "ann", &all, 0, 19, "*").status, 202);
    assert_eq!(range(&host, "ann", &all, 10, 59, "100").status, 202);
    let shown = json_of(&send(host.get("/manifests/web"), "ann"));
    assert_eq!(shown["files"]["./a"]["available_bytes"], json!([[0, 79]]));
    // They are Ann's alone.
    let other = json_of(&post(&host, "bob", &text));
    assert_eq!(other["files"]["./a"]["available_bytes"], json!([]));
    assert_eq!(send(host.get(&format!("/files/{}", hash(&all))), "ann").status, 404);
    let last = range(&host, "ann", &all, 80, 99, "100");
    assert_eq!(last.status, 201, "{}", last.text());
    let got = send(host.get(&format!("/files/{}", hash(&all))), "ann");
    assert_eq!(got.body, all);
    assert_eq!(host.keys().iter().filter(|key| key.starts_with("data/")).count(), 0);
    assert!(host.record_keys().iter().all(|key| !key.starts_with("p/")));
}

#[test]
fn a_wrong_part_spoils_all_and_nothing_is_kept() {
    let host = host(&json!({}));
    let all = bytes(100);
    assert_eq!(range(&host, "ann", &all, 0, 49, "100").status, 202);
    let target = format!("/files/{}", hash(&all));
    let wrong =
        host.request("PUT", &target).header("content-range", "bytes 50-99/100").body(&[0; 50]);
    let reply = send(wrong, "ann");
    assert_eq!((reply.status, &json_of(&reply)["error"]), (422, &json!("hash_mismatch")));
    assert!(host.keys().is_empty() && host.record_keys().is_empty());
}

#[test]
fn ranges_that_make_no_sense_are_refused() {
    let host = host(&json!({"max_file": 1000}));
    let all = bytes(100);
    let target = format!("/files/{}", hash(&all));
    let send_range = |range: &str, body: &[u8]| {
        send(host.request("PUT", &target).header("content-range", range).body(body), "ann")
    };
    for (range, body, status, code) in [
        ("bytes 0-9", &all[..10], 400, "bad_range"),
        ("bytes 9-0/100", &all[..10], 400, "bad_range"),
        ("bytes 0-9/100", &all[..11], 400, "length_mismatch"),
        ("bytes 0-9/*", &all[..10], 400, "size_unknown"),
        ("bytes 0-9/1001", &all[..10], 413, "too_large"),
    ] {
        let reply = send_range(range, body);
        assert_eq!((reply.status, &json_of(&reply)["error"]), (status, &json!(code)), "{range}");
    }
    assert!(host.keys().is_empty());
    assert_eq!(send_range("bytes 0-9/100", &all[..10]).status, 202);
    let conflict = send_range("bytes 0-9/99", &all[..10]);
    assert_eq!((conflict.status, &json_of(&conflict)["size"]), (409, &json!(100)));
    let short = send_range("bytes 20-39/100", &all[20..30]);
    assert_eq!((short.status, &json_of(&short)["error"]), (400, &json!("length_mismatch")));
    post(&host, "ann", &manifest("web", "2026-01-31T00:00:00Z", &[("./a", &all)]));
    let shown = json_of(&send(host.get("/manifests/web"), "ann"));
    assert_eq!(shown["files"]["./a"]["available_bytes"], json!([[0, 9], [20, 29]]));
    let beyond = send_range("bytes 99-100/*", &all[..2]);
    assert_eq!((beyond.status, &json_of(&beyond)["error"]), (400, &json!("bad_range")));
}

#[test]
fn an_empty_file_is_like_any_other() {
    let host = host(&json!({}));
    let target = format!("/files/{}", hash(b""));
    let got = send(host.get(&target), "ann");
    assert_eq!((got.status, got.body.len()), (200, 0));
    assert_eq!(got.header("content-type"), Some("application/octet-stream"));
    assert_eq!(got.header("accept-ranges"), Some("bytes"));
    let etag = got.header("etag").unwrap();
    for (known, status) in [(etag, 304), ("*", 304), ("\"other\"", 200)] {
        let reply = send(host.get(&target).header("if-none-match", known), "ann");
        assert_eq!(reply.status, status, "{known}");
    }
}

#[test]
fn what_came_of_a_file_is_a_range() {
    let host = host(&json!({}));
    let all = bytes(300_000);
    let target = format!("/files/{}", hash(&all));
    post(&host, "ann", &manifest("web", "2026-01-31T00:00:00Z", &[("./a", &all)]));
    let cut = host.request("PUT", &target).cut_short(&all[..200_000], 300_000);
    assert_eq!(send(cut, "ann").status, 400);
    let shown = json_of(&send(host.get("/manifests/web"), "ann"));
    assert_eq!(shown["files"]["./a"]["available_bytes"], json!([[0, 199_999]]));
    assert_eq!(range(&host, "ann", &all, 200_000, 299_999, "300000").status, 201);
    assert_eq!(send(host.get(&target), "ann").body, all);
}

#[test]
fn with_strict_sharing_everybody_uploads_once() {
    let host = host(&json!({"strict_sharing": true}));
    put(&host, "ann", b"abc");
    let text = manifest("web", "2026-01-31T00:00:00Z", &[("./a", b"abc")]);
    assert_eq!(json_of(&post(&host, "bob", &text))["files"]["./a"]["is_available"], false);
    assert_eq!(send(host.get(&format!("/files/{}", hash(b"abc"))), "bob").status, 404);
    let wrong = host.request("PUT", &format!("/files/{}", hash(b"abc"))).body(b"abd");
    assert_eq!(send(wrong, "bob").status, 422);
    assert_eq!(put(&host, "bob", b"abc").status, 200);
    assert_eq!(json_of(&post(&host, "bob", &text))["files"]["./a"]["is_available"], true);
    // In ranges, too: the bytes are looked at, although the file is there.
    let target = format!("/files/{}", hash(b"abc"));
    for (bytes, last, get) in [(b"abd", 422, 404), (b"abc", 201, 200)] {
        let part = |range: &str, bytes: &[u8]| {
            send(host.request("PUT", &target).header("content-range", range).body(bytes), "eve")
        };
        assert_eq!(part("bytes 0-1/3", &bytes[..2]).status, 202);
        assert_eq!(part("bytes 2-2/3", &bytes[2..]).status, last);
        assert_eq!(send(host.get(&target), "eve").status, get);
    }
    assert_eq!(host.keys().iter().filter(|key| key.starts_with("data/")).count(), 1);
}

#[test]
fn a_damaged_file_is_reported_and_healed_by_the_next_upload() {
    let host = host(&json!({}));
    put(&host, "ann", b"abc");
    let key = host.keys().into_iter().find(|key| key.starts_with("data/")).unwrap();
    host.put(&key, b"ab");
    let target = format!("/files/{}", hash(b"abc"));
    let reply = send(host.get(&target), "ann");
    assert_eq!((reply.status, &json_of(&reply)["error"]), (500, &json!("corrupt")));
    let text = manifest("web", "2026-01-31T00:00:00Z", &[("./a", b"abc")]);
    assert_eq!(json_of(&post(&host, "ann", &text))["files"]["./a"]["is_available"], false);
    assert_eq!(put(&host, "ann", b"abc").status, 201);
    assert_eq!(send(host.get(&target), "ann").body, b"abc");
}

#[test]
fn a_download_of_changed_bytes_breaks_off_and_the_file_is_looked_at() {
    let host = host(&json!({}));
    put(&host, "ann", b"abc");
    put(&host, "ann", b"def");
    let key = host.keys().into_iter().find(|key| key.contains(&hash(b"abc"))).unwrap();
    host.put(&key, b"abd");
    let target = format!("/files/{}", hash(b"abc"));
    let reply = send(host.get(&target), "ann");
    assert!(reply.status == 200 && reply.failure.is_some(), "{reply:?}");
    assert!(reply.body.len() < 3, "{:?}", reply.body);
    let job = host.jobs().into_iter().find(|job| job.kind == "verify").unwrap();
    assert_eq!(job.key, hash(b"abc"));
    host.run_jobs();
    let text = manifest("web", "2026-01-31T00:00:00Z", &[("./a", b"abc"), ("./d", b"def")]);
    let files = &json_of(&post(&host, "ann", &text))["files"];
    assert_eq!(files["./a"]["is_available"], false);
    assert_eq!(files["./d"]["is_available"], true);
    assert_eq!(put(&host, "ann", b"abc").status, 201);
    assert_eq!(send(host.get(&target), "ann").body, b"abc");
    // A file that came in parts has no checksum, but its hash.
    let parts = bytes(100);
    for (range, part) in [("bytes 0-49/100", &parts[..50]), ("bytes 50-99/100", &parts[50..])] {
        let request = host.request("PUT", &format!("/files/{}", hash(&parts)));
        send(request.header("content-range", range).body(part), "ann");
    }
    let key = host.keys().into_iter().find(|key| key.starts_with("joined/")).unwrap();
    host.put(&key, &bytes(101)[1..]);
    let reply = send(host.get(&format!("/files/{}", hash(&parts))), "ann");
    assert!(reply.status == 200 && reply.failure.is_some(), "{reply:?}");
    // Where the operator wants none of it.
    let host = self::host(&json!({"verify_downloads": false}));
    put(&host, "ann", b"abc");
    host.put(&host.keys().remove(0), b"abd");
    let reply = send(host.get(&target), "ann");
    assert!(reply.failure.is_none() && reply.body == b"abd", "{reply:?}");
}

#[test]
fn options_say_what_is_supported() {
    let host = host(&json!({}));
    for target in ["/files", "/files/x"] {
        let reply = host.request("OPTIONS", target).send::<Fest>();
        assert_eq!((reply.status, reply.header("accept-ranges")), (204, Some("bytes")));
        assert_eq!(reply.header("allow"), Some("GET, HEAD, PUT, OPTIONS"));
    }
}

#[test]
fn an_upload_is_appended_to_as_the_ietf_drafts_it() {
    let host = host(&json!({}));
    let all = bytes(100);
    let target = format!("/files/{}", hash(&all));
    let upload = format!("{target}/upload");
    let begin =
        host.request("PUT", &target).header("upload-complete", "?0").header("upload-length", "100");
    let reply = send(begin.body(&all[..30]), "ann");
    assert_eq!(
        (reply.status, reply.header("upload-offset")),
        (201, Some("30")),
        "{}",
        reply.text()
    );
    let location = format!("http://localhost{upload}");
    assert_eq!(reply.header("location"), Some(&*location));
    let told = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let told = vec![told("location", &location), told("upload-offset", "0")];
    assert_eq!(host.interim_responses(), [(104, told)]);
    let at = |user: &str| {
        let reply = send(host.request("HEAD", &upload), user);
        (
            reply.status,
            reply.header("upload-offset").map(str::to_owned),
            reply.header("upload-complete").map(str::to_owned),
        )
    };
    assert_eq!(at("ann"), (204, Some("30".to_owned()), Some("?0".to_owned())));
    assert_eq!(at("bob").0, 404);
    let patch = |offset: &str, complete: &str, bytes: &[u8]| {
        let request =
            host.request("PATCH", &upload).header("content-type", "application/partial-upload");
        send(
            request.header("upload-offset", offset).header("upload-complete", complete).body(bytes),
            "ann",
        )
    };
    let wrong = patch("29", "?0", &all[29..40]);
    assert_eq!((wrong.status, &json_of(&wrong)["offset"]), (409, &json!(30)));
    assert_eq!(patch("30", "?1", &all[30..40]).status, 409, "it does not end there");
    assert_eq!(at("ann").1.as_deref(), Some("30"), "nothing of it counts");
    assert_eq!(patch("30", "maybe", &all[30..40]).status, 400);
    assert_eq!(patch("30", "?0", &all[30..70]).status, 204);
    let last = patch("70", "?1", &all[70..]);
    assert_eq!((last.status, last.header("upload-complete")), (204, Some("?1")), "{}", last.text());
    assert_eq!(send(host.get(&target), "ann").body, all);
    assert_eq!(at("ann"), (204, Some("100".to_owned()), Some("?1".to_owned())));
}

#[test]
fn an_upload_goes_on_after_a_break_and_can_be_given_up() {
    let host = host(&json!({}));
    let all = bytes(1000);
    let target = format!("/files/{}", hash(&all));
    let upload = format!("{target}/upload");
    let begin = host
        .request("PUT", &target)
        .header("upload-complete", "?1")
        .header("content-length", "1000");
    assert_eq!(
        send(begin.cut_short(&all[..400], 1000), "ann").header("upload-complete"),
        Some("?0")
    );
    assert_eq!(send(host.request("HEAD", &upload), "ann").header("upload-offset"), Some("400"));
    assert_eq!(send(host.request("DELETE", &upload), "ann").status, 204);
    assert_eq!(send(host.request("HEAD", &upload), "ann").status, 404);
    assert!(host.keys().is_empty() && host.record_keys().is_empty());
    let unknown = host.request("PUT", &target).header("upload-complete", "?0").body(&all[..10]);
    assert_eq!(json_of(&send(unknown, "ann"))["error"], "size_unknown");
}

#[test]
fn an_upload_may_be_of_an_empty_file() {
    let host = host(&json!({}));
    let put = |hash: String, complete: &str| {
        let request = host.request("PUT", &format!("/files/{hash}"));
        send(request.header("upload-complete", complete).header("upload-length", "0"), "ann")
    };
    for complete in ["?1", "?0"] {
        let reply = put(hash(b""), complete);
        assert!(reply.status < 202, "{}", reply.text());
        assert_eq!(reply.header("upload-complete"), Some("?1"));
        assert_eq!(reply.header("upload-offset"), Some("0"));
        let other = put(hash(b"not empty"), complete);
        assert_eq!((other.status, &json_of(&other)["error"]), (422, &json!("hash_mismatch")));
    }
}

#[test]
fn a_file_is_completed_although_whoever_sent_the_last_bytes_has_left() {
    let host = host(&json!({}));
    let all = bytes(100);
    let text = manifest("web", "2026-01-31T00:00:00Z", &[("./a", &all)]);
    assert_eq!(range(&host, "ann", &all, 0, 49, "100").status, 202);
    // As the host stores it when the call is gone.
    let key = host.keys().remove(0);
    host.put(&key.replace("00000000000000000000-", "00000000000000000050-z"), &all[50..]);
    assert_eq!(json_of(&post(&host, "ann", &text))["files"]["./a"]["is_available"], true);
    assert_eq!(send(host.get(&format!("/files/{}", hash(&all))), "ann").body, all);
}
