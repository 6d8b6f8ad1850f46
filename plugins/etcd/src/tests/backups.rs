//! POST, and the job behind it.

use keepgate_sdk::{Failure, Level};

use super::*;

#[test]
fn a_backup_is_made_and_told() {
    let host = host(1, &json!({}));
    assert!(names(&host).is_empty(), "an empty store has an empty list");
    let reply = post(&host);
    assert_eq!(reply.status, 200);
    let said = json_of(&reply);
    let stored = host.blob(FIRST).unwrap();
    assert_eq!(said["message"], "backup successfully");
    assert_eq!(said["filename"], FIRST);
    assert_eq!(said["filesize"], stored.len());
    assert_eq!(said["snapshot_size"], SNAPSHOT.len());
    assert_eq!(said["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(said["snapshot_sha256"].as_str().unwrap().len(), 64);
    assert_eq!((&said["revision"], &said["keys"]), (&json!(3), &json!(4)));
    assert_eq!((&said["cluster"], &said["endpoint"]), (&json!("main"), &json!(ENDPOINT)));
    assert_eq!(said.get("warning"), None, "{said}");
    assert_eq!(names(&host), [FIRST]);
    assert_eq!(host.count("etcd_backups_total main success"), 1);
    assert_eq!(host.count("etcd_backup_stored_bytes_total main"), stored.len() as u64);
    assert_eq!(host.count("etcd_backup_snapshot_bytes_total main"), SNAPSHOT.len() as u64);
}

#[test]
fn an_archive_has_one_member() {
    let host = host(1, &json!({}));
    post(&host);
    let plain = unzipped(&host.blob(FIRST).unwrap());
    let mut archive = tar::Archive::new(plain.as_slice());
    let mut members = archive.entries().unwrap();
    let mut member = members.next().unwrap().unwrap();
    assert_eq!(member.path().unwrap().to_str(), Some("snapshot-20260131_235958.db"));
    assert_eq!(member.header().mode().unwrap(), 0o600);
    assert_eq!(member.header().mtime().unwrap(), NOW / SECOND);
    let mut bytes = Vec::new();
    member.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, SNAPSHOT);
    assert!(members.next().is_none());
}

#[test]
fn the_other_format_is_the_database_itself() {
    let host = host(1, &json!({"format": "db.gz", "level": 1}));
    post(&host);
    let name = "snapshot-20260131_235958.db.gz";
    assert_eq!(names(&host), [name]);
    assert_eq!(unzipped(&host.blob(name).unwrap()), SNAPSHOT);
}

#[test]
fn what_is_known_lies_beside_it() {
    let host = host(1, &json!({}));
    let said = json_of(&post(&host));
    assert_eq!(host.keys(), [format!("index/{FIRST}.json"), FIRST.to_owned()]);
    let known = host.blob(&format!("index/{FIRST}.json")).unwrap();
    let known: Value = serde_json::from_slice(&known).unwrap();
    for key in ["filename", "filesize", "sha256", "snapshot_size", "snapshot_sha256", "endpoint"] {
        assert_eq!(known[key], said[key], "{key}");
    }
    assert_eq!(known["created"], "2026-01-31T23:59:58.250Z");
    assert_eq!((&known["cluster_id"], &known["member_id"]), (&json!("1"), &json!("2")));
    assert_eq!((&known["etcd_version"], &known["format"]), (&json!("3.4.23"), &json!("tar.gz")));
    assert_eq!((&known["revision"], &known["keys"]), (&json!(3), &json!(4)));
    let details = json_of(&send(&host, "GET", "/api/v1/backup?details=true"));
    assert_eq!(details, json!([known]));
}

#[test]
fn names_are_unique_within_a_second() {
    let host = host(4, &json!({}));
    post(&host);
    assert_eq!(backup_at(&host, NOW + SECOND / 2), "snapshot-20260131_235958_02.tar.gz");
    host.put("snapshot-20260131_235958_03.db.gz", b"another program's");
    host.put("index/snapshot-20260131_235958_04.tar.gz.json", b"what another left");
    assert_eq!(backup_at(&host, NOW), "snapshot-20260131_235958_05.tar.gz");
    assert_eq!(backup_at(&host, NOW + SECOND), "snapshot-20260131_235959.tar.gz");
    let sorted = names(&host);
    assert!(sorted.is_sorted() && sorted.len() == 5, "{sorted:?}");
}

#[test]
fn a_name_that_another_gateway_takes_meanwhile_is_not_overwritten() {
    let host = host(2, &json!({}));
    host.refuse_changes(|key| key == FIRST, Failure::AlreadyExists);
    let said = json_of(&post(&host));
    assert_eq!(said["filename"], "snapshot-20260131_235958_02.tar.gz");
    assert_eq!(names(&host).len(), 1);
}

#[test]
fn names_that_are_always_taken_are_given_up() {
    let host = host(9, &json!({}));
    host.refuse_changes(|key| key.starts_with("snapshot-"), Failure::AlreadyExists);
    let reply = post(&host);
    assert_eq!((reply.status, host.keys().len()), (500, 0));
    assert_eq!(json_of(&reply)["error"], "another blob is stored under this name");
}

#[test]
fn the_next_member_is_asked_where_one_breaks_off() {
    let host = host(0, &json!({}));
    let (first, second) = ("https://a:2379", "https://b:2379");
    let broken = Failure::Unavailable(format!("{first}: nothing for 30s"));
    host.cluster(
        "main",
        &[
            TestSnapshot::new(SNAPSHOT).from(first).breaking_off(broken),
            TestSnapshot::new(SNAPSHOT).from(second),
        ],
    );
    let said = json_of(&post(&host));
    assert_eq!(
        (&said["message"], &said["endpoint"]),
        (&json!("backup successfully"), &json!(second))
    );
    assert_eq!(names(&host), [FIRST]);
    assert_eq!(host.count("etcd_backup_broken_off_total main"), 1);
    let warned = host.log().into_iter().any(|(level, text)| {
        matches!(level, Level::Warn) && text.contains("https://a:2379: nothing for 30s")
    });
    assert!(warned, "{:?}", host.log());
}

#[test]
fn each_member_is_asked_once() {
    let host = host(0, &json!({}));
    let broken =
        |endpoint: &str, failure| TestSnapshot::new(SNAPSHOT).from(endpoint).breaking_off(failure);
    let reset = || Failure::Unavailable("http://a: reset".to_owned());
    host.cluster(
        "main",
        &[
            broken("http://a", reset()),
            broken("http://b", Failure::Truncated),
            broken("http://a", reset()),
        ],
    );
    let reply = post(&host);
    assert_eq!(reply.status, 500);
    let said = json_of(&reply);
    assert_eq!(said["message"], "failed to save an etcd backup");
    let error = said["error"].as_str().unwrap();
    let expected = "http://a: reset; http://b: the body ended before its announced length; \
                    main: no endpoint answers";
    assert_eq!(error, expected);
    assert!(host.keys().is_empty(), "nothing is left");
    assert_eq!(host.count("etcd_backups_total main failure"), 1);
}

#[test]
fn a_cluster_that_is_down_is_a_failure() {
    let host = host(1, &json!({}));
    let name = backup_at(&host, NOW);
    let reply = post(&host);
    assert_eq!(reply.status, 500);
    let said = json_of(&reply);
    assert_eq!(said["message"], "failed to save an etcd backup");
    assert_eq!(said["error"], "main: no endpoint answers");
    assert_eq!(names(&host), [name], "what was there is there");
}

#[test]
fn a_full_store_is_a_failure() {
    let host = host(1, &json!({}));
    host.full();
    let reply = post(&host);
    assert_eq!((reply.status, host.keys().len()), (500, 0));
    assert_eq!(json_of(&reply)["error"], "no space left in the store");
}

#[test]
fn a_quota_is_a_failure_and_no_member_s_fault() {
    let host = host(2, &json!({}));
    let quota = Failure::QuotaExceeded("the quota of 1 GiB would be exceeded".to_owned());
    host.refuse_changes(|_| true, quota);
    assert_eq!(json_of(&post(&host))["error"], "the quota of 1 GiB would be exceeded");
    assert_eq!(host.count("etcd_backup_broken_off_total main"), 0);
}

#[test]
fn a_store_that_is_away_is_no_member_s_fault() {
    let host = host(2, &json!({}));
    let away = Failure::Unavailable("the bucket does not answer".to_owned());
    host.refuse_changes(|_| true, away);
    assert_eq!(json_of(&post(&host))["error"], "the bucket does not answer");
    assert_eq!(host.count("etcd_backup_broken_off_total main"), 0);
}

#[test]
fn a_backup_counts_without_its_sidecar() {
    let host = host(1, &json!({}));
    host.refuse_changes(|key| key.starts_with("index/"), Failure::NoSpace);
    let said = json_of(&post(&host));
    assert_eq!(said["message"], "backup successfully");
    let warning = said["warning"].as_str().unwrap();
    assert!(warning.contains("no space left in the store"), "{warning}");
    assert_eq!(names(&host), [FIRST]);
    let details = json_of(&send(&host, "GET", "/api/v1/backup?details=true"));
    let size = host.blob(FIRST).unwrap().len();
    assert_eq!(details, json!([{"filename": FIRST, "filesize": size}]));
}

#[test]
fn what_a_client_says_besides_is_ignored_or_too_much() {
    let host = host(2, &json!({}));
    let post = |body: &[u8]| host.post("/api/v1/backup?x=y", body).send::<Etcd>();
    assert_eq!(post(&[b' '; 64 * 1024]).status, 200);
    let refused = post(&[b' '; 64 * 1024 + 1]);
    assert_eq!(refused.status, 413);
    assert_eq!(json_of(&refused)["message"], "request body too large");
    assert_eq!(names(&host).len(), 1);
}

#[test]
fn clusters_have_folders_of_their_names() {
    let host = host(1, &json!({}));
    host.cluster("other", &[TestSnapshot::new(b"another")]);
    post(&host);
    assert!(list(&host, "/other/api/v1/backup").is_empty());
    let said = json_of(&host.post("/other/api/v1/backup", b"").send::<Etcd>());
    assert_eq!((&said["cluster"], &said["filename"]), (&json!("other"), &json!(FIRST)));
    assert!(host.blob(&format!("other/{FIRST}")).is_some());
    assert!(host.blob(&format!("other/index/{FIRST}.json")).is_some());
    assert_eq!(list(&host, "/other/api/v1/backup"), [FIRST]);
    assert_eq!(list(&host, "/main/api/v1/backup"), [FIRST]);
    assert_eq!(send(&host, "GET", &format!("/other/api/v1/backup/{FIRST}")).status, 200);
}

#[test]
fn clusters_that_are_not_granted_are_told() {
    let host = Host::new();
    let refused = post(&host);
    assert_eq!(refused.status, 404);
    assert_eq!(json_of(&refused)["message"], "requested resource is not found");
    host.cluster("a", &[]);
    host.cluster("b", &[]);
    let error = json_of(&post(&host))["error"].as_str().unwrap().to_owned();
    assert!(error.contains("\"main\"") && error.contains("a, b"), "{error}");
    assert!(error.contains("CLUSTER/api/v1/backup"), "{error}");
    assert_eq!(host.post("/c/api/v1/backup", b"").send::<Etcd>().status, 404);
    assert!(host.jobs().is_empty(), "no job was started");
}

#[test]
fn backups_outlive_their_cluster() {
    let host = Host::new();
    assert!(names(&host).is_empty(), "main needs no etcd to be read");
    assert_eq!(send(&host, "GET", "/gone/api/v1/backup").status, 404);
    host.put(&format!("gone/{FIRST}"), b"x");
    assert_eq!(list(&host, "/gone/api/v1/backup"), [FIRST]);
    assert_eq!(send(&host, "GET", &format!("/gone/api/v1/backup/{FIRST}")).status, 200);
}
