//! Files in the plugin folder that cannot be used are reported once and change nothing that serves. A plugin
//! file that is away for a moment, as editors, rsync and scp leave it, is not missed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use keepgate_tests::component::tagged;
use keepgate_tests::data::sha256;
use keepgate_tests::gateway::{Setup, text};
use keepgate_tests::program::keepgate;
use keepgate_tests::tools;

#[test]
fn unusable_files_are_reported_once_over_many_scans() {
    let setup = Setup::restic();
    fs::File::create(setup.plugin("large")).unwrap().set_len(20 << 30).unwrap();
    fs::write(setup.plugin("junk"), "junk").unwrap();
    // Unreadable even for root: a link to itself.
    symlink(setup.plugin("circle"), setup.plugin("circle")).unwrap();
    symlink("nowhere", setup.plugin("dangling")).unwrap();
    fs::create_dir(setup.plugin("folder")).unwrap();
    let gateway = setup.start();
    let log = &gateway.program.stderr;
    let told = |name: &str| {
        let file = format!("{name}.wasm");
        log.text().lines().filter(|line| line.contains(&file)).count()
    };
    let generation = || gateway.status()["generation"].clone();
    let first = generation();
    // Each new plugin is a scan, and the only reason for a new generation.
    let restic = tools::plugin("restic");
    for round in 1..=5_u64 {
        let from = log.count();
        setup.install("restic", &tagged(&restic, round));
        log.wait_for(from, &["serving", "generation="]);
        assert_eq!(generation().as_u64(), first.as_u64().map(|first| first + round));
    }
    for (name, times) in [("large", 1), ("junk", 1), ("circle", 1), ("dangling", 0), ("folder", 0)]
    {
        assert_eq!(told(name), times, "{name}:\n{}", log.text());
    }
    let refused = gateway.status()["refused"].as_array().unwrap().len();
    assert_eq!(refused, 3, "{}", gateway.status()["refused"]);
    assert_eq!(gateway.endpoint().status("GET", "/config"), 404);
    gateway.stop();
}

/// Old file systems have names in Latin-1. No mount can name such a plugin, so the operator is told, once, and the other
/// plugins are loaded.
#[test]
fn files_whose_names_no_mount_can_have_are_reported_once() {
    let setup = Setup::restic();
    let restic = tools::plugin("restic");
    let file = |name: &[u8]| setup.path("plugins").join(OsStr::from_bytes(name));
    // Two names that look the same when they are printed carelessly.
    let (one, other) = (file(b"sich\xe4rung.wasm"), file(b"sich\xe5rung.wasm"));
    let broken = file(b"line\nbreak.wasm");
    for path in [&one, &other, &broken, &file("ü €.wasm".as_bytes())] {
        fs::write(path, &restic).unwrap();
    }
    let setup = setup.mount("/u", "ü €", "");
    let gateway = setup.start();
    let log = &gateway.program.stderr;
    let names = [r"sich\xE4rung.wasm", r"sich\xE5rung.wasm", r"line\nbreak.wasm"];
    let why = ["is not UTF-8; rename the file", "is not UTF-8", "has control characters"];
    for round in 1..=3 {
        let from = log.count();
        setup.install("restic", &tagged(&restic, round));
        log.wait_for(from, &["serving", "generation="]);
    }
    for (name, why) in names.into_iter().zip(why) {
        let said = log.text();
        let told: Vec<_> = said.lines().filter(|line| line.contains(name)).collect();
        assert_eq!(told.len(), 1, "{said}");
        assert!(told[0].contains("plugin refused") && told[0].contains(why), "{}", told[0]);
    }
    let refused = gateway.status()["refused"].as_array().unwrap().len();
    assert_eq!(refused, names.len(), "{}", gateway.status()["refused"]);
    for path in ["/config", "/u/config"] {
        assert_eq!(gateway.endpoint().status("GET", path), 404, "{path}");
    }
    // Whatever lists plugins shows the same, and `check` fails because of it.
    let list = keepgate(&["plugin", "list", "--config", text(&setup.config())]);
    let check = keepgate(&["check", "--config", text(&setup.config())]);
    let checked = tools::run(check);
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    for said in [tools::run(list).success(), checked.stdout] {
        for name in names {
            assert!(said.contains(name), "{name}: {said}");
        }
    }
    let mut check = keepgate(&["plugin", "check"]);
    check.arg(&one);
    let said = tools::run(check);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(said.stdout.contains(why[0]), "{said:?}");
    // Renamed, it is loaded.
    let from = log.count();
    fs::rename(&one, setup.plugin("renamed")).unwrap();
    log.wait_for(from, &["plugin loaded", "renamed.wasm"]);
    gateway.stop();
}

#[test]
fn no_request_fails_while_a_plugin_file_is_away_for_a_moment() {
    let setup = Setup::restic();
    let gateway = setup.start();
    let (client, log) = (gateway.endpoint(), &gateway.program.stderr);
    let (restic, away) = (tools::plugin("restic"), setup.path("plugins").join("restic.old"));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(client.status("GET", "/config"), 404, "after {asked} requests");
                asked += 1;
            }
            asked
        });
        for round in 0..3 {
            // As an editor saves: the old file is renamed, and a new one is written in its place.
            let newer = tagged(&restic, round);
            let from = log.count();
            fs::rename(setup.plugin("restic"), &away).unwrap();
            // Long enough for a scan.
            thread::sleep(Duration::from_millis(600));
            fs::write(setup.plugin("restic"), &newer[..newer.len() / 2]).unwrap();
            thread::sleep(Duration::from_millis(200));
            fs::write(setup.plugin("restic"), &newer).unwrap();
            let (line, _) = log.wait_for(from, &["plugin loaded", &sha256(newer.as_slice())[..12]]);
            log.wait_for(line, &["serving", "generation="]);
        }
        stop.store(true, Ordering::Relaxed);
        assert!(asking.join().unwrap() > 0);
    });
    let said = log.text();
    assert!(!said.contains("plugin file removed") && !said.contains("plugin refused"), "{said}");
    // A file that stays away takes its plugin with it.
    let from = log.count();
    fs::remove_file(setup.plugin("restic")).unwrap();
    let (line, _) = log.wait_for(from, &["plugin file removed", "restic.wasm"]);
    log.wait_for(line, &["serving", "generation="]);
    assert_eq!(client.status("GET", "/config"), 503);
    gateway.stop();
}
