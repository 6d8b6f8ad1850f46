//! Plugins are replaced while clients use them, and no request fails. Also: files that are broken,
//! removed, moved or added.

use std::fs;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use keepgate_tests::client::{Connection, Endpoint};
use keepgate_tests::component::{half, of_another_version, of_version, tagged};
use keepgate_tests::data::{Blob, Random, sha256};
use keepgate_tests::gateway::{Gateway, Setup};
use keepgate_tests::tools;

use crate::path;

const CLIENTS: u64 = 8;
const SWAPS: u64 = 100;
/// The most blobs that a client keeps.
const KEPT: usize = 24;
/// How often the gateway scans the plugin folder even if the file system reports no change. A new file
/// that usually serves much sooner was noticed because the file system reported it.
const RESCAN: Duration = Duration::from_secs(10);

/// Clients that upload, download, check, list and delete without a pause, until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    failed: Arc<Mutex<Vec<String>>>,
    clients: Vec<thread::JoinHandle<()>>,
}

impl Load {
    fn start(endpoint: &Endpoint) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            done: Arc::default(),
            failed: Arc::default(),
            clients: Vec::new(),
        };
        for number in 0..CLIENTS {
            let (stop, done, failed) = (load.stop.clone(), load.done.clone(), load.failed.clone());
            let connection = endpoint.connect();
            load.clients.push(thread::spawn(move || {
                let mut client =
                    Client { connection, random: Random::new(number), kept: Vec::new() };
                while !stop.load(Ordering::Relaxed) {
                    if let Err(why) = client.act() {
                        failed.lock().unwrap().push(format!("client {number}: {why}"));
                        return;
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }));
        }
        load
    }

    /// How many requests succeeded. Panics if one failed.
    #[track_caller]
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().unwrap();
        }
        let failed = self.failed.lock().unwrap();
        assert!(failed.is_empty(), "{failed:#?}");
        self.done.load(Ordering::Relaxed)
    }
}

struct Client {
    connection: Connection,
    random: Random,
    kept: Vec<Blob>,
}

impl Client {
    fn send(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>, String> {
        let sent = self.connection.send(method, path, &[], body);
        let reply = sent.map_err(|error| format!("{method} {path}: {error}"))?;
        if reply.status != 200 {
            return Err(format!("{method} {path}: {} {}", reply.status, reply.text()));
        }
        Ok(reply.body)
    }

    /// Sends one request and checks its response.
    fn act(&mut self) -> Result<(), String> {
        let chosen = usize::try_from(self.random.below(KEPT as u64)).unwrap();
        let chosen = self.kept.get(chosen).copied();
        match (self.random.below(8), chosen) {
            (0..=2, _) | (_, None) => {
                let size = self.random.below(200_000);
                let blob = Blob::new(self.random.number(), size);
                self.send("POST", &path("/load/", &blob.id()), &blob.bytes())?;
                self.kept.push(blob);
                if self.kept.len() > KEPT {
                    let old = self.kept.remove(0);
                    self.send("DELETE", &path("/load/", &old.id()), b"")?;
                }
            }
            (3..=5, Some(blob)) => {
                let found = self.send("GET", &path("/load/", &blob.id()), b"")?;
                if found != blob.bytes() {
                    return Err(format!("{blob:?} came back as another one"));
                }
            }
            (6, Some(blob)) => drop(self.send("HEAD", &path("/load/", &blob.id()), b"")?),
            (_, Some(_)) => {
                let list = self.send("GET", "/load/data/", b"")?;
                let list: Vec<String> =
                    serde_json::from_slice(&list).map_err(|error| error.to_string())?;
                let missing = self.kept.iter().find(|blob| !list.contains(&blob.id()));
                if let Some(missing) = missing {
                    return Err(format!("{missing:?} is not in the list"));
                }
            }
        }
        Ok(())
    }
}

/// Writes a component like `cp` does: the file is empty, then half of it is there, then all of it.
fn copy_slowly(setup: &Setup, component: &[u8]) {
    let mut file = fs::File::create(setup.plugin("restic")).unwrap();
    let (first, second) = component.split_at(component.len() / 2);
    file.write_all(first).unwrap();
    thread::sleep(Duration::from_millis(150));
    file.write_all(second).unwrap();
}

/// Waits until a component with this digest is loaded and serves.
fn wait_for(gateway: &Gateway, from: usize, digest: &str) {
    let log = &gateway.program.stderr;
    let (line, _) = log.wait_for(from, &["plugin loaded", &digest[..12]]);
    log.wait_for(line, &["serving", "generation="]);
}

#[test]
fn a_hundred_swaps_under_load_fail_no_request() {
    let _turn = tools::one_at_a_time();
    let setup = Setup::restic();
    let gateway = setup.start();
    let restic = tools::plugin("restic");
    assert_eq!(gateway.endpoint().post("/load/?create=true", b"").status, 200);
    let load = Load::start(&gateway.endpoint());
    let log = &gateway.program.stderr;
    let mut times = Vec::new();
    let (mut last_good, mut loaded, mut memory) = (String::new(), 0, 0);
    for swap in 0..SWAPS {
        let component = tagged(&restic, swap);
        let digest = sha256(component.as_slice());
        let from = log.count();
        if swap % 10 == 9 {
            let broken = match swap / 10 % 3 {
                0 => b"#!/bin/sh\necho garbage\n".to_vec(),
                1 => half(&component).to_vec(),
                _ => of_another_version(&component),
            };
            setup.install("restic", &broken);
            log.wait_for(from, &["plugin refused", "older_serves=true"]);
            continue;
        }
        if swap % 5 == 2 {
            copy_slowly(&setup, &component);
        } else {
            setup.install("restic", &component);
        }
        let begun = Instant::now();
        wait_for(&gateway, from, &digest);
        times.push(begun.elapsed());
        if begun.elapsed() > Duration::from_secs(2) {
            tools::report(&format!("reload: swap {swap} was slow:\n{}", log.since(from)));
        }
        loaded += 1;
        last_good = digest;
        if swap == 10 {
            memory = gateway.program.memory("VmRSS");
        }
    }
    let requests = load.stop();

    let status = gateway.status();
    assert_eq!(status["mounts"][0]["digest"], last_good.as_str());
    assert!(status["mounts"][0]["problem"].is_null());
    // The last swap was to a broken file, so the previous plugin keeps serving.
    let refused = status["refused"].as_array().unwrap();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0]["older_serves"], true);
    assert!(status["generation"].as_u64().unwrap() > loaded);
    let label =
        |result| format!("keepgate_plugin_loads_total{{plugin=\"restic\",result=\"{result}\"}}");
    assert_eq!(gateway.metric(&label("refused")), 10.0);
    assert!(gateway.metric(&label("loaded")) > loaded as f64);
    let outcome = |outcome| {
        gateway.metric(&format!(
            "keepgate_plugin_calls_total{{mount=\"/\",outcome=\"{outcome}\",plugin=\"restic\"}}"
        ))
    };
    assert!(outcome("ok") >= requests as f64);
    assert_eq!(outcome("trap") + outcome("failure") + outcome("not-serving"), 0.0);

    // Memory held by old generations is released.
    let grown = gateway.program.memory("VmRSS").saturating_sub(memory);
    let code: Vec<_> = fs::read_dir(setup.path("state/code")).unwrap().collect();
    assert!(code.len() <= 64, "{} files of compiled code are kept", code.len());
    times.sort();
    let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
    tools::report(&format!(
        "reload: {SWAPS} swaps under {CLIENTS} clients: 0 of {requests} requests failed; \
         from a new file to serving {median:.0?} (median), {most:.0?} (longest); \
         resident memory {} MiB after ten swaps, {} MiB more after all",
        memory >> 20,
        grown >> 20
    ));
    assert!(grown < 100 << 20, "{} MiB more", grown >> 20);
    assert!(median < RESCAN / 2, "{median:?}");
    gateway.stop();
}

#[test]
fn a_new_file_serves_soon() {
    let _turn = tools::one_at_a_time();
    let setup = Setup::restic();
    let gateway = setup.start();
    let restic = tools::plugin("restic");
    let mut times: Vec<_> = (1000..1011)
        .map(|tag| {
            let component = tagged(&restic, tag);
            let from = gateway.program.stderr.count();
            setup.install("restic", &component);
            let begun = Instant::now();
            wait_for(&gateway, from, &sha256(component.as_slice()));
            begun.elapsed()
        })
        .collect();
    times.sort();
    tools::report(&format!(
        "reload: from a new file to serving without load {:.0?} (median), {:.0?} (longest)",
        times[5], times[10]
    ));
    assert!(times[5] < RESCAN / 2, "{times:?}");
    gateway.stop();
}

#[test]
fn a_removed_file_serves_nobody_until_it_is_back() {
    let setup = Setup::restic();
    let gateway = setup.start();
    let client = gateway.endpoint();
    let serving = || gateway.program.stderr.count();
    let wait = |from: usize| gateway.program.stderr.wait_for(from, &["serving", "generation="]);
    assert_eq!(client.status("GET", "/config"), 404);
    assert_eq!(gateway.admin.status("GET", "/ready"), 200);

    let from = serving();
    fs::remove_file(setup.plugin("restic")).unwrap();
    wait(from);
    let refused = client.get("/config");
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    assert!(!refused.text().contains(".wasm"), "{}", refused.text());
    let ready = gateway.admin.get("/ready");
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("restic.wasm"), "{}", ready.text());

    let from = serving();
    setup.install("restic", &tools::plugin("restic"));
    wait(from);
    assert_eq!(client.status("GET", "/config"), 404);
    assert_eq!(gateway.admin.status("GET", "/ready"), 200);

    // Moved away and back.
    for (name, status) in [("other", 503), ("restic", 404)] {
        let old = if name == "other" { "restic" } else { "other" };
        let from = serving();
        fs::rename(setup.plugin(old), setup.plugin(name)).unwrap();
        let log = &gateway.program.stderr;
        let removed = format!("{old}.wasm");
        wait(log.wait_for(from, &["plugin file removed", &removed]).0);
        assert_eq!(client.status("GET", "/config"), status, "named {name}");
    }
    gateway.stop();
}

#[test]
fn an_added_plugin_serves_at_its_proposed_path() {
    let setup = Setup::restic().table("[auto_mount]\nauth = [\"none\"]\nstore = \"main\"");
    let gateway = setup.start();
    let client = gateway.endpoint();
    assert_eq!(client.status("GET", "/hostile/hello"), 404, "restic's answer, at the top");
    let from = gateway.program.stderr.count();
    setup.install("hostile", &tools::guest("hostile"));
    gateway.program.stderr.wait_for(from, &["serving", "mounts=2"]);
    assert_eq!(client.get("/hostile/hello").text(), "hello ");
    let from = gateway.program.stderr.count();
    fs::remove_file(setup.plugin("hostile")).unwrap();
    gateway.program.stderr.wait_for(from, &["serving", "mounts=1"]);
    assert_eq!(client.status("GET", "/hostile/hello"), 404);
    gateway.stop();
}

/// A download that began with the old plugin finishes with it.
#[test]
fn a_transfer_in_progress_outlives_its_plugin() {
    use std::io::Read as _;
    let setup = Setup::restic();
    let gateway = setup.start();
    let client = gateway.endpoint();
    let blob = Blob::new(1, 32 << 20);
    let path = crate::store(&client, "/r/", blob);

    let mut download = client.connect();
    download.write_head("GET", &path, &[]).unwrap();
    let mut body = download.download("GET").unwrap();
    let mut bytes = vec![0; 1000];
    body.read_exact(&mut bytes).unwrap();
    let other = Blob::new(2, 1 << 20);
    let mut upload = client.connect();
    let length = other.size.to_string();
    let upload_path = crate::path("/r/", &other.id());
    upload.write_head("POST", &upload_path, &[("content-length", &length)]).unwrap();
    upload.write(&other.bytes()[..1000]).unwrap();

    let from = gateway.program.stderr.count();
    fs::remove_file(setup.plugin("restic")).unwrap();
    gateway.program.stderr.wait_for(from, &["serving", "generation="]);
    assert_eq!(client.status("GET", "/config"), 503);
    body.read_to_end(&mut bytes).unwrap();
    assert!(bytes == blob.bytes());
    upload.write(&other.bytes()[1000..]).unwrap();
    assert_eq!(upload.reply("POST").unwrap().status, 200);
    gateway.stop();
}

#[test]
fn a_plugin_built_for_another_patch_of_the_contract_serves() {
    let setup = Setup::restic();
    setup.install("restic", &of_version(&tools::plugin("restic"), *b"@0.1.7"));
    let gateway = setup.start();
    let blob = Blob::new(7, 10_000);
    let path = crate::store(&gateway.endpoint(), "/r/", blob);
    assert!(gateway.endpoint().get(&path).body == blob.bytes());
    gateway.stop();
}
