//! Lists, downloads, removal, and paths that do not exist.

use keepgate_sdk::Failure;
use keepgate_sdk::testing::RequestBuilder;

use super::*;

fn of(name: &str) -> String {
    format!("/api/v1/backup/{name}")
}

/// A GET of the first backup.
fn get(host: &Host) -> RequestBuilder {
    host.get(&of(FIRST))
}

#[test]
fn lists_name_backups_and_nothing_else() {
    let host = Host::new();
    for key in [
        "snapshot-20181220_024204.tar.gz",
        "snapshot-20181220_024105.db.gz",
        "snapshot-20181220_024105_02.tar.gz",
        "snapshot-20181220_024105.tar.gz.part",
        "snapshot-20181320_024105.tar.gz",
        "notes.txt",
        "folder/snapshot-20181220_024105.tar.gz",
        "index/snapshot-20181220_024105.tar.gz.json",
    ] {
        host.put(key, b"12");
    }
    let expected = [
        "snapshot-20181220_024105.db.gz",
        "snapshot-20181220_024105_02.tar.gz",
        "snapshot-20181220_024204.tar.gz",
    ];
    assert_eq!(names(&host), expected);
    let details = json_of(&send(&host, "GET", "/api/v1/backup?details=1"));
    let bare: Vec<_> =
        expected.iter().map(|name| json!({"filename": name, "filesize": 2})).collect();
    assert_eq!(details, json!(bare));
    assert_eq!(list(&host, "/api/v1/backup?details=false&x"), expected);
    assert_eq!(send(&host, "HEAD", "/api/v1/backup").status, 200);
}

#[test]
fn ten_thousand_backups_are_listed() {
    let host = Host::new();
    for number in 0..10_000 {
        let (day, second) = (1 + number / 1000, number % 1000);
        let (minute, second) = (second / 60, second % 60);
        host.put(&format!("snapshot-201812{day:02}_00{minute:02}{second:02}.tar.gz"), b"x");
    }
    let names = names(&host);
    assert!(names.len() == 10_000 && names.is_sorted());
    let details = json_of(&send(&host, "GET", "/api/v1/backup?details=true"));
    assert_eq!(details.as_array().unwrap().len(), 10_000);
}

#[test]
fn a_sidecar_that_fits_another_file_is_not_believed() {
    let host = host(1, &json!({}));
    post(&host);
    host.put(FIRST, b"replaced by hand");
    let details = json_of(&send(&host, "GET", "/api/v1/backup?details=true"));
    assert_eq!(details, json!([{"filename": FIRST, "filesize": 16}]));
    let sidecar = format!("index/{FIRST}.json");
    for nonsense in [b"{".as_slice(), b"[]", b"\xff", &[b' '; 100_000]] {
        host.put(&sidecar, nonsense);
        let again = json_of(&send(&host, "GET", "/api/v1/backup?details=true"));
        assert_eq!(again, details);
    }
}

#[test]
fn a_backup_comes_back() {
    let host = host(1, &json!({}));
    let said = json_of(&post(&host));
    let stored = host.blob(FIRST).unwrap();
    let etag = format!("\"{}\"", said["sha256"].as_str().unwrap());
    let got = get(&host).send::<Etcd>();
    assert_eq!((got.status, &got.body), (200, &stored));
    assert_eq!(got.header("content-type"), Some("application/gzip"));
    assert_eq!(got.header("accept-ranges"), Some("bytes"));
    assert_eq!(got.header("etag"), Some(etag.as_str()));
    assert_eq!(got.header("last-modified"), Some("Sat, 31 Jan 2026 23:59:58 GMT"));
    let head = send(&host, "HEAD", &of(FIRST));
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some(stored.len().to_string().as_str()));
    assert_eq!(head.header("etag"), Some(etag.as_str()));
    assert_eq!(host.count("etcd_backup_downloads_total main"), 1);
    assert_eq!(host.count("etcd_backup_download_bytes_total main"), stored.len() as u64);
}

#[test]
fn ranges() {
    let host = Host::new();
    host.put(FIRST, b"0123456789");
    let get = |range: &str| {
        let reply = get(&host).header("range", range).send::<Etcd>();
        let content_range = reply.header("content-range").unwrap_or_default().to_owned();
        let text = if reply.status == 416 { String::new() } else { reply.text() };
        (reply.status, content_range, text)
    };
    assert_eq!(get("bytes=0-"), (206, "bytes 0-9/10".into(), "0123456789".into()));
    assert_eq!(get("bytes=2-4"), (206, "bytes 2-4/10".into(), "234".into()));
    assert_eq!(get("bytes=8-99"), (206, "bytes 8-9/10".into(), "89".into()));
    assert_eq!(get("bytes=-3"), (206, "bytes 7-9/10".into(), "789".into()));
    for nothing in ["bytes=10-", "bytes=-0", "bytes=5-2", "bytes=x"] {
        assert_eq!(get(nothing), (416, "bytes */10".into(), String::new()), "{nothing}");
    }
    for whole in ["bytes=0-1,4-5", "lines=1-2", ""] {
        assert_eq!(get(whole), (200, String::new(), "0123456789".into()), "{whole}");
    }
    let refused = host.get(&of(FIRST)).header("range", "bytes=10-").send::<Etcd>();
    assert_eq!(json_of(&refused), json!({"message": "requested range not satisfiable"}));
    let head = host.request("HEAD", &of(FIRST)).header("range", "bytes=2-4").send::<Etcd>();
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
}

#[test]
fn conditions() {
    let host = Host::new();
    host.put(FIRST, b"0123456789");
    let etag = get(&host).send::<Etcd>().header("etag").unwrap().to_owned();
    let weak = format!("W/{etag}");
    let several = format!("\"x\", {weak}");
    let (epoch, before, later) = (
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Wed, 31 Dec 1969 23:59:59 GMT",
        "Thursday, 01-Jan-70 00:00:01 GMT",
    );
    for (name, value, status) in [
        ("if-none-match", etag.as_str(), 304),
        ("if-none-match", &weak, 304),
        ("if-none-match", &several, 304),
        ("if-none-match", "*", 304),
        ("if-none-match", "\"x\"", 200),
        ("if-modified-since", epoch, 304),
        ("if-modified-since", later, 304),
        ("if-modified-since", "yesterday", 200),
        ("if-modified-since", before, 200),
        ("if-match", &etag, 200),
        ("if-match", "*", 200),
        ("if-match", &weak, 412),
        ("if-match", "\"x\"", 412),
        ("if-unmodified-since", epoch, 200),
        ("if-unmodified-since", "", 200),
    ] {
        let reply = get(&host).header(name, value).send::<Etcd>();
        assert_eq!(reply.status, status, "{name}: {value}");
        if status == 304 {
            assert!(reply.body.is_empty() && reply.header("etag") == Some(&etag));
            let head = host.request("HEAD", &of(FIRST)).header(name, value).send::<Etcd>();
            assert_eq!(head.status, 304, "HEAD with {name}: {value}");
        }
    }
    // An entity tag is more exact than a date.
    let both = get(&host).header("if-none-match", "\"x\"").header("if-modified-since", epoch);
    assert_eq!(both.send::<Etcd>().status, 200);
    for (validator, status) in
        [(etag.as_str(), 206), (epoch, 206), (&weak, 200), ("\"x\"", 200), (later, 200)]
    {
        let ranged = get(&host).header("range", "bytes=1-1").header("if-range", validator);
        assert_eq!(ranged.send::<Etcd>().status, status, "{validator}");
    }
}

#[test]
fn backups_are_removed_but_the_last_good_one() {
    let host = host(2, &json!({}));
    let (old, new) = (backup_at(&host, NOW), backup_at(&host, NOW + SECOND));
    let refused = send(&host, "DELETE", &of(&new));
    assert_eq!(refused.status, 409);
    assert_eq!(json_of(&refused)["message"], "the last good backup is not removed");
    let removed = send(&host, "DELETE", &of(&old));
    assert_eq!((removed.status, removed.body.len()), (204, 0));
    let again = send(&host, "DELETE", &of(&old));
    assert_eq!((again.status, json_of(&again)), (404, not_found()));
    assert_eq!(host.keys(), [format!("index/{new}.json"), new.clone()]);
    assert_eq!(send(&host, "DELETE", &of(&new)).status, 409);
    assert_eq!(host.count("etcd_backups_removed_total main request"), 1);
}

#[test]
fn a_newer_backup_that_is_not_good_does_not_count() {
    let host = host(1, &json!({}));
    let good = backup_at(&host, NOW);
    let foreign = "snapshot-20270101_000000.tar.gz";
    host.put(foreign, b"of unknown origin");
    assert_eq!(send(&host, "DELETE", &of(&good)).status, 409);
    assert_eq!(send(&host, "DELETE", &of(foreign)).status, 204);
    // If no backup is known to be good, the newest one counts.
    let host = Host::new();
    host.put("snapshot-20181220_024105.db.gz", b"1");
    host.put("snapshot-20181221_024105.db.gz", b"2");
    assert_eq!(send(&host, "DELETE", &of("snapshot-20181221_024105.db.gz")).status, 409);
    assert_eq!(send(&host, "DELETE", &of("snapshot-20181220_024105.db.gz")).status, 204);
}

#[test]
fn append_only_keeps_backups() {
    let host = host(2, &json!({"rotate": 1}));
    let old = backup_at(&host, NOW);
    host.append_only(|_| false);
    host.set_now(NOW + SECOND);
    let said = json_of(&post(&host));
    assert_eq!(said["message"], "backup successfully");
    let warning = said["warning"].as_str().unwrap();
    assert!(warning.contains("append-only") && warning.contains(&old), "{warning}");
    let refused = send(&host, "DELETE", &of(&old));
    let expected = json!({"message": "forbidden", "error": "this mount is append-only"});
    assert_eq!((refused.status, json_of(&refused)), (403, expected));
    assert_eq!(names(&host).len(), 2);
}

#[test]
fn what_there_is_not_is_not_found() {
    let host = host(1, &json!({}));
    post(&host);
    for target in [
        "/",
        "/api/v1/backup/",
        "/api/v1/backupX",
        "/api/v1/backup/snapshot-20181220_024105.tar.gz",
        "/api/v1/backup/..%2Fsnapshot-20260131_235958.tar.gz",
        "/api/v1/backup/%2e%2e",
        "/api/v1/backup/snapshot-20260131_235958.tar.gz.part",
        "/api/v1/backup/snapshot-20260131_235958.tar.gz/",
        "/api/v1/backup/index",
        "/api/v1/backup/index/snapshot-20260131_235958.tar.gz.json",
        "/api/v1/backup/notes.txt",
    ] {
        for method in ["GET", "HEAD", "DELETE"] {
            let reply = send(&host, method, target);
            assert_eq!((reply.status, json_of(&reply)), (404, not_found()), "{method} {target}");
        }
    }
}

#[test]
fn other_methods_are_told_what_is_allowed() {
    let host = Host::new();
    for (target, methods, allow) in [
        ("/api/v1/backup", ["PUT", "DELETE", "PATCH", "OPTIONS"], "GET, HEAD, POST"),
        (&of(FIRST), ["PUT", "POST", "PATCH", "OPTIONS"], "GET, HEAD, DELETE"),
    ] {
        for method in methods {
            let reply = send(&host, method, target);
            assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{method}");
            assert_eq!(json_of(&reply), json!({"message": "method not allowed"}));
        }
    }
}

#[test]
fn a_store_that_is_not_available_is_told_from_a_broken_one() {
    let host = Host::new();
    for name in ["snapshot-20181220_024105.db.gz", "snapshot-20181221_024105.db.gz"] {
        host.put(name, b"x");
    }
    let target = of("snapshot-20181220_024105.db.gz");
    let answer = |failure: Failure| {
        host.refuse_changes(|_| true, failure);
        let reply = send(&host, "DELETE", &target);
        (reply.status, json_of(&reply))
    };
    let unavailable = Failure::Unavailable("the bucket does not answer".to_owned());
    let expected = json!({"message": "service unavailable", "error": "the bucket does not answer"});
    assert_eq!(answer(unavailable), (503, expected));
    let internal = Failure::Internal("/srv/backup: EIO".to_owned());
    assert_eq!(answer(internal), (500, json!({"message": "internal error"})), "no paths");
    assert!(host.log().iter().any(|(_, text)| text.contains("EIO")), "they are logged");
}
