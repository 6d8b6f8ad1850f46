//! A store in a bucket keeps the promises of a folder. versitygw is the server, so the objects of a bucket can be
//! looked at as files. `clients`, `durability`, `conformance` and `memory` run their tests in a bucket too.

use std::thread;
use std::time::{Duration, Instant};

use keepgate_tests::client::{Endpoint, Reply};
use keepgate_tests::data::{Blob, Random};
use keepgate_tests::etcd::Etcd;
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::program::LONG;
use keepgate_tests::restic::Restic;
use keepgate_tests::s3::{KEY, S3Server, SECRET};
use keepgate_tests::{tools, tree};

use crate::{path, store};

/// In a bucket there is an ordinary restic repository, which restic's own S3 backend can use.
#[test]
fn the_bucket_holds_an_ordinary_restic_repository() {
    let check = "a store in a bucket";
    let Some(server) = S3Server::find(check) else { return };
    let setup = Setup::restic().in_bucket(&server, "backups/some/where", "");
    let gateway = setup.start();
    let Some(restic) = Restic::find(check, gateway.repository("", "/laptop/")) else { return };
    let work = tempfile::tempdir().unwrap();
    let source = work.path().join("source");
    tree::make(&source);
    restic.run(&["init"]);
    restic.run_in(work.path(), &["backup", "source"]);

    let bucket = format!("s3:{}/backups/some/where/laptop", server.url());
    let direct = |folder: &std::path::Path, arguments: &[&str]| {
        let mut command = restic.at(bucket.clone()).command(folder, arguments);
        command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
        tools::run(command).success()
    };
    direct(work.path(), &["check", "--read-data"]);
    tree::change(&source);
    direct(work.path(), &["backup", "source"]);
    assert_eq!(restic.snapshots(), 2);
    restic.run(&["check", "--read-data"]);
    restic.assert_restores(&source);
    gateway.stop();
}

/// Two gateways share a bucket: of those who want to be first, one is.
#[test]
fn two_gateways_on_one_bucket() {
    let Some(server) = S3Server::find("two gateways on one bucket") else { return };
    server.bucket("shared");
    let gateways = [(); 2].map(|()| Setup::restic().at_bucket(&server, "shared", "").start());
    race(&server, &gateways, 1000);
    gateways.into_iter().for_each(Gateway::stop);
}

/// On a server whose own conditional writes race, etcd keeps the gateways apart. Without it, the bucket is refused.
#[test]
fn two_gateways_that_etcd_keeps_apart() {
    let check = "gateways that etcd keeps apart";
    let (Some(server), Some(etcd)) = (S3Server::find_racing(check), Etcd::debian(check)) else {
        return;
    };
    server.bucket("shared");
    let alone = Setup::restic().at_bucket(&server, "shared", "");
    let said = tools::run(alone.command()).fails_with(1);
    assert!(said.contains("coordinated_by") && said.contains("single_writer"), "{said}");
    let mut member = etcd.start();
    let cluster = format!("[etcd.locks]\nendpoints = [\"{}\"]", member.url());
    let coordinated = "coordinated_by = \"locks\"";
    let gateways = [(); 2].map(|()| {
        Setup::restic().at_bucket(&server, "shared", coordinated).table(&cluster).start()
    });
    race(&server, &gateways, 100);
    let locks = member.dump();
    assert!(locks.keys().all(|key| !key.starts_with("/keepgate/turns/")), "{locks:?}");

    // Without etcd, nothing is written, and everything can be read.
    let endpoint = gateways[0].endpoint();
    member.program.kill();
    let blob = Blob::new(1_000_000, 1000);
    let reply = endpoint.post(&path("/r0/", &blob.id()), &blob.bytes());
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")));
    let there = Blob::new(0, 100);
    assert_eq!(endpoint.get(&path("/r0/", &there.id())).body, there.bytes());
    member.start_again();
    let end = Instant::now() + LONG;
    while endpoint.post(&path("/r0/", &blob.id()), &blob.bytes()).status != 200 {
        assert!(Instant::now() < end, "writes go on when etcd is back");
    }
    gateways.into_iter().for_each(Gateway::stop);
}

/// Posts the same blob and different configs to both gateways at once: one winner, never two.
#[track_caller]
fn race(server: &S3Server, gateways: &[Gateway], rounds: u64) {
    let endpoints: Vec<Endpoint> = gateways.iter().map(Gateway::endpoint).collect();
    for round in 0..rounds {
        let repository = format!("/r{round}/");
        let config = format!("{repository}config");
        // Both post a config of their own, and both the same blob.
        let blob = Blob::new(round, 100 + round);
        let replies: Vec<(u16, u16)> = thread::scope(|scope| {
            let posts = endpoints.iter().enumerate().map(|(number, endpoint)| {
                let (config, repository) = (&config, &repository);
                scope.spawn(move || {
                    let mut connection = endpoint.connect();
                    let mut post = |path: &str, body: &[u8]| {
                        connection.send("POST", path, &[], body).unwrap().status
                    };
                    let first = post(config, format!("gateway {number}").as_bytes());
                    (first, post(&path(repository, &blob.id()), &blob.bytes()))
                })
            });
            let posts: Vec<_> = posts.collect();
            posts.into_iter().map(|post| post.join().unwrap()).collect()
        });
        let [(one, blob_one), (two, blob_two)] = replies[..] else { panic!("{replies:?}") };
        assert_eq!((blob_one, blob_two), (200, 200), "round {round}: the same bytes");
        let winner = match (one, two) {
            (200, 403) => 0,
            (403, 200) => 1,
            other => panic!("round {round}: config was answered with {other:?}"),
        };
        for endpoint in &endpoints {
            assert_eq!(endpoint.get(&config).text(), format!("gateway {winner}"));
        }
    }
    let blobs = tree::blobs(&server.buckets().join("shared"));
    let blobs = blobs.iter().filter(|file| file.to_string_lossy().contains("/data/")).count();
    assert_eq!(blobs as u64, rounds);
}

/// While the server is away, requests get 503 and `Retry-After` within the budget; then everything works again.
#[test]
fn a_server_that_goes_away_and_comes_back() {
    let Some(mut server) = S3Server::find("an S3 server that goes away") else { return };
    let quick = "give_up_after = \"3s\", connect_timeout = \"1s\"";
    let gateway = Setup::restic().in_bucket(&server, "bucket", quick).start();
    let client = gateway.endpoint();
    let before = store(&client, "/r/", Blob::new(1, 5000));
    assert_eq!(gateway.status()["stores"]["main"]["available"], true);
    assert_eq!(gateway.admin.get("/ready").status, 200);

    server.kill();
    let again = Blob::new(2, 5000);
    let refused = |reply: &Reply| {
        assert_eq!(reply.status, 503, "{}", reply.text());
        assert!(reply.header("retry-after").is_some());
    };
    refused(&client.get(&before));
    refused(&client.post(&path("/r/", &again.id()), &again.bytes()));
    refused(&client.get("/r/data/"));
    refused(&client.send("DELETE", &before, &[], b""));
    // Many clients do not pile up behind the server.
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| refused(&client.get(&before)));
        }
    });
    assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
    gateway.eventually("it is reported", |gateway| {
        refused(&client.get(&before));
        let metrics = gateway.admin.get("/metrics").text();
        gateway.status()["stores"]["main"]["available"] == false
            && gateway.admin.get("/ready").status == 503
            && metrics.contains("keepgate_store_available{store=\"main\"} 0")
    });

    server.start_again();
    gateway.eventually("it is used again", |_| client.get(&before).status == 200);
    store(&client, "/r/", again);
    gateway.eventually("it is reported", |gateway| {
        gateway.status()["stores"]["main"]["available"] == true
    });
    gateway.stop();
}

/// A server that is away at the start does not keep other mounts from being served.
#[test]
fn a_server_that_is_away_at_the_start() {
    let Some(mut server) = S3Server::find("an S3 server that is away at the start") else { return };
    let setup = Setup::restic().in_bucket(&server, "bucket", "give_up_after = \"2s\"");
    server.kill();
    let gateway = setup.start();
    assert_eq!(gateway.endpoint().get("/r/config").status, 503);
    server.start_again();
    // Nobody has to ask for a blob.
    gateway.eventually("it is opened", |gateway| gateway.admin.get("/ready").status == 200);
    store(&gateway.endpoint(), "/r/", Blob::new(1, 5000));
    gateway.stop();
}

/// What only the operator can mend ends the start, with the reason.
#[test]
fn a_bucket_that_cannot_be_used() {
    let Some(server) = S3Server::find("a bucket that cannot be used") else { return };
    let fails = |setup: Setup, expected: &str| {
        let said = tools::run(setup.command()).fails_with(1);
        assert!(said.contains("[store.main]") && said.contains(expected), "{said}");
        let checked = tools::run(setup.check_command());
        assert_eq!(checked.status.code(), Some(1), "{}", checked.stdout);
        assert!(checked.stdout.contains("wrong: [store.main]"), "{}", checked.stdout);
        assert!(checked.stdout.contains(expected), "{}", checked.stdout);
    };
    fails(Setup::restic().at_bucket(&server, "other", ""), "create the bucket");
    let setup = Setup::restic().in_bucket(&server, "bucket", "");
    fails(setup.environment("AWS_SECRET_ACCESS_KEY", "wrong"), "secret key");
}

/// `check --connect` says what a bucket can do, and leaves nothing in it.
#[test]
fn check_tries_a_bucket() {
    let Some(server) = S3Server::find("keepgate check --connect with a bucket") else { return };
    let setup = Setup::restic().in_bucket(&server, "bucket", "");
    setup.write();
    let said = tools::run(setup.check_command()).success();
    assert!(said.contains("is fine") && said.contains("store main: "), "{said}");
    assert!(tree::files(&setup.store()).is_empty(), "{:?}", tree::files(&setup.store()));
}

/// Limits count what is in the bucket, and append-only holds there.
#[test]
fn policies_hold_in_a_bucket() {
    let Some(server) = S3Server::find("policies of a store in a bucket") else { return };
    let policy = "policy = { append_only = true, except = [\"**/locks/*\"], quota = \"1MB\" }";
    let setup = Setup::new().mount("/", "restic", policy).in_bucket(&server, "bucket", "");
    let gateway = setup.start();
    let client = gateway.endpoint();
    assert_eq!(client.post("/r/?create=true", b"").status, 200);
    let kept = store(&client, "/r/", Blob::new(1, 600_000));
    assert_eq!(client.status("DELETE", &kept), 403);
    let more = Blob::new(2, 600_000);
    assert_eq!(client.post(&path("/r/", &more.id()), &more.bytes()).status, 507);
    // The same blob costs no room and no transfer.
    assert_eq!(store(&client, "/r/", Blob::new(1, 600_000)), kept);
    let sent = gateway.metric("keepgate_s3_sent_bytes_total{store=\"main\"}");
    assert!((600_000.0..700_000.0).contains(&sent), "{sent}");
    let lock = Blob::new(9, 10);
    let place = format!("/r/locks/{}", lock.id());
    assert_eq!(client.post(&place, &lock.bytes()).status, 200);
    assert_eq!(client.status("DELETE", &place), 200);
    gateway.stop();
    // What is counted survives a restart.
    let gateway = setup.start();
    assert_eq!(gateway.endpoint().post(&path("/r/", &more.id()), &more.bytes()).status, 507);
    gateway.stop();
}

/// Under object lock no client can remove a blob, and says so; restic's locks can be removed.
#[test]
fn object_lock() {
    let Some(server) = S3Server::find_with_versions("object lock") else { return };
    server.bucket_with_lock("locked");
    let lock = "lock = { mode = \"compliance\", for = \"1day\" }";
    let gateway = Setup::restic().at_bucket(&server, "locked", lock).start();
    let client = gateway.endpoint();
    assert_eq!(client.post("/r/?create=true", b"").status, 200);
    let blob = store(&client, "/r/", Blob::new(1, 5000));
    let reply = client.send("DELETE", &blob, &[], b"");
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert_eq!(client.get(&blob).status, 200);
    let lock = Blob::new(9, 10);
    let place = format!("/r/locks/{}", lock.id());
    assert_eq!(client.post(&place, &lock.bytes()).status, 200);
    assert_eq!(client.status("DELETE", &place), 200);
    gateway.stop();
}

/// Uploads and downloads of many sizes, through the gateway, while its connections to the server are cut.
#[test]
fn sizes_around_the_limits_of_parts() {
    let Some(server) = S3Server::find("bodies in parts") else { return };
    let small = "single_put = \"32MiB\", part_size = \"5MiB\", memory = \"64MiB\"";
    let gateway = Setup::restic().in_bucket(&server, "bucket", small).start();
    let client = gateway.endpoint();
    let mib = 1 << 20;
    let mut random = Random::new(1);
    for (seed, size) in
        [0, 1, 5 * mib, 32 * mib - 1, 32 * mib, 32 * mib + 1, 40 * mib, 55 * mib + 7]
            .into_iter()
            .enumerate()
    {
        let blob = Blob::new(seed as u64, size);
        let place = store(&client, "/r/", blob);
        let bytes = blob.bytes();
        assert!(client.get(&place).body == bytes, "{size}");
        if size > 1 {
            let from = random.below(size - 1);
            let range = format!("bytes={from}-");
            let part = client.send("GET", &place, &[("range", &range)], b"");
            assert_eq!(part.status, 206);
            assert!(part.body == bytes[usize::try_from(from).unwrap()..], "{size}");
        }
    }
    gateway.stop();
}
