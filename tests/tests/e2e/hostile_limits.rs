//! Limits over a long time: the gateway's memory stays flat however often plugins misbehave, and a
//! plugin that only breaks down is suspended and resumed.

use std::thread;
use std::time::{Duration, Instant};

use keepgate_tests::client::Endpoint;
use keepgate_tests::gateway::{Gateway, Setup, text};
use keepgate_tests::program::{LONG, keepgate};
use keepgate_tests::tools;
use serde_json::Value;

/// How often each guest misbehaves in each way.
const ROUNDS: usize = 1000;
/// What uses up its whole time limit or sends megabytes is done in every tenth round.
const COSTLY: usize = 10;
/// Rounds after which all memory has its final size.
const WARM_UP: usize = 100;
/// How much more memory the gateway may have at rest than after the warm-up, in bytes. Until it has 64 MiB more than at its
/// start, it gives nothing back; the warm-up leaves it at about half of that.
const MOST: u64 = 48 << 20;

pub(crate) const CHEAP: &[&str] = &[
    "hostile/flood",
    "hostile/trap",
    "hostile/recurse",
    "hostile/break-off",
    "hostile/fail-midway",
    "hostile/nonsense",
    "hostile/header",
    "hostile/random",
    "hostile/ignore",
    "hostile/huge-reply",
    "hostile/huge-head",
    "hostile/huge-failure",
    "hostile/leak",
    "warm/leak",
    "warm/trap",
    "hostile/large-bodies",
    "hostile/compressors",
    "hostile/layers",
    "hostile/listings",
    "hostile/log-forged",
    "hostile/log-list",
    "hostile/prepare-list",
    "sleeper/random",
    "sleeper/exit",
    "sleeper/look",
    "service/trap",
    "service/flood",
    "service/silent",
    "service/error",
    "service/break-off",
    "service/unfinished",
    "service/fields",
    "service/fetch",
    "service/ignore",
];

pub(crate) const DEAR: &[&str] = &[
    "hostile/loop",
    "hostile/loop-calling",
    "hostile/huge-pieces",
    "hostile/bodies",
    "hostile/meters",
    "hostile/stores",
    "hostile/blobs",
    "hostile/log-flood",
    "hostile/count-flood",
    "sleeper/sleep",
    "sleeper/alarms",
    "sleeper/stdout",
    "service/loop",
    "service/sleep",
];

fn round(client: &Endpoint, number: usize) {
    let dear = if number.is_multiple_of(COSTLY) { DEAR } else { &[] };
    for path in CHEAP.iter().chain(dear) {
        let mut connection = client.connect();
        connection.write_head("POST", &format!("/{path}"), &[("content-length", "4")]).unwrap();
        // A server that refuses early may close before everything is sent; the response need not arrive.
        let _ = connection.write(b"body");
        if let Ok(reply) = connection.reply("POST") {
            assert!(reply.status < 600, "{path}");
        }
    }
    assert_eq!(client.get("/hostile/hello").text(), "hello ");
}

#[test]
fn memory_stays_flat_over_a_thousand_rounds() {
    let _turn = tools::one_at_a_time();
    let limits = "limits = { cpu = \"20ms\", time = \"100ms\", memory = \"8MiB\", faults = 0 }\n";
    let setup = Setup::new()
        .mount("/hostile", "hostile", limits)
        .mount("/warm", "hostile", &format!("{limits}warm = true"))
        .mount("/sleeper", "sleeper", limits)
        .mount("/service", "service", limits);
    for guest in ["hostile", "sleeper", "service"] {
        setup.install(guest, &tools::guest(guest));
    }
    let gateway = setup.start();
    let client = gateway.endpoint();
    let begun = Instant::now();
    (0..WARM_UP).for_each(|number| round(&client, number));
    let before = gateway.program.memory("VmRSS");
    thread::scope(|scope| {
        for half in 0..2 {
            let client = &client;
            scope.spawn(move || {
                (0..ROUNDS / 2).for_each(|number| round(client, 2 * number + half));
            });
        }
    });
    let (took, at_once) = (begun.elapsed(), gateway.program.memory("VmRSS"));
    let after = gateway.memory_at_rest(before + MOST);
    tools::report(&format!(
        "hostile: {} calls that misbehave in {took:.0?}; resident memory {} MiB before, {} MiB at the end, {} MiB at rest",
        ROUNDS * (CHEAP.len() + DEAR.len() / COSTLY),
        before >> 20,
        at_once >> 20,
        after >> 20
    ));
    assert!(after < before + MOST, "{before} bytes before, {after} after");
    gateway.stop();
}

/// What `/status` says about a mount.
fn mount(gateway: &Gateway, path: &str) -> Value {
    let status = gateway.status();
    let mounts = status["mounts"].as_array().unwrap();
    mounts.iter().find(|mount| mount["path"] == path).unwrap().clone()
}

#[test]
fn a_plugin_that_only_breaks_down_is_suspended_and_resumed() {
    let limits = "limits = { faults = 4, pause = \"10s\", max_pause = \"20s\" }\n";
    let setup = Setup::new().mount("/aside", "hostile", limits).mount("/other", "hostile", "");
    setup.install("hostile", &tools::guest("hostile"));
    let gateway = setup.start();
    let client = gateway.endpoint();
    let gauge = |mount: &str| {
        gateway.metric(&format!("keepgate_plugin_aside{{mount=\"{mount}\",plugin=\"hostile\"}}"))
    };
    assert_eq!((gauge("/aside"), &mount(&gateway, "/aside")["aside"]), (0.0, &Value::Null));
    let from = gateway.program.stderr.count();
    for _ in 0..4 {
        assert_eq!(client.status("GET", "/aside/trap"), 500);
    }
    gateway
        .program
        .stderr
        .wait_for(from, &["plugin suspended", "pause_seconds=10", "/aside", "broke down"]);
    let refused = client.get("/aside/hello");
    assert_eq!(refused.status, 503);
    let retry_after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&retry_after), "{retry_after}");
    assert!(!refused.text().contains("broke"), "{}", refused.text());
    assert_eq!(gauge("/aside"), 1.0);
    let said = mount(&gateway, "/aside");
    assert_eq!(said["aside"]["pauses"], 1);
    assert!(said["aside"]["why"].as_str().unwrap().contains("broke down"), "{said}");
    let config = setup.config();
    let listed = tools::run(keepgate(&["plugin", "list", "--config", text(&config)])).success();
    let line = listed.lines().find(|line| line.starts_with("suspended: ")).unwrap();
    // The pause may be over by then, so the next request would be a trial.
    assert!(line.contains("hostile at /aside: next try ") && line.contains("broke down"), "{line}");
    assert!(!listed.contains("suspended: hostile at /other"), "{listed}");
    // The same plugin at another mount has a record of its own.
    assert_eq!(client.get("/other/hello").text(), "hello ");
    assert_eq!(gauge("/other"), 0.0);

    // After the pause, one request tries it again.
    let give_up = Instant::now() + LONG;
    while client.get("/aside/hello").status != 200 {
        assert!(Instant::now() < give_up, "it was not resumed");
        thread::sleep(Duration::from_millis(50));
    }
    gateway.program.stderr.wait_for(from, &["plugin resumed", "/aside"]);
    assert_eq!((gauge("/aside"), &mount(&gateway, "/aside")["aside"]), (0.0, &Value::Null));
    gateway.stop();
}
