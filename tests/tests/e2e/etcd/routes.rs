//! Every route and every refusal, to the letter of etcd-backup's documentation; and somebody who saves a
//! response without checking its status has something that is unmistakably not a backup.

use keepgate_tests::client::{Endpoint, Reply};
use keepgate_tests::data::sha256;
use keepgate_tests::etcd::{Etcd, Member};
use keepgate_tests::gateway::{Gateway, Setup};

use super::{LIST, assert_json, assert_store_has, back_up, details, list, name, setup, taken};

fn started(check: &str, further: &str) -> Option<(Member, Setup, Gateway)> {
    let member = Etcd::debian(check)?.start();
    member.fill(0, 100, 1_000);
    let setup = setup(&[member.url()], further);
    let gateway = setup.start();
    Some((member, setup, gateway))
}

fn get(client: &Endpoint, path: &str, headers: &[(&str, &str)]) -> Reply {
    client.send("GET", path, headers, b"")
}

/// Checks that a response is a refusal in JSON, and its message.
#[track_caller]
fn assert_refused(reply: &Reply, status: u16, message: &str) {
    assert_eq!(reply.status, status, "{}", reply.text());
    assert_json(reply);
    let said = reply.json();
    assert_eq!(said["message"], message, "{said}");
}

#[test]
fn the_list_is_sorted_oldest_first() {
    let Some((_member, setup, gateway)) = started("lists of etcd backups", "") else { return };
    let client = gateway.endpoint();
    let empty = client.get(LIST);
    assert_json(&empty);
    assert_eq!((empty.status, empty.json()), (200, serde_json::json!([])));
    assert_eq!(details(&gateway).len(), 0);

    // Several of them within one second.
    let names: Vec<_> = (0..4).map(|_| name(&back_up(&gateway))).collect();
    assert_eq!(list(&gateway), names);
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(sorted, names, "the names do not sort by time");
    assert_store_has(&setup, &names);
    let known = details(&gateway);
    let known: Vec<_> = known.iter().map(name).collect();
    assert_eq!(known, names);

    let all = client.get(LIST);
    let head = client.send("HEAD", LIST, &[], b"");
    assert_json(&head);
    assert_eq!(head.status, 200);
    if let Some(length) = head.header("content-length") {
        assert_eq!(length, all.body.len().to_string());
    }
    // Unknown query parameters are ignored.
    assert_eq!(client.get(&format!("{LIST}?x=1")).json(), all.json());
    // The way scripts find the newest.
    let Some(jq) = keepgate_tests::tools::find_for("jq", "the newest backup by jq") else { return };
    let mut command = std::process::Command::new(jq);
    command.args(["-r", ".[-1]"]);
    let said = keepgate_tests::tools::run_with(command, &all.body, keepgate_tests::program::LONG);
    assert_eq!(said.success().trim(), names[3]);
    gateway.stop();
}

#[test]
fn a_backup_is_served_like_any_file() {
    let Some((_member, _setup, gateway)) = started("downloads of etcd backups", "") else { return };
    let client = gateway.endpoint();
    let answer = back_up(&gateway);
    let path = format!("{LIST}/{}", name(&answer));
    let whole = client.get(&path);
    let size = whole.body.len();
    assert_eq!(whole.status, 200);
    assert_eq!(answer["filesize"], size);
    assert_eq!(whole.header("content-type"), Some("application/gzip"));
    assert_eq!(whole.header("content-length"), Some(size.to_string().as_str()));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let modified = whole.header("last-modified").unwrap().to_owned();
    assert!(modified.ends_with(" GMT"), "{modified}");
    let tag = whole.header("etag").unwrap().to_owned();
    assert_eq!(tag, format!("\"{}\"", sha256(&*whole.body)));

    let head = client.send("HEAD", &path, &[], b"");
    assert_eq!(head.status, 200);
    for header in ["content-type", "content-length", "accept-ranges", "last-modified", "etag"] {
        assert_eq!(head.header(header), whole.header(header), "{header}");
    }

    for (range, from, to) in [
        ("bytes=0-99".to_owned(), 0, 100),
        ("bytes=100-".to_owned(), 100, size),
        ("bytes=-32".to_owned(), size - 32, size),
        (format!("bytes=10-{}", size + 10), 10, size),
    ] {
        let part = get(&client, &path, &[("range", &range)]);
        assert_eq!(part.status, 206, "{range}");
        let expected = format!("bytes {from}-{}/{size}", to - 1);
        assert_eq!(part.header("content-range"), Some(expected.as_str()), "{range}");
        assert!(part.body == whole.body[from..to], "{range}");
        assert_eq!(part.header("etag"), Some(tag.as_str()));
    }
    let beyond = get(&client, &path, &[("range", &format!("bytes={size}-"))]);
    assert_eq!(beyond.status, 416);
    assert_eq!(beyond.header("content-range"), Some(format!("bytes */{size}").as_str()));
    assert_json(&beyond);
    assert!(beyond.json()["message"].is_string());

    for header in [("if-none-match", tag.as_str()), ("if-modified-since", modified.as_str())] {
        let same = get(&client, &path, &[header]);
        assert_eq!((same.status, same.body.len()), (304, 0), "{header:?}");
    }
    assert_eq!(get(&client, &path, &[("if-none-match", "\"other\"")]).status, 200);
    let range = ("range", "bytes=0-9");
    assert_eq!(get(&client, &path, &[range, ("if-range", &tag)]).body.len(), 10);
    assert_eq!(get(&client, &path, &[range, ("if-range", "\"other\"")]).body.len(), size);
    gateway.stop();
}

#[test]
fn anything_that_is_not_a_backup_is_not_found() {
    let Some((_member, setup, gateway)) = started("refusals of etcd backups", "") else { return };
    let client = gateway.endpoint();
    let file = name(&back_up(&gateway));
    let part = setup.store().join("snapshot-20200101_000000.tar.gz.part");
    std::fs::write(part, "half of one").unwrap();
    for path in [
        format!("{LIST}/snapshot-20010101_000000.tar.gz"),
        format!("{LIST}/..%2F{file}"),
        format!("{LIST}/%2e%2e%2f{file}"),
        format!("{LIST}/index%2F{file}.json"),
        format!("{LIST}/index/{file}.json"),
        format!("{LIST}/{file}/"),
        format!("{LIST}/{file}.part"),
        format!("{LIST}/snapshot-20200101_000000.tar.gz.part"),
        format!("{LIST}/{}", file.to_uppercase()),
        format!("{LIST}/.keepgate"),
        format!("{LIST}/keepgate.toml"),
        format!("{LIST}/"),
        format!("{LIST}X"),
        format!("{LIST}/jobs/nosuchjob"),
        format!("/nosuchcluster{LIST}"),
        "/".to_owned(),
        "/api/v1".to_owned(),
        "/api/v2/backup".to_owned(),
    ] {
        let reply = client.get(&path);
        assert_eq!(reply.status, 404, "{path}: {}", reply.text());
        assert_refused(&reply, 404, "requested resource is not found");
        assert_eq!(client.status("HEAD", &path), 404, "{path}");
    }
    assert_eq!(list(&gateway), [file.as_str()]);

    let path = format!("{LIST}/{file}");
    for (method, path, allowed) in [
        ("PUT", LIST, &["GET", "HEAD", "POST"][..]),
        ("DELETE", LIST, &["GET", "HEAD", "POST"]),
        ("PATCH", LIST, &["GET", "HEAD", "POST"]),
        ("POST", &path, &["GET", "HEAD", "DELETE"]),
        ("PUT", &path, &["GET", "HEAD", "DELETE"]),
    ] {
        let reply = client.send(method, path, &[], b"");
        assert_refused(&reply, 405, "method not allowed");
        let mut found: Vec<_> = reply.header("allow").unwrap().split(',').map(str::trim).collect();
        let mut allowed = allowed.to_vec();
        found.sort_unstable();
        allowed.sort_unstable();
        assert_eq!(found, allowed, "{method} {path}");
    }
    assert_eq!(list(&gateway), [file]);
    gateway.stop();
}

#[test]
fn request_bodies_are_ignored_up_to_a_limit() {
    let Some((_member, _setup, gateway)) = started("bodies of etcd backups", "") else { return };
    let client = gateway.endpoint();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    taken(&client.send("POST", &format!("{LIST}?dir=/etc"), &form, b"rotate=0"));
    taken(&client.post(LIST, &[b'x'; 64 * 1024]));
    let chunks = client.connect().send_in_chunks("POST", LIST, &[b'x'; 1000], 100);
    taken(&chunks.unwrap());
    let large = client.post(LIST, &[b'x'; 64 * 1024 + 1]);
    assert_eq!(large.status, 413, "{}", large.text());
    assert_json(&large);
    assert_eq!(list(&gateway).len(), 3);
    gateway.stop();
}

#[test]
fn the_newest_good_backup_cannot_be_deleted() {
    let Some((_member, setup, gateway)) = started("deletes of etcd backups", "") else { return };
    let client = gateway.endpoint();
    let names: Vec<_> = (0..3).map(|_| name(&back_up(&gateway))).collect();
    let path = |name: &String| format!("{LIST}/{name}");
    let refused = |name: &String| {
        let kept = client.send("DELETE", &path(name), &[], b"");
        assert_refused(&kept, 409, "the last good backup is not removed");
        assert_eq!(client.status("GET", &path(name)), 200);
    };
    refused(&names[2]);
    for gone in &names[..2] {
        let reply = client.send("DELETE", &path(gone), &[], b"");
        assert_eq!((reply.status, reply.body.len()), (204, 0));
        let again = client.send("DELETE", &path(gone), &[], b"");
        assert_refused(&again, 404, "requested resource is not found");
        assert_eq!(client.status("GET", &path(gone)), 404);
    }
    refused(&names[2]);
    assert_store_has(&setup, &names[2..]);
    // Once there is a newer one, it can be deleted. A file that somebody added is not known to be good,
    // whatever age its name claims.
    let newest = name(&back_up(&gateway));
    std::fs::write(setup.store().join("snapshot-29990101_000000.tar.gz"), "who knows").unwrap();
    assert_eq!(client.status("DELETE", &path(&names[2])), 204);
    refused(&newest);
    assert_eq!(client.status("DELETE", &format!("{LIST}/snapshot-29990101_000000.tar.gz")), 204);
    assert_store_has(&setup, &[newest]);
    gateway.stop();
}
