//! Quotas, and rules for single users: what exceeds a limit is refused before it is read, what fits
//! never is, and counts are right whatever happened.

use std::io::Read as _;
use std::thread;

use keepgate_tests::client::{Endpoint, Reply};
use keepgate_tests::data::Blob;
use keepgate_tests::gateway::{Gateway, Setup, text};
use keepgate_tests::program::{LONG, Program, keepgate};
use keepgate_tests::{tools, tree};
use rustix::process::Signal;

use crate::{path, store};

/// A store with this limit in bytes, and restic mounted at the root.
fn limited(bytes: u64) -> Setup {
    let setup = Setup::restic();
    setup.write();
    let quota = format!("path = \"store\"\nquota = {bytes}\n");
    setup.edit(|text| text.replace("path = \"store\"\n", &quota));
    setup
}

fn upload(client: &Endpoint, blob: Blob) -> Reply {
    client.post(&path("/r/", &blob.id()), &blob.bytes())
}

/// The bytes that count for a scope of the first quota, according to the status.
fn used(gateway: &Gateway, scope: &str) -> u64 {
    let status = gateway.status();
    let usage = status["quotas"][0]["usage"].as_array().unwrap().iter();
    let found = usage.into_iter().find(|usage| usage["scope"] == scope);
    found.map_or(0, |usage| usage["used_bytes"].as_u64().unwrap())
}

/// Bytes of blobs that are really there.
fn there(setup: &Setup) -> u64 {
    let blobs = tree::blobs(&setup.store());
    blobs.iter().map(|file| setup.store().join(file).metadata().unwrap().len()).sum()
}

#[test]
fn an_upload_over_the_limit_is_refused_before_it_is_read() {
    let setup = limited(10_000);
    let gateway = setup.start();
    let client = gateway.endpoint();
    let first = store(&client, "/r/", Blob::new(1, 6_000));

    // Only the head is sent: the response does not wait for the body.
    let second = Blob::new(2, 4_001);
    let mut connection = client.connect();
    let length = [("content-length", "4001")];
    connection.write_head("POST", &path("/r/", &second.id()), &length).unwrap();
    let refused = connection.reply("POST").unwrap();
    assert_eq!(refused.status, 507);
    let said = refused.text();
    assert!(said.contains("quota") && said.contains("10"), "{said}");
    drop(connection);

    // Without a length, it is refused as soon as it is too much, and nothing is left of it.
    let reply =
        client.connect().send_in_chunks("POST", &path("/r/", &second.id()), &second.bytes(), 1_000);
    assert_eq!(reply.unwrap().status, 507);
    assert_eq!((used(&gateway, "the store"), there(&setup)), (6_000, 6_000));

    // An exact fit is accepted, the same blob again costs nothing, and a delete makes room.
    let exact = store(&client, "/r/", Blob::new(3, 4_000));
    assert_eq!(upload(&client, Blob::new(3, 4_000)).status, 200);
    assert_eq!(used(&gateway, "the store"), 10_000);
    assert_eq!(upload(&client, Blob::new(4, 1)).status, 507);
    assert_eq!(client.status("DELETE", &exact), 200);
    assert_eq!(client.status("DELETE", &exact), 200);
    assert_eq!(upload(&client, Blob::new(4, 4_000)).status, 200);
    let metric = "keepgate_quota_used_bytes{folder=\"\",quota=\"store main\",user=\"\"}";
    assert_eq!(gateway.metric(metric), 10_000.0);
    assert_eq!(client.get(&first).body, Blob::new(1, 6_000).bytes());
    gateway.stop();

    // The count survives a restart; a lower limit does not hinder reading or deleting.
    setup.edit(|text| text.replace("quota = 10000", "quota = 5000"));
    let gateway = setup.start();
    let client = gateway.endpoint();
    assert_eq!(gateway.status()["quotas"][0]["exact"], true);
    assert_eq!(used(&gateway, "the store"), 10_000);
    assert_eq!(upload(&client, Blob::new(5, 1)).status, 507);
    assert_eq!(client.get(&first).status, 200);
    assert_eq!(client.status("DELETE", &first), 200);
    assert_eq!(upload(&client, Blob::new(5, 1_000)).status, 200);
    gateway.stop();
}

#[test]
fn concurrent_uploads_share_the_remaining_space() {
    let setup = limited(10_000);
    let gateway = setup.start();
    let client = gateway.endpoint();
    let stored: usize = thread::scope(|scope| {
        let uploads = (0..64).map(|seed| {
            let client = &client;
            scope.spawn(move || {
                let blob = Blob::new(seed, 1_000);
                // Every other one does not announce its length.
                let status = if seed % 2 == 0 {
                    upload(client, blob).status
                } else {
                    let path = path("/r/", &blob.id());
                    let sent = client.connect().send_in_chunks("POST", &path, &blob.bytes(), 300);
                    sent.unwrap().status
                };
                assert!(status == 200 || status == 507, "{status}");
                usize::from(status == 200)
            })
        });
        let uploads: Vec<_> = uploads.collect();
        uploads.into_iter().map(|upload| upload.join().unwrap()).sum()
    });
    assert!((5..=10).contains(&stored), "{stored} of 10 were stored");
    assert_eq!(used(&gateway, "the store"), stored as u64 * 1_000);
    assert_eq!(there(&setup), stored as u64 * 1_000);
    // Refused uploads released what they had reserved, so the rest can be filled to the byte.
    for seed in 100..100 + (10 - stored as u64) {
        assert_eq!(upload(&client, Blob::new(seed, 1_000)).status, 200);
    }
    assert_eq!(upload(&client, Blob::new(200, 1)).status, 507);
    gateway.stop();
}

#[test]
fn after_a_kill_the_count_is_never_too_low_and_then_exact() {
    let setup = limited(1_000_000);
    let mut gateway = setup.start();
    for seed in 0..20 {
        store(&gateway.endpoint(), "/r/", Blob::new(seed, 10_000));
    }
    gateway.program.kill();
    // Another program has changed the store as well.
    let stranger = setup.store().join("r/data/stranger");
    std::fs::write(&stranger, [0; 5_000]).unwrap();
    let gateway = setup.start();
    assert!(used(&gateway, "the store") >= 200_000);
    gateway.eventually("an exact count", |gateway| gateway.status()["quotas"][0]["exact"] == true);
    assert_eq!(used(&gateway, "the store"), 205_000);
    assert_eq!(there(&setup), 205_000);
    gateway.stop();
}

#[test]
fn a_new_limit_takes_effect_on_sighup() {
    let setup = limited(1_000);
    let gateway = setup.start();
    let client = gateway.endpoint();
    assert_eq!(upload(&client, Blob::new(1, 2_000)).status, 507);
    setup.edit(|text| text.replace("quota = 1000", "quota = \"2kB\""));
    gateway.reload();
    assert_eq!(upload(&client, Blob::new(1, 2_000)).status, 200);
    setup.edit(|text| text.replace("quota = \"2kB\"\n", ""));
    gateway.reload();
    assert_eq!(upload(&client, Blob::new(2, 9_000)).status, 200);
    // Once there is a limit again, everything is counted.
    setup.edit(|text| text.replace("path = \"store\"\n", "path = \"store\"\nquota = 12000\n"));
    gateway.reload();
    gateway.eventually("an exact count", |gateway| used(gateway, "the store") == 11_000);
    assert_eq!(upload(&client, Blob::new(3, 1_001)).status, 507);
    assert_eq!(upload(&client, Blob::new(3, 1_000)).status, 200);
    gateway.stop();
}

#[test]
fn users_and_folders_have_limits_of_their_own() {
    let rules = "\
        policy = { quota = 20_000 }\n\
        [[mount.rule]]\nuser = \"alice\"\npolicy = { quota = 5_000 }\n\
        [[mount.rule]]\nfolder = \"small\"\npolicy = { quota = 1_000 }\n\
        [[mount.rule]]\nfolder = \"*\"\npolicy = { quota = 8_000 }\n";
    let setup = Setup::new().user("alice", "a").user("bob", "b").mount("/", "restic", rules);
    let gateway = setup.start();
    let (alice, bob) = (gateway.as_user("alice", "a"), gateway.as_user("bob", "b"));
    let put = |client: &Endpoint, folder: &str, seed, size| {
        let blob = Blob::new(seed, size);
        client.post(&path(&format!("/{folder}/"), &blob.id()), &blob.bytes())
    };
    // A user's limit applies in all folders, a folder's limit to all users.
    assert_eq!(put(&alice, "r", 1, 3_000).status, 200);
    let refused = put(&alice, "s", 2, 2_001);
    assert_eq!(refused.status, 507);
    assert!(refused.text().contains("alice"), "{}", refused.text());
    assert_eq!(put(&alice, "s", 3, 2_000).status, 200);
    let refused = put(&bob, "r", 4, 5_001);
    assert_eq!(refused.status, 507);
    assert!(refused.text().contains("folder r"), "{}", refused.text());
    assert_eq!(put(&bob, "r", 5, 5_000).status, 200);
    assert_eq!(put(&bob, "small", 6, 1_001).status, 507);
    assert_eq!(put(&bob, "small", 7, 1_000).status, 200);
    // What alice stored counts for her, whoever deletes it.
    assert_eq!(put(&alice, "s", 8, 1_000).status, 507);
    let stored = path("/r/", &Blob::new(1, 3_000).id());
    assert_eq!(bob.status("DELETE", &stored), 200);
    assert_eq!(put(&alice, "s", 8, 3_000).status, 200);
    // The mount's own limit applies to all of them.
    assert_eq!(put(&bob, "t", 9, 8_000).status, 200);
    let refused = put(&bob, "u", 10, 1_001);
    assert_eq!(refused.status, 507, "{}", gateway.status()["quotas"]);
    assert_eq!(put(&bob, "u", 11, 1_000).status, 200);
    assert_eq!(used(&gateway, "the store"), 20_000);
    assert_eq!(used(&gateway, "user alice"), 5_000);
    assert_eq!(used(&gateway, "folder t"), 8_000);
    // The owner of a blob is not visible.
    let head = alice.send("HEAD", &path("/s/", &Blob::new(8, 3_000).id()), &[], b"");
    assert!(!format!("{head:?}").contains("alice"), "{head:?}");
    gateway.stop();
}

#[test]
fn rules_for_users_replace_the_mounts_policy() {
    let rules = "\
        policy = { append_only = true, except = [\"**/locks/*\"] }\n\
        [[mount.rule]]\nuser = \"admin\"\npolicy = {}\n\
        [[mount.rule]]\nuser = \"reader\"\npolicy = { read_only = true }\n";
    let setup = Setup::new().user("admin", "a").user("reader", "r").user("x", "x");
    let gateway = setup.mount("/", "restic", rules).start();
    let (admin, reader) = (gateway.as_user("admin", "a"), gateway.as_user("reader", "r"));
    let other = gateway.as_user("x", "x");
    let stored = store(&other, "/r/", Blob::new(1, 10));
    assert_eq!(other.status("DELETE", &stored), 403);
    assert_eq!(reader.get(&stored).status, 200);
    assert_eq!(upload(&reader, Blob::new(2, 10)).status, 403);
    assert_eq!(reader.status("DELETE", &stored), 403);
    assert_eq!(admin.status("DELETE", &stored), 200);
    assert_eq!(other.get(&stored).status, 404);
    gateway.stop();
}

#[test]
fn a_mount_sees_only_its_folder_of_a_store() {
    let setup = Setup::restic().mount("/team", "restic", "policy = { quota = 1_000 }");
    setup.write();
    // The last mount is the team's.
    setup.edit(|text| {
        let (before, last) = text.rsplit_once("main = \"main\"").unwrap();
        format!("{before}main = \"main/teams/blue\"{last}")
    });
    let gateway = setup.start();
    let client = gateway.endpoint();
    let blob = Blob::new(1, 1_000);
    store(&client, "/team/r/", blob);
    assert_eq!(client.post(&path("/team/r/", &Blob::new(2, 1).id()), b"").status, 400);
    let refused = client.post(&path("/team/r/", &Blob::new(2, 1).id()), &Blob::new(2, 1).bytes());
    assert_eq!(refused.status, 507);
    let id = blob.id();
    let below = format!("teams/blue/r/data/{}/{id}", &id[..2]);
    assert!(setup.store().join(below).is_file());
    // Seen from outside, it is a repository like any other, without limits.
    assert_eq!(client.get(&path("/teams/blue/", &id)).status, 404);
    assert_eq!(upload(&client, Blob::new(3, 5_000)).status, 200);
    gateway.stop();
}

#[test]
fn checking_a_configuration_leaves_the_count_alone_and_a_second_server_has_its_own() {
    let setup = limited(10_000);
    let gateway = setup.start();
    store(&gateway.endpoint(), "/r/", Blob::new(1, 6_000));
    let usage = setup.path("state/usage");
    let counts = || {
        let files = tree::files(&usage);
        let files = files.into_iter().filter(|file| file.extension().is_some_and(|e| e == "json"));
        files
            .map(|file| (file.clone(), std::fs::read(usage.join(file)).unwrap()))
            .collect::<Vec<_>>()
    };
    let before = counts();
    assert_eq!(before.len(), 1);
    let check = keepgate(&["check", "--config", text(&setup.config())]);
    tools::run(check).success();
    assert_eq!(counts(), before);
    let second = setup.path("second.toml");
    let config = std::fs::read_to_string(setup.config()).unwrap().replace("admin.sock", "2.sock");
    std::fs::write(&second, config).unwrap();
    let mut other = Program::keepgate(&["serve", "--config", text(&second)]);
    other.stderr.wait_for(0, &["another process has a quota on the same folder"]);
    other.stderr.wait_for(0, &["serving", "generation="]);
    assert_eq!(counts().len(), 2);
    assert!(counts().contains(&before[0]));
    other.signal(Signal::TERM);
    assert!(other.wait(LONG).success());
    gateway.stop();
}

#[test]
fn repositories_without_a_byte_are_limited_in_number() {
    let setup = limited(1_000_000);
    setup.edit(|text| text.replace("quota = 1000000\n", "quota = 1000000\nquota_entries = 600\n"));
    let gateway = setup.start();
    let client = gateway.endpoint();
    let entries = || gateway.status()["quotas"][0]["usage"][0]["used_entries"].as_u64().unwrap();
    for repository in ["one", "two"] {
        assert_eq!(client.post(&format!("/{repository}/?create=true"), b"").status, 200);
    }
    assert_eq!(entries(), tree::folders(&setup.store()).len() as u64);
    let refused = client.post("/three/?create=true", b"");
    let said = refused.text();
    assert!(refused.status == 507 && said.contains("600 blobs and folders"), "{said}");
    assert!(!setup.store().join("three").exists());
    // What is there goes on, up to the number of entries.
    let mut stored = 0;
    let upload = |seed| {
        let blob = Blob::new(seed, 1);
        client.post(&path("/one/", &blob.id()), &blob.bytes()).status
    };
    while upload(stored) == 200 {
        stored += 1;
    }
    assert_eq!(entries(), 600);
    let metric = "keepgate_quota_used_entries{folder=\"\",quota=\"store main\",user=\"\"}";
    assert_eq!(gateway.metric(metric), 600.0);
    gateway.stop();
    let gateway = setup.start();
    assert_eq!(gateway.metric(metric), 600.0, "kept over a restart");
    gateway.stop();
}

/// A client that does not read what it has asked for keeps the space of a blob that others delete.
#[test]
fn a_deleted_blob_counts_while_somebody_downloads_it() {
    let setup = limited(60_000_000);
    let gateway = setup.start();
    let client = gateway.endpoint();
    let blob = store(&client, "/r/", Blob::new(1, 40_000_000));
    let mut reader = client.connect();
    reader.write_head("GET", &blob, &[]).unwrap();
    // No socket has room for all of it.
    let mut download = reader.download("GET").unwrap();
    assert_eq!(client.status("DELETE", &blob), 200);
    assert_eq!(there(&setup), 0);
    let refused = upload(&client, Blob::new(2, 30_000_000));
    let said = refused.text();
    assert!(refused.status == 507 && said.contains("40000000 bytes are reserved"), "{said}");
    let mut bytes = Vec::new();
    download.read_to_end(&mut bytes).unwrap();
    assert!(bytes == Blob::new(1, 40_000_000).bytes());
    gateway.eventually("the reader is gone", |gateway| {
        gateway.status()["quotas"][0]["usage"][0]["reserved_bytes"] == 0
    });
    assert_eq!(upload(&client, Blob::new(2, 30_000_000)).status, 200);
    gateway.stop();
}
