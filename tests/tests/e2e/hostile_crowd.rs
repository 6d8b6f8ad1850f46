//! All hostile guests at work at once beside restic, for as long as `KEEPGATE_HOSTILE_SECONDS` says: no request of restic's
//! mount fails; memory, open files and the log stay within their bounds; reload and SIGTERM are answered; and afterwards
//! everything is back. How long restic's requests take is reported and not judged, because machines are noisy.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keepgate_tests::client::Endpoint;
use keepgate_tests::component::expensive_to_compile;
use keepgate_tests::data::Blob;
use keepgate_tests::fault::{allow_open_files, descriptors};
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::tools;

use crate::hostile_limits::{CHEAP, DEAR};
use crate::store;

/// Unless the environment says otherwise. Ten minutes are worth it after a change of what is shared.
const SECONDS: u64 = 15;
/// Memory of all plugins together, ...
const MEMORY: u64 = 512 << 20;
/// ... and what the gateway itself may take besides while hundreds of requests fail.
const OWN: u64 = 384 << 20;
/// How much more memory and how many more files it may have afterwards. After ten minutes, 23 MiB of the heap are in use, as
/// before (`malloc_info`). Resident are besides: what instances leave in their slots of the pool for the next ones (up to
/// 300 KiB in each of those that were in use at once), and some 50 MiB in which the allocator has too little free in one piece.
const LEFT: (u64, usize) = (256 << 20, 40);
/// Clients that misbehave at the same time.
const ATTACKERS: usize = 48;
/// Bytes of the log, for each mount and second, and at the beginning; with what the gateway adds to each line.
const LOG: (u64, u64) = (96 << 10, 4 << 20);

/// What of the lists of [`hostile_limits`](crate::hostile_limits) is asked of a mount, and further deeds that hold something.
fn deeds() -> Vec<String> {
    let listed = CHEAP.iter().chain(DEAR).map(|path| format!("/{path}"));
    let holding = ["hold/48", "hold-blobs/200", "huge-reply", "spools", "stream-forever", "bomb"];
    let grabbing = [
        "turns",
        "turn-twice",
        "subscriptions",
        "publish",
        "deaf",
        "all-records",
        "records",
        "scan",
    ];
    let grabbing = grabbing.into_iter().chain(["empty-records", "jobs", "jobs-list"]);
    listed
        .chain(holding.map(|deed| format!("/hostile/{deed}")))
        .chain(grabbing.map(|deed| format!("/grabber/{deed}")))
        .collect()
}

/// One request that misbehaves, by a client that does so too: it may send no body, or read nothing of the reply.
fn misbehave(client: &Endpoint, path: &str, number: usize) {
    let Ok(mut connection) = client.try_connect() else { return };
    let _ = connection.write_head("POST", path, &[("content-length", "4")]);
    match number % 4 {
        0 => thread::sleep(Duration::from_millis(300)),
        1 => {
            let _ = connection.write(b"body");
            thread::sleep(Duration::from_millis(300));
        }
        _ => {
            let _ = connection.write(b"body");
            // A body without an end is not read to the end.
            let _ = connection.download("POST");
        }
    }
}

/// Uses restic's mount until `over`. Returns how long each request took.
fn use_restic(client: &Endpoint, over: &AtomicBool, seed: u64) -> Vec<Duration> {
    let (mut times, mut number) = (Vec::new(), seed << 32);
    while !over.load(Ordering::Relaxed) {
        number += 1;
        let blob = Blob::new(number, 50_000);
        let begun = Instant::now();
        let path = store(client, "/r/", blob);
        times.push(begun.elapsed());
        let begun = Instant::now();
        assert_eq!(client.get(&path).body, blob.bytes());
        times.push(begun.elapsed());
        thread::sleep(Duration::from_millis(5));
    }
    times
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn plugins_hold(gateway: &Gateway) -> u64 {
    let status = gateway.status();
    let mounts = status["mounts"].as_array().unwrap().iter();
    mounts.map(|mount| mount["share"]["memory_bytes"]["used"].as_u64().unwrap_or(0)).sum()
}

#[test]
fn everything_hostile_at_once_harms_nobody_else() {
    if !allow_open_files("everything hostile at once", 8192) {
        return;
    }
    let _turn = tools::one_at_a_time();
    let seconds = std::env::var("KEEPGATE_HOSTILE_SECONDS").ok();
    let seconds = seconds.map_or(SECONDS, |text| text.parse().unwrap());
    let mounts = ["/hostile", "/warm", "/sleeper", "/service", "/grabber"];
    let limits = "limits = { faults = 0, time = \"20s\" }\n";
    let setup = Setup::new()
        .table(&format!("[plugins]\nmemory = {MEMORY}\n[records]\nmax_size = \"64MiB\""))
        .mount("/", "restic", "")
        .mount("/hostile", "hostile", limits)
        .mount("/warm", "hostile", &format!("{limits}warm = true"))
        .mount("/sleeper", "sleeper", "limits = { faults = 0, time = \"20s\" }")
        .mount("/service", "service", "limits = { faults = 0, time = \"20s\" }")
        .mount("/grabber", "grabber", "limits = { faults = 0, time = \"20s\" }");
    for guest in ["hostile", "sleeper", "service", "grabber"] {
        setup.install(guest, &tools::guest(guest));
    }
    let gateway = setup.start();
    let client = gateway.endpoint();
    assert_eq!(client.post("/r/?create=true", b"").status, 200);

    let over = AtomicBool::new(false);
    let quiet = thread::scope(|scope| {
        let using = scope.spawn(|| use_restic(&client, &over, 1));
        thread::sleep(Duration::from_secs(2));
        over.store(true, Ordering::Relaxed);
        median(using.join().unwrap())
    });
    over.store(false, Ordering::Relaxed);
    let before = (gateway.program.memory("VmRSS"), descriptors(&gateway.program).len());
    let (from, begun, attacks) =
        (gateway.program.stderr.count(), Instant::now(), AtomicU64::new(0));
    let deeds = deeds();
    let (attacked, most) = thread::scope(|scope| {
        let using: Vec<_> = (2..4)
            .map(|seed| {
                let (client, over) = (&client, &over);
                scope.spawn(move || use_restic(client, over, seed))
            })
            .collect();
        for attacker in 0..ATTACKERS {
            let (client, over, deeds, attacks) = (&client, &over, &deeds, &attacks);
            scope.spawn(move || {
                let mut number = attacker * 7;
                while !over.load(Ordering::Relaxed) {
                    misbehave(
                        client,
                        &deeds[number % deeds.len()],
                        number / deeds.len() + attacker,
                    );
                    attacks.fetch_add(1, Ordering::Relaxed);
                    number += 1;
                }
            });
        }
        let mut most = 0;
        let mut round = 0;
        while begun.elapsed() < Duration::from_secs(seconds) {
            most = most.max(gateway.program.memory("VmRSS"));
            if round % 20 == 0 {
                // A file whose compilation never ends, and another reason to look at everything.
                let component = expensive_to_compile(&tools::guest("hostile"), 100 + round, 20_000);
                setup.install("endless", &component);
                gateway.reload();
            }
            round += 1;
            thread::sleep(Duration::from_millis(200));
        }
        over.store(true, Ordering::Relaxed);
        (using.into_iter().flat_map(|used| used.join().unwrap()).collect::<Vec<_>>(), most)
    });
    let (requests, slow) = (attacked.len(), median(attacked));
    let logged = gateway.program.stderr.since(from).len() as u64;
    std::fs::remove_file(setup.plugin("endless")).unwrap();
    gateway.eventually("plugins hold nothing but idle instances", |gateway| {
        plugins_hold(gateway) < 64 << 20
    });
    gateway.eventually("files are closed", |gateway| {
        descriptors(&gateway.program).len() < before.1 + LEFT.1
    });
    let after = gateway.memory_at_rest(before.0 + LEFT.0);
    tools::report(&format!(
        "hostile: {} attacks in {seconds} s beside {requests} requests of restic's mount: median {slow:.1?}, {quiet:.1?} \
         before; memory {} MiB before, at most {} MiB, {} MiB after; {} KiB of log",
        attacks.load(Ordering::Relaxed),
        before.0 >> 20,
        most >> 20,
        after >> 20,
        logged >> 10,
    ));
    assert!(most < before.0 + MEMORY + OWN, "{most} bytes of memory, {} before", before.0);
    assert!(after < before.0 + LEFT.0, "{after} bytes of memory, {} before", before.0);
    let may_log = mounts.len() as u64 * (LOG.0 * seconds + LOG.1);
    assert!(logged < may_log, "{logged} bytes of log, of {may_log}");
    gateway.stop();
}
