//! What mounts share: however much one of them takes of the instances, the memory, the open files or the processors,
//! others have their part.

use std::thread;
use std::time::Instant;

use keepgate_tests::client::{Connection, Endpoint};
use keepgate_tests::data::Blob;
use keepgate_tests::fault::{allow_open_files, with_open_files};
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::program::LONG;
use keepgate_tests::tools;

use crate::store;

/// Instances of all plugins together.
const INSTANCES: f64 = 1000.0;

/// Begins this many requests whose plugin then waits for a body that does not come.
fn begin(client: &Endpoint, path: &str, count: usize) -> Vec<Connection> {
    let begin = |_| {
        let mut connection = client.connect();
        connection.write_head("POST", path, &[("content-length", "1")]).unwrap();
        connection
    };
    (0..count).map(begin).collect()
}

/// Uploads and downloads, several at a time. All must succeed.
fn use_restic(client: &Endpoint) {
    thread::scope(|scope| {
        for part in 0..4 {
            scope.spawn(move || {
                for number in 0..50 {
                    let blob = Blob::new(1000 * part + number, 20_000);
                    let path = store(client, "/r/", blob);
                    assert_eq!(client.get(&path).body, blob.bytes());
                }
            });
        }
    });
}

/// What a mount has of something that mounts share.
fn has(gateway: &Gateway, what: &str, mount: &str, plugin: &str) -> f64 {
    gateway.metric(&format!("keepgate_plugin_{what}{{mount=\"{mount}\",plugin=\"{plugin}\"}}"))
}

fn crowded(gateway: &Gateway, mount: &str, plugin: &str) -> f64 {
    gateway.metric(&format!(
        "keepgate_plugin_calls_total{{mount=\"{mount}\",outcome=\"crowded\",plugin=\"{plugin}\"}}"
    ))
}

#[test]
fn mounts_that_sleep_leave_instances_to_others() {
    if !allow_open_files("sleeping calls", 4096) {
        return;
    }
    let _turn = tools::one_at_a_time();
    let sleepers = ["/a", "/b", "/c", "/d"];
    // A call whose client has gone is not over.
    let limits = "limits = { time = \"20s\" }";
    let setup = Setup::new().mount("/", "restic", "");
    let setup = sleepers.iter().fold(setup, |setup, path| setup.mount(path, "sleeper", limits));
    setup.install("sleeper", &tools::guest("sleeper"));
    let gateway = setup.start();
    let client = gateway.endpoint();
    assert_eq!(client.post("/r/?create=true", b"").status, 200);
    let from = gateway.program.stderr.count();
    let sleeping: Vec<_> =
        sleepers.iter().map(|path| begin(&client, &format!("{path}/sleep"), 256)).collect();
    // A tenth is guaranteed to each of the five mounts; the half that is not may be anybody's.
    let taken = |gateway: &Gateway| {
        sleepers.iter().map(|path| has(gateway, "instances", path, "sleeper")).sum::<f64>()
    };
    gateway.eventually("sleepers take all that is not restic's", |gateway| {
        taken(gateway) == INSTANCES * 0.9
    });
    use_restic(&client);
    assert_eq!(crowded(&gateway, "/", "restic"), 0.0);
    // The others have waited in vain.
    gateway.program.stderr.wait_for(from, &["plugins may take 1000 instances together"]);
    drop(sleeping);
    gateway.eventually("all instances are back", |gateway| taken(gateway) == 0.0);
    gateway.stop();
}

#[test]
fn memory_has_a_total() {
    let _turn = tools::one_at_a_time();
    let setup = Setup::new()
        .table("[plugins]\nmemory = \"256MiB\"")
        .mount("/", "restic", "")
        .mount("/hostile", "hostile", "limits = { memory = \"64MiB\", faults = 0 }");
    setup.install("hostile", &tools::guest("hostile"));
    setup.write();
    let said = tools::run(setup.check_command()).success();
    assert!(said.contains("plugins may take 256.0 MiB of memory together"), "{said}");
    let gateway = setup.start();
    let client = gateway.endpoint();
    assert_eq!(client.post("/r/?create=true", b"").status, 200);
    use_restic(&client);
    let before = gateway.program.memory("VmRSS");
    let from = gateway.program.stderr.count();
    // Each keeps 40 MiB. A quarter of the memory is restic's.
    let holding = begin(&client, "/hostile/hold/40", 20);
    gateway
        .eventually("most are refused", |gateway| crowded(gateway, "/hostile", "hostile") == 16.0);
    let (_, line) =
        gateway.program.stderr.wait_for(from, &["plugins may take", "bytes of memory together"]);
    assert!(line.contains("/hostile"), "{line}");
    let takes = has(&gateway, "memory_bytes", "/hostile", "hostile");
    assert!((f64::from(160 << 20)..=f64::from(192 << 20)).contains(&takes), "{takes}");
    use_restic(&client);
    let more = gateway.program.memory("VmRSS").saturating_sub(before);
    assert!(more < 256 << 20, "{more} bytes more");
    // Those that were refused may try again once there is room.
    drop(holding);
    gateway.eventually("memory is back", |gateway| {
        has(gateway, "memory_bytes", "/hostile", "hostile") == 0.0
    });
    assert_eq!(client.post("/hostile/hold/40", b"x").status, 200);

    // Replies that clients do not read: the call is over, and what the gateway holds is still the mount's.
    let unread: Vec<_> = (0..20)
        .map(|_| {
            let mut connection = client.connect();
            connection.write_head("GET", "/hostile/huge-reply", &[]).unwrap();
            connection
        })
        .collect();
    gateway
        .eventually("some are refused", |gateway| crowded(gateway, "/hostile", "hostile") > 16.0);
    use_restic(&client);
    let more = gateway.program.memory("VmRSS").saturating_sub(before);
    assert!(more < 256 << 20, "{more} bytes more");
    drop(unread);
    gateway.eventually("memory is back", |gateway| {
        has(gateway, "memory_bytes", "/hostile", "hostile") == 0.0
    });
    assert_eq!(crowded(&gateway, "/", "restic"), 0.0);
    gateway.stop();
}

#[test]
fn files_that_one_mount_keeps_open_are_not_those_of_another() {
    let _turn = tools::one_at_a_time();
    let setup = Setup::new().mount("/", "restic", "").mount(
        "/hostile",
        "hostile",
        "limits = { faults = 0 }",
    );
    setup.install("hostile", &tools::guest("hostile"));
    // Half of them are for plugins, and a quarter of those for restic in any case.
    let gateway = setup.start_by(with_open_files(2048, &setup.command()));
    let client = gateway.endpoint();
    assert_eq!(client.post("/r/?create=true", b"").status, 200);
    let from = gateway.program.stderr.count();
    let held = |gateway: &Gateway| has(gateway, "open_files", "/hostile", "hostile");
    let holding = begin(&client, "/hostile/hold-blobs/200", 3);
    gateway.eventually("600 blobs are open", |gateway| held(gateway) == 600.0);
    let refused = begin(&client, "/hostile/hold-blobs/200", 7);
    gateway
        .eventually("others are refused", |gateway| crowded(gateway, "/hostile", "hostile") == 7.0);
    gateway.program.stderr.wait_for(from, &["plugins may take 1024 open files together"]);
    assert_eq!(held(&gateway), 600.0);
    use_restic(&client);
    drop((holding, refused));
    gateway.eventually("files are closed", |gateway| {
        has(gateway, "open_files", "/hostile", "hostile") == 0.0
    });
    assert_eq!(crowded(&gateway, "/", "restic"), 0.0);
    gateway.stop();
}

/// 128 calls compute for 200 ms each. In the queue of the runtime's threads, each request of others would be served after
/// all of them had had a turn of 10 ms.
#[test]
fn calls_that_compute_are_not_in_the_way_of_others() {
    let _turn = tools::one_at_a_time();
    let setup = Setup::new().mount("/", "restic", "").mount(
        "/hostile",
        "hostile",
        "limits = { cpu = \"200ms\", faults = 0 }",
    );
    setup.install("hostile", &tools::guest("hostile"));
    let gateway = setup.start();
    let client = gateway.endpoint();
    let blob = Blob::new(1, 20_000);
    let path = store(&client, "/r/", blob);
    let from = gateway.program.stderr.count();
    let mut looping = begin(&client, "/hostile/loop", 128);
    let over = |gateway: &Gateway| {
        gateway.metric(
            "keepgate_plugin_calls_total{mount=\"/hostile\",outcome=\"cpu\",plugin=\"hostile\"}",
        )
    };
    let (mut answers, end) = (0, Instant::now() + LONG);
    let mut connection = client.connect();
    while over(&gateway) < 128.0 {
        assert!(Instant::now() < end, "{} have ended", over(&gateway));
        for _ in 0..20 {
            let reply = connection.send("GET", &path, &[], b"").unwrap();
            assert!(reply.status == 200 && reply.body == blob.bytes());
            answers += 1;
        }
    }
    for connection in &mut looping {
        connection.write(b"x").unwrap();
        assert_eq!(connection.reply("POST").unwrap().status, 503);
    }
    tools::report(&format!("shares: {answers} answers of restic's mount beside 128 loops"));
    assert!(answers > 128, "{answers}");
    gateway.program.stderr.wait_for(from, &["wait for a processor", "/hostile"]);
    assert!(gateway.metric("keepgate_plugin_waited_seconds_total{mount=\"/hostile\"}") > 1.0);
    gateway.stop();
}
