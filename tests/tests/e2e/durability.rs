//! `kill -9` at random moments during uploads: acknowledged blobs are there with the right bytes; others
//! are there as a whole or not at all; and nothing is left behind.
//!
//! The disk's own caches are not tested: only the process dies, not the machine.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keepgate_tests::client::Endpoint;
use keepgate_tests::data::{Blob, Random, sha256};
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::program::Program;
use keepgate_tests::s3::S3Server;
use keepgate_tests::{tools, tree};

use crate::path;

const ROUNDS: u64 = 200;
const CLIENTS: u64 = 8;
/// How many rounds pass between complete checks of the disk.
const THOROUGH: u64 = 20;

/// Where blobs are, and what that changes.
#[derive(Clone, Copy)]
struct Place {
    name: &'static str,
    /// The size of some blobs.
    large: u64,
    /// Whether a request may still be carried out when the gateway that sent it is gone.
    lingers: bool,
}

/// What clients did in one round.
#[derive(Default)]
struct Round {
    /// Every blob whose upload was started.
    tried: Vec<Blob>,
    /// Those of them that were acknowledged.
    acknowledged: Vec<Blob>,
}

/// Concurrent uploads by many clients until the gateway is killed.
fn round(place: Place, gateway: &mut Gateway, number: u64) -> Round {
    let mut random = Random::new(0xdead_0000 + number);
    let delay = Duration::from_micros(random.below(60_000));
    let endpoint = gateway.endpoint();
    let begun = AtomicU64::new(0);
    let (all_begun, wait) = std::sync::mpsc::channel();
    let rounds: Vec<Round> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (endpoint, begun, all_begun) = (&endpoint, &begun, all_begun.clone());
                let seed = number * CLIENTS + client;
                scope.spawn(move || {
                    uploads(endpoint, seed, place.large, || {
                        if begun.fetch_add(1, Ordering::Relaxed) + 1 == CLIENTS {
                            let _ = all_begun.send(());
                        }
                    })
                })
            })
            .collect();
        wait.recv().unwrap();
        thread::sleep(delay);
        gateway.program.kill();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let mut sum = Round::default();
    for round in rounds {
        sum.tried.extend(round.tried);
        sum.acknowledged.extend(round.acknowledged);
    }
    sum
}

/// One client's uploads until one fails because the gateway is gone.
fn uploads(endpoint: &Endpoint, seed: u64, large: u64, begin: impl Fn()) -> Round {
    let mut random = Random::new(seed << 8);
    let mut done = Round::default();
    let mut connection = endpoint.connect();
    for count in 0.. {
        // Mostly small ones, some large, some empty.
        let magnitude = random.below(22);
        let size = match random.below(16) {
            0 => large,
            _ => random.below(1 << magnitude),
        };
        let blob = Blob::new(random.number(), size);
        let (path, bytes) = (path("/r/", &blob.id()), blob.bytes());
        done.tried.push(blob);
        if count == 0 {
            begin();
        }
        match connection.send("POST", &path, &[], &bytes) {
            Ok(reply) if reply.status == 200 => done.acknowledged.push(blob),
            Ok(reply) => panic!("{path}: {} {}", reply.status, reply.text()),
            Err(_) => break,
        }
    }
    done
}

/// What the store must contain, and what it may contain.
#[derive(Default)]
struct Ledger {
    /// Acknowledged, and not deleted since.
    must: HashMap<String, Blob>,
    /// Every name that may be there.
    may: HashSet<String>,
    acknowledged: usize,
}

impl Ledger {
    /// Checks through the gateway: every acknowledged blob is listed with its size, nothing is listed
    /// that nobody sent, and the latest blobs have the right bytes.
    fn look(&self, gateway: &Gateway, last: &Round) {
        let mut connection = gateway.endpoint().connect();
        let accept = [("accept", "application/vnd.x.restic.rest.v2")];
        let list = connection.send("GET", "/r/data/", &accept, b"").unwrap().json();
        let listed: HashMap<&str, u64> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| (entry["name"].as_str().unwrap(), entry["size"].as_u64().unwrap()))
            .collect();
        for (id, blob) in &self.must {
            assert_eq!(listed.get(id.as_str()), Some(&blob.size), "{id} was acknowledged");
        }
        for id in listed.keys() {
            assert!(self.may.contains(*id), "{id} was never sent, or has been deleted");
        }
        for blob in &last.acknowledged {
            let found = connection.send("GET", &path("/r/", &blob.id()), &[], b"").unwrap();
            assert!(found.status == 200 && found.body == blob.bytes(), "{blob:?}");
        }
    }

    /// Checks on disk: every file is what its name says and was sent; acknowledged blobs are there.
    fn look_on_disk(&self, setup: &Setup) {
        let mut found = HashSet::new();
        for file in tree::blobs(&setup.store()) {
            let id = file.file_name().unwrap().to_str().unwrap().to_owned();
            assert_eq!(file, std::path::Path::new(&format!("r/data/{}/{id}", &id[..2])));
            let bytes = fs::File::open(setup.store().join(&file)).unwrap();
            assert_eq!(sha256(bytes), id, "{} is not whole", file.display());
            assert!(self.may.contains(&id), "{id} was never sent, or has been deleted");
            found.insert(id);
        }
        let missing: Vec<_> = self.must.keys().filter(|id| !found.contains(*id)).collect();
        assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
    }

    /// Deletes most blobs, so that the disk does not fill up. Deleted blobs must not come back either.
    fn delete_most(&mut self, place: Place, gateway: &Gateway, last: &Round) {
        let mut connection = gateway.endpoint().connect();
        for (number, blob) in last.tried.iter().enumerate() {
            let id = blob.id();
            // Everybody uploads the empty blob.
            if number % 10 != 0 && blob.size > 0 {
                let deleted = connection.send("DELETE", &path("/r/", &id), &[], b"").unwrap();
                assert_eq!(deleted.status, 200);
                if self.must.remove(&id).is_some() || !place.lingers {
                    self.may.remove(&id);
                }
            }
        }
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let _turn = tools::one_at_a_time();
    let setup = Setup::restic();
    let place = Place { name: "a folder", large: 2 << 20, lingers: false };
    rounds(place, &setup, |setup| tree::assert_no_leftovers(&setup.store()));
}

/// The server goes on; it has no part in the promise but to keep what it has acknowledged.
#[test]
fn what_was_acknowledged_survives_kill_9_in_a_bucket() {
    let Some(server) = S3Server::find("kill -9 with a store in a bucket") else { return };
    let _turn = tools::one_at_a_time();
    // The large blobs are sent in parts, whose remains are old enough for the sweep at once.
    let parts = "single_put = \"1MiB\", part_size = \"5MiB\", abandoned_after = \"1ms\"";
    let setup = Setup::restic().in_bucket(&server, "bucket", parts);
    let place = Place { name: "a bucket", large: 6 << 20, lingers: true };
    rounds(place, &setup, |_| {});
    let gateway = setup.start();
    gateway.eventually("the sweep", |_| server.unfinished_uploads() == 0);
    // Neither records of uploads, nor claims, nor probes of gateways that were killed while they opened the bucket.
    let own = setup.store().join(".keepgate");
    gateway
        .eventually("the sweep", |_| tree::files(&own).iter().all(|file| file.ends_with("store")));
    gateway.stop();
}

/// `look` is called each time after a start.
fn rounds(place: Place, setup: &Setup, look: impl Fn(&Setup)) {
    let begun = Instant::now();
    let mut gateway = setup.start();
    assert_eq!(gateway.endpoint().post("/r/?create=true", b"").status, 200);
    let mut ledger = Ledger::default();
    for number in 0..ROUNDS {
        let last = round(place, &mut gateway, number);
        drop(gateway);
        ledger.acknowledged += last.acknowledged.len();
        ledger.may.extend(last.tried.iter().map(|blob| blob.id()));
        ledger.must.extend(last.acknowledged.iter().map(|blob| (blob.id(), *blob)));
        if number % THOROUGH == THOROUGH - 1 {
            ledger.look_on_disk(setup);
            // A gateway that is killed while it starts leaves nothing either.
            let delay = Random::new(number).below(40_000);
            let mut starting = Program::start(setup.command());
            thread::sleep(Duration::from_micros(delay));
            starting.kill();
        }
        gateway = setup.start();
        look(setup);
        ledger.look(&gateway, &last);
        ledger.delete_most(place, &gateway, &last);
    }
    gateway.stop();
    ledger.look_on_disk(setup);
    tools::report(&format!(
        "durability: {}, {ROUNDS} times kill -9 in {:.0?}, {} uploads acknowledged, 0 lost, 0 wrong",
        place.name,
        begun.elapsed(),
        ledger.acknowledged
    ));
    assert!(ledger.acknowledged > 400, "{} uploads are too few", ledger.acknowledged);
}
