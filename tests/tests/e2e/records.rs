//! Records with the real program: what was acknowledged is there after a kill, in the middle of many commits, and records
//! that belong together never part. And what came of a body whose client left.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use keepgate_tests::data::Blob;
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::tools;

fn setup() -> Setup {
    let setup = Setup::new().mount("/", "keeper", "");
    setup.install("keeper", &tools::guest("keeper"));
    setup
}

fn keys(gateway: &Gateway, prefix: &str) -> BTreeSet<String> {
    let listed = gateway.endpoint().get(&format!("/records?prefix={prefix}")).json();
    let keys = listed.as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned());
    keys.map(|key| key[prefix.len()..].to_owned()).collect()
}

#[test]
fn acknowledged_records_survive_a_kill_and_pairs_never_part() {
    let setup = setup();
    let mut acknowledged = BTreeSet::new();
    let mut gateway = setup.start();
    for round in 0..6 {
        let goes_on = AtomicBool::new(true);
        let written = thread::scope(|scope| {
            let writers: Vec<_> = (0..8)
                .map(|writer| {
                    let (endpoint, goes_on) = (gateway.endpoint(), &goes_on);
                    scope.spawn(move || {
                        let mut written = Vec::new();
                        for number in 0.. {
                            if !goes_on.load(Ordering::Relaxed) {
                                break;
                            }
                            let key = format!("{round}-{writer}-{number}");
                            let Ok(mut connection) = endpoint.try_connect() else { break };
                            match connection.send("PUT", &format!("/pair/{key}"), &[], b"v") {
                                Ok(reply) if reply.status == 200 => written.push(key),
                                _ => break,
                            }
                        }
                        written
                    })
                })
                .collect();
            thread::sleep(Duration::from_millis(300 + 70 * round));
            gateway.program.kill();
            goes_on.store(false, Ordering::Relaxed);
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(!written.is_empty(), "nothing was written in round {round}");
        acknowledged.extend(written);
        drop(gateway);
        gateway = setup.start();
        let (one, two) = (keys(&gateway, "one/"), keys(&gateway, "two/"));
        assert_eq!(one, two, "they were committed together");
        let lost: Vec<_> = acknowledged.difference(&one).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
    assert!(gateway.metric("keepgate_records{mount=\"/\"}") >= acknowledged.len() as f64 * 2.0);
    gateway.stop();
}

#[test]
fn what_came_of_a_body_is_kept_when_its_client_leaves() {
    let setup = setup();
    let gateway = setup.start();
    let bytes = Blob::new(7, 300_000).bytes();
    let mut connection = gateway.endpoint().connect();
    let head = "PUT /blob/b HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\n";
    connection.write(head.as_bytes()).unwrap();
    connection.write(&bytes).unwrap();
    thread::sleep(Duration::from_millis(300));
    drop(connection);
    let file = setup.store().join("b");
    gateway.eventually("what came is stored", |_| file.exists());
    assert!(std::fs::read(&file).unwrap() == bytes);
    let whole = gateway.endpoint().send("PUT", "/blob/c", &[], &bytes);
    assert_eq!((whole.status, whole.text().as_str()), (200, "[300000,true]"));
    gateway.stop();
}
